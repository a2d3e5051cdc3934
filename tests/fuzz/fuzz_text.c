/* The small readers of text: numbers, escapes, lists, ids of events. What is taken is within bounds
 * and reads the same when it is written again; what is mended is text. */
#include "api/events.h"
#include "base/text.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <math.h>

static void numbers(const char *text)
{
    char written[64];
    int64_t value = 0, again = 0, id = 0;
    double number = 0;
    int width, height, most = 999999;
    struct bw_err err = {0};
    if (bw_text_to_int(text, INT64_MIN, INT64_MAX, &value)) {
        snprintf(written, sizeof written, "%lld", (long long)value);
        MUST(bw_text_to_int(written, value, value, &again) && again == value);
        MUST(bw_text_to_number(text, -1e19, 1e19, &number) && number == (double)value);
    }
    if (bw_text_to_number(text, -1e6, 1e6, &number))
        MUST(isfinite(number) && number >= -1e6 && number <= 1e6);
    if (bw_text_to_size(text, &width, &height))
        MUST(width >= 1 && width <= most && height >= 1 && height <= most);
    if (bw_event_last_id(text, &id, &err))
        MUST(err.code == BW_ESYNTAX && *err.message);
    else
        MUST(id >= 0 && (!*text || bw_text_to_int(text, id, id, &again)));
}

static void escapes(const char *text)
{
    char *out = malloc(strlen(text) + 1);
    MUST(out);
    if (bw_text_unescape(text, out))
        MUST(strlen(out) <= strlen(text) && (strchr(text, '%') || strcmp(out, text) == 0));
    else
        MUST(strchr(text, '%'));
    free(out);
}

static void lists(const char *text)
{
    char item[8];
    int commas = 0, items = 0;
    for (const char *c = text; *c; c++)
        commas += *c == ',';
    for (const char *rest = text; bw_text_item(&rest, item, sizeof item); items++)
        MUST(strlen(item) < sizeof item && !strchr(item, ','));
    MUST(items == commas + 1);
}

static void mending(char *text)
{
    size_t before = strlen(text);
    bw_text_mend(text);
    json_t *whole = json_string(text); // NULL of what is not UTF-8
    MUST(whole && strlen(text) <= before && strlen(text) + 3 >= before);
    json_decref(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = fuzz_text(bytes, count);
    numbers(text);
    escapes(text);
    lists(text);
    mending(text);
    free(text);
    return 0;
}
