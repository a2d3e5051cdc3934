/* A table, read whole or not at all. The bucket counts in whole numbers, so that a request is
 * admitted exactly when the client was told it would be. */
#include "server/keys.h"

#include "base/buf.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILE_CEILING_BYTES = 1 << 20,
    MOST_KEYS = 4096,
    MOST_REQUESTS = 1000000, // of a rate
    MOST_RUNNING = 100000,
};

static int read_rate(struct bw_key *key, char *value)
{
    static const char units[] = "smh";
    static const int seconds[] = {1, 60, 3600};
    char *slash = strchr(value, '/');
    const char *unit = slash && slash[1] && !slash[2] ? strchr(units, slash[1]) : NULL;
    int64_t rate;
    if (!unit)
        return BW_ERANGE;
    *slash = '\0';
    if (!bw_text_to_int(value, 1, MOST_REQUESTS, &rate))
        return BW_ERANGE;
    key->rate = (int)rate;
    key->window_s = seconds[unit - units];
    return BW_OK;
}

static int read_quota(struct bw_key *key, char *word, struct bw_err *err)
{
    const char *value;
    int64_t number;
    char shown[40];
    snprintf(shown, sizeof shown, "%s", word);
    if ((value = bw_text_after(word, "rate="))) {
        if (key->rate || read_rate(key, word + (value - word)))
            return bw_err_set(err, BW_ERANGE, "\"%s\" is not one rate=N/s, N/m or N/h", shown);
    } else if ((value = bw_text_after(word, "concurrency="))) {
        if (key->concurrency || !bw_text_to_int(value, 1, MOST_RUNNING, &number))
            return bw_err_set(err, BW_ERANGE, "\"%s\" is not one concurrency=N", shown);
        key->concurrency = (int)number;
    } else {
        return bw_err_set(err, BW_ERANGE, "\"%s\" is neither rate= nor concurrency=", shown);
    }
    return BW_OK;
}

/* The next word of a line; "" at its end. */
static char *next_word(char **rest)
{
    static const char spaces[] = " \t\r";
    char *word = *rest + strspn(*rest, spaces);
    *rest = word + strcspn(word, spaces);
    if (**rest)
        *(*rest)++ = '\0';
    return word;
}

/* The line without its comment: not empty. */
static int read_key(struct bw_key *key, char *line, struct bw_err *err)
{
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    char *name = next_word(&line), *digest = next_word(&line), *word;
    *key = (struct bw_key){0};
    if (strlen(name) >= sizeof key->name || name[strspn(name, fit)])
        return bw_err_set(err, BW_ERANGE, "\"%.70s\" is not a name: 1 to 63 of A-Z a-z 0-9 _ . -",
                          name);
    if (strlen(digest) != BW_DIGEST_CHARS - 1 || digest[strspn(digest, "0123456789abcdef")])
        return bw_err_set(err, BW_ERANGE,
                          "after the name come the 64 lower-case hex digits of "
                          "a key's SHA-256");
    strcpy(key->name, name);
    strcpy(key->digest, digest);
    while (*(word = next_word(&line))) {
        if (read_quota(key, word, err))
            return BW_ERANGE;
    }
    key->level = (int64_t)key->rate * key->window_s * 1000;
    return BW_OK;
}

static struct bw_key *find_name(const struct bw_keys *keys, const char *name)
{
    for (int i = 0; i < keys->count; i++) {
        if (strcmp(keys->entries[i].name, name) == 0)
            return &keys->entries[i];
    }
    return NULL;
}

static int add_key(struct bw_keys *keys, const struct bw_key *key, struct bw_err *err)
{
    if (find_name(keys, key->name))
        return bw_err_set(err, BW_ERANGE, "there is a key \"%s\" already", key->name);
    for (int i = 0; i < keys->count; i++) {
        if (strcmp(keys->entries[i].digest, key->digest) == 0)
            return bw_err_set(err, BW_ERANGE, "\"%s\" is the same key as \"%s\"", key->name,
                              keys->entries[i].name);
    }
    if (keys->count == MOST_KEYS)
        return bw_err_set(err, BW_ERANGE, "more than %d keys", MOST_KEYS);
    struct bw_key *entries =
        realloc(keys->entries, (size_t)(keys->count + 1) * sizeof *keys->entries);
    if (!entries)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    keys->entries = entries;
    keys->entries[keys->count++] = *key;
    return BW_OK;
}

int bw_keys_parse(struct bw_keys *out, const char *text, const char *name, struct bw_err *err)
{
    struct bw_keys keys = {0};
    struct bw_err reason = {0};
    char *copy = strdup(text), *rest = copy, *line;
    int code = copy ? BW_OK : bw_err_set(err, BW_ENOMEM, "out of memory");
    for (int number = 1; !code && (line = strsep(&rest, "\n")); number++) {
        struct bw_key key;
        line[strcspn(line, "#")] = '\0';
        if (!line[strspn(line, " \t\r")])
            continue;
        code = read_key(&key, line, &reason);
        if (!code)
            code = add_key(&keys, &key, &reason);
        if (code)
            bw_err_set(err, code, "%s:%d: %s", name, number, reason.message);
    }
    if (!code && !keys.count)
        code = bw_err_set(err, BW_ERANGE, "%s: holds no key", name);
    free(copy);
    if (code)
        bw_keys_release(&keys);
    else
        *out = keys;
    return code;
}

