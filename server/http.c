/* libmicrohttpd runs inside the loop: its epoll descriptor is watched, its timeouts become a timer,
 * and MHD_run() does what is due. A request passes through answer() several times: headers, pieces
 * of the body, its end, and once more after a suspended connection is resumed. Three rules hold
 * throughout:
 *
 * - An answer is queued only at or after the end of the request, except where the connection is to
 *   be closed anyway: libmicrohttpd refuses answers in the middle of a body, and closes after early
 *   ones.
 * - A connection is suspended exactly while its exchange waits for a handler's answer or the next
 *   piece of it, and only then watched for the client leaving, which libmicrohttpd does not notice.
 * - An exchange is freed in one place, when libmicrohttpd says that the request is over.
 */
#include "server/http.h"

#include "base/clock.h"
#include "base/random.h"
#include "base/text.h"
#include "server/connections.h"
#include "server/framing.h"
#include "server/listen.h"

#include <assert.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONNECTION_MEMORY_BYTES = 32768,
    ANSWER_HEAD_BYTES = 8192,    // of that: as much as an answer's own may have
    ENTRY_BYTES = 64,            // of that: what the library knows of a field, cookie or parameter
    DRAIN_LIMIT_BYTES = 8 << 20, // of a body too large: dropped, so that the client sees the 413
    SPARE_CONNECTIONS = 16,      // beyond the limit, while others make room
    SWEEP_MS = 250,
    IDLE_GRACE_MS = 1000, // while draining: for requests already on their way
    CLIENT_LEFT = 499,
    STREAM_BLOCK_BYTES = 16384, // handed to the library at a time
};

struct bw_http {
    struct MHD_Daemon *daemon;
    struct bw_loop *loop;
    struct bw_watch *watch;
    struct bw_timer *timeout, *sweep;
    struct bw_http_limits limits;
    struct bw_http_calls calls;
    struct bw_connections connections;
    bool running; // inside MHD_run()
    bool ending;  // nothing may rest any more: the daemon must not stop under suspended connections
    bool run_again;  // as soon as others had their turn
    double drain_ms; // when draining began; 0: not draining
    bw_loop_fn *drained;
    void *drained_context;
};

struct bw_exchange {
    struct bw_http *http;
    struct MHD_Connection *mhd;
    struct bw_connection *connection;
    char method[16], path[BW_PATH_LIMIT + 1], id[BW_REQUEST_ID_CHARS];
    struct bw_caller caller;
    struct bw_buf query; // decoded parameters, "name\0value\0" after each other
    struct bw_buf extra; // fields for the answer, in the same form
    struct bw_buf body;
    size_t dropped_bytes;
    bool refused;  // the request never reaches a handler
    bool unread;   // its refusal does not wait for the end of the body
    bool last;     // of its connection
    bool bodiless; // HEAD: whatever the answer is
    enum bw_problem refusal;
    const char *refusal_reason;

    bool handled; // the handler was called
    bool suspended;
    bool left; // the client is gone
    bool lost; // there is no memory for an answer: the connection is closed
    struct bw_watch *watch;
    bw_loop_fn *on_leave;
    void *leave_context;
    int status;
    struct MHD_Response *response;

    bw_pull_fn *pull; // of a stream
    void *pull_context;
    struct bw_buf chunk; // pulled and not sent yet, from chunk_sent on
    size_t chunk_sent;
    bool ended; // nothing will be pulled any more

    double started_ms, arrived_ms;
    struct bw_http_done done;
};

/* ---- running libmicrohttpd ---- */

static void run(void *context)
{
    struct bw_http *http = context;
    if (http->running)
        return;
    http->running = true;
    http->run_again = false;
    MHD_run(http->daemon);
    http->running = false;
    MHD_UNSIGNED_LONG_LONG delay_ms;
    bool timed = MHD_get_timeout(http->daemon, &delay_ms) == MHD_YES;
    if (http->run_again || timed)
        bw_timer_start(http->timeout, http->run_again ? 0 : delay_ms, 0);
    else
        bw_timer_stop(http->timeout);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode event)
{
    struct bw_http *http = context;
    if (event == MHD_CONNECTION_NOTIFY_STARTED) {
        int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        *slot = bw_connections_add(&http->connections, fd);
    } else if (*slot) {
        bw_connection_remove(*slot);
        http->run_again = true; // another may have waited for its place
    }
}

