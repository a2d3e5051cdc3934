/* Fields of a header: Prefer and If-None-Match. */
#include "api/etag.h"
#include "api/prefer.h"
#include "tests/unit/check.h"

static void preferences(void)
{
    static const struct {
        const char *prefer;
        bool async;
    } table[] = {{NULL, false},
                 {"", false},
                 {" \t", false},
                 {",,", false},
                 {"respond-async", true},
                 {" Respond-ASYNC\t", true},
                 {"respond-async, wait=10", true},
                 {"wait=10,respond-async", true},
                 {"wait = 10 ; a , , respond-async", true},
                 {"respond-async;", true},
                 {"respond-async ; a = \"b,c\" ;; d", true},
                 {"respond-async;wait=100", true},
                 {"respond-async=", true},
                 {"respond-async=\"\"", true},
                 {"respond-async=1", false},
                 {"respond-async=1, respond-async", false},
                 {"respond-async, respond-async=1", true},
                 {"respond-asynchronously", false},
                 {"respond", false},
                 {"xrespond-async", false},
                 {"return=respond-async", false},
                 {"a;respond-async", false},
                 {"a=\"respond-async\"", false},
                 {"a=\", respond-async\"", false},
                 {"a=\"\\\", respond-async\"", false},
                 {"a=\"\\\"\", respond-async", true},
                 {"a=\"b\\\\\", respond-async", true},
                 {"a=\"b, respond-async", false},
                 {"a=\"b\\", false},
                 {"a=\"b\x01\", respond-async", false},
                 {"respond-async x", false},
                 {"respond-async x, respond-async", true},
                 {"=1, respond-async", true},
                 {"a b=\",\", respond-async", true},
                 {"a=(b), respond-async", true},
                 {"respond-async;=1", false},
                 {"respond-async;a=(", false},
                 {"\xff, respond-async", true}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        CHECK_OF(bw_prefer_async(table[i].prefer) == table[i].async, "\"%s\"",
                 table[i].prefer ? table[i].prefer : "(none)");
}

static void entity_tags(void)
{
    static const struct {
        const char *field;
        bool matches;
    } table[] = {{NULL, false},
                 {"", false},
                 {" ", false},
                 {",", false},
                 {"*", true},
                 {" * ", true},
                 {"*,", false},
                 {"*, \"a1\"", false},
                 {"\"a1\", *", false},
                 {"**", false},
                 {"\"a1\"", true},
                 {"W/\"a1\"", true},
                 {" \t\"a1\" ", true},
                 {"\"b\", \"a1\"", true},
                 {"\"a1\",\"b\"", true},
                 {",,\"b\" ,, W/\"a1\",", true},
                 {"\"a,b\",\"a1\"", true},
                 {"\",\"a1\",\"", false},
                 {"\"\", \"a1\"", true},
                 {"\"\xff\", \"a1\"", true},
                 {"\"a\"", false},
                 {"\"a12\"", false},
                 {"\"A1\"", false},
                 {"a1", false},
                 {"\"a1", false},
                 {"a1\"", false},
                 {"'a1'", false},
                 {"w/\"a1\"", false},
                 {"W/W/\"a1\"", false},
                 {"W/ \"a1\"", false},
                 {"W/", false},
                 {"\"a1\" \"b\"", false},
                 {"\"a1\"\"b\"", false},
                 {"\"a1\"; \"b\"", false},
                 {"\"a1\", b", false},
                 {"\"a1\", \"b", false},
                 {"\"a 1\", \"a1\"", false},
                 {"\"a\\\"\", \"a1\"", false}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *field = table[i].field;
        CHECK_OF(bw_etag_matches(field, "\"a1\"") == table[i].matches, "%s",
                 field ? field : "(no)");
        CHECK_OF(bw_etag_matches(field, "W/\"a1\"") == table[i].matches, "weak %s",
                 field ? field : "");
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(preferences), TEST(entity_tags)};
    return CHECK_RUN("fields", tests);
}
