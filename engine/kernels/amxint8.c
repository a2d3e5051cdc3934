/* Fine products with AMX, which multiplies bytes: a 16-bit integer is a signed high byte and an
 * unsigned low one, and a product of two of them four products of bytes. Each has an instruction,
 * and the sums' overflow, if any, is undone when they are put together: the result is the same to
 * the bit as that of 16-bit integers.
 *
 * A row is its high bytes and then its low ones, both filled up with zeros; so is a panel. */
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
    __m128i high = _mm256_cvtepi16_epi8(_mm256_srai_epi16(v, 8)), low = _mm256_cvtepi16_epi8(v);
    _mm_storeu_si128((__m128i *)(row + i), high);
    _mm_storeu_si128((__m128i *)(row + half_bytes(width) + i), low);
    if (i + 16 == width) // a multiple of 32
        for (size_t j = (size_t)width; j < half_bytes(width); j += 16) {
            _mm_storeu_si128((__m128i *)(row + j), _mm_setzero_si128());
            _mm_storeu_si128((__m128i *)(row + half_bytes(width) + j), _mm_setzero_si128());
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
    *high = (unsigned char)((uint16_t)v >> 8);
    high[16 * VECTORS * half_bytes(inputs)] = (unsigned char)((uint16_t)v & 0xff);
}

static inline __m512i integers_of(const float *sums)
{
    __m512i high = _mm512_load_si512(sums), cross = _mm512_load_si512(sums + PLANE);
    __m512i low = _mm512_load_si512(sums + 2 * PLANE);
    __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(high, 8), cross);
    return _mm512_add_epi32(_mm512_slli_epi32(upper, 8), low);
}

#include "engine/kernels/fine.inc"

#define SUMS    3
#define WEIGHTS 2
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

_Static_assert(PLANE == (int)SUMS_OF_BLOCK, "integers_of() finds the planes of sums");

static inline __attribute__((always_inline)) void sum_block(enum way way, const struct block *b,
                                                            struct aside *aside)
{
    size_t low = (size_t)b->steps * STEP_BYTES;
    const unsigned char *w = b->w, *low_w = w + b->steps * WEIGHT_STEP;
    ZERO_SUMS();
    MULTIPLY(_tile_dpbsud, b, 0, low_w, way, aside);
    MULTIPLY(_tile_dpbusd, b, low, w, way, aside);
    finish_rest(&aside->p, &aside->waiting);
    aside->waiting.rows = 0;
    EACH_SUM(_tile_stored, b, PLANE);
    ZERO_SUMS();
    MULTIPLY(_tile_dpbuud, b, low, low_w, way, aside);
    EACH_SUM(_tile_stored, b, 2 * PLANE);
    ZERO_SUMS();
    MULTIPLY(_tile_dpbssd, b, 0, w, way, aside);
    EACH_SUM(_tile_stored, b, 0);
}

const struct bw_fine_kernels bw_fine_amx = {
    .packed_bytes = packed_bytes,
    .pack = pack,
    .norm = norm,
    .narrow = narrow,
    .product = product_of_tiles,
};