/* A client that sends its request drop by drop, or rests too long, loses its connection. One that
 * merely rests while we drain loses it only if no request has come meanwhile. */
static void sweep(void *context)
{
    struct bw_http *http = context;
    bw_connections_sweep(&http->connections,
                         http->drain_ms && bw_now_ms() - http->drain_ms > IDLE_GRACE_MS);
    run(http);
    if (http->drain_ms && http->connections.count == 0 && http->drained) {
        bw_loop_fn *drained = http->drained;
        http->drained = NULL;
        drained(http->drained_context);
    }
}

/* ---- reading a request ---- */

static const char no_memory[] = "out of memory for the request";

static void refuse_later(struct bw_exchange *x, enum bw_problem problem, const char *reason)
{
    if (x->refused)
        return;
    x->refused = true;
    x->refusal = problem;
    x->refusal_reason = reason;
}

/* The target as it was sent, before the library cuts it up in place. What this returns is what the
 * first call of answer() finds in its slot: nothing yet. */
static void *see_target(void *context, const char *target, struct MHD_Connection *mhd)
{
    struct bw_connection *c =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    (void)context;
    if (c) {
        c->target_bytes = target ? strlen(target) : 0;
        c->target_ok = target && bw_framing_target_ok(target);
    }
    return NULL;
}

/* The answer's head has to find room beside the request's; without any the library would close the
 * connection when all is done. */
static bool leaves_room(const struct bw_exchange *x, size_t head_bytes)
{
    const char *cookie = bw_exchange_header(x, "Cookie"); // of which the library makes a copy
    const enum MHD_ValueKind kinds = MHD_HEADER_KIND | MHD_COOKIE_KIND | MHD_GET_ARGUMENT_KIND;
    size_t entries = (size_t)MHD_get_connection_values(x->mhd, kinds, NULL, NULL);
    return head_bytes + (cookie ? strlen(cookie) : 0) + entries * ENTRY_BYTES <=
           CONNECTION_MEMORY_BYTES - ANSWER_HEAD_BYTES;
}

