/* Fine products with AMX, which multiplies bytes: a 16-bit integer is 256 times a high byte and a
 * low one, both signed, and a product of two of them is three products of bytes. The fourth, of low
 * ones, is left out: its terms have either sign and come to as much as rounding did.
 *
 * A row is its high bytes and then its low ones, both filled up with zeros; so is a panel. Neither
 * kind of sum can overflow for any width there is, so the largest number of a row may be as large
 * as two bytes hold. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { TILE_INPUTS = 64, PLANE = 32 * 32 };
#define VECTORS 2

/* Bytes of one half of a row. */
static size_t half_bytes(int width)
{
    return (size_t)(width + TILE_INPUTS - 1) / TILE_INPUTS * TILE_INPUTS;
}

static size_t row_bytes(int width)
{
    return 2 * half_bytes(width);
}

static inline void put_row(unsigned char *row, int width, int i, __m256i v)
{
    __m256i rounded = _mm256_add_epi16(v, _mm256_set1_epi16(128));
    __m128i high = _mm256_cvtepi16_epi8(_mm256_srai_epi16(rounded, 8));
    unsigned char *at = row + half_bytes(width);
    _mm_storeu_si128((__m128i *)(row + i), high);
    _mm_storeu_si128((__m128i *)(at + i), _mm256_cvtepi16_epi8(v));
    for (i += 16; i >= width && i < (int)half_bytes(width); i += 16) {
        _mm_storeu_si128((__m128i *)(row + i), _mm_setzero_si128());
        _mm_storeu_si128((__m128i *)(at + i), _mm_setzero_si128());
    }
}

static size_t panel_bytes(int inputs)
{
    return 16 * VECTORS * row_bytes(inputs);
}

static inline void put_weight(unsigned char *panel, int inputs, int column, int i, int16_t v)
{
    enum { FOUR = 4 }; // inputs of one column stand together
    unsigned char *high = panel + (i / FOUR * 16 * VECTORS + column) * FOUR + i % FOUR;
    *high = (unsigned char)((v + 128) >> 8);
    high[16 * VECTORS * half_bytes(inputs)] = (unsigned char)v;
}

static inline __m512 sums_of(const float *sums)
{
    __m512 high = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
    __m512 cross = _mm512_cvtepi32_ps(_mm512_load_si512(sums + PLANE));
    return _mm512_mul_ps(_mm512_set1_ps(256), _mm512_fmadd_ps(high, _mm512_set1_ps(256), cross));
}

static inline __m512 grow(__m512 largest, __m512 v)
{
    return _mm512_max_ps(largest, _mm512_abs_ps(v));
}

static inline float size_of(__m512 largest)
{
    return _mm512_reduce_max_ps(largest);
}

static float span(int count)
{
    (void)count;
    return INT8_MAX * 256 + INT8_MAX;
}

#include "engine/kernels/fine.inc"

#define SHARE   2
#define SUMS    2
#define WEIGHTS 2
#define PASSES  3
#define STRETCH (1 << 20) // all: there are many sums

static int steps_of(const struct bw_product *p)
{
    return (int)half_bytes(p->inputs) / TILE_INPUTS;
}

static size_t stride_of(const struct bw_product *p)
{
    return row_bytes(p->inputs);
}

#include "engine/kernels/tiles.inc"

_Static_assert(PLANE == (int)SUMS_OF_BLOCK, "sums_of() finds the planes");

static inline __attribute__((always_inline)) void sum_block(enum way way, const struct block *b,
                                                            struct aside *aside)
{
    size_t low = (size_t)b->steps * STEP_BYTES;
    const unsigned char *w = b->w, *low_w = w + b->steps * WEIGHT_STEP;
    ZERO_SUMS();
    MULTIPLY(_tile_dpbssd, b, 0, low_w, way, aside);
    MULTIPLY(_tile_dpbssd, b, low, w, way, aside);
    EACH_SUM(_tile_stored, b, PLANE);
    ZERO_SUMS();
    MULTIPLY(_tile_dpbssd, b, 0, w, way, aside);
    finish_rest(&aside->p, &aside->waiting);
    EACH_SUM(_tile_stored, b, 0);
}

const struct bw_fine_kernels bw_fine_amx = {
    .packed_bytes = packed_bytes,
    .pack = pack,
    .norm = norm,
    .narrow = narrow,
    .product = product_of_tiles,
};
