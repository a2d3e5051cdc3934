#include "base/clock.h"

#include <stdio.h>
#include <time.h>

double bw_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

int64_t bw_unix_s(void)
{
    return (int64_t)time(NULL);
}

void bw_date_now(char text[BW_DATE_CHARS])
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t at = strftime(text, BW_DATE_CHARS, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + at, BW_DATE_CHARS - at, ".%03dZ", (int)(now.tv_nsec / 1000000) % 1000);
}
