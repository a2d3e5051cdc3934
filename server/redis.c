/* hiredis tells what it wants to hear of its socket, which becomes a watch of the loop. It frees a
 * context itself after it has reported the failure to connect or the end of the connection, so
 * those two reports are where ours is forgotten.
 *
 * One timer has two uses: without a connection it waits for the next attempt, with one it runs
 * while anything is unanswered, and breaks the connection if it runs out. */
#include "server/redis.h"

#include "base/log.h"
#include "base/random.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PATIENCE_MS = 10000, FIRST_PAUSE_MS = 50, MOST_PAUSE_MS = 3000, NUMERIC_CHARS = 64 };

struct bw_redis {
    struct bw_loop *loop;
    struct bw_redis_url url;
    bool quiet, said_down, up, closed, resolving;
    bw_redis_state_fn *state;
    void *context;
    redisAsyncContext *link; // NULL: there is none
    struct bw_timer *timer;
    int pause_ms, unanswered;
    unsigned attempts;
    char numeric[NUMERIC_CHARS]; // the address; "" if the name was not resolved
    char trouble[160];           // why there is no connection
};

/* One command that is not answered yet, or a subscription. */
struct asked {
    struct bw_redis *redis;
    bw_redis_fn *fn;
    void *context;
    bool subscription;
};

/* ---- the socket ---- */

static void on_readable(void *link)
{
    redisAsyncHandleRead(link);
}

static void on_writable(void *link)
{
    redisAsyncHandleWrite(link);
}

static void add_read(void *watch)
{
    bw_watch_want(watch, 1, -1);
}

static void del_read(void *watch)
{
    bw_watch_want(watch, 0, -1);
}

static void add_write(void *watch)
{
    bw_watch_want(watch, -1, 1);
}

static void del_write(void *watch)
{
    bw_watch_want(watch, -1, 0);
}

static void clean_up(void *watch)
{
    bw_watch_free(watch);
}

static bool attach(struct bw_redis *r, redisAsyncContext *link)
{
    struct bw_watch *watch =
        bw_watch_new_duplex(r->loop, link->c.fd, on_readable, on_writable, link);
    if (!watch)
        return false;
    link->ev.data = watch;
    link->ev.addRead = add_read;
    link->ev.delRead = del_read;
    link->ev.addWrite = add_write;
    link->ev.delWrite = del_write;
    link->ev.cleanup = clean_up;
    return true;
}

/* ---- coming and going ---- */

static void note(struct bw_redis *r, enum bw_log_level level, const char *event)
{
    struct bw_log_line line;
    if (r->quiet)
        return;
    bw_log_begin(&line, level, event);
    bw_log_text(&line, "host", r->url.host);
    bw_log_int(&line, "port", r->url.port);
    if (level != BW_LOG_INFO)
        bw_log_text(&line, "reason", r->trouble);
    bw_log_end(&line);
}

/* There is no connection (any more); try again after a pause, each longer than the one before. */
static void be_down(struct bw_redis *r)
{
    bool was_up = r->up;
    r->up = false;
    r->link = NULL;
    r->unanswered = 0;
    if (r->closed)
        return;
    if (!r->said_down)
        note(r, BW_LOG_WARN, "redis-down");
    r->said_down = true;
    int jitter_ms = (int)(bw_random() % (unsigned)(r->pause_ms / 2 + 1));
    bw_timer_start(r->timer, (uint64_t)(r->pause_ms + jitter_ms), 0);
    r->pause_ms = r->pause_ms * 2 < MOST_PAUSE_MS ? r->pause_ms * 2 : MOST_PAUSE_MS;
    if (was_up)
        r->state(r->context, false);
}

static void be_up(struct bw_redis *r)
{
    r->up = true;
    r->pause_ms = FIRST_PAUSE_MS;
    note(r, BW_LOG_INFO, "redis-up");
    r->said_down = false;
    r->state(r->context, true);
}

static void on_disconnect(const redisAsyncContext *link, int status)
{
    struct bw_redis *r = link->data;
    if (status != REDIS_OK)
        snprintf(r->trouble, sizeof r->trouble, "%s", link->errstr);
    be_down(r);
}

