/* CORS: which pages from elsewhere may use the service (Fetch standard, section 3.2).
 *
 * A list of origins is "*" or like "https://a.example, http://localhost:3000", each exactly as a
 * browser sends it; "" allows none. Keys come in Authorization, which scripts set themselves, so
 * credentials of the browser (cookies) are never allowed. Any thread.
 */
#ifndef BW_SERVER_CORS_H
#define BW_SERVER_CORS_H

#include "base/err.h"

#include <stdbool.h>

enum { BW_ORIGINS_CHARS = 2048 };

#define BW_CORS_METHODS "GET, HEAD, POST, PUT, DELETE"
/* What a script may send beyond what it always may, and read likewise. */
#define BW_CORS_HEADERS                                                                    \
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, " \
    "X-Request-Id, traceparent"
#define BW_CORS_EXPOSED                                                                        \
    "Brickwork-Excess-Loss, Brickwork-Model-Digest, Brickwork-Request, Brickwork-Seed, ETag, " \
    "Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, "  \
    "WWW-Authenticate, X-Request-Id, traceparent"

/* Is this a list of origins? BW_ERANGE. */
int bw_cors_check(const char *list, struct bw_err *err);

/* The value of Access-Control-Allow-Origin for a request from this origin: itself or "*"; NULL if
 * it is not allowed. */
const char *bw_cors_allow(const char *list, const char *origin);

#endif
