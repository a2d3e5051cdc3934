/* The table is the whole vocabulary of failure. */
#include "api/problem.h"

#include "api/json.h"
#include "api/parts.h"

static const struct {
    int status;
    const char *slug, *title;
} problems[] = {
    [BW_PROBLEM_MALFORMED] = {400, "malformed", "The request cannot be read"},
    [BW_PROBLEM_UNAUTHORIZED] = {401, "unauthorized", "An API key is needed"},
    [BW_PROBLEM_NOT_FOUND] = {404, "not-found", "There is nothing at this path"},
    [BW_PROBLEM_UNKNOWN_MODEL] = {404, "unknown-model", "There is no such model"},
    [BW_PROBLEM_UNKNOWN_JOB] = {404, "unknown-job", "There is no such job"},
    [BW_PROBLEM_METHOD] = {405, "method-not-allowed", "This path does not take this method"},
    [BW_PROBLEM_NOT_ACCEPTABLE] = {406, "not-acceptable", "No acceptable form of the result"},
    [BW_PROBLEM_CONFLICT] = {409, "conflict", "The job of this id does not fit the request"},
    [BW_PROBLEM_NOT_READY] = {409, "not-ready", "There is no result yet"},
    [BW_PROBLEM_CANCELLED] = {409, "cancelled", "The work was cancelled"},
    [BW_PROBLEM_GONE] = {410, "gone", "The result is no longer kept"},
    [BW_PROBLEM_BODY_TOO_LARGE] = {413, "body-too-large", "The body is too large"},
    [BW_PROBLEM_PATH_TOO_LONG] = {414, "path-too-long", "The path is too long"},
    [BW_PROBLEM_MEDIA_TYPE] = {415, "media-type", "The body is not application/json"},
    [BW_PROBLEM_INVALID] = {422, "invalid", "A field has a value that is not allowed"},
    [BW_PROBLEM_RATE_LIMITED] = {429, "rate-limited", "The quota is used up"},
    [BW_PROBLEM_QUEUE_FULL] = {429, "queue-full", "The queue is full"},
    [BW_PROBLEM_HEADERS_TOO_LARGE] = {431, "headers-too-large", "The header fields are too large"},
    [BW_PROBLEM_INTERNAL] = {500, "internal", "The service failed"},
    [BW_PROBLEM_DRAINING] = {503, "draining", "The service is shutting down"},
    [BW_PROBLEM_STALLED] = {503, "stalled", "The service makes no progress"},
    [BW_PROBLEM_DEADLINE] = {503, "deadline-infeasible", "The deadline cannot be kept"},
    [BW_PROBLEM_STORE] = {503, "store-unreachable", "The store of jobs cannot be reached"},
    [BW_PROBLEM_TOO_LATE] = {504, "deadline-missed", "The deadline has passed"},
};

int bw_problem_status(enum bw_problem problem)
{
    return problems[problem].status;
}

enum bw_problem bw_problem_of(const struct bw_err *err)
{
    switch (err->code) {
    case BW_ESYNTAX:
        return BW_PROBLEM_MALFORMED;
    case BW_ERANGE:
        return BW_PROBLEM_INVALID;
    case BW_ENOTFOUND:
        return BW_PROBLEM_UNKNOWN_MODEL;
    case BW_EBUSY:
        return BW_PROBLEM_QUEUE_FULL;
    default:
        return BW_PROBLEM_INTERNAL;
    }
}

/* What clients of the OpenAI API look at; "/size" is their param "size". */
static json_t *openai_error(int status, const char *slug, const struct bw_err *err)
{
    const char *type = status == 429  ? "rate_limit_error"
                       : status < 500 ? "invalid_request_error"
                                      : "server_error";
    return json_pack("{s:s, s:s, s:s?, s:s}", "message", err->message, "type", type, "param",
                     *err->field ? err->field + 1 : NULL, "code", slug);
}

char *bw_problem_render(enum bw_problem problem, const struct bw_err *err,
                        const struct bw_offer *offer, const char *request_id, int openai)
{
    int status = problems[problem].status;
    const char *slug = problems[problem].slug;
    json_t *type = json_sprintf("urn:brickwork:problem:%s", slug);
    json_t *root =
        json_pack("{s:o, s:s, s:i, s:s, s:s}", "type", type, "title", problems[problem].title,
                  "status", status, "detail", err->message, "instance", request_id);
    if (root && *err->field)
        json_object_set_new(
            root, "errors",
            json_pack("[{s:s, s:s}]", "pointer", err->field, "detail", err->message));
    if (root && offer)
        json_object_set_new(root, "offer", bw_offer_json(offer));
    if (root && openai)
        json_object_set_new(root, "error", openai_error(status, slug, err));
    return bw_json_render(root);
}
