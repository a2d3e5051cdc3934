/* Load HTTP: many requests of POST /v1/generate at once, each sent when it is told to be.
 *
 *     bw_load_http_send(http, arrival, &answer);  // any number; never waits for anything
 *     while (bw_load_http_pending(http))
 *         bw_load_http_turn(http, 0);             // answers fill up meanwhile
 *
 * The number of connections is not bounded, only that of idle ones kept for later, so that no
 * request waits for another's answer. One thread.
 */
#ifndef BW_CLI_LOAD_HTTP_H
#define BW_CLI_LOAD_HTTP_H

#include "api/trace.h"
#include "base/err.h"

#include <stdbool.h>

struct bw_load_answer {
    double sent_ms, done_ms; // bw_now_ms()
    int status;              // of HTTP; 0: no answer came
    const char *failure;     // why none came; static text
    // what the answer says, NAN (or 0 steps) where it does not
    double predicted_ms, total_ms, excess_loss;
    int steps;
};

struct bw_load_http;

/* `url` is the server's, without a path; a request is given up after timeout_s. BW_ERANGE: the URL
 * is none; BW_EIO, BW_ENOMEM. */
int bw_load_http_new(struct bw_load_http **http, const char *url, int idle_connections,
                     double timeout_s, struct bw_err *err);

/* Send now. Arrival and answer have to stay where they are until there is an answer. */
void bw_load_http_send(struct bw_load_http *http, const struct bw_arrival *arrival,
                       struct bw_load_answer *answer);

/* Requests without an answer. */
int bw_load_http_pending(const struct bw_load_http *http);

/* Move bytes, then wait until there are more to move or bw_now_ms() is until_ms (0: no such
 * moment), whichever is first. */
void bw_load_http_turn(struct bw_load_http *http, double until_ms);

void bw_load_http_free(struct bw_load_http *http);

#endif
