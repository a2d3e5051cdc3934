/* Response: the JSON bodies of success.
 *
 * openapi.yaml, schemas Generation, ImagesResponse and Quote, is the contract. Every
 * function returns text that the caller free()s, or NULL without memory. Any thread.
 */
#ifndef BW_API_RESPONSE_H
#define BW_API_RESPONSE_H

#include "api/problem.h"
#include "api/request.h"
#include "base/picture.h"

#include <stddef.h>
#include <stdint.h>

struct bw_timings {
    double queue_ms;     // from admission to the first step
    double compute_ms;   // from the first step to the last
    double encode_ms;    // making a file of the pixels
    double total_ms;     // from admission to the response
    double predicted_ms; // what total_ms was expected to be at admission
};

struct bw_image {
    const char *bytes; // [size_bytes]
    size_t size_bytes;
    struct bw_skip skip; // the schedule it ran with, explicit
    double excess_loss;  // bw_schedule_excess() of it
};

/* A finished request. */
struct bw_generation {
    const char *request_id;
    const char *model_digest;      // hex SHA-256
    struct bw_request request;     // effective: model, class, size, seed explicit; schedule of the
                                   // first picture
    int evaluations;               // calls of the network for all pictures
    double gigaflops;              // their floating-point operations
    struct bw_timings timings;     // of the slowest picture
    const struct bw_image *images; // [request.count]
};

/* The request as a body of POST /v1/generate: read again it is the same request, field by field.
 * Model, size and format have to be settled. */
char *bw_request_render(const struct bw_request *request);

/* What a picture says of itself in its file: one line of ASCII, a JSON object with the version, the
 * model's digest, and the request that asks for this very file. `request` gives the model and the
 * format, `picture` is as it was planned, with its own index and schedule; nothing else has a part
 * in it, so the same picture has the same comment. */
char *bw_comment_render(const struct bw_request *request, const struct bw_picture *picture,
                        const char *model_digest);

char *bw_generation_render(const struct bw_generation *generation);

/* The same in the shape of OpenAI's images API. `created_s`: seconds since 1970. */
char *bw_generation_render_openai(const struct bw_generation *generation, int64_t created_s);

/* What a request would meet if it came now. */
struct bw_quote {
    struct bw_request request; // as it would run
    double excess_loss;        // of its schedule
    bool admitted;             // if not, `refusal` says why and `offer` what would do
    const char *refusal;
    struct bw_offer offer;
    double queue_ms, compute_ms, total_ms; // predicted, if admitted
};

char *bw_quote_render(const struct bw_quote *quote);

#endif
