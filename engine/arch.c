/* Every number of the metadata is read through one bounded reader, so that a hostile file can ask
 * for nothing the rest of the engine would have to doubt. */
#include "engine/arch.h"

#include "base/text.h"
#include "engine/decoder.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 2048, MAX_HIDDEN = 4096, MAX_TILE_TOKENS = 16384, MAX_DEPTH = 64 };

static int refuse(struct bw_err *err, const char *what)
{
    return bw_err_set(err, BW_ESYNTAX, "metadata \"lego\": %s", what);
}

static int read_int(const json_t *object, const char *key, int low, int high, int *value,
                    struct bw_err *err)
{
    const json_t *number = json_object_get(object, key);
    json_int_t got = json_integer_value(number);
    if (!json_is_integer(number) || got < low || got > high)
        return bw_err_set(err, BW_ESYNTAX, "metadata \"lego\": %s is not an integer of %d..%d", key,
                          low, high);
    *value = (int)got;
    return BW_OK;
}

static int read_text(const json_t *text, char out[BW_NAME_CHARS], struct bw_err *err)
{
    const char *value = json_string_value(text);
    if (!value || !*value || strlen(value) >= BW_NAME_CHARS)
        return refuse(err, "a name is not text of 1 to 95 bytes");
    strcpy(out, value);
    return BW_OK;
}

bool bw_arch_is_global(const struct bw_arch *arch, int brick)
{
    return arch->bricks[brick].size == arch->image_size;
}

/* Can every brick cover a side of that length? */
static bool side_tiles(const struct bw_arch *arch, int side)
{
    for (int k = 0; k < arch->brick_count; k++) {
        const struct bw_brick_shape *b = &arch->bricks[k];
        if (side < b->size ? side % b->patch : !bw_arch_is_global(arch, k) && side % b->size)
            return false;
    }
    return side > 0;
}

static int read_brick(struct bw_arch *arch, const json_t *entry, struct bw_err *err)
{
    struct bw_brick_shape b;
    int code = read_int(entry, "size", 1, arch->image_size, &b.size, err);
    if (!code)
        code = read_int(entry, "patch", 1, b.size, &b.patch, err);
    if (!code)
        code = read_int(entry, "depth", 1, MAX_DEPTH, &b.depth, err);
    if (code)
        return code;
    if (b.size % b.patch)
        return refuse(err, "a brick's size is not a multiple of its patch");
    if (arch->image_size % b.size)
        return refuse(err, "image_size is not a multiple of a brick's size");
    if ((b.size / b.patch) * (b.size / b.patch) > MAX_TILE_TOKENS)
        return refuse(err, "a brick's tile has more than 16384 tokens");
    arch->bricks[arch->brick_count++] = b;
    return BW_OK;
}

static int read_bricks(struct bw_arch *arch, const json_t *root, struct bw_err *err)
{
    const json_t *bricks = json_object_get(root, "bricks");
    size_t count = json_array_size(bricks);
    if (count < 1 || count > BW_MAX_BRICKS)
        return refuse(err, "bricks is not an array of 1 to 8 bricks");
    int code = BW_OK;
    for (size_t k = 0; !code && k < count; k++)
        code = read_brick(arch, json_array_get(bricks, k), err);
    while (!code &&
           !side_tiles(arch, arch->min_size)) // ends at image_size, which all bricks divide
        arch->min_size++;
    return code;
}

static int read_classes(struct bw_arch *arch, const json_t *root, struct bw_err *err)
{
    int code = read_int(root, "num_classes", 0, BW_MAX_CLASSES, &arch->class_count, err);
    if (code)
        return code;
    const json_t *names = json_object_get(root, "classes");
    if (json_array_size(names) != (size_t)arch->class_count)
        return refuse(err, "classes does not hold num_classes names");
    arch->class_names = calloc((size_t)arch->class_count + 1, sizeof *arch->class_names);
    if (!arch->class_names)
        return bw_err_set(err, BW_ENOMEM, "out of memory for class names");
    for (int i = 0; !code && i < arch->class_count; i++) {
        code = read_text(json_array_get(names, (size_t)i), arch->class_names[i], err);
        if (!code && bw_arch_class(arch, arch->class_names[i]) != i)
            code = refuse(err, "two classes have the same name, letter case aside");
    }
    return code;
}

