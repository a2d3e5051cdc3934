/* Kernels: what the tests of the kernels share.
 *
 * Every buffer ends at a page that nobody may touch, `tail` bytes before it. What surrounds an
 * input is NaN, so that using it shows; what surrounds an output is a fence that must stay as it
 * is.
 */
#ifndef BW_TESTS_UNIT_KERNELS_H
#define BW_TESTS_UNIT_KERNELS_H

#include "engine/gemm.h"
#include "engine/kernels/kernels.h"
#include "tests/unit/check.h"
#include "tests/unit/random.h"

#include <sys/mman.h>

enum { AREA_BYTES = 1 << 20, BEFORE_BYTES = 256, FENCE = 0xa5, NOTHING = 0xff };

/* What one rounding may change, relative to the number. */
#define FLOAT_UNIT 0x1p-24
#define BF16_UNIT  0x1p-8

static const struct bw_kernels *const sets[] = {&bw_kernels_amx, &bw_kernels_avx512bf16,
                                                &bw_kernels_avx512, &bw_kernels_avx2,
                                                &bw_kernels_portable};
enum { SETS = sizeof sets / sizeof *sets };

/* Run a test for every set this CPU can run; the portable one is always among them. */
static inline void each_set(void (*check)(const struct bw_kernels *k))
{
    bw_gemm_setup(); // as the engine does before it uses a set
    for (int i = 0; i < SETS; i++) {
        if (bw_kernels_runs(sets[i]))
            check(sets[i]);
    }
}

/* The sets with products of their own promise more about bits than those around OpenBLAS. */
static inline bool is_own(const struct bw_kernels *k)
{
    return k != &bw_kernels_avx2 && k != &bw_kernels_portable;
}

static inline bool is_bf16(const struct bw_kernels *k)
{
    return k->activation_bytes == 2;
}

struct area {
    unsigned char *end; // the untouchable page; NULL before the first use
    unsigned char *at;  // what was taken last
};

/* New memory of that size, like its surroundings filled with `fill`; what was taken before is gone.
 */
static inline void *area_take(struct area *area, size_t size_bytes, size_t tail_bytes, int fill)
{
    enum { PAGE = 4096 };
    size_t used_bytes = BEFORE_BYTES + size_bytes + tail_bytes;
    if (!area->end) {
        unsigned char *memory = mmap(NULL, AREA_BYTES + PAGE, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + AREA_BYTES, PAGE, PROT_NONE))
            abort();
        area->end = memory + AREA_BYTES;
    }
    if (used_bytes > AREA_BYTES)
        abort();
    area->at = area->end - tail_bytes - size_bytes;
    memset(area->end - used_bytes, fill, used_bytes);
    return area->at;
}

static inline bool is_fence(const unsigned char *begin, const unsigned char *end)
{
    while (begin < end && *begin == FENCE)
        begin++;
    return begin == end;
}

/* Is everything but these rows of what was taken last untouched? */
static inline bool area_fenced(const struct area *area, int rows, size_t row_bytes,
                               size_t stride_bytes)
{
    bool fenced = is_fence(area->at - BEFORE_BYTES, area->at);
    const unsigned char *row = area->at;
    for (int r = 0; r < rows; r++, row += stride_bytes)
        fenced = fenced && is_fence(row + row_bytes, r + 1 < rows ? row + stride_bytes : area->end);
    return fenced;
}

static inline void *area_floats(struct area *area, size_t count, const float *values, int tail)
{
    float *out = area_take(area, sizeof *out * count, sizeof *out * (size_t)tail, NOTHING);
    memcpy(out, values, sizeof *out * count);
    return out;
}

/* The nearest bfloat16, of two the even one. */
static inline float round_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x == x)
        bits += 0x7fff + (bits >> 16 & 1);
    bits &= 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What the set makes of a number that it keeps as an activation. */
static inline float as_activation(const struct bw_kernels *k, float x)
{
    return is_bf16(k) ? round_bf16(x) : x;
}

/* How far the activation of a number may be from it: half a unit in the last place. */
static inline double activation_error(const struct bw_kernels *k, double x)
{
    return is_bf16(k) && x != 0 ? ldexp(BF16_UNIT, ilogb(x)) : 0;
}

static inline void put_activation(const struct bw_kernels *k, void *at, size_t i, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (is_bf16(k))
        ((uint16_t *)at)[i] = (uint16_t)(bits >> 16);
    else
        ((float *)at)[i] = x;
}

static inline float get_activation(const struct bw_kernels *k, const void *at, size_t i)
{
    if (!is_bf16(k))
        return ((const float *)at)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)at)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Rows of activations out of values[rows, width]; the last row takes `padded` elements, and all
 * have zeros between their width and that. */
static inline void *area_activations(struct area *area, const struct bw_kernels *k, int rows,
                                     int width, int padded, int stride, const float *values,
                                     int tail)
{
    size_t bytes = (size_t)k->activation_bytes;
    size_t count = (size_t)(rows - 1) * (size_t)stride + (size_t)padded;
    void *out = area_take(area, count * bytes, (size_t)tail * bytes, NOTHING);
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < padded; i++)
            put_activation(k, out, (size_t)r * (size_t)stride + (size_t)i,
                           i < width ? values[r * width + i] : 0);
    }
    return out;
}

static inline void fill_activations(const struct bw_kernels *k, uint64_t *seed, float scale,
                                    int count, float *out)
{
    random_fill(seed, scale, (size_t)count, out);
    for (int i = 0; i < count; i++)
        out[i] = as_activation(k, out[i]);
}

#endif