/* The library parses the head in place, so its parts lie where they arrived. */
static void check_framing(struct bw_exchange *x, const char *method, const char *url,
                          const char *version, struct bw_framing *framing)
{
    const struct bw_connection *c = x->connection;
    size_t head_bytes =
        MHD_get_connection_info(x->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    bw_framing_read(framing, (char *)version, head_bytes - (size_t)(version - method));
    if (!c->target_ok || !bw_framing_is_token(method) || url != method + strlen(method) + 1 ||
        version != url + c->target_bytes + 1)
        refuse_later(x, BW_PROBLEM_MALFORMED, "the request line is malformed");
    if (framing->fault)
        refuse_later(x, BW_PROBLEM_MALFORMED, framing->fault);
    if (framing->field_bytes > BW_HEADERS_LIMIT)
        refuse_later(x, BW_PROBLEM_HEADERS_TOO_LARGE,
                     "the header fields have more than 8192 bytes");
    if (!leaves_room(x, head_bytes))
        refuse_later(x, BW_PROBLEM_HEADERS_TOO_LARGE,
                     "the request line, fields and cookies leave no room for an answer");
    x->unread = framing->unread;
    x->last = framing->chunked;
}

static void check_path(struct bw_exchange *x, const char *url, const char *host)
{
    const char *path = bw_framing_path(url, host);
    if (!path)
        refuse_later(x, BW_PROBLEM_MALFORMED, "the target is neither a path nor a URL of the Host");
    else if (strlen(path) > BW_PATH_LIMIT)
        refuse_later(x, BW_PROBLEM_PATH_TOO_LONG, "the path has more than 2048 bytes");
    else if (!bw_text_unescape(path, x->path))
        refuse_later(x, BW_PROBLEM_MALFORMED, "the path holds a broken percent escape");
}

/* Keep the query's parameters decoded, as "name\0value\0" after each other. */
static enum MHD_Result keep_parameter(void *context, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    struct bw_exchange *x = context;
    const char *const texts[] = {name, value ? value : ""};
    (void)kind;
    for (int i = 0; i < 2; i++) {
        char decoded[CONNECTION_MEMORY_BYTES]; // a request line cannot be longer
        if (strlen(texts[i]) >= sizeof decoded || !bw_text_unescape(texts[i], decoded))
            refuse_later(x, BW_PROBLEM_MALFORMED, "the query holds a broken percent escape");
        else
            bw_buf_add(&x->query, decoded, strlen(decoded) + 1);
    }
    return MHD_YES;
}

/* The client's id if it is one that may stand in a log, else 16 random hex digits. */
static void choose_id(struct bw_exchange *x)
{
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const char *given = bw_exchange_header(x, "X-Request-Id");
    if (given && *given && strlen(given) < sizeof x->id && !given[strspn(given, fit)]) {
        strcpy(x->id, given);
        return;
    }
    snprintf(x->id, sizeof x->id, "%016llx", (unsigned long long)bw_random());
}

/* Is the announced body so large that it is better never sent? */
static bool announces_too_much(const struct bw_exchange *x)
{
    const char *length = bw_exchange_header(x, "Content-Length");
    unsigned long long bytes = length ? strtoull(length, NULL, 10) : 0;
    bool asks = bw_exchange_header(x, "Expect") != NULL;
    return bytes > DRAIN_LIMIT_BYTES || (asks && bytes > x->http->limits.body_limit_bytes);
}

static struct bw_exchange *begin(struct bw_http *http, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version)
{
    struct bw_connection *c =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    struct bw_exchange *x = c ? calloc(1, sizeof *x) : NULL;
    if (!x)
        return NULL;
    x->http = http;
    x->mhd = mhd;
    x->connection = c;
    x->started_ms = bw_now_ms();
    x->done.route = "none";
    x->body.ceiling_bytes = http->limits.body_limit_bytes;
    snprintf(x->method, sizeof x->method, "%s", method);
    x->bodiless = strcmp(method, "HEAD") == 0;
    bw_peer_address(MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr,
                    x->caller.address);
    struct bw_framing framing;
    check_framing(x, method, url, version, &framing);
    choose_id(x);
    check_path(x, url, framing.host);
    MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, keep_parameter, x);
    if (x->query.failed)
        refuse_later(x, BW_PROBLEM_INTERNAL, no_memory);
    return x;
}

static void take_body(struct bw_exchange *x, const char *bytes, size_t count)
{
    bool fits = count <= x->body.ceiling_bytes - x->body.length_bytes;
    bw_buf_add(&x->body, bytes, count);
    if (!x->body.failed)
        return;
    x->dropped_bytes += count;
    if (fits)
        refuse_later(x, BW_PROBLEM_INTERNAL, no_memory);
    else
        refuse_later(x, BW_PROBLEM_BODY_TOO_LARGE, "the body is larger than this service reads");
}

/* ---- answering ---- */

const struct bw_header bw_problem_headers[] = {
    {"Content-Type", "application/problem+json"}, {"Cache-Control", "no-store"}, {NULL, NULL}};

static enum MHD_Result send_response(struct bw_exchange *x)
{
    if (x->lost)
        return MHD_NO;
    x->done.status = x->status;
    enum MHD_Result result = MHD_queue_response(x->mhd, (unsigned)x->status, x->response);
    MHD_destroy_response(x->response);
    x->response = NULL;
    return result;
}

static void greet(struct bw_exchange *x)
{
    const struct bw_http_calls *calls = &x->http->calls;
    if (calls->greet)
        calls->greet(calls->context, x);
}

