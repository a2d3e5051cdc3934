/* A line is put together in memory and written in one piece; values are escaped on the way in. */
#include "base/log.h"

#include "base/clock.h"

#include <string.h>
#include <unistd.h>

static enum bw_log_level threshold = BW_LOG_INFO;
static enum bw_log_format format = BW_LOG_LOGFMT;

void bw_log_setup(enum bw_log_level new_threshold, enum bw_log_format new_format)
{
    threshold = new_threshold;
    format = new_format;
}

/* The value between quotes, safe in both formats: JSON's escapes are a superset of logfmt's. */
static void add_quoted(struct bw_buf *text, const char *value)
{
    bw_buf_add_text(text, "\"");
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (*c == '"' || *c == '\\')
            bw_buf_addf(text, "\\%c", *c);
        else if (*c < ' ' || *c >= 0x7f)
            bw_buf_addf(text, "\\u%04x", *c);
        else
            bw_buf_add(text, c, 1);
    }
    bw_buf_add_text(text, "\"");
}

static void add_key(struct bw_log_line *line, const char *key)
{
    if (format == BW_LOG_JSON)
        bw_buf_addf(&line->text, "%s\"%s\":", line->text.length_bytes ? "," : "{", key);
    else
        bw_buf_addf(&line->text, "%s%s=", line->text.length_bytes ? " " : "", key);
}

void bw_log_begin(struct bw_log_line *line, enum bw_log_level level, const char *event)
{
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    line->text = (struct bw_buf){.data = line->room,
                                 .room_bytes = sizeof line->room,
                                 .ceiling_bytes = sizeof line->room - 1}; // so it is never moved
    line->wanted = level >= threshold;
    if (!line->wanted)
        return;
    char date[BW_DATE_CHARS];
    bw_date_now(date);
    bw_log_text(line, "time", date);
    bw_log_text(line, "level", names[level]);
    bw_log_text(line, "event", event);
}

void bw_log_text(struct bw_log_line *line, const char *key, const char *value)
{
    if (!line->wanted)
        return;
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_-.:/,;+@";
    add_key(line, key);
    if (format == BW_LOG_LOGFMT && *value && value[strspn(value, plain)] == '\0')
        bw_buf_add_text(&line->text, value);
    else
        add_quoted(&line->text, value);
}

void bw_log_int(struct bw_log_line *line, const char *key, int64_t value)
{
    if (!line->wanted)
        return;
    add_key(line, key);
    bw_buf_addf(&line->text, "%lld", (long long)value);
}

void bw_log_ms(struct bw_log_line *line, const char *key, double value_ms)
{
    if (!line->wanted)
        return;
    add_key(line, key);
    bw_buf_addf(&line->text, "%.3f", value_ms);
}

void bw_log_end(struct bw_log_line *line)
{
    if (line->wanted && !line->text.failed) {
        bw_buf_add_text(&line->text, format == BW_LOG_JSON ? "}\n" : "\n");
        ssize_t written = write(STDERR_FILENO, line->text.data, line->text.length_bytes);
        (void)written; // a log that cannot be written is nobody's reason to stop
    }
}

void bw_log_message(enum bw_log_level level, const char *event, const char *message)
{
    struct bw_log_line line;
    bw_log_begin(&line, level, event);
    bw_log_text(&line, "message", message);
    bw_log_end(&line);
}
