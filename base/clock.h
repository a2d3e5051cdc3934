/* Clocks. Durations come from the monotonic clock, dates from the wall clock. Any thread. */
#ifndef BW_BASE_CLOCK_H
#define BW_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Milliseconds since some fixed moment; never runs backwards. */
double bw_now_ms(void);

/* Seconds since 1970-01-01 UTC. */
int64_t bw_unix_s(void);

#define BW_DATE_CHARS 32

/* The wall clock as RFC 3339 in UTC with milliseconds, e.g. 2025-03-01T12:00:00.123Z. */
void bw_date_now(char text[BW_DATE_CHARS]);

#endif