static enum MHD_Result send_refusal(struct bw_exchange *x)
{
    struct bw_err err = {0};
    greet(x);
    bw_err_set(&err, BW_ESYNTAX, "%s", x->refusal_reason);
    bw_exchange_refuse(x, x->refusal, &err, NULL);
    return send_response(x);
}

static void client_left(void *context)
{
    struct bw_exchange *x = context;
    bw_watch_free(x->watch);
    x->watch = NULL;
    x->left = true;
    x->suspended = false;
    if (x->on_leave)
        x->on_leave(x->leave_context);
    MHD_resume_connection(x->mhd);
    run(x->http);
}

/* Rest until the handler has something to say, or the client leaves; without a watch the answer
 * merely goes nowhere then. */
static void wait_for_news(struct bw_exchange *x)
{
    assert(!x->http->ending);
    x->suspended = true;
    MHD_suspend_connection(x->mhd);
    x->watch = bw_watch_new(x->http->loop, x->connection->fd, BW_WATCH_HANGUP, client_left, x);
}

static enum MHD_Result handle(struct bw_exchange *x)
{
    x->handled = true;
    x->arrived_ms = bw_now_ms();
    greet(x);
    x->http->calls.handle(x->http->calls.context, x);
    if (x->response || x->lost)
        return send_response(x);
    wait_for_news(x);
    return MHD_YES;
}

/* libmicrohttpd's access handler. */
static enum MHD_Result answer(void *context, struct MHD_Connection *mhd, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *data_bytes, void **slot)
{
    struct bw_http *http = context;
    struct bw_exchange *x = *slot;
    if (!x) {
        x = *slot = begin(http, mhd, url, method, version);
        if (!x)
            return MHD_NO;
        x->connection->exchange = x;
        bool too_much = announces_too_much(x);
        if (too_much)
            refuse_later(x, BW_PROBLEM_BODY_TOO_LARGE,
                         "the body is larger than this service reads");
        if (too_much || x->unread) {
            bw_connection_set_busy(x->connection, true);
            return send_refusal(x);
        }
        return MHD_YES;
    }
    if (*data_bytes) {
        take_body(x, data, *data_bytes);
        *data_bytes = 0;
        return x->dropped_bytes > DRAIN_LIMIT_BYTES ? MHD_NO : MHD_YES;
    }
    if (!x->connection->busy)
        bw_connection_set_busy(x->connection, true);
    if (x->left)
        return MHD_NO;
    if (x->refused)
        return send_refusal(x);
    if (x->handled)
        return send_response(x);
    return http->ending ? MHD_NO : handle(x);
}

static void on_completed(void *context, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode how)
{
    struct bw_http *http = context;
    struct bw_exchange *x = *slot;
    (void)mhd;
    if (!x)
        return;
    *slot = NULL;
    x->connection->exchange = NULL;
    bw_connection_set_busy(x->connection, false);
    bw_watch_free(x->watch);
    if (x->pull && !x->ended && !x->left && x->on_leave)
        x->on_leave(x->leave_context); // it left while there was something to send
    if (x->response)
        MHD_destroy_response(x->response);
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK || !x->done.status)
        x->done.status = CLIENT_LEFT;
    x->done.method = x->method;
    x->done.path = x->path;
    x->done.request_id = x->id;
    x->done.caller = &x->caller;
    x->done.received_bytes = x->body.length_bytes + x->dropped_bytes;
    x->done.duration_ms = bw_now_ms() - x->started_ms;
    http->calls.observe(http->calls.context, &x->done);
    bw_buf_release(&x->query);
    bw_buf_release(&x->extra);
    bw_buf_release(&x->body);
    bw_buf_release(&x->chunk);
    free(x);
}

/* The i-th pair of texts that stand in a row, each with its NUL; false if there are not so many. */
static bool pair_at(const struct bw_buf *pairs, int i, const char **name, const char **value)
{
    const char *at = pairs->data, *end = at ? at + pairs->length_bytes : at;
    while (at < end) {
        *name = at;
        *value = *name + strlen(*name) + 1;
        if (i-- == 0)
            return true;
        at = *value + strlen(*value) + 1;
    }
    return false;
}

