/* Accept fields: an answer within bounds, the same whatever else is offered after it. */
#include "api/accept.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const char *const offers[] = {"image/jpeg", "image/png", "application/json"};
    char *text = fuzz_text(bytes, count);
    int all = bw_accept_choose(text, offers, 3);
    MUST(all >= -1 && all < 3);
    for (int i = 0; i < 3; i++) {
        int alone = bw_accept_choose(text, offers + i, 1);
        MUST(alone == 0 || alone == -1);
        MUST(all == -1 ? alone == -1 : alone == 0 || i != all);
    }
    free(text);
    return 0;
}