/* ---- commands ---- */

static void on_answer(redisAsyncContext *link, void *reply, void *context)
{
    struct asked *a = context;
    struct bw_redis *r = a->redis;
    bool last = !a->subscription || !reply;
    (void)link;
    if (!a->subscription && reply) {
        if (--r->unanswered)
            bw_timer_start(r->timer, PATIENCE_MS, 0);
        else
            bw_timer_stop(r->timer);
    }
    if (reply || !a->subscription)
        a->fn(a->context, reply);
    if (last)
        free(a);
}

static void send_words(struct bw_redis *r, const char **words, const size_t *lengths, int count,
                       bw_redis_fn *fn, void *context)
{
    struct asked *a = r->link ? malloc(sizeof *a) : NULL;
    if (a)
        *a = (struct asked){r, fn, context, lengths[0] == 9 && !memcmp(words[0], "SUBSCRIBE", 9)};
    if (!a || redisAsyncCommandArgv(r->link, on_answer, a, count, words, lengths) != REDIS_OK) {
        free(a);
        fn(context, NULL);
        return;
    }
    if (!a->subscription && !r->unanswered++)
        bw_timer_start(r->timer, PATIENCE_MS, 0);
}

void bw_redis_command(struct bw_redis *r, const struct bw_redis_word *words, int count,
                      bw_redis_fn *fn, void *context)
{
    const char *texts[BW_REDIS_MOST_WORDS];
    size_t lengths[BW_REDIS_MOST_WORDS];
    assert(count > 0);
    if (!r->up || count > BW_REDIS_MOST_WORDS) {
        fn(context, NULL);
        return;
    }
    for (int i = 0; i < count; i++) {
        texts[i] = words[i].bytes;
        lengths[i] = words[i].length_bytes;
    }
    send_words(r, texts, lengths, count, fn, context);
}

/* ---- the handshake ---- */

static void send_texts(struct bw_redis *r, int count, const char **words, bw_redis_fn *fn)
{
    size_t lengths[4];
    for (int i = 0; i < count; i++)
        lengths[i] = strlen(words[i]);
    send_words(r, words, lengths, count, fn, r);
}

/* The answer to AUTH or PING; of several the last has to be well. */
static void on_greeting(void *context, const struct redisReply *reply)
{
    struct bw_redis *r = context;
    const char *complaint = bw_reply_complaint(reply);
    if (!reply)
        return; // the connection is breaking, which is reported by itself
    if (complaint) {
        snprintf(r->trouble, sizeof r->trouble, "%s", complaint);
        redisAsyncFree(r->link);
    }
}

static void on_selected(void *context, const struct redisReply *reply)
{
    struct bw_redis *r = context;
    on_greeting(r, reply);
    if (reply && !bw_reply_complaint(reply))
        be_up(r);
}

static void on_connect(const redisAsyncContext *link, int status)
{
    struct bw_redis *r = link->data;
    char db[16];
    if (status != REDIS_OK) {
        snprintf(r->trouble, sizeof r->trouble, "%s",
                 link->c.err ? link->c.errstr : "nobody listens there");
        be_down(r);
        return;
    }
    snprintf(db, sizeof db, "%d", r->url.db);
    redisEnableKeepAlive(&r->link->c);
    if (*r->url.user)
        send_texts(r, 3, (const char *[]){"AUTH", r->url.user, r->url.password}, on_greeting);
    else if (*r->url.password)
        send_texts(r, 2, (const char *[]){"AUTH", r->url.password}, on_greeting);
    send_texts(r, 2, (const char *[]){"SELECT", db}, on_selected);
}

/* ---- connecting ---- */

/* Of several addresses each has its turn: Redis may listen on the IPv4 one of a name alone. */
static const struct addrinfo *one_of(const struct addrinfo *found, unsigned attempt)
{
    unsigned count = 0;
    assert(found); // getaddrinfo() finds one or fails
    for (const struct addrinfo *a = found; a; a = a->ai_next)
        count++;
    for (attempt %= count; attempt; attempt--)
        found = found->ai_next;
    return found;
}

