/* AVX-512 with bfloat16 activations and weights, float sums. */
#include "engine/kernels/bf16.inc"

enum { QUERIES = 12, HEAD_STEP = 1 };

#include "engine/kernels/avx512.inc"

#define KERNELS      bw_kernels_avx512bf16
#define NAME         "avx512bf16"
#define ENDS         bw_kernels_avx512
#define FINE         bw_fine_avx512vnni
#define FINE_IS_FREE true
#include "engine/kernels/table.inc"
