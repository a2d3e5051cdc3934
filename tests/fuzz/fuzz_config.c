/* Configuration files: what is accepted is within bounds, and shown settings read back the same. */
#include "server/config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_config config = bw_config_default(), again = bw_config_default();
    struct bw_err err = {0};
    char *text = fuzz_text(bytes, count);
    if (bw_config_apply_text(&config, text, "file", NULL, &err)) {
        MUST(err.code == BW_ERANGE && strncmp(err.message, "file:", 5) == 0);
    } else {
        struct bw_buf shown = {0};
        MUST(config.workers >= 1 && config.workers <= 64 && config.queue >= 8);
        MUST(config.log_level >= 0 && config.log_level <= 4 && config.max_area >= 256);
        bw_config_show(&config, &shown);
        MUST(bw_config_apply_text(&again, shown.data, "shown", NULL, &err) == 0);
        MUST(strcmp(config.model, again.model) == 0 && strcmp(config.listen, again.listen) == 0);
        MUST(config.queue == again.queue && config.log_format == again.log_format);
        bw_buf_release(&shown);
    }
    free(text);
    return 0;
}
