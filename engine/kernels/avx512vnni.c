/* Fine products: rows and weights as 16-bit integers, sums in 32 bits, as fast as bfloat16 and a
 * hundred times closer.
 *
 * A row of numbers becomes integers by the one factor that gives it the Euclidean norm NORM, and so
 * does each output's row of weights. By Cauchy and Schwarz no sum of products, whole or begun, then
 * exceeds NORM * NORM, which 32 bits hold. Rounding moves each number by at most half of one: the
 * norm grows by at most half the root of their count, for which room is left. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int16_t activation;
typedef uint16_t stored;
typedef __m512i vector;

#define ROWS         12
#define VECTORS      2
#define PAIR         2
#define ROUGH        1
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

static inline void store_16(uint16_t *out, __mmask16 mask, __m512 v)
{
    _mm256_mask_storeu_epi16(out, mask, (__m256i)_mm512_cvtneps_pbh(v));
}

static inline void store_whole(uint16_t *out, __m512 v)
{
    _mm256_storeu_si256((__m256i *)out, (__m256i)_mm512_cvtneps_pbh(v));
}

/* What integers stand for, of rows and of 16 columns. */
struct units {
    const char *rows; // floats
    __m512 columns;
};

static inline struct units units_of(const struct bw_product *p, int row, int column);

static inline __m512 sum_of(const struct units *units, const float *sums, int r)
{
    float unit;
    memcpy(&unit, units->rows + (size_t)r * sizeof unit, sizeof unit);
    __m512 scale = _mm512_mul_ps(units->columns, _mm512_set1_ps(unit));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), scale);
}

#include "engine/kernels/product.inc"

/* Rows of a smaller norm become zeros: what scales them must be a number. */
static const float LEAST = 1e-30f;

static float norm_for(int count)
{
    const float NORM = INT16_MAX;
    return NORM - 1 - sqrtf((float)count) / 2;
}

/* Those of rows lie behind all rows, those of columns behind all weights. */
static inline struct units units_of(const struct bw_product *p, int row, int column)
{
    const activation *rows = p->a, *weights = p->w;
    const char *behind = (const char *)(rows + (size_t)p->rows * (size_t)p->a_stride);
    const char *columns = (const char *)(weights + packed_elements(p->outputs, p->inputs));
    return (struct units){behind + (size_t)row * sizeof(float),
                          _mm512_loadu_ps(columns + (size_t)column * sizeof(float))};
}

static size_t packed_bytes(int outputs, int inputs)
{
    size_t panels = (size_t)(outputs + COLUMNS - 1) / COLUMNS;
    return packed_elements(outputs, inputs) * sizeof(activation) + panels * COLUMNS * sizeof(float);
}

/* Zeros beyond the outputs and inputs. */
static void pack(int outputs, int inputs, const float *w, void *packed)
{
    char *units = (char *)((activation *)packed + packed_elements(outputs, inputs));
    size_t panel = packed_elements(COLUMNS, inputs);
    memset(packed, 0, packed_bytes(outputs, inputs));
    for (int j = 0; j < outputs; j++, w += inputs) {
        activation *to = (activation *)packed + (size_t)(j / COLUMNS) * panel + j % COLUMNS * PAIR;
        double squares = 0;
        for (int i = 0; i < inputs; i++)
            squares += (double)w[i] * w[i];
        float size = (float)sqrt(squares), factor = size > LEAST ? norm_for(inputs) / size : 0;
        float unit = size / norm_for(inputs);
        for (int i = 0; i < inputs; i++)
            to[i / PAIR * COLUMNS * PAIR + i % PAIR] = (activation)lrintf(w[i] * factor);
        memcpy(units + (size_t)j * sizeof unit, &unit, sizeof unit);
    }
}

static void norm(int rows, int width, const float *x, const float *shift, const float *scale,
                 void *out)
{
    activation *o = out;
    char *units = (char *)(o + (size_t)rows * (size_t)width);
    for (int row = 0; row < rows; row++, x += width, o += width) {
        struct spread s = spread_of(width, x);
        __m512 squares = _mm512_setzero_ps();
        for (int i = 0; i < width; i += 16) {
            __m512 v = modulate(&s, x + i, shift + i, scale + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        float size = sqrtf(_mm512_reduce_add_ps(squares)), unit = size / norm_for(width);
        __m512 factor = _mm512_set1_ps(size > LEAST ? norm_for(width) / size : 0);
        for (int i = 0; i < width; i += 16) {
            __m512 v = _mm512_mul_ps(modulate(&s, x + i, shift + i, scale + i), factor);
            __m256i whole = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v));
            _mm256_storeu_si256((__m256i *)(o + i), whole);
        }
        memcpy(units + (size_t)row * sizeof unit, &unit, sizeof unit);
    }
}

static void product(const struct bw_product *p)
{
    product_by_rows(p, 0);
}

const struct bw_fine_kernels bw_fine_avx512vnni = {
    .packed_bytes = packed_bytes,
    .pack = pack,
    .norm = norm,
    .product = product,
};
