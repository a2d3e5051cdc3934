/* The header is walked once per offer, which is fine for two or three of them, and needs no memory.
 */
#include "api/accept.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* One element of the list: "type/subtype;q=0.5". */
struct range {
    const char *type; // "type/subtype", not terminated
    size_t length;
    int quality; // thousandths, 0..1000
};

static const char *skip_spaces(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* "0.25" -> 250 thousandths. -1: not a quality value; the grammar allows three decimals at most. */
static int read_quality(const char *text, size_t length)
{
    int value = 0, digits = 0;
    if (length < 1 || (text[0] != '0' && text[0] != '1') || (length > 1 && text[1] != '.'))
        return -1;
    value = text[0] - '0';
    for (size_t i = 2; i < length; i++, digits++) {
        if (!isdigit((unsigned char)text[i]) || digits == 3)
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    for (; digits < 3; digits++)
        value *= 10;
    return value <= 1000 ? value : -1;
}

/* Length of a parameter, up to the next separator outside quotes. */
static size_t parameter_length(const char *text)
{
    bool quoted = false;
    size_t i = 0;
    for (; text[i] && (quoted || !strchr(";, \t", text[i])); i++) {
        if (quoted && text[i] == '\\' && text[i + 1])
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
    }
    return i;
}

/* Cut one element off the list; returns where the next begins, NULL at the end. An element with a
 * broken quality gets quality 0. */
static const char *next_range(const char *at, struct range *range)
{
    at = skip_spaces(at);
    *range = (struct range){.type = at, .quality = 1000};
    range->length = strcspn(at, ";, \t");
    at += range->length;
    while (*(at = skip_spaces(at)) == ';') {
        const char *parameter = skip_spaces(at + 1);
        size_t length = parameter_length(parameter);
        bool named_q =
            (parameter[0] == 'q' || parameter[0] == 'Q') && (length == 1 || parameter[1] == '=');
        if (named_q) {
            int quality = length > 2 ? read_quality(parameter + 2, length - 2) : -1;
            range->quality = quality < 0 ? 0 : quality;
        }
        at = parameter + length;
    }
    at += strcspn(at, ",");
    return *at ? at + 1 : NULL;
}

/* 3: the type itself, 2: type/any, 1: any/any, 0: something else. */
static int match(const struct range *range, const char *offer)
{
    size_t slash = (size_t)(strchr(offer, '/') - offer) + 1;
    if (range->length == strlen(offer) && strncasecmp(range->type, offer, range->length) == 0)
        return 3;
    if (range->length == slash + 1 && range->type[slash] == '*' &&
        strncasecmp(range->type, offer, slash) == 0)
        return 2;
    return range->length == 3 && memcmp(range->type, "*/*", 3) == 0;
}

static int quality_of(const char *accept, const char *offer)
{
    int quality = 0, specificity = 0;
    struct range range;
    for (const char *at = accept; at;) {
        at = next_range(at, &range);
        int matched = match(&range, offer);
        if (matched > specificity) {
            specificity = matched;
            quality = range.quality;
        }
    }
    return quality;
}

int bw_accept_choose(const char *accept, const char *const *offers, int count)
{
    int best = -1, best_quality = 0;
    bool anything = !accept || !*skip_spaces(accept);
    for (int i = 0; i < count; i++) {
        int quality = anything ? 1000 : quality_of(accept, offers[i]);
        if (quality > best_quality) {
            best_quality = quality;
            best = i;
        }
    }
    return best;
}
