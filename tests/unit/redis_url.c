/* URLs of a Redis: what they say, what is refused without telling a password, and how they are
 * shown. */
#include "server/redis_url.h"

#include "tests/unit/check.h"

static void what_they_say(void)
{
    static const struct {
        const char *text, *host;
        int port;
        const char *user, *password;
        int db;
    } cases[] = {
        {"redis://h", "h", 6379, "", "", 0},
        {"redis://h/", "h", 6379, "", "", 0},
        {"redis://redis.example.com:1/15", "redis.example.com", 1, "", "", 15},
        {"redis://[::1]", "::1", 6379, "", "", 0},
        {"redis://[2001:db8::1]:65535/1", "2001:db8::1", 65535, "", "", 1},
        {"redis://:p@h", "h", 6379, "", "p", 0},
        {"redis://u:p@h:7/2", "h", 7, "u", "p", 2},
        {"redis://u:a%3Ab%40c%2F@h", "h", 6379, "u", "a:b@c/", 0},
        {"redis://u:a/b@c:d@h", "h", 6379, "u", "a/b@c:d", 0}, // not escaped, but clear
        {"redis://@h", "h", 6379, "", "", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_redis_url url;
        struct bw_err err = {0};
        CHECK_OF(!bw_redis_url_parse(&url, cases[i].text, &err), "%s: %s", cases[i].text,
                 err.message);
        CHECK_TEXT(url.host, cases[i].host);
        CHECK_TEXT(url.user, cases[i].user);
        CHECK_TEXT(url.password, cases[i].password);
        CHECK_OF(url.port == cases[i].port && url.db == cases[i].db, "%s", cases[i].text);
    }
}

static void what_is_refused(void)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "begins with"},          {"http://h", "begins with"},
        {"redis:/h", "begins with"},  {"rediss://:secret@h", "TLS"},
        {"redis://", "no host"},      {"redis:///1", "no host"},
        {"redis://:secret@", "host"}, {"redis://h:0", "port"},
        {"redis://h:65536", "port"},  {"redis://h:", "port"},
        {"redis://h:x", "port"},      {"redis://h/x", "/0 to"},
        {"redis://h/-1", "/0 to"},    {"redis://h/1024", "/0 to"},
        {"redis://h/0/1", "/0 to"},   {"redis://h?db=1", "port"},
        {"redis://[::1", "host"},     {"redis://[h]", "host"},
        {"redis://h h", "port"},      {"redis://secret@h", "needs a password"},
        {"redis://u:%zz@h", "%"},     {"redis://u:secret%00@h", "%"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_redis_url url;
        struct bw_err err = {0};
        CHECK_OF(bw_redis_url_parse(&url, cases[i].text, &err) == BW_ERANGE, "%s", cases[i].text);
        CHECK_HOLDS(err.message, cases[i].reason);
        CHECK(!strstr(err.message, "secret"));
    }
}

static void too_long(void)
{
    char text[2000] = "redis://";
    struct bw_redis_url url;
    for (int most = 250; most <= 1500; most += 250) {
        memset(text + 8, 'a', (size_t)most);
        strcpy(text + 8 + most, ":1");
        CHECK_INT(bw_redis_url_parse(&url, text, NULL), most == 250 ? BW_OK : BW_ERANGE);
        strcpy(text + 8 + most, ":1@h");
        CHECK_INT(bw_redis_url_parse(&url, text, NULL), most == 250 ? BW_OK : BW_ERANGE);
        text[8] = ':';
        CHECK_INT(bw_redis_url_parse(&url, text, NULL), most == 250 ? BW_OK : BW_ERANGE);
        text[8] = 'a';
    }
}

static void a_path_is_none(void)
{
    static const char *const paths[] = {
        "", "/var/lib/jobs", "jobs", "./redis:", "redis:/h", "://h", "a b://h"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        CHECK_OF(!bw_redis_url_is(paths[i]) && !bw_redis_url_check(paths[i], NULL), "%s", paths[i]);
    CHECK(bw_redis_url_is("redis://h") && bw_redis_url_is("REDISS://h") &&
          bw_redis_url_is("a+b://"));
    CHECK_INT(bw_redis_url_check("REDIS://h", NULL), BW_ERANGE);
    CHECK_INT(bw_redis_url_check("postgres://h", NULL), BW_ERANGE);
}

static void masked(void)
{
    static const char *const cases[][2] = {
        {"redis://h:1/2", "redis://h:1/2"},
        {"redis://u:p@h:1/2", "redis://u:***@h:1/2"},
        {"redis://:p:q@r@h", "redis://:***@h"},
        {"/a/b:c@d", "/a/b:c@d"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_buf text = {0};
        bw_redis_url_mask(cases[i][0], &text);
        CHECK_TEXT(text.data ? text.data : "", cases[i][1]);
        bw_buf_release(&text);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(what_they_say), TEST(what_is_refused),
                                              TEST(too_long), TEST(a_path_is_none), TEST(masked)};
    return CHECK_RUN("redis_url", tests);
}