static int read_network(struct bw_arch *arch, const json_t *root, struct bw_err *err)
{
    int format;
    const json_t *sigma_data = json_object_get(root, "sigma_data");
    arch->sigma_data = json_number_value(sigma_data);
    int code = read_int(root, "format", 1, 1, &format, err);
    if (!code)
        code = read_text(json_object_get(root, "name"), arch->name, err);
    if (!code)
        code = read_int(root, "image_size", 1, MAX_SIDE, &arch->image_size, err);
    if (!code)
        code = read_int(root, "channels", 1, BW_MAX_CHANNELS, &arch->channels, err);
    if (!code)
        code = read_int(root, "hidden_size", 32, MAX_HIDDEN, &arch->hidden, err);
    if (!code)
        code = read_int(root, "num_heads", 1, arch->hidden, &arch->heads, err);
    if (!code)
        code = read_int(root, "mlp_ratio", 1, 8, &arch->mlp_ratio, err);
    arch->min_size = arch->image_size;
    if (!code && json_object_get(root, "min_size"))
        code = read_int(root, "min_size", 1, arch->image_size, &arch->min_size, err);
    if (code)
        return code;
    if (arch->hidden % 32 || arch->hidden % arch->heads)
        return refuse(err, "hidden_size is not a multiple of 32 and of num_heads");
    if (!json_is_number(sigma_data) || !(arch->sigma_data > 1e-3 && arch->sigma_data < 1e3))
        return refuse(err, "sigma_data is not a number of 0.001..1000");
    return BW_OK;
}

/* "110" -> bits 0 and 1. 0: not a mask of that many bricks. */
static uint8_t mask_from_text(const char *text, int brick_count)
{
    uint8_t mask = 0;
    if (!text || strlen(text) != (size_t)brick_count || strspn(text, "01") != (size_t)brick_count)
        return 0;
    for (int k = 0; k < brick_count; k++)
        mask |= (uint8_t)((text[k] == '1') << k);
    return mask;
}

static int read_loss_row(struct bw_arch *arch, const json_t *masks, const json_t *losses, int row)
{
    size_t count = ((size_t)1 << arch->brick_count) - 1;
    if (json_array_size(masks) != count || json_array_size(losses) != count)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(masks, i));
        uint8_t mask = mask_from_text(text, arch->brick_count);
        double loss = json_number_value(json_array_get(losses, i));
        float *slot = &arch->skip_loss.loss[row][mask];
        if (!mask || *slot > 0 || !(loss > 1e-9 && loss < 1e9))
            return -1;
        *slot = (float)loss;
    }
    return 0;
}

static int read_skip_loss(struct bw_arch *arch, const char *text, struct bw_err *err)
{
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const json_t *sigmas = json_object_get(root, "sigma"), *rows = json_object_get(root, "loss");
    const json_t *masks = json_object_get(root, "bricks");
    size_t count = json_array_size(sigmas);
    struct bw_loss_table *table = &arch->skip_loss;
    bool ok = count >= 1 && count <= BW_MAX_LOSS_SIGMAS && json_array_size(rows) == count;
    for (size_t i = 0; ok && i < count; i++) {
        table->sigma[i] = json_number_value(json_array_get(sigmas, i));
        ok = table->sigma[i] > (i ? table->sigma[i - 1] : 1e-9) && table->sigma[i] < 1e9 &&
             read_loss_row(arch, masks, json_array_get(rows, i), (int)i) == 0;
    }
    json_decref(root);
    if (!ok)
        return bw_err_set(err, BW_ESYNTAX,
                          "metadata \"lego_skip_loss\": not a table of rising sigma by every mask");
    table->sigma_count = (int)count;
    return BW_OK;
}

/* Clients see the model's digest alone, so it has to settle the decoder as well: hence the second
 * entry. */
static int read_decoder(struct bw_arch *arch, const struct bw_safetensors *st, struct bw_err *err)
{
    const char *name = bw_safetensors_metadata(st, "decoder");
    const char *digest = bw_safetensors_metadata(st, "decoder_sha256");
    const char *wrong = NULL;
    if (!name && !digest)
        return BW_OK;
    if (arch->channels != BW_DECODER_CHANNELS)
        wrong = "decoder\": only what a network draws in 4 channels can be decoded";
    else if (!name || !*name || *name == '.' || strchr(name, '/') || strlen(name) >= BW_NAME_CHARS)
        wrong = "decoder\": not the name of a file beside the model, of 1 to 95 bytes, without a "
                "slash, not hidden";
    else if (!digest || strlen(digest) != BW_DIGEST_CHARS - 1 ||
             strspn(digest, "0123456789abcdef") != BW_DIGEST_CHARS - 1)
        wrong = "decoder_sha256\": not 64 lower-case hex digits";
    if (wrong)
        return bw_err_set(err, BW_ESYNTAX, "metadata \"%s", wrong);
    strcpy(arch->decoder, name);
    strcpy(arch->decoder_digest, digest);
    return BW_OK;
}

