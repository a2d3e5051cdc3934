/* Origins are compared as text, so the list must be written as browsers write them: what could
 * never match is refused, not ignored. */
#include "server/cors.h"

#include "base/text.h"

#include <ctype.h>
#include <string.h>

enum { ORIGIN_CHARS = 280 }; // a scheme, a name of 253 characters, a port

static bool consists_of(const char *text, size_t length, const char *more)
{
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            !strchr(more, text[i]))
            return false;
    }
    return length > 0;
}

/* "scheme://host" or "scheme://host:port", without what browsers leave out. */
static bool is_origin(const char *text)
{
    int64_t port;
    const char *host = strstr(text, "://");
    if (!host || !islower((unsigned char)*text) || !consists_of(text, (size_t)(host - text), "+-."))
        return false;
    host += 3;
    const char *end = *host == '[' ? strchr(host, ']') : host + strcspn(host, ":");
    if (!end)
        return false;
    if (*host == '[' ? !consists_of(host + 1, (size_t)(end++ - host - 1), ":.")
                     : !consists_of(host, (size_t)(end - host), ".-_"))
        return false;
    if (!*end)
        return true;
    if (*end != ':' || end[1] == '0' || end[1] == '-' || !bw_text_to_int(end + 1, 1, 65535, &port))
        return false;
    return !(bw_text_after(text, "http://") && port == 80) &&
           !(bw_text_after(text, "https://") && port == 443);
}

int bw_cors_check(const char *list, struct bw_err *err)
{
    char item[ORIGIN_CHARS];
    if (strcmp(list, "*") == 0)
        return BW_OK;
    while (bw_text_item(&list, item, sizeof item)) {
        if (!is_origin(item))
            return bw_err_set(err, BW_ERANGE,
                              "\"%s\" is not an origin as browsers write it: lower-case "
                              "scheme://host, or scheme://host:port if the port is unusual",
                              item);
    }
    return BW_OK;
}

const char *bw_cors_allow(const char *list, const char *origin)
{
    char item[ORIGIN_CHARS];
    if (strcmp(list, "*") == 0)
        return "*";
    while (*origin && bw_text_item(&list, item, sizeof item)) {
        if (strcmp(item, origin) == 0)
            return origin;
    }
    return NULL;
}
