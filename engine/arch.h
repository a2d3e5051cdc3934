/* Architecture: what a model file says its network is.
 *
 * The shape of the network comes from the metadata entry "lego" alone, never from code; the
 * optional entry "lego_skip_loss" says how much every subset of bricks loses at each noise level. A
 * mask is a byte: bit k set means brick k runs. Plain data after bw_arch_read(), free for every
 * thread.
 *
 * A network draws pixels, or latents of four channels from which a decoder makes RGB of
 * BW_DECODER_SCALE times the sides; then the entries "decoder" and "decoder_sha256" name the
 * decoder's file, which lies beside the model's. What is said of sizes is in the network's own
 * units unless it says pixels: for requests and answers all is in pixels of the picture.
 */
#ifndef BW_ENGINE_ARCH_H
#define BW_ENGINE_ARCH_H

#include "base/err.h"
#include "base/picture.h"
#include "engine/digest.h"
#include "engine/safetensors.h"

#include <stdbool.h>
#include <stdint.h>

enum { BW_MAX_CLASSES = 4096, BW_MAX_LOSS_SIGMAS = 64, BW_MAX_MASKS = 256, BW_MAX_CHANNELS = 8 };

struct bw_brick_shape {
    int size;  // side of a tile
    int patch; // side of a token
    int depth; // transformer blocks
};

/* Held-out denoising loss by noise level and mask. */
struct bw_loss_table {
    int sigma_count;                              // 0: the model has no table
    double sigma[BW_MAX_LOSS_SIGMAS];             // rising
    float loss[BW_MAX_LOSS_SIGMAS][BW_MAX_MASKS]; // [sigma][mask]; mask 0 unused
};

struct bw_arch {
    char name[BW_NAME_CHARS];
    int image_size; // training side
    int min_size;   // smallest side a picture may have; the bricks can tile it
    int channels;
    int class_count;
    char (*class_names)[BW_NAME_CHARS]; // [class_count], owned
    int hidden;                         // width of a token, a multiple of 32
    int heads;
    int mlp_ratio;
    double sigma_data;
    int brick_count; // 1..BW_MAX_BRICKS
    struct bw_brick_shape bricks[BW_MAX_BRICKS];
    struct bw_loss_table skip_loss;
    char decoder[BW_NAME_CHARS];          // name of the decoder's file; "": there is none
    char decoder_digest[BW_DIGEST_CHARS]; // which that file has to have
};

/* Read and check the metadata of a model file. BW_ESYNTAX with the field's name; BW_ENOMEM. On
 * success the caller releases `arch`; on failure it is untouched. */
int bw_arch_read(struct bw_arch *arch, const struct bw_safetensors *st, struct bw_err *err);

void bw_arch_release(struct bw_arch *arch);

/* The mask in which every brick runs. */
uint8_t bw_arch_full_mask(const struct bw_arch *arch);

/* Pixels of the picture along one of the network's: BW_DECODER_SCALE with a decoder, else 1. */
int bw_arch_scale(const struct bw_arch *arch);

/* A brick is global if its tile is the training size: windows cover larger pictures with it. */
bool bw_arch_is_global(const struct bw_arch *arch, int brick);

/* Can the bricks tile a width x height picture at all? True if so, whatever min_size says. */
bool bw_arch_tiles(const struct bw_arch *arch, int width, int height);

/* May a picture of so many pixels be asked for: whole latents, tileable, no side under min_size, at
 * most max_area pixels. BW_ERANGE on "/size"; the message says what is allowed and the nearest such
 * size. */
int bw_arch_check_size(const struct bw_arch *arch, int width, int height, int max_area,
                       struct bw_err *err);

/* The least common multiple of all local tiles and of the patches of global bricks, in pixels of
 * the picture: sides that no tile exceeds are multiples of it. */
int bw_arch_side_multiple(const struct bw_arch *arch);

/* The index of a class by its name, letters compared without case; -1 if there is none. */
int bw_arch_class(const struct bw_arch *arch, const char *name);

/* Loss of a mask over the loss of all bricks, minus 1, interpolated over ln(sigma); the model must
 * have a table. Never negative for the full mask (0). */
double bw_arch_excess_loss(const struct bw_arch *arch, double sigma, uint8_t mask);

#endif
