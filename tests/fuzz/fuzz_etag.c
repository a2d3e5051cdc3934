/* If-None-Match fields: a tag matches at either end of what is a list, and of nothing else. */
#include "api/etag.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = fuzz_text(bytes, count), *longer = malloc(count + 40);
    MUST(longer);
    bool alone = bw_etag_matches(text, "\"a1\""), star = strchr(text, '*');
    sprintf(longer, "\"a1\", %s", text);
    bool first = bw_etag_matches(longer, "W/\"a1\"");
    sprintf(longer, "%s, \"a1\"", text);
    MUST(bw_etag_matches(longer, "\"a1\"") == first);
    MUST(first || !alone || star);
    free(longer);
    free(text);
    return 0;
}
