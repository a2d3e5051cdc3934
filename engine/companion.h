/* Companion: the decoder that a model of latents names, a file of its own beside the model's.
 *
 * Its digest is part of the model's metadata, so the model's digest settles which decoder it is,
 * and with it what pictures come out. Thread: any, as bw_decoder_load().
 */
#ifndef BW_ENGINE_COMPANION_H
#define BW_ENGINE_COMPANION_H

#include "base/path.h"
#include "engine/arch.h"
#include "engine/decoder.h"
#include "engine/sampler.h"

/* Where the decoder lies that the model of that file names (it does name one). BW_ERANGE: its path
 * is too long; `path` is then untouched. */
int bw_companion_path(char path[BW_PATH_CHARS], const char *model_path, const struct bw_arch *arch,
                      struct bw_err *err);

/* Load it from that path. Errors of bw_decoder_load(); BW_ESYNTAX if the file is not the one that
 * the model was made for. On success the caller frees it; on failure *decoder is untouched. */
int bw_companion_load(struct bw_decoder **decoder, const char *path, const struct bw_arch *arch,
                      const struct bw_kernels *kernels, struct bw_err *err);

/* Does the file hold a decoder and say of no network? False, too, if it cannot be read. */
bool bw_companion_is_decoder(const char *path);

/* Can a file be made of the model's pictures: are they RGB, or is there a decoder to make them so?
 * BW_ERANGE; the message begins with the path. */
int bw_companion_check(const struct bw_arch *arch, const char *model_path, struct bw_err *err);

/* A finished picture as rgb[height, width, 3] of bw_plan_picture()'s size: as the sampler has it,
 * or by the decoder (NULL: there is none) with that team. BW_ENOMEM; rgb is then untouched. */
int bw_companion_picture(const struct bw_decoder *decoder, struct bw_team *team,
                         const struct bw_sampler *sampler, unsigned char *rgb, struct bw_err *err);

#endif
