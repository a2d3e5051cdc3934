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

/* "q=0.25" -> 250. -1: not a quality value; the grammar allows three decimals at most. */
static int read_quality(const char *text, size_t length)
{
    int value = 0, digits = 0;
    if (length < 3 || (text[0] != 'q' && text[0] != 'Q') || text[1] != '=')
        return -1;
    if (text[2] != '0' && text[2] != '1')
        return -1;
    value = text[2] - '0';
    if (length > 3 && text[3] != '.')
        return -1;
    for (size_t i = 4; i < length; i++, digits++) {
        if (!isdigit((unsigned char)text[i]) || digits == 3)
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    for (; digits < 3; digits++)
        value *= 10;
    return value <= 1000 ? value : -1;
}

/* Cut one element off the list; returns where the next begins, NULL at the end. */
static const char *next_range(const char *at, struct range *range)
{
    at = skip_spaces(at);
    *range = (struct range){.type = at, .quality = 1000};
    range->length = strcspn(at, ";, \t");
    at += range->length;
    while (*(at = skip_spaces(at)) == ';') {
        const char *parameter = skip_spaces(at + 1);
        size_t length = strcspn(parameter, ";, \t");
        int quality = read_quality(parameter, length);
        if (quality >= 0)
            range->quality = quality;
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
