#include "base/random.h"

#include <sys/random.h>
#include <sys/types.h>

uint64_t bw_random(void)
{
    uint64_t bits = 0;
    ssize_t got = getrandom(&bits, sizeof bits, 0);
    (void)got; // 8 bytes never block or fail after boot
    return bits;
}
