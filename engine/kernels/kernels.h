/* Kernels: the arithmetic of the network, one table of functions per instruction set.
 *
 * The table is chosen once, before a model is loaded, because it decides how weights are laid out.
 * Two kinds of numbers: floats (the residual stream, modulation, biases) and "activations", what
 * products read and attention works on: bfloat16 in the bf16 set, float in all others. A row of
 * `width` activations takes bw_kernels_stride(width) elements.
 *
 * Bits: for each function the contract says on what a row's result depends. It never depends on
 * where the memory lies, on the thread, or on other rows' values. Sizes: hidden widths are
 * multiples of 32; all others are free. Thread: any; the functions keep no state.
 */
#ifndef BW_ENGINE_KERNELS_KERNELS_H
#define BW_ENGINE_KERNELS_KERNELS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bw_precision { BW_PRECISION_AUTO, BW_PRECISION_BF16, BW_PRECISION_F32 };

/* What happens to y = a w^T before it is stored: y + bias, then gelu (tanh form) if asked for, then
 * one of three ways to store. */
enum bw_sink {
    BW_STORE_FLOAT,      // float *y
    BW_STORE_ACTIVATION, // activations
    BW_STORE_GATED,      // float *y: y += gate * result
};

struct bw_product {
    int rows, outputs, inputs;
    const void *a; // activations [rows, inputs], rows a_stride elements apart
    int a_stride;
    const void *w;     // packed
    const float *bias; // [outputs]
    const float *gate; // [outputs]; BW_STORE_GATED only
    bool gelu;
    enum bw_sink store;
    void *y; // [rows, y_stride], in elements of what is stored
    int y_stride;
    float *scratch; // [rows, outputs] floats that may be overwritten
};

/* One head of some queries of one tile: softmax(q k^T / sqrt(width)) v. An odd width needs a finite
 * element after each row. */
struct bw_attention {
    int queries, tokens, width;
    const void *q, *k, *v; // activations; rows `stride` elements apart
    int stride;
    void *out; // activations [queries, width], rows `out_stride` apart
    int out_stride;
    void *scratch; // [attention_bytes(tokens, width)], 64-byte aligned
};

/* Pixels of a picture that a group norm is made of, or for. Channels are a multiple of 16. */
struct bw_pixels {
    int count, channels;
    const void *x;       // [count, channels] floats, or activations if `narrow`
    size_t stride_bytes; // from one pixel to the next
    bool narrow;
};

/* Products of rows that are known to their end, with a fifth of the error that rounding to bfloat16
 * brings: weights and rows are 16-bit integers, each row with a unit of its own. The contracts are
 * those of struct bw_kernels but for two things: `out` of norm() and narrow(), whose width is a
 * multiple of 32 here, takes bw_kernels_fine_bytes() and is what product() takes as `a` for as many
 * rows; and a row depends on itself alone in all three. Activations are bfloat16. */
struct bw_fine_kernels {
    size_t (*packed_bytes)(int outputs, int inputs);
    void (*pack)(int outputs, int inputs, const float *w, void *packed);
    void (*norm)(int rows, int width, const float *x, const float *shift, const float *scale,
                 void *out);
    void (*narrow)(int rows, int width, const float *x, void *out);
    void (*product)(const struct bw_product *p);
};

struct bw_kernels {
    const char *name;     // "amx", "avx512bf16", "avx512", "avx2" or "portable"
    int activation_bytes; // of one element
    const struct bw_kernels
        *ends; // what embeds patches and makes pixels if that can't be fine: float arithmetic,
               // because rounding there is rounding of the picture; itself where all is float
    const struct bw_fine_kernels *fine; // NULL where all is float
    bool fine_is_free;                  // as fast as product(): for all that norm() makes

    /* Lay out w[outputs, inputs] for product(). */
    size_t (*packed_bytes)(int outputs, int inputs);
    void (*pack)(int outputs, int inputs, const float *w, void *packed);

    /* out[rows, stride(width)] = layer_norm(x[rows, width]) * (1 + scale[width]) + shift[width];
     * eps 1e-6. A row depends on itself alone. */
    void (*norm)(int rows, int width, const float *x, const float *shift, const float *scale,
                 void *out);

    /* out[rows, stride(width)] = x[rows, width], padding zeroed. */
    void (*narrow)(int rows, int width, const float *x, void *out);

    /* A row may depend on the number of rows in the call. */
    void (*product)(const struct bw_product *p);

    /* y[rows, y_stride] = a[rows, inputs] w^T + bias for few rows, outputs first..first + count - 1
     * of a packed matrix; first a multiple of 64, inputs of 8. A row depends on itself alone. */
    void (*vectors)(int rows, int first, int count, int inputs, const void *a, const void *w,
                    const float *bias, float *y, size_t y_stride);

    /* A query depends on itself, the tile, and the number of queries in the call. */
    size_t (*attention_bytes)(int tokens, int width);
    void (*attention)(const struct bw_attention *t);

    /* Add to sums[channels] and, behind them, squares[channels], pixel by pixel: how many pixels
     * come in one call does not matter to the bits. */
    void (*sum_pixels)(const struct bw_pixels *p, double *sums);

    /* out[count, channels] = y or, if asked for, silu(y) = y / (1 + exp(-y)), where y = x *
     * factor[channels] + offset[channels]. A pixel depends on itself alone. */
    void (*norm_pixels)(const struct bw_pixels *p, const float *factor, const float *offset,
                        bool silu, void *out);

    /* Do nothing but multiply-adds on registers, of the kind product() uses; returns how many
     * floating-point operations that were. For measuring the CPU's limit. */
    double (*spin)(long rounds);
};

/* Elements from one row of `width` activations to the next: even, so that pairs never straddle
 * rows. */
static inline int bw_kernels_stride(int width)
{
    return (width + 1) & ~1;
}

/* At most: rows of 16-bit integers, filled up to a multiple of 64, and a float for each. */
static inline size_t bw_kernels_fine_bytes(int rows, int width)
{
    size_t filled = (size_t)(width + 63) / 64 * 64;
    return (size_t)rows * (sizeof(int16_t) * filled + sizeof(float));
}

/* The tables there are, from the most to the least demanding. Running one the CPU lacks is a crash.
 */
extern const struct bw_kernels bw_kernels_amx, bw_kernels_avx512bf16, bw_kernels_avx512,
    bw_kernels_avx2, bw_kernels_portable;
extern const struct bw_fine_kernels bw_fine_amx, bw_fine_avx512vnni;

/* "auto", "bf16", "f32". False if the text is none of them. */
bool bw_kernels_precision(const char *text, enum bw_precision *precision);

/* The best table for this CPU and precision. The environment variable BRICKWORK_CPU limits what is
 * used to one of the names above and what comes after it. BW_ERANGE: the CPU (or the variable) does
 * not allow bf16, or the variable names no table. */
int bw_kernels_choose(enum bw_precision precision, const struct bw_kernels **kernels,
                      struct bw_err *err);

/* Can this CPU run the table? */
bool bw_kernels_runs(const struct bw_kernels *kernels);

#endif
