/* Loading: how the tensors of a file become weights, whatever they are of.
 *
 * Up to four threads share the work: one makes the file's digest, which takes longest, the others
 * convert a tensor each.
 */
#ifndef BW_ENGINE_LOADING_H
#define BW_ENGINE_LOADING_H

#include "engine/digest.h"
#include "engine/safetensors.h"

/* Say that a tensor is not of the shape that is wanted by `who`: BW_ESYNTAX. */
int bw_loading_refuse_shape(const struct bw_tensor *t, int dims, const int64_t *wanted,
                            const char *who, struct bw_err *err);

/* The first element of a conversion that is not finite. */
struct bw_loading_fault {
    const struct bw_tensor *tensor; // NULL: there is none
    size_t element;
};

/* Copy a whole tensor of F16, BF16 or F32 as floats to out[from->count], and look for a fault if
 * none is known yet. False: the file cannot be read to there. Any thread. */
bool bw_loading_floats(const struct bw_safetensors *st, const struct bw_tensor *from, float *out,
                       struct bw_loading_fault *fault);

/* Do conversion `task` with `floats` [most_floats] to work in; false if the file cannot be read.
 * `fault` is empty. Called from several threads at once. */
typedef bool bw_loading_fn(void *context, int task, float *floats, struct bw_loading_fault *fault);

/* Do conversions 0..count - 1 in any order, and make the digest of the file. BW_ENOMEM, BW_EIO (a
 * conversion returned false, or the file broke off), BW_ESYNTAX (the fault of the first of them
 * that has one). */
int bw_loading_run(const struct bw_safetensors *st, int count, size_t most_floats,
                   bw_loading_fn *convert, void *context, char digest[BW_DIGEST_CHARS],
                   struct bw_err *err);

#endif
