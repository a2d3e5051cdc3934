/* AVX-512 with float activations. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float activation;
typedef __m512 vector;

#define ROWS         8
#define VECTORS      3
#define PAIR         1
#define ROUGH        0
#define LOAD(p)      _mm512_loadu_ps(p)
#define BROADCAST(p) _mm512_set1_ps(*(p))
/* GCC 12 moves sums between registers around the intrinsic; an instruction with a tied operand
 * keeps them in place. */
#define MULTIPLY_ADD(s, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(s) : "v"(a), "v"(b))

static inline float to_activation(float x)
{
    return x;
}

static inline void store_16(float *out, __mmask16 mask, __m512 v)
{
    _mm512_mask_storeu_ps(out, mask, v);
}

static inline void store_whole(float *out, __m512 v)
{
    _mm512_storeu_ps(out, v);
}

static inline __m512 load_stored(const float *p)
{
    return _mm512_loadu_ps(p);
}

enum { QUERIES = 16, HEAD_STEP = 1 };

#include "engine/kernels/avx512.inc"

#define KERNELS bw_kernels_avx512
#define NAME    "avx512"
#define ENDS    bw_kernels_avx512
#include "engine/kernels/table.inc"
