/* The strict readers of text: what they take, and everything they must not. */
#include "base/text.h"
#include "tests/unit/check.h"

#include <limits.h>

static void integers(void)
{
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0},
                {"-0", 0},
                {"007", 7},
                {"-12", -12},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "1e3",
                                      "0x10",
                                      "--1",
                                      "1-",
                                      "a",
                                      "\t1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999",
                                      "1\n",
                                      "- 1",
                                      "\xd9\xa1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t value = 77;
        CHECK_OF(bw_text_to_int(good[i].text, INT64_MIN, INT64_MAX, &value), "%s", good[i].text);
        CHECK_INT(value, good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value = 77;
        CHECK_OF(!bw_text_to_int(bad[i], INT64_MIN, INT64_MAX, &value), "\"%s\"", bad[i]);
        CHECK_INT(value, 77);
    }
}

static void integer_bounds(void)
{
    int64_t value = 77;
    CHECK(bw_text_to_int("1", 1, 8, &value) && value == 1);
    CHECK(bw_text_to_int("8", 1, 8, &value) && value == 8);
    CHECK(!bw_text_to_int("0", 1, 8, &value));
    CHECK(!bw_text_to_int("9", 1, 8, &value));
    CHECK(!bw_text_to_int("-1", 1, 8, &value));
    CHECK_INT(value, 8);
}

static void numbers(void)
{
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0},  {"-0", 0},    {"1.5", 1.5},   {".5", 0.5},
                {"1.", 1}, {"2e2", 200}, {"1E-3", 1e-3}, {"1e-400", 0}};
    static const char *const bad[] = {"",    ".",     "-",    "e5",  "1e",       "1e400", "-1e400",
                                      "nan", "inf",   "NaN",  "Inf", "0x10",     " 1",    "1 ",
                                      "1,5", "1.2.3", "1e5.", "++1", "infinity", "1f",    "1_000"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value = 77;
        CHECK_OF(bw_text_to_number(good[i].text, -1e9, 1e9, &value), "%s", good[i].text);
        CHECK_NEAR(value, good[i].value, 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value = 77;
        CHECK_OF(!bw_text_to_number(bad[i], -HUGE_VAL, HUGE_VAL, &value), "\"%s\"", bad[i]);
        CHECK_NEAR(value, 77, 0);
    }
    double value = 77;
    CHECK(bw_text_to_number("20", 0, 20, &value));
    CHECK(!bw_text_to_number("20.000001", 0, 20, &value));
    CHECK(!bw_text_to_number("-1e-9", 0, 20, &value));
    CHECK_NEAR(value, 20, 0);
}

static void sizes(void)
{
    static const struct {
        const char *text;
        int width, height;
    } good[] = {{"1x1", 1, 1},
                {"128x192", 128, 192},
                {"999999x999999", 999999, 999999},
                {"000128x1", 128, 1}};
    static const char *const bad[] = {"",
                                      "x",
                                      "12x",
                                      "x12",
                                      "0x0",
                                      "0x10",
                                      "10x0",
                                      "1234567x1",
                                      "1x1234567",
                                      "12x34x",
                                      "12x34x56",
                                      "12 x34",
                                      "12x 34",
                                      " 12x34",
                                      "12x34 ",
                                      "12X34",
                                      "-1x2",
                                      "1x-2",
                                      "+1x2",
                                      "1.5x2",
                                      "12*34",
                                      "12xx34",
                                      "0000001x1",
                                      "99999999999999999999x1",
                                      "12x34\n",
                                      "1\xc3\x97"
                                      "1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int width = 0, height = 0;
        CHECK_OF(bw_text_to_size(good[i].text, &width, &height), "%s", good[i].text);
        CHECK_INT(width, good[i].width);
        CHECK_INT(height, good[i].height);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int width = 77, height = 78;
        CHECK_OF(!bw_text_to_size(bad[i], &width, &height), "\"%s\"", bad[i]);
        CHECK(width == 77 && height == 78);
    }
}

static void comparisons(void)
{
    CHECK(bw_text_same("Apple", "aPPLE") && bw_text_same("", ""));
    CHECK(!bw_text_same("apple", "apples") && !bw_text_same("", "a"));
    CHECK_TEXT(bw_text_after("--queue", "--"), "queue");
    CHECK_TEXT(bw_text_after("--", "--"), "");
    CHECK(!bw_text_after("-", "--") && !bw_text_after("", "--"));
    CHECK_TEXT(bw_text_after("x", ""), "x");
}

static void escapes(void)
{
    static const char *const bad[] = {"%", "%4", "a%zz", "%4g", "%00", "a%", "%%41"};
    char out[32];
    CHECK(bw_text_unescape("", out) && !*out);
    CHECK(bw_text_unescape("a%2Fb%20%C3%bc+", out));
    CHECK_TEXT(out, "a/b \xc3\xbc+");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_OF(!bw_text_unescape(bad[i], out), "\"%s\"", bad[i]);
}

static void lists(void)
{
    static const char *const items[] = {"a", "", "b c", "", "", "12345", "end"};
    const char *list = " a ,,\tb c ,123456 , ,12345,end";
    char item[6];
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        CHECK(bw_text_item(&list, item, sizeof item));
        CHECK_TEXT(item, items[i]);
    }
    CHECK(!list && !bw_text_item(&list, item, sizeof item));
    list = "";
    CHECK(bw_text_item(&list, item, sizeof item) && !*item && !list);
    list = "a,";
    CHECK(bw_text_item(&list, item, sizeof item) && list && *item == 'a');
    CHECK(bw_text_item(&list, item, sizeof item) && !list && !*item);
}

/* Whole characters stay, one the end has cut goes, any other byte that is part of none is a '?'. */
static void mending(void)
{
    static const struct {
        const char *text, *mended;
    } cases[] = {{"", ""},
                 {"a\x7f\n", "a\x7f\n"},
                 {"\xc3\xa9\xe2\x82\xac\xf0\x9f\xa7\xb1", "\xc3\xa9\xe2\x82\xac\xf0\x9f\xa7\xb1"},
                 {"a\xc3", "a"},
                 {"a\xe2\x82", "a"},
                 {"a\xf0\x9f\xa7", "a"},
                 {"\xe2\x82 b", "?? b"},
                 {"\xc3(", "?("},
                 {"\x80\xbf", "??"},
                 {"\xc0\xaf \xc1\xbf", "?? ??"},
                 {"\xe0\x9f\xbf", "???"},
                 {"\xe0\xa0\x80\xed\x9f\xbf", "\xe0\xa0\x80\xed\x9f\xbf"},
                 {"\xed\xa0\x80", "???"},
                 {"\xf0\x8f\xbf\xbf", "????"},
                 {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
                 {"\xf4\x90\x80\x80", "????"},
                 {"\xf5\x80\xff", "???"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        strcpy(text, cases[i].text);
        bw_text_mend(text);
        CHECK_TEXT(text, cases[i].mended);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(integers), TEST(integer_bounds), TEST(numbers),
                                              TEST(sizes),    TEST(comparisons),    TEST(escapes),
                                              TEST(lists),    TEST(mending)};
    return CHECK_RUN("text", tests);
}