int bw_arch_read(struct bw_arch *arch, const struct bw_safetensors *st, struct bw_err *err)
{
    const char *text = bw_safetensors_metadata(st, "lego");
    const char *losses = bw_safetensors_metadata(st, "lego_skip_loss");
    if (!text)
        return bw_err_set(err, BW_ESYNTAX, "metadata \"lego\" is missing: not a LEGO model");
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    struct bw_arch out = {0};
    int code = json_is_object(root) ? read_network(&out, root, err) : refuse(err, "not JSON");
    if (!code)
        code = read_bricks(&out, root, err);
    if (!code)
        code = read_classes(&out, root, err);
    if (!code && losses)
        code = read_skip_loss(&out, losses, err);
    if (!code)
        code = read_decoder(&out, st, err);
    json_decref(root);
    if (code)
        bw_arch_release(&out);
    else
        *arch = out;
    return code;
}

void bw_arch_release(struct bw_arch *arch)
{
    free(arch->class_names);
    arch->class_names = NULL;
}

uint8_t bw_arch_full_mask(const struct bw_arch *arch)
{
    return (uint8_t)((1u << arch->brick_count) - 1);
}

int bw_arch_scale(const struct bw_arch *arch)
{
    return *arch->decoder ? BW_DECODER_SCALE : 1;
}

bool bw_arch_tiles(const struct bw_arch *arch, int width, int height)
{
    return side_tiles(arch, width) && side_tiles(arch, height);
}

/* Of a picture, in pixels. */
static bool side_allowed(const struct bw_arch *arch, int side)
{
    int scale = bw_arch_scale(arch);
    return side >= arch->min_size * scale && side % scale == 0 && side_tiles(arch, side / scale);
}

/* The allowed side nearest to the one asked for, at most `most` (a multiple of image_size or more
 * always qualifies, so the search ends). */
static int nearest_side(const struct bw_arch *arch, int side, int most)
{
    for (int away = 0; away <= most + side; away++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            int candidate = side + sign * away;
            if (candidate <= most && side_allowed(arch, candidate))
                return candidate;
        }
    }
    return arch->image_size * bw_arch_scale(arch);
}

static int common_divisor(int a, int b)
{
    return b ? common_divisor(b, a % b) : a;
}

int bw_arch_side_multiple(const struct bw_arch *arch)
{
    int multiple = 1; // stays a divisor of image_size
    for (int k = 0; k < arch->brick_count; k++) {
        const struct bw_brick_shape *b = &arch->bricks[k];
        int size = bw_arch_is_global(arch, k) ? b->patch : b->size;
        assert(size > 0);
        multiple *= size / common_divisor(multiple, size);
    }
    return multiple * bw_arch_scale(arch);
}

int bw_arch_check_size(const struct bw_arch *arch, int width, int height, int max_area,
                       struct bw_err *err)
{
    if (side_allowed(arch, width) && side_allowed(arch, height) &&
        (int64_t)width * height <= max_area)
        return BW_OK;
    int step = bw_arch_side_multiple(arch), least = arch->min_size * bw_arch_scale(arch);
    int near_width = nearest_side(arch, width, max_area / least);
    int near_height = nearest_side(arch, height, max_area / near_width);
    char from[32] = "";
    if (step > least)
        snprintf(from, sizeof from, ", from %d on", step);
    return bw_err_set_field(
        err, BW_ERANGE, "/size",
        "size %dx%d is not one %s can make: sides are at least %d and%s multiples "
        "of %d, with at most %d pixels in all; the nearest is %dx%d",
        width, height, arch->name, least, from, step, max_area, near_width, near_height);
}

int bw_arch_class(const struct bw_arch *arch, const char *name)
{
    for (int i = 0; i < arch->class_count; i++) {
        if (bw_text_same(arch->class_names[i], name))
            return i;
    }
    return -1;
}

double bw_arch_excess_loss(const struct bw_arch *arch, double sigma, uint8_t mask)
{
    const struct bw_loss_table *table = &arch->skip_loss;
    uint8_t full = bw_arch_full_mask(arch);
    int last = table->sigma_count - 1, at = 0;
    while (at < last && table->sigma[at + 1] < sigma)
        at++;
    double here = table->loss[at][mask] / table->loss[at][full];
    if (at == last || sigma <= table->sigma[at])
        return here - 1;
    double next = table->loss[at + 1][mask] / table->loss[at + 1][full];
    double share = log(sigma / table->sigma[at]) / log(table->sigma[at + 1] / table->sigma[at]);
    return here + fmin(share, 1) * (next - here) - 1;
}
