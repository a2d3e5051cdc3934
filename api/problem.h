/* Problem: every failure's body, application/problem+json (RFC 9457).
 *
 * One table names all kinds of failure with their status and title; openapi.yaml, schema Problem,
 * is the contract. Any thread.
 */
#ifndef BW_API_PROBLEM_H
#define BW_API_PROBLEM_H

#include "base/err.h"

enum bw_problem {
    BW_PROBLEM_MALFORMED,         // 400
    BW_PROBLEM_UNAUTHORIZED,      // 401
    BW_PROBLEM_NOT_FOUND,         // 404
    BW_PROBLEM_UNKNOWN_MODEL,     // 404
    BW_PROBLEM_UNKNOWN_JOB,       // 404
    BW_PROBLEM_METHOD,            // 405
    BW_PROBLEM_NOT_ACCEPTABLE,    // 406
    BW_PROBLEM_CONFLICT,          // 409
    BW_PROBLEM_NOT_READY,         // 409
    BW_PROBLEM_CANCELLED,         // 409; in streams of events
    BW_PROBLEM_GONE,              // 410
    BW_PROBLEM_BODY_TOO_LARGE,    // 413
    BW_PROBLEM_PATH_TOO_LONG,     // 414
    BW_PROBLEM_MEDIA_TYPE,        // 415
    BW_PROBLEM_INVALID,           // 422
    BW_PROBLEM_RATE_LIMITED,      // 429
    BW_PROBLEM_QUEUE_FULL,        // 429
    BW_PROBLEM_HEADERS_TOO_LARGE, // 431
    BW_PROBLEM_INTERNAL,          // 500
    BW_PROBLEM_DRAINING,          // 503
    BW_PROBLEM_STALLED,           // 503; of the probes, and of what is lost by it
    BW_PROBLEM_DEADLINE,          // 503
    BW_PROBLEM_STORE,             // 503
    BW_PROBLEM_TOO_LATE,          // 504
};

/* What a request that is refused for lack of time could do instead. */
struct bw_offer {
    double
        retry_after_ms; // ask for the same again after this time; negative: it cannot be had here
    double deadline_ms; // it would be admitted now with this deadline; 0: unknown
    int steps;          // it would be admitted now with so many steps and skip "auto"; 0: no
};

/* The HTTP status of a kind. */
int bw_problem_status(enum bw_problem problem);

/* The kind that an error of reading or planning a request is. */
enum bw_problem bw_problem_of(const struct bw_err *err);

/* The body: type, title, status, detail (the error's message), instance (the request's id), if the
 * error names a field errors with its JSON pointer, and the offer if it is not NULL. With `openai`
 * also the `error` object that clients of that API read. The caller free()s it; NULL without
 * memory. */
char *bw_problem_render(enum bw_problem problem, const struct bw_err *err,
                        const struct bw_offer *offer, const char *request_id, int openai);

#endif
