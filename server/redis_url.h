/* Redis URL: where a Redis is and how to log in there, from
 * redis://[user[:password]@]host[:port][/db].
 *
 * User and password are percent-decoded; an IPv6 address stands in brackets. Pure; any thread.
 */
#ifndef BW_SERVER_REDIS_URL_H
#define BW_SERVER_REDIS_URL_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

enum { BW_REDIS_HOST_CHARS = 256, BW_REDIS_WORD_CHARS = 256, BW_REDIS_URL_CHARS = 1024 };

struct bw_redis_url {
    char host[BW_REDIS_HOST_CHARS]; // name or address, without brackets
    int port;                       // 6379 if it is not said
    char user[BW_REDIS_WORD_CHARS], password[BW_REDIS_WORD_CHARS]; // "": none
    int db;
};

/* Does this name a service rather than a path? */
bool bw_redis_url_is(const char *text);

/* BW_ERANGE, with a message that holds nothing of the text; `url` is then undefined. */
int bw_redis_url_parse(struct bw_redis_url *url, const char *text, struct bw_err *err);

/* The same for its error alone; whatever names no service passes. */
int bw_redis_url_check(const char *text, struct bw_err *err);

/* Append any text; of a URL with a password, "***" in its place. */
void bw_redis_url_mask(const char *text, struct bw_buf *out);

#endif
