/* URLs of a Redis: what is refused has a reason that holds no password; what is accepted is within
 * bounds, and shown it reads the same but for the password. */
#include "server/redis_url.h"
#include "tests/fuzz/fuzz.h"

static void check_shown(const struct bw_redis_url *url, const char *text)
{
    struct bw_redis_url again;
    struct bw_buf shown = {0};
    struct bw_err err = {0};
    bw_redis_url_mask(text, &shown);
    MUST(!shown.failed);
    if (bw_redis_url_parse(&again, shown.data, &err)) // the stars may be longer than what they hide
        MUST(strcmp(err.message, "too long") == 0);
    else
        MUST(strcmp(url->host, again.host) == 0 && strcmp(url->user, again.user) == 0 &&
             url->port == again.port && url->db == again.db &&
             (!*again.password || strcmp(again.password, "***") == 0));
    bw_buf_release(&shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = fuzz_text(bytes, count);
    struct bw_redis_url url;
    struct bw_err err = {0};
    if (bw_redis_url_parse(&url, text, &err)) {
        MUST(err.code == BW_ERANGE && *err.message);
        MUST(bw_redis_url_check(text, NULL) == (bw_redis_url_is(text) ? BW_ERANGE : BW_OK));
    } else {
        MUST(bw_redis_url_is(text) && !bw_redis_url_check(text, NULL));
        MUST(*url.host && url.port >= 1 && url.port <= 65535 && url.db >= 0 && url.db < 1024);
        MUST(!*url.user || *url.password);
        check_shown(&url, text);
    }
    free(text);
    return 0;
}
