#include "engine/rng.h"

#include <math.h>

void bw_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9; // golden ratio
        k1 += 0xBB67AE85; // sqrt(3) - 1
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Two words to two normals; (word + 1) / 2^32 lies in (0, 1], so the logarithm is finite. */
static void box_muller(uint32_t a, uint32_t b, float out[2])
{
    double radius = sqrt(-2 * log((a + 1.0) * 0x1p-32));
    double angle = 2 * M_PI * (b * 0x1p-32);
    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

void bw_noise(uint64_t seed, uint32_t index, size_t count, float *out)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (size_t i = 0; i < count; i += 4) {
        const uint32_t counter[4] = {(uint32_t)(i / 4), 0, index, 0};
        uint32_t words[4];
        float normals[4];
        bw_philox(counter, key, words);
        box_muller(words[0], words[1], normals);
        box_muller(words[2], words[3], normals + 2);
        for (size_t j = 0; j < 4 && i + j < count; j++)
            out[i + j] = normals[j];
    }
}
