/* Tiles: how a brick covers a picture, and the way from pixels to tokens and back.
 *
 * A local brick cuts the picture into a grid of tiles, rolled by a shift, so the grid moves and
 * wraps around. The global brick covers a picture larger than its tile by overlapping windows whose
 * outputs are averaged with triangular weights. Where the picture is smaller than the brick, the
 * tile shrinks to the picture. Tokens count tile by tile, row by row inside a tile. Images are
 * planar [channels, height, width]. Pure functions of their arguments; any thread.
 */
#ifndef BW_ENGINE_TILES_H
#define BW_ENGINE_TILES_H

#include "engine/arch.h"

#include <stdbool.h>

struct bw_cover {
    int width, height;           // of the picture, pixels
    int tile_width, tile_height; // pixels
    int columns, rows;           // tiles across and down
    int patch;                   // pixels
    int tokens_x, tokens_y;      // of a tile
    int tile_tokens;             // tokens_x * tokens_y
    int tile_count;              // columns * rows
    int shift_x, shift_y;        // in [0, width), [0, height)
    bool windows;                // tiles overlap: more than one tile of the global brick
};

/* shift: rows, columns, as the sampler chose them; ignored by the global brick. The picture's size
 * must satisfy bw_arch_tiles(). */
struct bw_cover bw_cover_make(const struct bw_arch *arch, int brick, int width, int height,
                              const int shift[2]);

/* What a brick reads: the output of the active brick below, the noisy image scaled, and the
 * coordinates of each pixel. */
struct bw_brick_input {
    const float *image; // [channels, height, width]
    float scale;        // of image
    const float *below; // [channels, height, width]; NULL: zeros
    bool has_below;     // false for brick 0, which has no such channels
    int channels;
};

/* patches[count, inputs*patch*patch]: tokens first.. of the picture, channels outermost. */
void bw_cover_gather(const struct bw_cover *cover, const struct bw_brick_input *input, int first,
                     int count, float *patches);

/* Write tokens first.. (tokens[count, patch*patch*channels], channels innermost) to image[channels,
 * height, width]. With windows: add them, weighted, to an image that began as zeros. */
void bw_cover_scatter(const struct bw_cover *cover, int channels, int first, int count,
                      const float *tokens, float *image);

/* With windows: divide the sums by their weights. Otherwise nothing. */
void bw_cover_average(const struct bw_cover *cover, int channels, float *image);

#endif
