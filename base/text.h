/* Small strict readers of text. Each takes the whole string or refuses it; none allocates. Any
 * thread. */
#ifndef BW_BASE_TEXT_H
#define BW_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal integer within [low, high]; no space, no sign but '-', no leading plus. */
bool bw_text_to_int(const char *text, int64_t low, int64_t high, int64_t *value);

/* Finite decimal number within [low, high]; no space, no hex, no "inf" or "nan". */
bool bw_text_to_number(const char *text, double low, double high, double *value);

/* "WxH" with two integers of 1 to 6 digits, e.g. "128x192": width first. */
bool bw_text_to_size(const char *text, int *width, int *height);

/* ASCII letters compare without case. */
bool bw_text_same(const char *a, const char *b);

/* Make it UTF-8: a character that the end of a buffer has cut in half goes, any other byte that is
 * part of none becomes '?'. */
void bw_text_mend(char *text);

/* Percent-decode (RFC 3986) into `out`, which has room for as much as `text`; false if an escape is
 * broken or stands for NUL. */
bool bw_text_unescape(const char *text, char *out);

/* Cut the next element off a comma-separated list, without the spaces around it; false if there was
 * none left. `list` is NULL after the last one. What does not fit `room` becomes "". */
bool bw_text_item(const char **list, char *item, size_t room);

/* The start of `text` without `prefix`, or NULL if it does not begin with it. */
const char *bw_text_after(const char *text, const char *prefix);

#endif
