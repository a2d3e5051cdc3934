/* The list is read to its end even after a match: only then is it known to be one. */
#include "api/etag.h"

#include <stddef.h>
#include <string.h>

/* Weak comparison looks at what is between the quotes. */
static const char *skip_weakness(const char *tag)
{
    return strncmp(tag, "W/", 2) == 0 ? tag + 2 : tag;
}

/* A tag with its quotes; 0 if there is none. A comma may be part of it. */
static size_t tag_length(const char *tag)
{
    size_t length = 1;
    if (*tag != '"')
        return 0;
    while ((unsigned char)tag[length] > ' ' && tag[length] != '"' && tag[length] != 0x7f)
        length++;
    return tag[length] == '"' ? length + 1 : 0;
}

bool bw_etag_matches(const char *if_none_match, const char *etag)
{
    const char *at = if_none_match ? if_none_match : "";
    bool found = false;
    etag = skip_weakness(etag);
    at += strspn(at, " \t");
    if (*at == '*')
        return !at[1 + strspn(at + 1, " \t")];
    while (*(at += strspn(at, ", \t"))) {
        at = skip_weakness(at);
        size_t length = tag_length(at);
        if (!length)
            return false;
        found |= length == strlen(etag) && memcmp(at, etag, length) == 0;
        at += length;
        at += strspn(at, " \t");
        if (*at && *at != ',')
            return false;
    }
    return found;
}
