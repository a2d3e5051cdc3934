/* Noise: standard normal numbers that depend on (seed, image index, element) alone.
 *
 * Philox4x32-10 (Salmon et al., SC 2011) with key = seed and counter = (element / 4, 0, image
 * index, 0); its four words make four normals by Box-Muller in double precision. So any part of any
 * picture's noise can be computed anywhere, in any order. Any thread.
 */
#ifndef BW_ENGINE_RNG_H
#define BW_ENGINE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* One block of Philox4x32-10; known answers are in the Random123 distribution. */
void bw_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Elements 0..count-1 of the noise of picture `index` of `seed`. */
void bw_noise(uint64_t seed, uint32_t index, size_t count, float *out);

#endif
