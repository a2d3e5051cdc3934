/* The text is cut from its end: what follows the host can hold no "@", but a password that somebody
 * forgot to escape may hold a "/" or ":". */
#include "server/redis_url.h"

#include "base/text.h"

#include <string.h>

enum { STANDARD_PORT = 6379, MOST_DB = 1023 };

bool bw_redis_url_is(const char *text)
{
    size_t scheme =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return scheme && strncmp(text + scheme, "://", 3) == 0;
}

/* "user", "user:password" or ":password", still escaped. */
static int read_login(struct bw_redis_url *url, char *login, struct bw_err *err)
{
    char *password = strchr(login, ':');
    if (password)
        *password++ = '\0';
    if (strlen(login) >= sizeof url->user || (password && strlen(password) >= sizeof url->password))
        return bw_err_set(err, BW_ERANGE, "the user or the password is too long");
    if (!bw_text_unescape(login, url->user) ||
        !bw_text_unescape(password ? password : "", url->password))
        return bw_err_set(err, BW_ERANGE, "the user or the password has a broken %% escape");
    if (*url->user && !*url->password)
        return bw_err_set(err, BW_ERANGE, "a user needs a password: user:password@host");
    return BW_OK;
}

/* "host", "host:port", "[address]" or "[address]:port". */
static int read_place(struct bw_redis_url *url, char *place, struct bw_err *err)
{
    static const char names[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    bool bracket = *place == '[';
    size_t length = bracket ? strspn(place + 1, "0123456789abcdefABCDEF:.") : strspn(place, names);
    char *host = place + bracket, *rest = host + length;
    int64_t port = STANDARD_PORT;
    if (!length || length >= sizeof url->host || (bracket && *rest++ != ']'))
        return bw_err_set(err, BW_ERANGE, "there is no host, or it is not one");
    if (*rest && (*rest != ':' || !bw_text_to_int(rest + 1, 1, 65535, &port)))
        return bw_err_set(err, BW_ERANGE, "the port is not 1 to 65535");
    memcpy(url->host, host, length);
    url->host[length] = '\0';
    url->port = (int)port;
    return BW_OK;
}

int bw_redis_url_parse(struct bw_redis_url *url, const char *text, struct bw_err *err)
{
    char copy[BW_REDIS_URL_CHARS];
    const char *rest = bw_text_after(text, "redis://");
    int64_t db = 0;
    *url = (struct bw_redis_url){0};
    if (bw_text_after(text, "rediss://"))
        return bw_err_set(err, BW_ERANGE,
                          "rediss:// (TLS) is not spoken here; put a TLS tunnel in "
                          "between, or use redis:// in a network of your own");
    if (!rest)
        return bw_err_set(err, BW_ERANGE, "not a URL that begins with redis://");
    if (strlen(rest) >= sizeof copy)
        return bw_err_set(err, BW_ERANGE, "too long");
    strcpy(copy, rest);
    char *place = strrchr(copy, '@'), *login = NULL;
    if (place) {
        *place++ = '\0';
        login = copy;
    } else {
        place = copy;
    }
    char *slash = strchr(place, '/');
    if (slash)
        *slash++ = '\0';
    if (slash && *slash && !bw_text_to_int(slash, 0, MOST_DB, &db))
        return bw_err_set(err, BW_ERANGE, "what follows the host is not /0 to /%d", MOST_DB);
    url->db = (int)db;
    int code = login ? read_login(url, login, err) : BW_OK;
    return code ? code : read_place(url, place, err);
}

int bw_redis_url_check(const char *text, struct bw_err *err)
{
    struct bw_redis_url url;
    return bw_redis_url_is(text) ? bw_redis_url_parse(&url, text, err) : BW_OK;
}

void bw_redis_url_mask(const char *text, struct bw_buf *out)
{
    const char *login = bw_redis_url_is(text) ? strstr(text, "://") + 3 : NULL;
    const char *at = login ? strrchr(login, '@') : NULL;
    const char *colon = at ? memchr(login, ':', (size_t)(at - login)) : NULL;
    if (colon) {
        bw_buf_add(out, text, (size_t)(colon - text));
        bw_buf_add_text(out, ":***");
    }
    bw_buf_add_text(out, colon ? at : text);
}
