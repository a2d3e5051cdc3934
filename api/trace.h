/* Trace: requests and the moments they arrive, as a file: one JSON object a line,
 *
 *     {"at_ms": 1250, "client": "127.0.0.2", "request": {"class": 3, "steps": 12}}
 *
 * `at_ms` counts from the beginning and does not fall from line to line; `client` (optional) is an
 * address of this machine to ask from; `request` is a body of POST /v1/generate. Empty lines are
 * skipped. Any thread.
 */
#ifndef BW_API_TRACE_H
#define BW_API_TRACE_H

#include "api/request.h"

enum { BW_TRACE_CLIENT_CHARS = 64 };

struct bw_arrival {
    double at_ms;
    char client[BW_TRACE_CLIENT_CHARS]; // "" if not given
    struct bw_request request;
    char *body; // the request as it is to be sent, NUL-terminated
};

struct bw_trace {
    struct bw_arrival *arrivals; // [count]
    int count, room;
};

/* Read the text of a trace file. BW_ESYNTAX or BW_ERANGE with the line's number in the message;
 * BW_ENOMEM. On success the caller releases the trace; on failure it is empty. */
int bw_trace_parse(struct bw_trace *trace, const char *text, size_t length, struct bw_err *err);

/* Add an arrival; `body` is copied and must be a valid request. BW_ENOMEM, or as
 * bw_request_parse(). */
int bw_trace_add(struct bw_trace *trace, double at_ms, const char *client, const char *body,
                 struct bw_err *err);

void bw_trace_release(struct bw_trace *trace);

#endif
