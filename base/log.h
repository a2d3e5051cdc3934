/* Structured log: one event a line, to standard error, as logfmt or JSON.
 *
 *     struct bw_log_line line;
 *     bw_log_begin(&line, BW_LOG_INFO, "listening");
 *     bw_log_text(&line, "address", "127.0.0.1:8080");
 *     bw_log_end(&line);
 *
 * Every line has time, level and event. A line goes out in one write, so lines of different
 * threads never mix; values are escaped, so no value can forge a line. Only the binaries (server/
 * and cli/) log; libraries return errors. Thread: bw_log_setup() before any thread starts, the rest
 * from any thread.
 */
#ifndef BW_BASE_LOG_H
#define BW_BASE_LOG_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum bw_log_level { BW_LOG_DEBUG, BW_LOG_INFO, BW_LOG_WARN, BW_LOG_ERROR, BW_LOG_OFF };
enum bw_log_format { BW_LOG_LOGFMT, BW_LOG_JSON };

enum { BW_LOG_LINE_BYTES = 16384 }; // a longer line is not written

struct bw_log_line {
    struct bw_buf text; // over `room`: a log that needs memory fails where it is needed most
    bool wanted;        // the level is at or above the threshold
    char room[BW_LOG_LINE_BYTES];
};

/* Choose what is written from now on. */
void bw_log_setup(enum bw_log_level threshold, enum bw_log_format format);

void bw_log_begin(struct bw_log_line *line, enum bw_log_level level, const char *event);
void bw_log_text(struct bw_log_line *line, const char *key, const char *value);
void bw_log_int(struct bw_log_line *line, const char *key, int64_t value);
void bw_log_ms(struct bw_log_line *line, const char *key, double value_ms); // three decimals
/* Write the line. */
void bw_log_end(struct bw_log_line *line);

/* A line with nothing but a message. */
void bw_log_message(enum bw_log_level level, const char *event, const char *message);

#endif
