/* A reader of one element after the other. It stops where the grammar does, and goes on behind the
 * next comma that is not in quotes:
 *
 *     Prefer     = #preference
 *     preference = setting *( OWS ";" OWS [ setting ] )
 *     setting    = token [ BWS "=" BWS ( token / quoted-string ) ]
 */
#include "api/prefer.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static const char *skip_spaces(const char *at)
{
    return at + strspn(at, " \t");
}

static size_t token_length(const char *at)
{
    size_t length = 0;
    while (at[length] &&
           (isalnum((unsigned char)at[length]) || strchr("!#$%&'*+-.^_`|~", at[length])))
        length++;
    return length;
}

/* With both quotes; 0 if it does not end, or holds what has to stay out of a field. */
static size_t quoted_length(const char *at)
{
    size_t length = 1;
    for (; at[length] != '"'; length++) {
        length += at[length] == '\\';
        if (((unsigned char)at[length] < ' ' && at[length] != '\t') || at[length] == 0x7f)
            return 0;
    }
    return length + 1;
}

/* The first setting of an element is what it is about. */
struct setting {
    const char *name;
    size_t length;
    bool valued; // and the value is not empty
};

/* Read a setting; where it ends, NULL if it does not parse. */
static const char *read_setting(const char *at, struct setting *setting)
{
    *setting = (struct setting){.name = at, .length = token_length(at)};
    if (!setting->length)
        return NULL;
    at += setting->length;
    const char *equals = skip_spaces(at);
    if (*equals != '=')
        return at;
    at = skip_spaces(equals + 1);
    bool quoted = *at == '"';
    size_t length = quoted ? quoted_length(at) : token_length(at);
    setting->valued = length > (quoted ? 2 : 0);
    return quoted && !length ? NULL : at + length;
}

/* Read an element up to the comma or the end that follows it; NULL if it does not parse. */
static const char *read_preference(const char *at, struct setting *preference)
{
    struct setting parameter;
    at = read_setting(at, preference);
    while (at && *(at = skip_spaces(at)) == ';') {
        at = skip_spaces(at + 1);
        if (*at && !strchr(";,", *at))
            at = read_setting(at, &parameter);
    }
    return at && (!*at || *at == ',') ? at : NULL;
}

/* The comma after a broken element, or the end. A quote that never ends takes the rest with it. */
static const char *skip_element(const char *at)
{
    while (*at && *at != ',') {
        size_t quoted = *at == '"' ? quoted_length(at) : 1;
        at += quoted ? quoted : strlen(at);
    }
    return at;
}

bool bw_prefer_async(const char *prefer)
{
    static const char wanted[] = "respond-async";
    struct setting first;
    for (const char *at = prefer ? prefer : ""; *(at = at + strspn(at, ", \t"));) {
        const char *end = read_preference(at, &first);
        if (end && first.length == strlen(wanted) && !strncasecmp(first.name, wanted, first.length))
            return !first.valued;
        at = end ? end : skip_element(at);
    }
    return false;
}
