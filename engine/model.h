/* Model: the weights of one file, converted to float and ready to run.
 *
 * Tensor names are those of the published LEGO checkpoints. Loading copies everything out of the
 * file, which is closed again; a loaded model never changes, so all threads share it freely.
 */
#ifndef BW_ENGINE_MODEL_H
#define BW_ENGINE_MODEL_H

#include "base/arena.h"
#include "base/err.h"
#include "engine/arch.h"
#include "engine/digest.h"
#include "engine/kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>

enum { BW_TIME_FEATURES = 256, BW_MODULATION_ROWS = 64 };

/* y = w x + b */
struct bw_linear {
    const void
        *w; // [outputs, inputs] as the kernels pack it; of time1, time2, classes plain floats
    const float *b; // [outputs]
    int outputs, inputs;
    bool fine; // packed for the kernels' fine products
};

struct bw_block {
    struct bw_linear modulation; // hidden -> 6*hidden: shift, scale, gate for attention, then MLP
    struct bw_linear qkv;        // hidden -> 3*hidden
    struct bw_linear proj;       // hidden -> hidden
    struct bw_linear fc1;        // hidden -> mlp_ratio*hidden
    struct bw_linear fc2;        // mlp_ratio*hidden -> hidden
};

struct bw_brick {
    struct bw_brick_shape shape;
    int inputs;              // channels read: scaled image, coordinates, and below them a brick
    int side_tokens;         // tokens along a full tile
    const float *positions;  // [side_tokens * side_tokens, hidden]
    struct bw_linear embed;  // inputs*patch*patch -> hidden
    struct bw_block *blocks; // [depth]
    struct bw_linear final_modulation; // hidden -> 2*hidden: shift, scale
    struct bw_linear final;            // hidden -> patch*patch*channels
    size_t modulation_at;              // where this brick's modulation begins in a pass's vector
};

/* Which rows of which matrix make one strip of BW_MODULATION_ROWS of the modulation vector. */
struct bw_modulation_strip {
    const struct bw_linear *from;
    int row, brick;
};

struct bw_model {
    struct bw_arch arch;
    const struct bw_kernels *kernels;
    struct bw_linear time1, time2; // BW_TIME_FEATURES -> hidden -> hidden
    struct bw_linear classes;      // class_count -> hidden; w is NULL if unconditional
    struct bw_brick bricks[BW_MAX_BRICKS];
    struct bw_modulation_strip *strips; // [modulation_width / BW_MODULATION_ROWS]
    size_t modulation_width;            // floats of all bricks' modulation for one evaluation
    size_t parameter_count;
    size_t file_bytes;
    char digest[BW_DIGEST_CHARS];   // SHA-256 of the file
    char license[200], source[200]; // from the metadata, "" if absent
    struct bw_arena memory;
};

/* Load and check a model file. BW_EIO, BW_ESYNTAX (message names path, tensor and reason),
 * BW_ENOMEM. On success the caller frees the model; on failure *model is untouched. */
int bw_model_load(struct bw_model **model, const char *path, const struct bw_kernels *kernels,
                  struct bw_err *err);

/* The same from an open file, which stays the caller's. */
int bw_model_read(struct bw_model **model, const struct bw_safetensors *st,
                  const struct bw_kernels *kernels, struct bw_err *err);

/* NULL is allowed. */
void bw_model_free(struct bw_model *model);

#endif
