/* Redis: a connection that is made again whenever it breaks, and the only place that knows hiredis.
 *
 * Commands go out in the order they are given and are answered in it. There is no queue for bad
 * times: a command that is given while there is no connection, or whose answer has not come when it
 * breaks, is answered with NULL, and may or may not have been carried out. Nothing blocks: names
 * are resolved in the loop's pool, and a Redis that has not answered for some seconds counts as
 * gone. Thread: the loop's.
 */
#ifndef BW_SERVER_REDIS_H
#define BW_SERVER_REDIS_H

#include "server/loop.h"
#include "server/redis_url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bw_redis;
struct redisReply; // hiredis's; looked into by the functions below

/* `up`: the connection stands from now on, or it does not any more. */
typedef void bw_redis_state_fn(void *context, bool up);

/* Connect, and keep connected, from now on. `purpose` (static) stands in the log; a `quiet` one
 * logs nothing. BW_ENOMEM. */
int bw_redis_new(struct bw_redis **redis, struct bw_loop *loop, const struct bw_redis_url *url,
                 bool quiet, bw_redis_state_fn *state, void *context, struct bw_err *err);

/* Break the connection for good; what waits is answered with NULL. Before the loop is freed. */
void bw_redis_close(struct bw_redis *redis);
/* Release the memory, after the loop. NULL is allowed in both. */
void bw_redis_free(struct bw_redis *redis);

bool bw_redis_is_up(const struct bw_redis *redis);

struct bw_redis_word {
    const void *bytes;
    size_t length_bytes;
};

/* The reply is good during the call. Called exactly once for a command, possibly before the asking
 * call returns; for a SUBSCRIBE once for every message while the connection stands. */
typedef void bw_redis_fn(void *context, const struct redisReply *reply);

enum { BW_REDIS_MOST_WORDS = 48 };

/* Send a command of up to BW_REDIS_MOST_WORDS words, which are copied. */
void bw_redis_command(struct bw_redis *redis, const struct bw_redis_word *words, int count,
                      bw_redis_fn *fn, void *context);

/* What Redis complains of, or NULL if the reply is no complaint. */
const char *bw_reply_complaint(const struct redisReply *reply);

/* The text that the reply is (followed by a NUL), or NULL. */
const char *bw_reply_text(const struct redisReply *reply, size_t *length);

/* The number that the reply is, or that it writes as text; 0 if it is neither, or out of an int's
 * range. */
int bw_reply_int(const struct redisReply *reply);

/* Element `i` of the list that the reply is, or NULL. All of these take NULL. */
const struct redisReply *bw_reply_at(const struct redisReply *reply, size_t i);

#endif
