/* Loading: how the tensors of a file become weights, whatever they are of.
 *
 * Up to four threads share the work: one makes the file's digest, which takes longest, the others
 * convert a tensor each.
 */
#ifndef BW_ENGINE_LOADING_H
#define BW_ENGINE_LOADING_H

#include "engine/digest.h"
#include "engine/safetensors.h"

/* Copy a whole tensor of F16, BF16 or F32 as floats to out[from->count]. False: the file cannot be
 * read to there. Any thread. */
bool bw_loading_floats(const struct bw_safetensors *st, const struct bw_tensor *from, float *out);

/* Index of the first number that is not finite, or `count`. */
size_t bw_loading_bad(const float *x, size_t count);

/* Do conversion `task` with `floats` [most_floats] to work in; false if the file cannot be read.
 * Called from several threads at once. */
typedef bool bw_loading_fn(void *context, int task, float *floats);

/* Do conversions 0..count - 1 in any order, and make the digest of the file. BW_ENOMEM, BW_EIO (a
 * conversion returned false, or the file broke off). */
int bw_loading_run(const struct bw_safetensors *st, int count, size_t most_floats,
                   bw_loading_fn *convert, void *context, char digest[BW_DIGEST_CHARS],
                   struct bw_err *err);

#endif
