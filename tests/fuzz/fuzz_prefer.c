/* Prefer fields: the first instance decides, whatever comes after it. */
#include "api/prefer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = fuzz_text(bytes, count), *longer = malloc(count + 40);
    MUST(longer);
    sprintf(longer, "respond-async, %s", text);
    MUST(bw_prefer_async(longer));
    sprintf(longer, "a=\", b\", %s", text);
    MUST(bw_prefer_async(longer) == bw_prefer_async(text));
    sprintf(longer, "%s, respond-async", text);
    MUST(!bw_prefer_async(text) || bw_prefer_async(longer));
    free(longer);
    free(text);
    return 0;
}