static void resolve(void *context)
{
    struct bw_redis *r = context;
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(r->url.host, NULL, &wanted, &found);
    r->numeric[0] = '\0';
    if (!failed) {
        const struct addrinfo *one = one_of(found, r->attempts++);
        failed = getnameinfo(one->ai_addr, one->ai_addrlen, r->numeric, sizeof r->numeric, NULL, 0,
                             NI_NUMERICHOST);
    }
    if (failed) {
        r->numeric[0] = '\0';
        snprintf(r->trouble, sizeof r->trouble, "%s", gai_strerror(failed));
    }
    if (found)
        freeaddrinfo(found);
}

static void on_resolved(void *context)
{
    struct bw_redis *r = context;
    r->resolving = false;
    if (r->closed)
        return;
    redisAsyncContext *link = *r->numeric ? redisAsyncConnect(r->numeric, r->url.port) : NULL;
    if (link && !link->err && attach(r, link)) {
        r->link = link;
        link->data = r;
        bw_timer_start(r->timer, PATIENCE_MS, 0);
        redisAsyncSetDisconnectCallback(link, on_disconnect);
        redisAsyncSetConnectCallback(link, on_connect); // begins to wait for the connection
        return;
    }
    if (*r->numeric)
        snprintf(r->trouble, sizeof r->trouble, "%s",
                 link && link->err ? link->errstr : "out of memory");
    if (link)
        redisAsyncFree(link);
    be_down(r);
}

static void on_timer(void *context)
{
    struct bw_redis *r = context;
    if (r->link) {
        bool connected = r->link->c.flags & REDIS_CONNECTED;
        snprintf(r->trouble, sizeof r->trouble, "no answer for %d s", PATIENCE_MS / 1000);
        redisAsyncFree(r->link);
        if (!connected) // else it was reported
            be_down(r);
        return;
    }
    r->resolving = true;
    if (bw_loop_work(r->loop, resolve, on_resolved, r)) {
        r->resolving = false;
        snprintf(r->trouble, sizeof r->trouble, "out of memory");
        be_down(r);
    }
}

int bw_redis_new(struct bw_redis **out, struct bw_loop *loop, const struct bw_redis_url *url,
                 bool quiet, bw_redis_state_fn *state, void *context, struct bw_err *err)
{
    struct bw_redis *r = calloc(1, sizeof *r);
    if (r)
        r->timer = bw_timer_new(loop, on_timer, r);
    if (!r || !r->timer) {
        free(r);
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    r->loop = loop;
    r->url = *url;
    r->quiet = quiet;
    r->state = state;
    r->context = context;
    r->pause_ms = FIRST_PAUSE_MS;
    bw_timer_start(r->timer, 0, 0);
    *out = r;
    return BW_OK;
}

void bw_redis_close(struct bw_redis *r)
{
    if (!r || r->closed)
        return;
    r->closed = true;
    r->up = false;
    if (r->link)
        redisAsyncFree(r->link);
    r->link = NULL;
    bw_timer_free(r->timer);
}

void bw_redis_free(struct bw_redis *r)
{
    free(r);
}

bool bw_redis_is_up(const struct bw_redis *r)
{
    return r->up;
}

/* ---- replies ---- */

const char *bw_reply_complaint(const struct redisReply *reply)
{
    return reply && reply->type == REDIS_REPLY_ERROR ? reply->str : NULL;
}

const char *bw_reply_text(const struct redisReply *reply, size_t *length)
{
    if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS))
        return NULL;
    if (length)
        *length = (size_t)reply->len;
    return reply->str;
}

int bw_reply_int(const struct redisReply *reply)
{
    int64_t value = 0;
    const char *text = bw_reply_text(reply, NULL);
    if (text && !bw_text_to_int(text, INT_MIN, INT_MAX, &value))
        return 0;
    if (reply && reply->type == REDIS_REPLY_INTEGER && reply->integer >= INT_MIN &&
        reply->integer <= INT_MAX)
        value = reply->integer;
    return (int)value;
}

const struct redisReply *bw_reply_at(const struct redisReply *reply, size_t i)
{
    return reply && reply->type == REDIS_REPLY_ARRAY && i < (size_t)reply->elements
               ? reply->element[i]
               : NULL;
}
