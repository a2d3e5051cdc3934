/* Randomness from the system, for seeds and identifiers; pictures have a generator of their own. */
#ifndef BW_BASE_RANDOM_H
#define BW_BASE_RANDOM_H

#include <stdint.h>

/* 64 bits nobody can predict. Any thread. */
uint64_t bw_random(void);

#endif
