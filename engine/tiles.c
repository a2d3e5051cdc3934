/* A token is found by its tile's origin plus its place in the tile; rolling the picture by a shift
 * means reading and writing at (y - shift_y) mod height, (x - shift_x) mod width. */
#include "engine/tiles.h"

#include <stddef.h>
#include <stdint.h>

/* Overlapping windows along one side: at most size/2 apart, the first at 0, the last at the end. */
static int window_count(int length, int size)
{
    if (length == size)
        return 1;
    int hop = size / 2 > 1 ? size / 2 : 1;
    return (length - size + hop - 1) / hop + 1;
}

static int window_offset(int i, int count, int length, int size)
{
    int n = count - 1;
    return n ? (int)(((int64_t)i * (length - size) + n / 2) / n) : 0;
}

static int modulo(int value, int by)
{
    return (value % by + by) % by;
}

struct bw_cover bw_cover_make(const struct bw_arch *arch, int brick, int width, int height,
                              const int shift[2])
{
    const struct bw_brick_shape *b = &arch->bricks[brick];
    struct bw_cover c = {.width = width, .height = height, .patch = b->patch};
    c.tile_width = width < b->size ? width : b->size;
    c.tile_height = height < b->size ? height : b->size;
    if (bw_arch_is_global(arch, brick)) {
        c.columns = window_count(width, c.tile_width);
        c.rows = window_count(height, c.tile_height);
        c.windows = c.columns * c.rows > 1;
    } else {
        c.columns = width / c.tile_width;
        c.rows = height / c.tile_height;
        c.shift_y = modulo(shift[0], height);
        c.shift_x = modulo(shift[1], width);
    }
    c.tokens_x = c.tile_width / b->patch;
    c.tokens_y = c.tile_height / b->patch;
    c.tile_tokens = c.tokens_x * c.tokens_y;
    c.tile_count = c.columns * c.rows;
    return c;
}

/* The top-left pixel of a token, before rolling, and of its tile. */
static void locate(const struct bw_cover *c, int token, int tile_at[2], int at[2])
{
    int tile = token / c->tile_tokens, inside = token % c->tile_tokens;
    int row = tile / c->columns, column = tile % c->columns;
    tile_at[0] =
        c->windows ? window_offset(row, c->rows, c->height, c->tile_height) : row * c->tile_height;
    tile_at[1] = c->windows ? window_offset(column, c->columns, c->width, c->tile_width)
                            : column * c->tile_width;
    at[0] = tile_at[0] + inside / c->tokens_x * c->patch;
    at[1] = tile_at[1] + inside % c->tokens_x * c->patch;
}

static int rolled(int at, int shift, int length)
{
    return at >= shift ? at - shift : at - shift + length;
}

/* Pixel i of `length`, running from -1 to 1; from both ends, as torch.linspace computes it. */
static float coordinate(int i, int length)
{
    if (length == 1)
        return -1;
    float step = 2.0f / (float)(length - 1);
    return i < length / 2 ? -1 + step * (float)i : 1 - step * (float)(length - 1 - i);
}

/* Where a patch's rows begin, and how many of their pixels stand there; the others stand at the
 * picture's left edge. */
static int unbroken(const struct bw_cover *c, const int at[2], int *left)
{
    *left = rolled(at[1], c->shift_x, c->width);
    return c->width - *left < c->patch ? c->width - *left : c->patch;
}

/* One patch of one plane: out[patch, patch]. */
static void gather_plane(const struct bw_cover *c, const float *plane, float scale, const int at[2],
                         float *restrict out)
{
    int left, whole = unbroken(c, at, &left);
    for (int py = 0; py < c->patch; py++, out += c->patch) {
        const float *restrict row =
            plane + (size_t)rolled(at[0] + py, c->shift_y, c->height) * (size_t)c->width;
        for (int px = 0; px < whole; px++)
            out[px] = scale * row[left + px];
        for (int px = whole; px < c->patch; px++)
            out[px] = scale * row[px - whole];
    }
}

static void gather_coordinates(const struct bw_cover *c, const int at[2], float *out)
{
    int area = c->patch * c->patch;
    float *x = out + area;
    for (int px = 0; px < c->patch; px++)
        x[px] = coordinate(rolled(at[1] + px, c->shift_x, c->width), c->width);
    for (int py = 0; py < c->patch; py++) {
        float y = coordinate(rolled(at[0] + py, c->shift_y, c->height), c->height);
        for (int px = 0; px < c->patch; px++) {
            out[py * c->patch + px] = y;
            x[py * c->patch + px] = x[px];
        }
    }
}

