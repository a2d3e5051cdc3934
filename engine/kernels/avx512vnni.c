/* Fine products with AVX512-VNNI: pairs of 16-bit integers, as fast as bfloat16.
 *
 * Rows, of numbers and of weights, get the Euclidean norm NORM. By Cauchy and Schwarz no sum of
 * products then exceeds NORM * NORM, which 32 bits hold. Rounding moves each number by at most half
 * of one: the norm grows by at most half the root of their count, for which room is left. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int16_t activation;
typedef __m512i vector;

#define ROWS         12
#define VECTORS      2
#define PAIR         2
#define LOAD(p)      _mm512_loadu_si512(p)
#define BROADCAST(p) broadcast_pair(p)
/* The sums' bits are integers while they are summed. Not the intrinsic, as for bfloat16. */
#define MULTIPLY_ADD(s, a, b) __asm__("vpdpwssd %2, %1, %0" : "+v"(s) : "v"(a), "v"(b))

static inline __m512i broadcast_pair(const int16_t *p)
{
    int pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
}

static inline __m512 sums_of(const float *sums)
{
    return _mm512_cvtepi32_ps(_mm512_load_si512(sums));
}

static inline __m512 grow(__m512 squares, __m512 v)
{
    return _mm512_fmadd_ps(v, v, squares);
}

static inline float size_of(__m512 squares)
{
    return sqrtf(_mm512_reduce_add_ps(squares));
}

static float span(int count)
{
    const float NORM = INT16_MAX;
    return NORM - 1 - sqrtf((float)count) / 2;
}

static size_t row_bytes(int width)
{
    return (size_t)width * sizeof(activation);
}

static inline void put_row(unsigned char *row, int width, int i, __m256i v)
{
    (void)width;
    _mm256_storeu_si256((__m256i *)(row + row_bytes(i)), v);
}

enum { PAIRS_BYTES = 16 * VECTORS * PAIR * sizeof(activation) }; // one of each column

static size_t panel_bytes(int inputs)
{
    return (size_t)((inputs + PAIR - 1) / PAIR) * PAIRS_BYTES;
}

static inline void put_weight(unsigned char *panel, int inputs, int column, int i, int16_t v)
{
    (void)inputs;
    memcpy(panel + i / PAIR * PAIRS_BYTES + (column * PAIR + i % PAIR) * (int)sizeof v, &v,
           sizeof v);
}

#include "engine/kernels/fine.inc"
#include "engine/kernels/product.inc"

static void product(const struct bw_product *p)
{
    product_by_rows(p, 0);
}

const struct bw_fine_kernels bw_fine_avx512vnni = {
    .packed_bytes = packed_bytes,
    .pack = pack,
    .norm = norm,
    .narrow = narrow,
    .product = product,
};
