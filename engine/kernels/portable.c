/* Plain C for any CPU. */
#define KERNELS bw_kernels_portable
#define NAME    "portable"
#include "engine/kernels/plain.inc"
