/* Recorded cases. */
#include "api/case.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_case c;
    struct bw_err err = {0};
    char *text = fuzz_text(bytes, count);
    if (bw_case_read(&c, text, 3, 10, &err)) {
        MUST(err.code == BW_ESYNTAX || err.code == BW_ERANGE);
        MUST(*err.message);
    } else {
        MUST(c.width >= 1 && c.height >= 1 && c.label >= -1 && c.label < 10);
        MUST(c.sample ? c.steps >= 1 && c.steps <= BW_MAX_STEPS : c.sigma > 0 && c.mask);
        MUST(!c.mask_count || !c.sample || c.mask_count == c.steps);
        for (int i = 0; i < c.mask_count; i++)
            MUST(c.masks[i] >= 1 && c.masks[i] <= 7);
    }
    free(text);
    return 0;
}
