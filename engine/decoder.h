/* Decoder: from a latent picture to RGB, the decoder half of Stable Diffusion's autoencoder
 * (AutoencoderKL, f = 8, 4 channels; Rombach et al., arXiv 2112.10752).
 *
 * Read from a safetensors file with diffusers' tensor names: everything under "decoder." and, if it
 * is there, "post_quant_conv."; all else in the file (the encoder) is ignored. Channels and layers
 * come from the tensors: four levels, of which all but the last double the picture's sides, each of
 * at least one residual layer. Channels are multiples of 16 and of the norms' groups. The metadata
 * entry "norm_num_groups" says how many groups there are (default 32), "scaling_factor" (default
 * 0.18215) what latents are divided by first.
 *
 * Pictures are worked through in bands of rows, attention in blocks of queries, so memory beyond
 * two copies of the picture is small and the result is that of the whole picture at once, exactly.
 */
#ifndef BW_ENGINE_DECODER_H
#define BW_ENGINE_DECODER_H

#include "base/err.h"
#include "engine/kernels/kernels.h"
#include "engine/safetensors.h"
#include "engine/team.h"

#include <stddef.h>

enum { BW_DECODER_SCALE = 8, BW_DECODER_CHANNELS = 4 };

struct bw_decoder; // weights: never change after loading, so all threads share them freely

/* Load and check a file for those kernels. BW_EIO, BW_ESYNTAX (message names path, tensor and
 * reason), BW_ENOMEM. On success the caller frees the decoder; on failure *decoder is untouched. */
int bw_decoder_load(struct bw_decoder **decoder, const char *path, const struct bw_kernels *kernels,
                    struct bw_err *err);

/* The same from an open file, which stays the caller's. */
int bw_decoder_read(struct bw_decoder **decoder, const struct bw_safetensors *st,
                    const struct bw_kernels *kernels, struct bw_err *err);

/* NULL is allowed. */
void bw_decoder_free(struct bw_decoder *decoder);

/* SHA-256 of the file, 64 hex digits; lives as long as the decoder. */
const char *bw_decoder_digest(const struct bw_decoder *decoder);

size_t bw_decoder_parameters(const struct bw_decoder *decoder);

/* Floating-point operations for a latent picture of that size. */
double bw_decoder_flops(const struct bw_decoder *decoder, int width, int height);

/* Memory bw_decode() allocates for a latent picture of that size with a team of so many threads. */
size_t bw_decoder_bytes(const struct bw_decoder *decoder, int threads, int width, int height);

/* rgb[8*height, 8*width, 3] and image, the same as floats, from latent[4, height, width]. Bytes are
 * floor(clamp(127.5 x + 128)) of what the network says, which is what `image` holds; either may be
 * NULL. The result depends on the latent alone, bit for bit, whatever the team. Several calls at
 * once need a team each. BW_ENOMEM; both are then untouched. */
int bw_decode(const struct bw_decoder *decoder, struct bw_team *team, const float *latent,
              int width, int height, unsigned char *rgb, float *image, struct bw_err *err);

#endif
