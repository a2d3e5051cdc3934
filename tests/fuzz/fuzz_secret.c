/* Secrets: what is accepted has a length that is allowed, and written as base64 it is the same. */
#include "server/signature.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = fuzz_text(bytes, count);
    struct bw_secret secret = {.count = 1}, again;
    struct bw_err err = {0};
    if (bw_secret_parse(&secret, text, &err)) {
        MUST(err.code == BW_ERANGE && *err.message && secret.count == 1);
    } else {
        struct bw_buf coded = {0};
        MUST(secret.count >= BW_SECRET_LEAST_BYTES && secret.count <= BW_SECRET_MOST_BYTES);
        bw_buf_add_text(&coded, "whsec_");
        bw_buf_add_base64(&coded, secret.bytes, secret.count);
        MUST(bw_secret_parse(&again, coded.data, &err) == BW_OK && again.count == secret.count);
        MUST(memcmp(again.bytes, secret.bytes, secret.count) == 0);
        bw_buf_release(&coded);
    }
    free(text);
    return 0;
}
