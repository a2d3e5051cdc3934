/* Sdapi: the bodies of AUTOMATIC1111's web API, as far as they have a meaning here.
 *
 * openapi.yaml, schemas Txt2ImgRequest, Txt2ImgResponse and SdProgress, is the contract. A field
 * that asks for what is not done here is taken if it asks for nothing. Text that is returned is the
 * caller's to free(), NULL without memory. Any thread.
 */
#ifndef BW_API_SDAPI_H
#define BW_API_SDAPI_H

#include "api/prompt.h"
#include "api/response.h"

#include <stddef.h>
#include <stdint.h>

struct bw_txt2img {
    struct bw_request request;    // PNG; its class is left to bw_prompt_class()
    char prompt[BW_PROMPT_CHARS]; // "": no class
    int batch_size, n_iter;       // their product is request.count
};

/* Read a body. Errors as bw_request_parse(); *out is untouched then. */
int bw_txt2img_parse(struct bw_txt2img *out, const char *body, size_t length, struct bw_err *err);

/* What was found wrong with the request it makes is wrong with a field of its own: point there. */
void bw_txt2img_point(struct bw_err *err);

/* The answer. Its `parameters` are a body that asks for the same pictures again. */
char *bw_txt2img_render(const struct bw_txt2img *asked, const struct bw_generation *generation);

/* How far a request is. */
struct bw_sd_progress {
    const char *job;   // its id; "": nothing is under way, and the rest is 0
    int64_t started_s; // since 1970
    int pictures;      // at least 1
    int step, steps;   // of all its pictures together: done, and to do (at least 1 each)
    double eta_ms;     // until the answer
    const char *jpeg;  // [jpeg_bytes], the latest preview; NULL: without
    size_t jpeg_bytes;
};

char *bw_sd_progress_render(const struct bw_sd_progress *progress);

#endif