int bw_keys_read(struct bw_keys *keys, const char *path, struct bw_err *err)
{
    struct bw_buf text = {.ceiling_bytes = FILE_CEILING_BYTES};
    int code = bw_buf_add_file(&text, path, err);
    if (!code && text.data && strlen(text.data) != text.length_bytes)
        code = bw_err_set(err, BW_ERANGE, "%s: holds a NUL byte", path);
    if (!code)
        code = bw_keys_parse(keys, text.data ? text.data : "", path, err);
    bw_buf_release(&text);
    return code;
}

/* What was used stays used, whatever the quota is now. */
static void keep_usage(struct bw_key *now, const struct bw_key *before)
{
    now->running = before->running;
    if (!now->rate || !before->rate)
        return;
    now->filled_ms = before->filled_ms;
    if (now->rate == before->rate && now->window_s == before->window_s) {
        now->level = before->level;
        return;
    }
    int64_t window_ms = (int64_t)before->window_s * 1000;
    int64_t used = before->rate - before->level / window_ms;
    now->level = used < now->rate ? (now->rate - used) * now->window_s * 1000 : 0;
}

int bw_keys_renew(struct bw_keys *keys, struct bw_keys *fresh, struct bw_err *err)
{
    struct bw_key *entries =
        realloc(fresh->entries, (size_t)(fresh->count + keys->count) * sizeof *entries);
    if (!entries)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    fresh->entries = entries;
    for (int i = 0; i < keys->count; i++) {
        struct bw_key *before = &keys->entries[i], *now = find_name(fresh, before->name);
        if (now)
            keep_usage(now, before);
        else if (before->running)
            *(now = &entries[fresh->count++]) = *before, *now->digest = '\0';
    }
    bw_keys_release(keys);
    *keys = *fresh;
    *fresh = (struct bw_keys){0};
    return BW_OK;
}

void bw_keys_release(struct bw_keys *keys)
{
    free(keys->entries);
    *keys = (struct bw_keys){0};
}

/* All of both, whatever they are. */
static bool same_digest(const char *a, const char *b)
{
    unsigned difference = 0;
    for (int i = 0; i < BW_DIGEST_CHARS; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

struct bw_key *bw_keys_find(struct bw_keys *keys, const char *presented)
{
    char digest[BW_DIGEST_CHARS];
    struct bw_key *found = NULL;
    bw_digest(presented, strlen(presented), digest);
    for (int i = 0; i < keys->count; i++) {
        if (same_digest(keys->entries[i].digest, digest))
            found = &keys->entries[i];
    }
    return found;
}

static void fill(struct bw_key *key, int64_t now_ms)
{
    int64_t window_ms = (int64_t)key->window_s * 1000, full = key->rate * window_ms;
    int64_t passed_ms = now_ms - key->filled_ms;
    key->level += (passed_ms < window_ms ? passed_ms : window_ms) * key->rate;
    if (key->level > full)
        key->level = full;
    key->filled_ms = now_ms;
}

enum bw_quota bw_key_enter(struct bw_key *key, int64_t now_ms)
{
    int64_t window_ms = (int64_t)key->window_s * 1000;
    fill(key, now_ms);
    if (key->concurrency && key->running >= key->concurrency)
        return BW_QUOTA_CONCURRENCY;
    if (key->rate && key->level < window_ms)
        return BW_QUOTA_RATE;
    if (key->rate)
        key->level -= window_ms;
    key->running++;
    return BW_QUOTA_KEPT;
}

void bw_keys_leave(struct bw_keys *keys, const char *name)
{
    struct bw_key *key = find_name(keys, name);
    if (key && key->running > 0)
        key->running--;
}

int bw_key_wait_s(const struct bw_key *key)
{
    int64_t window_ms = (int64_t)key->window_s * 1000;
    if (key->level == key->rate * window_ms)
        return 0;
    int64_t missing = window_ms - key->level % window_ms, per_second = (int64_t)key->rate * 1000;
    return (int)((missing + per_second - 1) / per_second);
}

bool bw_key_quotas(const struct bw_key *key, char policy[BW_QUOTA_CHARS],
                   char limit[BW_QUOTA_CHARS])
{
    size_t p = 0, l = 0;
    if (key->rate) {
        p = (size_t)snprintf(policy, BW_QUOTA_CHARS, "\"requests\";q=%d;w=%d", key->rate,
                             key->window_s);
        l = (size_t)snprintf(limit, BW_QUOTA_CHARS, "\"requests\";r=%lld;t=%d",
                             (long long)(key->level / (key->window_s * 1000)), bw_key_wait_s(key));
    }
    if (key->concurrency) {
        const char *comma = key->rate ? ", " : "";
        int left = key->concurrency - key->running;
        snprintf(policy + p, BW_QUOTA_CHARS - p,
                 "%s\"concurrency\";q=%d;qu=\"concurrent-requests\"", comma, key->concurrency);
        snprintf(limit + l, BW_QUOTA_CHARS - l, "%s\"concurrency\";r=%d", comma,
                 left > 0 ? left : 0);
    }
    return key->rate || key->concurrency;
}