/* The library sees to it when the handler is done: nothing a handler calls runs another one. */
static void go_on(struct bw_exchange *x)
{
    x->suspended = false;
    bw_watch_free(x->watch);
    x->watch = NULL;
    MHD_resume_connection(x->mhd);
    if (x->http->running)
        x->http->run_again = true;
    else
        bw_timer_start(x->http->timeout, 0, 0);
}

static void add_field(struct bw_exchange *x, const char *name, const char *value)
{
    x->lost = x->lost || MHD_add_response_header(x->response, name, value) != MHD_YES;
}

/* Send the answer off with these fields and those that every answer has. After a refusal nobody
 * knows where the next request begins, and after chunks not for sure: the library takes lines in
 * them that end in a bare LF, and which others may read differently. */
static void publish(struct bw_exchange *x, int status, const struct bw_header *headers)
{
    const char *name, *value;
    x->status = status;
    x->lost = !x->response || x->extra.failed;
    for (; headers && headers->name; headers++)
        add_field(x, headers->name, headers->value);
    for (int i = 0; pair_at(&x->extra, i, &name, &value); i++)
        add_field(x, name, value);
    add_field(x, "X-Request-Id", x->id);
    if (x->http->drain_ms || x->refused || x->last)
        add_field(x, "Connection", "close");
    if (x->suspended)
        go_on(x);
}

static ssize_t read_nothing(void *context, uint64_t position, char *out, size_t room)
{
    (void)context, (void)position, (void)out, (void)room;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

/* For an answer of unknown length and without a body: the library ends chunks that have not begun,
 * except in the manner of HTTP/1.0, which costs the connection. */
static void begin_no_chunks(struct MHD_Response *response)
{
    if (response)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
}

/* A 304 names the length that the whole answer would have or none (RFC 9110, section 8.6). */
static struct MHD_Response *not_modified(size_t length)
{
    struct MHD_Response *response = MHD_create_response_from_callback(
        length ? length : MHD_SIZE_UNKNOWN, 1, read_nothing, NULL, NULL);
    if (!length)
        begin_no_chunks(response);
    return response;
}

/* For an answer that there was no memory for; the library copies it into one block. */
static void respond_without_memory(struct bw_exchange *x)
{
    char text[256];
    int length = snprintf(text, sizeof text,
                          "{\"type\":\"urn:brickwork:problem:internal\",\"title\":\"The service "
                          "failed\",\"status\":500,\"detail\":\"out of memory for the answer\","
                          "\"instance\":\"%s\"}",
                          x->id);
    x->response = MHD_create_response_from_buffer((size_t)length, text, MHD_RESPMEM_MUST_COPY);
    x->done.sent_bytes = x->bodiless ? 0 : (size_t)length;
    publish(x, MHD_HTTP_INTERNAL_SERVER_ERROR, bw_problem_headers);
}

void bw_exchange_respond(struct bw_exchange *x, int status, const struct bw_header *headers,
                         char *body, size_t length)
{
    assert(!x->response && !x->left);
    if (!body && status != MHD_HTTP_NO_CONTENT && status != MHD_HTTP_NOT_MODIFIED) {
        respond_without_memory(x);
        return;
    }
    bool bare = status == MHD_HTTP_NOT_MODIFIED;
    x->response = bare ? not_modified(length)
                       : MHD_create_response_from_buffer(length, body, MHD_RESPMEM_MUST_FREE);
    if (bare || !x->response)
        free(body);
    x->done.sent_bytes = bare || x->bodiless ? 0 : length;
    publish(x, status, headers);
}

/* libmicrohttpd wants up to `room` bytes of a stream; without any the connection rests until
 * bw_exchange_poke(). */
static ssize_t read_stream(void *context, uint64_t position, char *out, size_t room)
{
    struct bw_exchange *x = context;
    (void)position;
    if (x->left || x->http->ending)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (x->chunk_sent == x->chunk.length_bytes && !x->ended) {
        bw_buf_release(&x->chunk);
        x->chunk_sent = 0;
        x->ended = x->pull(x->pull_context, &x->chunk) == BW_STREAM_END;
    }
    size_t count = x->chunk.length_bytes - x->chunk_sent;
    if (x->chunk.failed || (count == 0 && x->ended))
        return x->chunk.failed ? MHD_CONTENT_READER_END_WITH_ERROR
                               : MHD_CONTENT_READER_END_OF_STREAM;
    if (count == 0) {
        wait_for_news(x);
        return 0;
    }
    count = count < room ? count : room;
    memcpy(out, x->chunk.data + x->chunk_sent, count);
    x->chunk_sent += count;
    x->done.sent_bytes += count;
    return (ssize_t)count;
}

void bw_exchange_stream(struct bw_exchange *x, int status, const struct bw_header *headers,
                        bw_pull_fn *pull, void *context)
{
    assert(!x->response && !x->left);
    x->pull = pull;
    x->pull_context = context;
    x->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES,
                                                    read_stream, x, NULL);
    if (x->bodiless)
        begin_no_chunks(x->response);
    publish(x, status, headers);
}

