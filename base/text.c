/* Nothing here skips space or stops early: text is what it claims to be, or it is refused. */
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool bw_text_to_int(const char *text, int64_t low, int64_t high, int64_t *value)
{
    const char *digits = text + (*text == '-');
    if (!isdigit((unsigned char)*digits))
        return false;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (*end || errno || number < low || number > high)
        return false;
    *value = number;
    return true;
}

bool bw_text_to_number(const char *text, double low, double high, double *value)
{
    if (!*text || text[strspn(text, "+-.0123456789eE")])
        return false;
    char *end;
    double number = strtod(text, &end);
    if (*end || !isfinite(number) || number < low || number > high)
        return false;
    *value = number;
    return true;
}

/* Up to six digits at *text; moves past them. 0: none, or too many. */
static int read_side(const char **text)
{
    int value = 0, count = 0;
    while (isdigit((unsigned char)**text) && count++ < 6)
        value = value * 10 + (*(*text)++ - '0');
    return isdigit((unsigned char)**text) ? 0 : value;
}

bool bw_text_to_size(const char *text, int *width, int *height)
{
    int w = read_side(&text);
    if (!w || *text++ != 'x')
        return false;
    int h = read_side(&text);
    if (!h || *text)
        return false;
    *width = w;
    *height = h;
    return true;
}

bool bw_text_same(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

/* How many bytes of a character of UTF-8 (RFC 3629) `s` begins with, of the `wanted` it has:
 * neither longer than need be, nor half of a pair, nor beyond the last. */
static size_t character(const unsigned char *s, size_t *wanted)
{
    bool lead = *s >= 0xc2 && *s <= 0xf4;
    *wanted = !lead ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
    if (!lead)
        return *s < 0x80;
    int low = *s == 0xe0 ? 0xa0 : *s == 0xf0 ? 0x90 : 0x80;
    int high = *s == 0xed ? 0x9f : *s == 0xf4 ? 0x8f : 0xbf;
    size_t have = 1;
    for (; have < *wanted && s[have] >= low && s[have] <= high; have++) {
        low = 0x80;
        high = 0xbf;
    }
    return have;
}

void bw_text_mend(char *text)
{
    size_t have, wanted;
    for (unsigned char *s = (unsigned char *)text; *s;) {
        have = character(s, &wanted);
        if (have == wanted)
            s += have;
        else if (!s[have])
            *s = '\0';
        else
            *s++ = '?';
    }
}

bool bw_text_item(const char **list, char *item, size_t room)
{
    if (!*list)
        return false;
    const char *begin = *list + strspn(*list, " \t"), *end = begin + strcspn(begin, ",");
    *list = *end ? end + 1 : NULL;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t length = (size_t)(end - begin) < room ? (size_t)(end - begin) : 0;
    memcpy(item, begin, length);
    item[length] = '\0';
    return true;
}

const char *bw_text_after(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

static int hex_value(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10
                                        : -1;
}

bool bw_text_unescape(const char *text, char *out)
{
    for (; *text; text++, out++) {
        *out = *text;
        if (*text != '%')
            continue;
        int high = hex_value(text[1]), low = high < 0 ? -1 : hex_value(text[2]);
        if (low < 0 || high * 16 + low == 0)
            return false;
        *out = (char)(high * 16 + low);
        text += 2;
    }
    *out = '\0';
    return true;
}
