/* The weights of a decoder, as engine/decoder_weights.c loads them and engine/decoder.c uses them.
 */
#ifndef BW_ENGINE_DECODER_WEIGHTS_H
#define BW_ENGINE_DECODER_WEIGHTS_H

#include "base/arena.h"
#include "engine/decoder.h"
#include "engine/digest.h"

enum { BW_DECODER_LEVELS = 4 };

/* A convolution of side 1 or 3 around each pixel, zeros outside the picture; or, of side 2, one of
 * side 3 of the picture twice as large: each of the four pixels that one becomes sees no more than
 * two by two of the small picture, by the sums of weights that meet the same pixel. */
struct bw_conv {
    const struct bw_kernels *kernels; // the decoder's, or their ends
    const void *w;     // [outputs, side, side, inputs] packed, four of them if side is 2: of the
                       // upper left pixel, upper right, lower left, lower right; NULL: no layer
    const float *b;    // [outputs]
    const float *ones; // [outputs] of 1, to add a product by
    int outputs, inputs, side;
};

struct bw_group_norm {
    const float *gain, *shift; // [channels]
};

/* x + conv2(silu(norm2(conv1(silu(norm1(x)))))), x by way of the shortcut if channels change. */
struct bw_resnet {
    struct bw_group_norm norm1, norm2;
    struct bw_conv conv1, conv2, shortcut;
};

struct bw_decoder_level {
    struct bw_resnet *resnets; // [resnet_count]
    int resnet_count;
    struct bw_conv upsampler; // after every pixel became four; the last level has none
};

struct bw_decoder {
    const struct bw_kernels *kernels;
    int groups;
    double scaling;
    const float *quant_w, *quant_b; // [4, 4] and [4]; NULL: there is none
    struct bw_conv in, out;
    struct bw_resnet mid[2];
    struct bw_group_norm attention_norm, out_norm;
    struct bw_conv qkv, projection; // [3*channels, channels], [channels, channels]
    struct bw_decoder_level levels[BW_DECODER_LEVELS];
    const float *ones; // [the most channels]
    int band_rows;     // of a task; 0: what suits the picture. For tests
    size_t parameter_count;
    char digest[BW_DIGEST_CHARS];
    struct bw_arena memory;
};

#endif
