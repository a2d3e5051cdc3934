/* OpenAI: the body of POST /v1/images/generations as a request of our own.
 *
 * openapi.yaml, schema ImagesRequest, is the contract: the fields of OpenAI's images API that have
 * a meaning here. Any thread.
 */
#ifndef BW_API_OPENAI_H
#define BW_API_OPENAI_H

#include "api/prompt.h"
#include "api/request.h"

#include <stdbool.h>

struct bw_images_request {
    struct bw_request request; // its class is left to bw_prompt_class()
    char prompt[BW_PROMPT_CHARS];
    bool stream; // the answer is to be a stream of events
};

/* Read a body. Errors as bw_request_parse(); *out is untouched then. */
int bw_openai_parse(struct bw_images_request *out, const char *body, size_t length,
                    struct bw_err *err);

/* The quality, in that API's words, of a request that asks for this skip: "low", "medium" or
 * "high".
 */
const char *bw_openai_quality(const struct bw_skip *asked);

#endif
