/* Keys: what a file may say, which key is whose, and quotas to the request and the millisecond. */
#include "server/keys.h"

#include "tests/unit/check.h"

#include <unistd.h>

#define HASH_A "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90" // of "alice"
#define HASH_B "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9" // of "bob"

static int parse(struct bw_keys *keys, const char *text, struct bw_err *err)
{
    return bw_keys_parse(keys, text, "some.keys", err);
}

static void good_files(void)
{
    struct bw_keys keys;
    struct bw_err err = {0};
    REQUIRE(parse(&keys,
                  "# who\n\n \t\r\nalice " HASH_A "\r\n"
                  "\tB.o_b-9\t" HASH_B "  concurrency=4 \trate=60/m # or so",
                  &err) == BW_OK);
    CHECK_INT(keys.count, 2);
    CHECK_TEXT(keys.entries[0].name, "alice");
    CHECK(!keys.entries[0].rate && !keys.entries[0].concurrency);
    CHECK_TEXT(keys.entries[1].name, "B.o_b-9");
    CHECK_TEXT(keys.entries[1].digest, HASH_B);
    CHECK(keys.entries[1].rate == 60 && keys.entries[1].window_s == 60);
    CHECK_INT(keys.entries[1].concurrency, 4);
    bw_keys_release(&keys);
    CHECK(!keys.count && !keys.entries);
    REQUIRE(parse(&keys, "a " HASH_A " rate=1000000/s\nb " HASH_B " rate=1/h", &err) == BW_OK);
    CHECK(keys.entries[0].window_s == 1 && keys.entries[1].window_s == 3600);
    bw_keys_release(&keys);
}

static void bad_files(void)
{
    static const char name64[] = "a123456789012345678901234567890123456789012345678901234567890123";
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "some.keys: holds no key"},
        {"# nothing\n\n", "some.keys: holds no key"},
        {"a", "some.keys:1: after the name"},
        {"\n\na\n", "some.keys:3: after the name"},
        {HASH_A, "is not a name"},
        {"a/b " HASH_A, "\"a/b\" is not a name"},
        {"\xc3\xa4 " HASH_A, "is not a name"},
        {"a 2BD806C97F0E00AF1A1FC3328FA763A9269723C8DB8FAC4F93AF71DB186D6E90", "lower-case"},
        {"a " HASH_A "0", "64 lower-case"},
        {"a 2bd8", "64 lower-case"},
        {"a secret", "64 lower-case"},
        {"a " HASH_A " rate", "\"rate\" is neither"},
        {"a " HASH_A " rate=", "\"rate=\" is not one rate"},
        {"a " HASH_A " rate=1", "\"rate=1\""},
        {"a " HASH_A " rate=1/", "\"rate=1/\""},
        {"a " HASH_A " rate=/s", "\"rate=/s\""},
        {"a " HASH_A " rate=0/s", "\"rate=0/s\""},
        {"a " HASH_A " rate=-1/s", "\"rate=-1/s\""},
        {"a " HASH_A " rate=1000001/s", "\"rate=1000001/s\""},
        {"a " HASH_A " rate=1/d", "\"rate=1/d\""},
        {"a " HASH_A " rate=1/ss", "\"rate=1/ss\""},
        {"a " HASH_A " rate=1/s rate=1/s", "is not one rate"},
        {"a " HASH_A " concurrency=0", "\"concurrency=0\""},
        {"a " HASH_A " concurrency=1.5", "\"concurrency=1.5\""},
        {"a " HASH_A " concurrency=100001", "\"concurrency=100001\""},
        {"a " HASH_A " concurrency=1 concurrency=1", "is not one concurrency"},
        {"a " HASH_A " Rate=1/s", "is neither"},
        {"a " HASH_A "\na " HASH_B, "some.keys:2: there is a key \"a\" already"},
        {"a " HASH_A "\nb " HASH_A, "some.keys:2: \"b\" is the same key as \"a\""},
    };
    char text[200];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_keys keys = {.count = 77};
        struct bw_err err = {0};
        CHECK_OF(parse(&keys, bad[i].text, &err) == BW_ERANGE, "%s", bad[i].text);
        CHECK_HOLDS(err.message, bad[i].reason);
        CHECK_INT(keys.count, 77);
    }
    struct bw_keys keys;
    snprintf(text, sizeof text, "%s " HASH_A, name64);
    CHECK_INT(parse(&keys, text, NULL), BW_ERANGE);
    REQUIRE(parse(&keys, text + 1, NULL) == BW_OK);
    bw_keys_release(&keys);
}