void bw_cover_gather(const struct bw_cover *cover, const struct bw_brick_input *input, int first,
                     int count, float *patches)
{
    size_t area = (size_t)(cover->patch * cover->patch);
    size_t plane = (size_t)cover->width * (size_t)cover->height;
    for (int token = first; token < first + count; token++) {
        int tile_at[2], at[2];
        locate(cover, token, tile_at, at);
        for (int c = 0; input->has_below && c < input->channels; c++, patches += area) {
            if (input->below)
                gather_plane(cover, input->below + (size_t)c * plane, 1, at, patches);
            for (size_t i = 0; !input->below && i < area; i++)
                patches[i] = 0;
        }
        for (int c = 0; c < input->channels; c++, patches += area)
            gather_plane(cover, input->image + (size_t)c * plane, input->scale, at, patches);
        gather_coordinates(cover, at, patches);
        patches += 2 * area;
    }
}

/* Weight of pixel i of a window of `length`: a triangle, or 1 where one window covers the side. */
static float ramp(int i, int length, int windows)
{
    int left = i + 1, right = length - i;
    return windows == 1 ? 1 : (float)(left < right ? left : right);
}

/* One patch of tokens to where no other is. */
static void put_patch(const struct bw_cover *c, int channels, const int at[2], const float *tokens,
                      float *image)
{
    size_t plane = (size_t)c->width * (size_t)c->height;
    int left, whole = unbroken(c, at, &left);
    for (int py = 0; py < c->patch; py++, tokens += c->patch * channels) {
        float *row = image + (size_t)rolled(at[0] + py, c->shift_y, c->height) * (size_t)c->width;
        for (int i = 0; i < channels; i++, row += plane) {
            for (int px = 0; px < whole; px++)
                row[left + px] = tokens[px * channels + i];
            for (int px = whole; px < c->patch; px++)
                row[px - whole] = tokens[px * channels + i];
        }
    }
}

/* One patch of tokens of a window. */
static void add_patch(const struct bw_cover *c, int channels, const int tile_at[2], const int at[2],
                      const float *tokens, float *image)
{
    size_t plane = (size_t)c->width * (size_t)c->height;
    for (int py = 0; py < c->patch; py++) {
        int y = rolled(at[0] + py, c->shift_y, c->height);
        float weight_y = ramp(at[0] + py - tile_at[0], c->tile_height, c->rows);
        for (int px = 0; px < c->patch; px++) {
            int x = rolled(at[1] + px, c->shift_x, c->width);
            float weight = weight_y * ramp(at[1] + px - tile_at[1], c->tile_width, c->columns);
            float *pixel = image + (size_t)y * (size_t)c->width + (size_t)x;
            for (int i = 0; i < channels; i++, pixel += plane)
                *pixel += weight * *tokens++;
        }
    }
}

void bw_cover_scatter(const struct bw_cover *cover, int channels, int first, int count,
                      const float *tokens, float *image)
{
    for (int token = first; token < first + count; token++) {
        int tile_at[2], at[2];
        locate(cover, token, tile_at, at);
        if (cover->windows)
            add_patch(cover, channels, tile_at, at, tokens, image);
        else
            put_patch(cover, channels, at, tokens, image);
        tokens += cover->patch * cover->patch * channels;
    }
}

/* Sum of the weights of all windows that hold pixel i of a side. */
static float weight_sum(int i, int windows, int length, int tile)
{
    float sum = 0;
    int64_t before = (int64_t)(i - tile) * (windows - 1); // windows up to here end before i
    int first = before > 0 ? (int)(before / (length - tile)) : 0;
    for (int w = first; w < windows; w++) {
        int inside = i - window_offset(w, windows, length, tile);
        if (inside < 0)
            break;
        if (inside < tile)
            sum += ramp(inside, tile, windows);
    }
    return sum;
}

void bw_cover_average(const struct bw_cover *cover, int channels, float *image)
{
    const struct bw_cover *c = cover;
    size_t plane = (size_t)c->width * (size_t)c->height;
    if (!c->windows)
        return;
    for (int y = 0; y < c->height; y++) {
        float weight_y = weight_sum(y, c->rows, c->height, c->tile_height);
        for (int x = 0; x < c->width; x++, image++) {
            float weight = weight_y * weight_sum(x, c->columns, c->width, c->tile_width);
            for (int i = 0; i < channels; i++)
                image[(size_t)i * plane] /= weight;
        }
    }
}
