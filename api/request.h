/* Request: what POST /v1/generate accepts; the command line's options are the same fields.
 *
 * openapi.yaml, schema GenerateRequest, is the contract this implements. Checked here: grammar,
 * types, ranges that hold for every model, and that no field is unknown. What depends on the model
 * (class, size, bricks) is checked when the picture is planned. Any thread.
 */
#ifndef BW_API_REQUEST_H
#define BW_API_REQUEST_H

#include "base/err.h"
#include "base/picture.h"

#include <stdbool.h>
#include <stddef.h>

enum { BW_MAX_COUNT = 8, BW_DEFAULT_QUALITY = 90, BW_MAX_PARTIALS = 8, BW_WEBHOOK_CHARS = 512 };

enum bw_priority { BW_PRIORITY_LOW, BW_PRIORITY_NORMAL, BW_PRIORITY_HIGH };

/* Bounds of deadline_ms. */
enum { BW_MIN_DEADLINE_MS = 1, BW_MAX_DEADLINE_MS = 3600000 };

struct bw_request {
    char model[BW_NAME_CHARS]; // "" if not given
    struct bw_picture picture; // the first of `count` pictures
    int count;                 // 1..BW_MAX_COUNT; picture i has index picture.index + i
    bool seeded;               // false: the seed is for the server to choose
    enum bw_format format;     // BW_FORMAT_ANY: not given
    int quality;               // of JPEG and WebP, 1..100
    bool progressive;          // JPEG only
    double deadline_ms;        // from the request's arrival to its answer; 0: none
    enum bw_priority priority;
    int partial_images;             // previews of each picture in a stream, 0..BW_MAX_PARTIALS
    char webhook[BW_WEBHOOK_CHARS]; // http(s)://..., told of the end of a job; "": nobody is
};

/* "jpeg", "png" and "webp"; BW_FORMAT_ANY has no name. */
const char *bw_format_name(enum bw_format format);
/* "image/jpeg" and so on; BW_FORMAT_ANY has none. */
const char *bw_format_media_type(enum bw_format format);
/* False if there is no such format. */
bool bw_format_named(const char *name, enum bw_format *format);

/* "low", "normal", "high". */
const char *bw_priority_name(enum bw_priority priority);

struct bw_request bw_request_default(void);

/* Where nothing is negotiated any more: a format left open is JPEG, and what the format has no use
 * for is as if it were not given, so that requests for the same bytes are the same. */
void bw_request_tidy(struct bw_request *request);

/* Read a request body. BW_ESYNTAX: not a JSON object. BW_ERANGE: a field is unknown, of the wrong
 * type or out of range; err->field says which. *request is then untouched. */
int bw_request_parse(struct bw_request *request, const char *body, size_t length,
                     struct bw_err *err);

/* Set one field from text: JSON if it is a number, an object, true or false, else a string.
 * BW_ERANGE with err->field; the request may then be half set. */
int bw_request_set(struct bw_request *request, const char *field, const char *text,
                   struct bw_err *err);

/* One of the name and value pairs of a query, decoded; false past the last one. */
typedef bool bw_query_fn(const void *query, int i, const char **name, const char **value);

/* Read the query of GET /v1/generate: every field at most once, as bw_request_set() reads it, and
 * class=null for no class. The seed is required, n can only be 1, and what only a stream or a job
 * has a use for is refused. BW_ERANGE with err->field; *request is then untouched. */
int bw_request_from_query(struct bw_request *request, bw_query_fn *pair, const void *query,
                          struct bw_err *err);

#endif
