/* Files of keys: what is accepted can be written down and read back the same, and keeps its bounds.
 */
#include "base/buf.h"
#include "server/keys.h"
#include "tests/fuzz/fuzz.h"

static void write_down(const struct bw_key *key, struct bw_buf *out)
{
    bw_buf_addf(out, "%s %s", key->name, key->digest);
    if (key->rate)
        bw_buf_addf(out, " rate=%d/%c", key->rate,
                    key->window_s == 1    ? 's'
                    : key->window_s == 60 ? 'm'
                                          : 'h');
    if (key->concurrency)
        bw_buf_addf(out, " concurrency=%d", key->concurrency);
    bw_buf_add_text(out, "\n");
}

static void check_key(struct bw_keys *keys, struct bw_key *key)
{
    char policy[BW_QUOTA_CHARS], limit[BW_QUOTA_CHARS];
    MUST(*key->name && strlen(key->digest) == 64 && key->running == 0);
    MUST(bw_key_enter(key, 1) == BW_QUOTA_KEPT); // every quota allows one
    MUST(bw_key_quotas(key, policy, limit) == (key->rate || key->concurrency));
    bw_keys_leave(keys, key->name);
    MUST(key->running == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_keys keys, again;
    struct bw_err err = {0};
    struct bw_buf shown = {0};
    char *text = fuzz_text(bytes, count);
    if (bw_keys_parse(&keys, text, "file", &err)) {
        MUST(err.code == BW_ERANGE && strncmp(err.message, "file:", 5) == 0);
    } else {
        for (int i = 0; i < keys.count; i++) {
            write_down(&keys.entries[i], &shown);
            check_key(&keys, &keys.entries[i]);
        }
        MUST(bw_keys_parse(&again, shown.data, "shown", &err) == 0 && again.count == keys.count);
        for (int i = 0; i < keys.count; i++) {
            MUST(strcmp(keys.entries[i].name, again.entries[i].name) == 0);
            MUST(keys.entries[i].rate == again.entries[i].rate);
        }
        MUST(bw_keys_renew(&again, &keys, &err) == 0);
        bw_keys_release(&again);
        bw_buf_release(&shown);
    }
    free(text);
    return 0;
}
