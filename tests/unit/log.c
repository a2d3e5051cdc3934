/* The log writes to standard error, so each test catches that in a file. */
#include "base/log.h"

#include "tests/unit/check.h"

#include <jansson.h>
#include <unistd.h>

static const char hostile[] = "x\" level=error\nevent=\"forged\" \\ \t\x01\x7f";

static void write_hostile(void)
{
    struct bw_log_line line;
    bw_log_begin(&line, BW_LOG_WARN, "some event");
    bw_log_text(&line, "text", hostile);
    bw_log_text(&line, "empty", "");
    bw_log_text(&line, "plain", "127.0.0.1:8080");
    bw_log_int(&line, "low", INT64_MIN);
    bw_log_ms(&line, "took_ms", 1.23456);
    bw_log_end(&line);
}

/* What `run` logs, until the next call. */
static char *caught(void (*run)(void), enum bw_log_level threshold, enum bw_log_format format)
{
    static char text[200000];
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    bw_log_setup(threshold, format);
    run();
    bw_log_setup(BW_LOG_INFO, BW_LOG_LOGFMT);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    fclose(file);
    return text;
}

static int count_of(const char *text, char wanted)
{
    int count = 0;
    for (; *text; text++)
        count += *text == wanted;
    return count;
}

static void logfmt_cannot_be_forged(void)
{
    const char *text = caught(write_hostile, BW_LOG_INFO, BW_LOG_LOGFMT);
    CHECK_INT(count_of(text, '\n'), 1);
    CHECK(text[strlen(text) - 1] == '\n');
    CHECK_HOLDS(text, " level=warn event=\"some event\" text=\"x\\\" level=error\\u000aevent=");
    CHECK_HOLDS(text, " empty=\"\" plain=127.0.0.1:8080 low=-9223372036854775808 took_ms=1.235\n");
    for (const char *c = text; c[1]; c++)
        CHECK_OF(*c >= ' ' && *c < 0x7f, "byte %d", *c);
}

static void json_parses(void)
{
    json_t *root =
        json_loads(caught(write_hostile, BW_LOG_DEBUG, BW_LOG_JSON), JSON_REJECT_DUPLICATES, NULL);
    REQUIRE(root != NULL);
    CHECK_TEXT(json_string_value(json_object_get(root, "text")), hostile);
    CHECK_TEXT(json_string_value(json_object_get(root, "event")), "some event");
    CHECK_TEXT(json_string_value(json_object_get(root, "level")), "warn");
    CHECK_TEXT(json_string_value(json_object_get(root, "empty")), "");
    CHECK(json_integer_value(json_object_get(root, "low")) == INT64_MIN);
    CHECK_NEAR(json_real_value(json_object_get(root, "took_ms")), 1.235, 1e-9);
    json_decref(root);
}

static void write_levels(void)
{
    for (int level = BW_LOG_DEBUG; level <= BW_LOG_ERROR; level++)
        bw_log_message((enum bw_log_level)level, "e", "m");
}

static void thresholds(void)
{
    for (int threshold = BW_LOG_DEBUG; threshold <= BW_LOG_OFF; threshold++) {
        const char *text = caught(write_levels, (enum bw_log_level)threshold, BW_LOG_LOGFMT);
        CHECK_INT(count_of(text, '\n'), BW_LOG_OFF - threshold);
    }
    CHECK_HOLDS(caught(write_levels, BW_LOG_ERROR, BW_LOG_LOGFMT),
                " level=error event=e message=m");
}

static void write_high_bytes(void)
{
    bw_log_message(BW_LOG_INFO, "e", "\xff\xc3\xa9\xe2\x80\xa8");
}

static void high_bytes_are_harmless(void)
{
    json_t *root = json_loads(caught(write_high_bytes, BW_LOG_INFO, BW_LOG_JSON), 0, NULL);
    CHECK(root != NULL);
    json_decref(root);
    for (const char *c = caught(write_high_bytes, BW_LOG_INFO, BW_LOG_LOGFMT); *c; c++)
        CHECK((unsigned char)*c < 0x80);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(logfmt_cannot_be_forged), TEST(json_parses),
                                              TEST(thresholds), TEST(high_bytes_are_harmless)};
    return CHECK_RUN("log", tests);
}