static void files(void)
{
    char path[] = "/tmp/brickwork-keys-XXXXXX";
    struct bw_keys keys;
    struct bw_err err = {0};
    int fd = mkstemp(path);
    CHECK(write(fd, "a " HASH_A "\n", 67) == 67);
    REQUIRE(bw_keys_read(&keys, path, &err) == BW_OK);
    CHECK_INT(keys.count, 1);
    bw_keys_release(&keys);
    CHECK(write(fd, "\0", 1) == 1);
    CHECK_INT(bw_keys_read(&keys, path, &err), BW_ERANGE);
    CHECK_HOLDS(err.message, "NUL");
    CHECK(ftruncate(fd, (1 << 20) + 1) == 0);
    CHECK_INT(bw_keys_read(&keys, path, NULL), BW_ERANGE);
    close(fd);
    unlink(path);
    CHECK_INT(bw_keys_read(&keys, path, NULL), BW_EIO);
}

static void finding(void)
{
    struct bw_keys keys;
    REQUIRE(parse(&keys, "a " HASH_A "\nb " HASH_B, NULL) == BW_OK);
    CHECK(bw_keys_find(&keys, "alice") == &keys.entries[0]);
    CHECK(bw_keys_find(&keys, "bob") == &keys.entries[1]);
    static const char *const wrong[] = {"", "Alice", "alice ", "alic", HASH_A, "a"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_OF(!bw_keys_find(&keys, wrong[i]), "%s", wrong[i]);
    bw_keys_release(&keys);
}

/* One key with these quotas. */
static struct bw_key *one(struct bw_keys *keys, const char *quotas)
{
    char text[200];
    snprintf(text, sizeof text, "a " HASH_A " %s", quotas);
    return parse(keys, text, NULL) ? NULL : keys->entries;
}

static void check_quotas(const struct bw_key *key, const char *policy, const char *limit)
{
    char texts[2][BW_QUOTA_CHARS];
    CHECK(bw_key_quotas(key, texts[0], texts[1]));
    CHECK_TEXT(texts[0], policy);
    CHECK_TEXT(texts[1], limit);
}

static void rates(void)
{
    static const char policy[] = "\"requests\";q=3;w=60";
    int64_t now = 123456;
    struct bw_keys keys;
    struct bw_key *key = one(&keys, "rate=3/m");
    REQUIRE(key != NULL);
    for (int i = 0; i < 3; i++)
        CHECK_INT(bw_key_enter(key, now), BW_QUOTA_KEPT);
    check_quotas(key, policy, "\"requests\";r=0;t=20");
    CHECK_INT(bw_key_enter(key, now + 1000), BW_QUOTA_RATE);
    CHECK_INT(bw_key_wait_s(key), 19);
    CHECK_INT(bw_key_enter(key, now + 19001), BW_QUOTA_RATE);
    CHECK_INT(bw_key_wait_s(key), 1);
    CHECK_INT(bw_key_enter(key, now + 19999), BW_QUOTA_RATE);
    CHECK_INT(bw_key_enter(key, now + 20000), BW_QUOTA_KEPT); // refusals cost nothing
    CHECK_INT(bw_key_enter(key, now + 20000), BW_QUOTA_RATE);
    CHECK_INT(bw_key_enter(key, now + 70000), BW_QUOTA_KEPT);
    check_quotas(key, policy, "\"requests\";r=1;t=10");
    CHECK_INT(bw_key_enter(key, now + 100000000), BW_QUOTA_KEPT); // full, and no fuller
    check_quotas(key, policy, "\"requests\";r=2;t=20");
    bw_keys_release(&keys);
}

/* The longest window at the highest rate stays within the numbers. */
static void extreme_rates(void)
{
    struct bw_keys keys;
    struct bw_key *key = one(&keys, "rate=1000000/h");
    REQUIRE(key != NULL);
    CHECK_INT(bw_key_enter(key, INT64_MAX / 2), BW_QUOTA_KEPT);
    check_quotas(key, "\"requests\";q=1000000;w=3600", "\"requests\";r=999999;t=1");
    CHECK_INT(bw_key_enter(key, INT64_MAX / 2 + 3), BW_QUOTA_KEPT);
    check_quotas(key, "\"requests\";q=1000000;w=3600", "\"requests\";r=999998;t=1");
    bw_keys_release(&keys);
}

static void concurrencies(void)
{
    static const char policy[] =
        "\"requests\";q=9;w=3600, \"concurrency\";q=2;qu=\"concurrent-requests\"";
    struct bw_keys keys;
    struct bw_key *key = one(&keys, "rate=9/h concurrency=2");
    REQUIRE(key != NULL);
    CHECK_INT(bw_key_enter(key, 0), BW_QUOTA_KEPT);
    check_quotas(key, policy, "\"requests\";r=8;t=400, \"concurrency\";r=1");
    CHECK_INT(bw_key_enter(key, 0), BW_QUOTA_KEPT);
    CHECK_INT(bw_key_enter(key, 0), BW_QUOTA_CONCURRENCY); // and costs no request
    check_quotas(key, policy, "\"requests\";r=7;t=400, \"concurrency\";r=0");
    bw_keys_leave(&keys, "a");
    bw_keys_leave(&keys, "nobody");
    CHECK_INT(bw_key_enter(key, 0), BW_QUOTA_KEPT);
    CHECK_INT(bw_key_enter(key, 0), BW_QUOTA_CONCURRENCY);
    bw_keys_release(&keys);
    REQUIRE((key = one(&keys, "concurrency=1")) != NULL);
    check_quotas(key, "\"concurrency\";q=1;qu=\"concurrent-requests\"", "\"concurrency\";r=1");
    bw_keys_release(&keys);
    REQUIRE((key = one(&keys, "")) != NULL);
    char texts[2][BW_QUOTA_CHARS];
    CHECK(!bw_key_quotas(key, texts[0], texts[1]));
    for (int i = 0; i < 1000; i++)
        CHECK_INT(bw_key_enter(key, 0), BW_QUOTA_KEPT);
    bw_keys_release(&keys);
}

/* Replace what there is by the text of a new file. */
static void renew(struct bw_keys *keys, const char *text)
{
    struct bw_keys fresh;
    REQUIRE(parse(&fresh, text, NULL) == BW_OK);
    CHECK_INT(bw_keys_renew(keys, &fresh, NULL), BW_OK);
    CHECK(!fresh.entries && !fresh.count);
}

static void renewal_keeps_usage(void)
{
    struct bw_keys keys;
    REQUIRE(parse(&keys, "a " HASH_A " rate=3/h concurrency=2", NULL) == BW_OK);
    CHECK_INT(bw_key_enter(keys.entries, 1000), BW_QUOTA_KEPT);
    CHECK_INT(bw_key_enter(keys.entries, 2000), BW_QUOTA_KEPT);
    int64_t level = keys.entries->level;
    renew(&keys, "b " HASH_A "\na " HASH_B " rate=3/h concurrency=3"); // a has another key now
    struct bw_key *a = bw_keys_find(&keys, "bob");
    REQUIRE(a != NULL);
    CHECK(a->level == level && a->filled_ms == 2000 && a->running == 2);
    CHECK_INT(bw_key_enter(a, 2000), BW_QUOTA_KEPT);
    CHECK_INT(bw_key_enter(a, 2000), BW_QUOTA_CONCURRENCY);
    renew(&keys, "a " HASH_B " rate=5/m");
    REQUIRE((a = bw_keys_find(&keys, "bob")) != NULL);
    CHECK_INT(bw_key_enter(a, 2000), BW_QUOTA_KEPT); // 3 of 5 were used
    CHECK_INT(bw_key_enter(a, 2000), BW_QUOTA_KEPT);
    CHECK_INT(bw_key_enter(a, 2000), BW_QUOTA_RATE);
    renew(&keys, "a " HASH_B " rate=1/s");
    CHECK_INT(bw_key_enter(keys.entries, 2000), BW_QUOTA_RATE);
    CHECK_INT(bw_key_enter(keys.entries, 3000), BW_QUOTA_KEPT);
    renew(&keys, "a " HASH_B);
    renew(&keys, "a " HASH_B " rate=1/h");
    CHECK_INT(bw_key_enter(keys.entries, 4000), BW_QUOTA_KEPT);
    bw_keys_release(&keys);
}

/* A key that goes while requests of it run, and comes again, has never been away. */
static void renewal_remembers_what_runs(void)
{
    struct bw_keys keys;
    REQUIRE(parse(&keys, "a " HASH_A " concurrency=1\nb " HASH_B, NULL) == BW_OK);
    CHECK_INT(bw_key_enter(keys.entries, 0), BW_QUOTA_KEPT);
    renew(&keys, "c " HASH_B);
    CHECK_INT(keys.count, 2);
    CHECK(!bw_keys_find(&keys, "alice") && !bw_keys_find(&keys, ""));
    renew(&keys, "c " HASH_B);
    CHECK_INT(keys.count, 2);
    renew(&keys, "a " HASH_A " concurrency=1");
    CHECK_INT(keys.count, 1);
    CHECK_INT(bw_key_enter(keys.entries, 0), BW_QUOTA_CONCURRENCY);
    bw_keys_leave(&keys, "a");
    CHECK_INT(bw_key_enter(keys.entries, 0), BW_QUOTA_KEPT);
    renew(&keys, "c " HASH_B);
    bw_keys_leave(&keys, "a");
    renew(&keys, "c " HASH_B);
    CHECK_INT(keys.count, 1);
    bw_keys_release(&keys);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(good_files),
                                              TEST(bad_files),
                                              TEST(files),
                                              TEST(finding),
                                              TEST(rates),
                                              TEST(extreme_rates),
                                              TEST(concurrencies),
                                              TEST(renewal_keeps_usage),
                                              TEST(renewal_remembers_what_runs)};
    return CHECK_RUN("keys", tests);
}
