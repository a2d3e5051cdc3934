/* Origins: of an accepted list every element is allowed as it stands there, and nothing else is. */
#include "base/text.h"
#include "server/cors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_err err = {0};
    char item[300], *text = fuzz_text(bytes, count);
    const char *rest = text;
    if (bw_cors_check(text, &err)) {
        MUST(err.code == BW_ERANGE && *err.message);
    } else {
        while (bw_text_item(&rest, item, sizeof item))
            MUST(bw_cors_allow(text, item) != NULL);
        MUST(strcmp(text, "*") == 0 || !bw_cors_allow(text, "null"));
    }
    free(text);
    return 0;
}