void bw_exchange_poke(struct bw_exchange *x)
{
    if (x->pull && x->suspended)
        go_on(x);
}

void bw_exchange_refuse(struct bw_exchange *x, enum bw_problem problem, const struct bw_err *err,
                        const struct bw_header *extra)
{
    bw_exchange_refuse_offering(x, problem, err, extra, NULL);
}

void bw_exchange_refuse_offering(struct bw_exchange *x, enum bw_problem problem,
                                 const struct bw_err *err, const struct bw_header *extra,
                                 const struct bw_offer *offer)
{
    struct bw_header headers[] = {bw_problem_headers[0], bw_problem_headers[1], {0}, {0}};
    if (extra)
        headers[2] = *extra;
    bool openai = bw_text_after(x->path, BW_OPENAI_PREFIX) != NULL;
    char *body = bw_problem_render(problem, err, offer, x->id, openai);
    bw_exchange_respond(x, bw_problem_status(problem), headers, body, body ? strlen(body) : 0);
}

/* ---- the exchange as handlers see it ---- */

const char *bw_exchange_method(const struct bw_exchange *x)
{
    return x->method;
}

const char *bw_exchange_client(const struct bw_exchange *x)
{
    return *x->caller.key ? x->caller.key : x->caller.address;
}

struct bw_caller *bw_exchange_caller(struct bw_exchange *x)
{
    return &x->caller;
}

const char *bw_exchange_path(const struct bw_exchange *x)
{
    return x->path;
}

void bw_exchange_segment(const struct bw_exchange *x, int i, char *out, size_t room)
{
    const char *at = x->path + (*x->path == '/');
    while (i-- > 0 && *at) {
        at += strcspn(at, "/");
        at += *at == '/';
    }
    snprintf(out, room, "%.*s", (int)strcspn(at, "/"), at);
}

const char *bw_exchange_header(const struct bw_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

struct joining {
    const char *name;
    char *out;
    size_t used, room;
};

static enum MHD_Result join_field(void *context, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct joining *j = context;
    (void)kind;
    if (bw_text_same(name, j->name) && value && j->used < j->room)
        j->used += (size_t)snprintf(j->out + j->used, j->room - j->used, "%s%s",
                                    j->used ? ", " : "", value);
    return MHD_YES;
}

void bw_exchange_list(const struct bw_exchange *x, const char *name, char *out, size_t room)
{
    struct joining j = {.name = name, .out = out, .room = room};
    *out = '\0';
    MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, join_field, &j);
}

const char *bw_exchange_body(const struct bw_exchange *x, size_t *length)
{
    *length = x->body.length_bytes;
    return x->body.data ? x->body.data : "";
}

bool bw_exchange_query(const struct bw_exchange *x, int i, const char **name, const char **value)
{
    return pair_at(&x->query, i, name, value);
}

