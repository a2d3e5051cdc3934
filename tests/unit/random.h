/* Random: numbers for property tests; the same on every run. */
#ifndef BW_TESTS_UNIT_RANDOM_H
#define BW_TESTS_UNIT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64 (Steele et al., OOPSLA 2014). */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

/* An integer of low..high. */
static inline int random_int(uint64_t *state, int low, int high)
{
    return low + (int)(random_next(state) % (uint64_t)(high - low + 1));
}

/* A number of [0, 1). */
static inline double random_unit(uint64_t *state)
{
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* Numbers of [-scale, scale). */
static inline void random_fill(uint64_t *state, float scale, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = scale * (float)(2 * random_unit(state) - 1);
}

#endif
