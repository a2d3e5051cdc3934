/* HTTP: requests in, responses out, over libmicrohttpd driven by the loop.
 *
 * A handler sees a request when it is complete, and answers at once or later; meanwhile nothing
 * blocks. What is malformed, too large or too slow never reaches a handler. Thread: everything on
 * the loop's thread.
 */
#ifndef BW_SERVER_HTTP_H
#define BW_SERVER_HTTP_H

#include "api/problem.h"
#include "base/buf.h"
#include "base/err.h"
#include "server/keys.h"
#include "server/listen.h"
#include "server/loop.h"
#include "server/trace_context.h"

#include <stdbool.h>
#include <stddef.h>

enum { BW_PATH_LIMIT = 2048, BW_HEADERS_LIMIT = 8192, BW_REQUEST_ID_CHARS = 65 };

#define BW_OPENAI_PREFIX "/v1/images/"

struct bw_http;
struct bw_exchange; // one request and its response

struct bw_http_limits {
    int connections; // open at a time, and a few more while who rests longest makes room for them
    int request_timeout_ms;  // for a request to arrive whole, counted from the connection's last
                             // rest
    size_t body_limit_bytes; // larger bodies get 413
};

/* Answer the exchange, now or later, exactly once. */
typedef void bw_http_handler(void *context, struct bw_exchange *exchange);

/* Who asks, as far as that is decided before a handler runs. */
struct bw_caller {
    char
        address[BW_ADDRESS_CHARS]; // numeric; the connection's, unless a trusted proxy says another
    char key[BW_KEY_NAME_CHARS];   // name of its API key; "" if it needed none
    bool counted;                  // by the quotas of that key
    struct bw_trace_context trace; // of our part; "" before the gate
};

/* What is known of an exchange when it is over; for logs and metrics. */
struct bw_http_done {
    const char *method, *path, *route, *request_id;
    const struct bw_caller *caller;
    int status;                        // as sent; 499 if the client left first
    size_t received_bytes, sent_bytes; // of the bodies
    double duration_ms;
    int note_count;
    struct bw_http_note {
        const char *key;
        double ms;
    } notes[4];
};

typedef void bw_http_observer(void *context, const struct bw_http_done *done);

/* Who is called, with `context`; greet and observe once for each exchange. */
struct bw_http_calls {
    void *context;
    bw_http_handler *greet; // NULL: nobody. Before every answer, also where a request cannot be
                            // understood and reaches no handler; may add fields to the answer
    bw_http_handler *handle;
    bw_http_observer *observe; // when it is over
};

/* Serve on a listening socket, which passes to the returned object. BW_ENOMEM, BW_EIO. */
int bw_http_new(struct bw_http **http, struct bw_loop *loop, int listen_fd,
                const struct bw_http_limits *limits, const struct bw_http_calls *calls,
                struct bw_err *err);

/* Close every connection; those waiting for an answer are told that their client left. */
void bw_http_free(struct bw_http *http);

/* Take no new connections, say "Connection: close" in every answer, close idle connections, and
 * call `drained` when none is left. */
void bw_http_drain(struct bw_http *http, bw_loop_fn *drained, void *context);
bool bw_http_is_draining(const struct bw_http *http);

int bw_http_connections(const struct bw_http *http);

/* The request. Texts live as long as the exchange. */
const char *bw_exchange_method(const struct bw_exchange *x);
const char *bw_exchange_client(const struct bw_exchange *x); // the key's name, else the address
const char *bw_exchange_path(const struct bw_exchange *x);   // decoded, no query
/* The i-th segment of the path, from 0: of "/v1/jobs/a" 2 is "a". Cut to `room`; "" past the end.
 */
void bw_exchange_segment(const struct bw_exchange *x, int i, char *out, size_t room);
const char *bw_exchange_header(const struct bw_exchange *x, const char *name); // or NULL
/* All values of a field as one list, cut to `room`; "" if there is none (RFC 9110, section 5.3). */
void bw_exchange_list(const struct bw_exchange *x, const char *name, char *out, size_t room);
/* The i-th parameter of the query, decoded; false if there are not so many. */
bool bw_exchange_query(const struct bw_exchange *x, int i, const char **name, const char **value);
const char *bw_exchange_body(const struct bw_exchange *x, size_t *length);
/* bw_now_ms() when it had arrived, its body included. */
double bw_exchange_arrived_ms(const struct bw_exchange *x);

const char *bw_exchange_id(const struct bw_exchange *x); // X-Request-Id, the client's or our own

/* For the gate to fill in. */
struct bw_caller *bw_exchange_caller(struct bw_exchange *x);

/* For the observer. `route` and `key` must be static. */
void bw_exchange_set_route(struct bw_exchange *x, const char *route);
void bw_exchange_note(struct bw_exchange *x, const char *key, double ms);

/* Call fn if the client leaves before the answer; the exchange is then over and must not be used.
 */
void bw_exchange_on_leave(struct bw_exchange *x, bw_loop_fn *fn, void *context);

struct bw_header {
    const char *name, *value;
};

/* The fields of a problem: nobody may keep one, not even a 410, which may be kept for ever
 * otherwise. */
extern const struct bw_header bw_problem_headers[];

/* One more field for whatever answer the exchange gets; both texts are copied. */
void bw_exchange_add_header(struct bw_exchange *x, const char *name, const char *value);

/* Answer. `body` is heap memory that passes to the exchange; it may be NULL with 204 and 304,
 * otherwise that says there was no memory for it, which becomes a problem. A 304 sends nothing of
 * it, and `length` is that of the whole answer; 0, unknown, costs the connection. `headers` ends
 * with a NULL name and is copied. The exchange must not be used afterwards. */
void bw_exchange_respond(struct bw_exchange *x, int status, const struct bw_header *headers,
                         char *body, size_t length);

/* Answer with a body that comes by and by. `pull` appends to `out` what there is by now and says
 * whether more will follow; it is called when the client can take more and, after it had nothing,
 * when bw_exchange_poke() says that there is news. After BW_STREAM_END the exchange must not be
 * used; until then on_leave is called if the client leaves. */
enum bw_stream { BW_STREAM_OPEN, BW_STREAM_END };
typedef enum bw_stream bw_pull_fn(void *context, struct bw_buf *out);
void bw_exchange_stream(struct bw_exchange *x, int status, const struct bw_header *headers,
                        bw_pull_fn *pull, void *context);
void bw_exchange_poke(struct bw_exchange *x);

/* Answer with a problem. `extra` is one more header or NULL. Under BW_OPENAI_PREFIX the problem
 * also says what clients of that API read. */
void bw_exchange_refuse(struct bw_exchange *x, enum bw_problem problem, const struct bw_err *err,
                        const struct bw_header *extra);

/* The same, with what the client could do instead (or NULL). */
void bw_exchange_refuse_offering(struct bw_exchange *x, enum bw_problem problem,
                                 const struct bw_err *err, const struct bw_header *extra,
                                 const struct bw_offer *offer);

#endif