void bw_exchange_add_header(struct bw_exchange *x, const char *name, const char *value)
{
    bw_buf_add(&x->extra, name, strlen(name) + 1);
    bw_buf_add(&x->extra, value, strlen(value) + 1);
}

double bw_exchange_arrived_ms(const struct bw_exchange *x)
{
    return x->arrived_ms;
}

const char *bw_exchange_id(const struct bw_exchange *x)
{
    return x->id;
}

void bw_exchange_set_route(struct bw_exchange *x, const char *route)
{
    x->done.route = route;
}

void bw_exchange_note(struct bw_exchange *x, const char *key, double ms)
{
    int room = (int)(sizeof x->done.notes / sizeof *x->done.notes);
    if (x->done.note_count < room)
        x->done.notes[x->done.note_count++] = (struct bw_http_note){key, ms};
}

void bw_exchange_on_leave(struct bw_exchange *x, bw_loop_fn *fn, void *context)
{
    x->on_leave = fn;
    x->leave_context = context;
}

/* ---- the daemon's life ---- */

/* Paths are decoded here, where %00 can be told from the end of the text. */
static size_t leave_escapes(void *context, struct MHD_Connection *mhd, char *text)
{
    (void)context, (void)mhd;
    return strlen(text);
}

static int start(struct bw_http *http, int listen_fd, struct bw_err *err)
{
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer, http,
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(http->limits.connections + SPARE_CONNECTIONS),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(http->limits.request_timeout_ms / 1000 + 1),
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_URI_LOG_CALLBACK, see_target,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_UNESCAPE_CALLBACK,
        leave_escapes, NULL, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (!http->daemon)
        return bw_err_set(err, BW_EIO, "the HTTP library refuses to start");
    int epoll = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    http->watch = bw_watch_new(http->loop, epoll, BW_WATCH_READABLE, run, http);
    http->timeout = bw_timer_new(http->loop, run, http);
    http->sweep = bw_timer_new(http->loop, sweep, http);
    if (!http->watch || !http->timeout || !http->sweep)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    bw_timer_start(http->sweep, SWEEP_MS, SWEEP_MS);
    run(http);
    return BW_OK;
}

int bw_http_new(struct bw_http **out, struct bw_loop *loop, int listen_fd,
                const struct bw_http_limits *limits, const struct bw_http_calls *calls,
                struct bw_err *err)
{
    struct bw_http *http = calloc(1, sizeof *http);
    if (!http) {
        close(listen_fd);
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    *http = (struct bw_http){.loop = loop, .limits = *limits, .calls = *calls};
    bw_connections_init(&http->connections, limits->connections, limits->request_timeout_ms);
    int code = start(http, listen_fd, err);
    if (code) {
        if (!http->daemon)
            close(listen_fd);
        bw_http_free(http);
    } else {
        *out = http;
    }
    return code;
}

void bw_http_free(struct bw_http *http)
{
    if (!http)
        return;
    bw_watch_free(http->watch);
    bw_timer_free(http->timeout);
    bw_timer_free(http->sweep);
    if (http->daemon) {
        http->running = http->ending = true; // no MHD_run() from callbacks any more
        const struct bw_connection *busy = &http->connections.busy;
        for (const struct bw_connection *c = busy->next; c != busy; c = c->next) {
            struct bw_exchange *x = c->exchange;
            if (x && x->suspended)
                client_left(x);
        }
        MHD_run(http->daemon);
        MHD_stop_daemon(http->daemon);
    }
    free(http);
}

void bw_http_drain(struct bw_http *http, bw_loop_fn *drained, void *context)
{
    int fd = MHD_quiesce_daemon(http->daemon);
    if (fd >= 0)
        close(fd);
    http->drain_ms = bw_now_ms();
    http->drained = drained;
    http->drained_context = context;
}

bool bw_http_is_draining(const struct bw_http *http)
{
    return http->drain_ms > 0;
}

int bw_http_connections(const struct bw_http *http)
{
    return http->connections.count;
}
