/* Keys: who may use the service, and how much.
 *
 * The keys are in a file, one a line; from '#' on a line is a comment:
 *
 *     # NAME  SHA-256 of the key  quotas, each at will
 *     alice   2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90  rate=60/m
 * concurrency=4
 *
 * Names are unique, 1 to 63 of A-Z a-z 0-9 _ . -, and stand in logs. The key itself is nowhere:
 * `printf %s KEY | sha256sum` gives what the file holds of it. rate is so many requests a second
 * (/s), minute (/m) or hour (/h): a bucket that holds so many, is full at first, and fills evenly;
 * concurrency is how many requests may be under way at a time. Thread: one owner at a time.
 */
#ifndef BW_SERVER_KEYS_H
#define BW_SERVER_KEYS_H

#include "base/err.h"
#include "engine/digest.h"

#include <stdbool.h>
#include <stdint.h>

enum { BW_KEY_NAME_CHARS = 64, BW_QUOTA_CHARS = 96 };

struct bw_key {
    char name[BW_KEY_NAME_CHARS];
    char digest[BW_DIGEST_CHARS]; // of the key; "": no longer valid, but requests are under way
    int rate, window_s;           // requests in so many seconds; rate 0: no quota
    int concurrency;              // requests under way; 0: no quota

    int64_t level;     // of the bucket: a request takes the window in ms, a millisecond adds `rate`
    int64_t filled_ms; // the time `level` is of
    int running;       // requests under way
};

struct bw_keys {
    struct bw_key *entries; // [count]
    int count;
};

/* Read the text of a file of keys; `name` stands in errors, with the line. BW_ERANGE: not what is
 * described above, or no key at all; BW_ENOMEM. On success the caller releases `keys`; on failure
 * it is untouched. */
int bw_keys_parse(struct bw_keys *keys, const char *text, const char *name, struct bw_err *err);

/* The same for a file, which also may be unreadable or too large: BW_EIO, BW_ERANGE. */
int bw_keys_read(struct bw_keys *keys, const char *path, struct bw_err *err);

/* Put `fresh` in the place of `keys`. Names that stay keep what they have used of their quotas, and
 * those that go are remembered until their last request is over. `fresh` passes to `keys`;
 * BW_ENOMEM leaves both alone. */
int bw_keys_renew(struct bw_keys *keys, struct bw_keys *fresh, struct bw_err *err);

void bw_keys_release(struct bw_keys *keys);

/* The entry of a key as a client sent it, or NULL. How long that takes does not depend on which
 * entry it is, nor on how much of a wrong key is right. */
struct bw_key *bw_keys_find(struct bw_keys *keys, const char *presented);

enum bw_quota { BW_QUOTA_KEPT, BW_QUOTA_RATE, BW_QUOTA_CONCURRENCY };

/* Count a request that begins: it is under way until bw_keys_leave(). If a quota is used up, which
 * one; nothing is counted then. `now_ms` never falls from call to call. */
enum bw_quota bw_key_enter(struct bw_key *key, int64_t now_ms);

/* A counted request of that name is over. */
void bw_keys_leave(struct bw_keys *keys, const char *name);

/* Seconds until the bucket, looked at by bw_key_enter(), holds one request more; 0: it is full. */
int bw_key_wait_s(const struct bw_key *key);

/* The values of RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11); false if
 * the key has no quota. */
bool bw_key_quotas(const struct bw_key *key, char policy[BW_QUOTA_CHARS],
                   char limit[BW_QUOTA_CHARS]);

#endif
