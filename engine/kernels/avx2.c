/* Plain C compiled for AVX2 and FMA. */
#define KERNELS bw_kernels_avx2
#define NAME    "avx2"
#include "engine/kernels/plain.inc"
