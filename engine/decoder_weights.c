/* One function lists what a decoder consists of. It runs twice: the first walk checks every tensor
 * and measures, the second hands out the memory reserved in between and notes what is to be
 * converted into it; some threads then do that, one tensor each, and one makes the digest. */
#include "engine/decoder_weights.h"

#include "base/text.h"
#include "engine/gemm.h"
#include "engine/loading.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_CHANNELS = 4096,
    MOST_RESNETS = 64, // of a level
    CHANNEL_UNIT = 16, // channels are multiples of a vector
    NAME_CHARS = 128,
    PARTS = 3, // tensors that make one matrix: of queries, keys and values
};

/* Tensors of equal shape, one below the other, on their way into one matrix. */
struct conversion {
    const struct bw_tensor *from[PARTS];
    int parts;
    const struct bw_kernels *kernels; // whose layout is wanted; NULL: plain floats
    int outputs, inputs, pixels;      // of each tensor: [outputs, inputs, pixels]
    bool enlarge;                     // for the picture twice as large
    void *to;
};

struct loader {
    const struct bw_safetensors *st;
    struct bw_decoder *decoder;
    bool *used; // [st->tensor_count]
    int code;   // the first failure stops everything after it
    bool filling;
    struct conversion *conversions; // [conversion_count], at most st->tensor_count
    int conversion_count;
    size_t most_floats; // of one conversion, which takes twice as many
    struct bw_err *err;
};

/* ---- finding and checking ---- */

static const struct bw_tensor *find(const struct loader *l, const char *prefix, const char *end)
{
    char name[NAME_CHARS];
    snprintf(name, sizeof name, "%.100s%.20s", prefix, end);
    return bw_safetensors_find(l->st, name);
}

static bool is_shape(const struct bw_tensor *t, int dims, const int64_t *shape)
{
    for (int i = 0; i < t->dims || i < dims; i++) // [n, m, 1, 1] is a matrix, too
        if ((i < t->dims ? t->shape[i] : 1) != (i < dims ? shape[i] : 1))
            return false;
    return true;
}

/* The tensor, checked; NULL and a code if it is not what is wanted. */
static const struct bw_tensor *want(struct loader *l, const char *prefix, const char *end, int dims,
                                    const int64_t *shape)
{
    if (l->code)
        return NULL;
    const struct bw_tensor *t = find(l, prefix, end);
    if (!t) {
        l->code = bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s%s\" is missing", prefix, end);
        return NULL;
    }
    if (t->dtype == BW_U8) {
        l->code = bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s\": dtype is not a float", t->name);
        return NULL;
    }
    if (!is_shape(t, dims, shape)) {
        l->code = bw_loading_refuse_shape(t, dims, shape, "decoder", l->err);
        return NULL;
    }
    if (!l->filling)
        l->decoder->parameter_count += t->count;
    l->used[t - l->st->tensors] = true;
    return t;
}

/* Note what is to become of tensors. */
static void *note(struct loader *l, struct conversion c, size_t bytes)
{
    size_t floats = (size_t)c.parts * (size_t)c.outputs * (size_t)c.inputs * (size_t)c.pixels;
    c.to = l->code ? NULL : bw_arena_take(&l->decoder->memory, bytes, 1);
    if (!l->code && l->filling)
        l->conversions[l->conversion_count++] = c;
    if (floats > l->most_floats)
        l->most_floats = floats;
    return c.to;
}

/* Some tensors of `count` numbers, one after the other, as plain floats. */
static const float *load_floats(struct loader *l, int parts, const char *const prefixes[],
                                const char *end, int count)
{
    struct conversion c = {.parts = parts, .outputs = count, .inputs = 1, .pixels = 1};
    for (int i = 0; i < parts; i++)
        c.from[i] = want(l, prefixes[i], end, 1, (int64_t[]){count});
    return note(l, c, sizeof(float) * (size_t)(parts * count));
}

static struct bw_group_norm load_norm(struct loader *l, const char *prefix, int channels)
{
    return (struct bw_group_norm){load_floats(l, 1, &prefix, ".weight", channels),
                                  load_floats(l, 1, &prefix, ".bias", channels)};
}

/* Some layers of the same inputs as one. */
static struct bw_conv load_layers(struct loader *l, const struct bw_kernels *kernels, int parts,
                                  const char *const prefixes[], int outputs, int inputs, int side)
{
    bool enlarge = side == 2;
    int tensor_side = enlarge ? 3 : side, dims = side > 1 ? 4 : 2;
    struct conversion c = {.parts = parts,
                           .kernels = kernels,
                           .outputs = outputs,
                           .inputs = inputs,
                           .pixels = tensor_side * tensor_side,
                           .enlarge = enlarge};
    for (int i = 0; i < parts; i++)
        c.from[i] = want(l, prefixes[i], ".weight", dims,
                         (int64_t[]){outputs, inputs, tensor_side, tensor_side});
    size_t bytes = l->code ? 0 : kernels->packed_bytes(parts * outputs, inputs * side * side);
    return (struct bw_conv){.kernels = kernels,
                            .w = note(l, c, enlarge ? 4 * bytes : bytes),
                            .b = load_floats(l, parts, prefixes, ".bias", outputs),
                            .ones = l->decoder->ones,
                            .outputs = parts * outputs,
                            .inputs = inputs,
                            .side = side};
}

static struct bw_conv load_conv(struct loader *l, const char *prefix, int outputs, int inputs,
                                int side)
{
    return load_layers(l, l->decoder->kernels, 1, &prefix, outputs, inputs, side);
}

/* ---- the decoder ---- */

/* How many channels come out of that convolution, by its tensor's shape; 0 and a code if they are
 * none that a level may have. */
static int channels_of(struct loader *l, const char *prefix)
{
    const struct bw_tensor *t = find(l, prefix, ".weight");
    if (l->code)
        return 0;
    if (!t)
        l->code = bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s.weight\" is missing", prefix);
    else if (t->dims != 4 || t->shape[0] < 1 || t->shape[0] > MOST_CHANNELS ||
             t->shape[0] % CHANNEL_UNIT || t->shape[0] % l->decoder->groups)
        l->code = bw_err_set(l->err, BW_ESYNTAX,
                             "tensor \"%s\": outputs are not at most %d and multiples of %d and "
                             "%d groups",
                             t->name, MOST_CHANNELS, CHANNEL_UNIT, l->decoder->groups);
    return l->code ? 0 : (int)t->shape[0];
}

static struct bw_resnet load_resnet(struct loader *l, const char *prefix, int outputs, int inputs)
{
    char name[5][NAME_CHARS];
    static const char *const ends[] = {"norm1", "conv1", "norm2", "conv2", "conv_shortcut"};
    for (int i = 0; i < 5; i++)
        snprintf(name[i], sizeof name[i], "%.80s.%s", prefix, ends[i]);
    struct bw_resnet r = {.norm1 = load_norm(l, name[0], inputs),
                          .conv1 = load_conv(l, name[1], outputs, inputs, 3),
                          .norm2 = load_norm(l, name[2], outputs),
                          .conv2 = load_conv(l, name[3], outputs, outputs, 3)};
    if (inputs != outputs)
        r.shortcut = load_conv(l, name[4], outputs, inputs, 1);
    return r;
}

/* The new name of a layer of the attention, or if the file has that, the old one. */
static const char *attention_layer(const struct loader *l, const char *name, const char *old)
{
    return find(l, old, ".weight") ? old : name;
}

#define ATTENTION "decoder.mid_block.attentions.0."

static void load_mid(struct loader *l, int channels)
{
    struct bw_decoder *d = l->decoder;
    const char *const qkv[] = {attention_layer(l, ATTENTION "to_q", ATTENTION "query"),
                               attention_layer(l, ATTENTION "to_k", ATTENTION "key"),
                               attention_layer(l, ATTENTION "to_v", ATTENTION "value")};
    d->mid[0] = load_resnet(l, "decoder.mid_block.resnets.0", channels, channels);
    d->attention_norm = load_norm(l, ATTENTION "group_norm", channels);
    d->qkv = load_layers(l, d->kernels, PARTS, qkv, channels, channels, 1);
    d->projection = load_conv(l, attention_layer(l, ATTENTION "to_out.0", ATTENTION "proj_attn"),
                              channels, channels, 1);
    d->mid[1] = load_resnet(l, "decoder.mid_block.resnets.1", channels, channels);
}

/* Returns the channels that come out of it. */
static int load_level(struct loader *l, int level, int inputs)
{
    struct bw_decoder_level *at = &l->decoder->levels[level];
    char prefix[NAME_CHARS], first[NAME_CHARS];
    snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.resnets.0.conv1", level);
    int outputs = channels_of(l, prefix);
    at->resnet_count = 0;
    do {
        at->resnet_count++;
        snprintf(first, sizeof first, "decoder.up_blocks.%d.resnets.%d.conv1", level,
                 at->resnet_count);
    } while (at->resnet_count < MOST_RESNETS && find(l, first, ".weight"));
    struct bw_resnet *resnets =
        BW_TAKE(&l->decoder->memory, struct bw_resnet, (size_t)at->resnet_count);
    at->resnets = resnets;
    for (int i = 0; i < at->resnet_count && !l->code; i++) {
        snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.resnets.%d", level, i);
        struct bw_resnet resnet = load_resnet(l, prefix, outputs, i ? outputs : inputs);
        if (l->filling)
            resnets[i] = resnet;
    }
    snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.upsamplers.0.conv", level);
    if (level + 1 < BW_DECODER_LEVELS)
        at->upsampler = load_conv(l, prefix, outputs, outputs, 2);
    return outputs;
}

/* All of it, in one place. */
static void load_decoder(struct loader *l)
{
    enum { RGB = 3 };
    struct bw_decoder *d = l->decoder;
    float *ones = BW_TAKE(&d->memory, float, MOST_CHANNELS);
    const char *quant = "post_quant_conv", *in = "decoder.conv_in", *out = "decoder.conv_out";
    d->ones = ones;
    for (int i = 0; i < MOST_CHANNELS && l->filling; i++)
        ones[i] = 1;
    if (find(l, quant, ".weight")) {
        struct conversion c = {
            .parts = 1, .outputs = BW_DECODER_CHANNELS, .inputs = BW_DECODER_CHANNELS, .pixels = 1};
        c.from[0] = want(l, quant, ".weight", 2, (int64_t[]){c.outputs, c.inputs});
        d->quant_w = note(l, c, sizeof(float) * (size_t)(c.outputs * c.inputs));
        d->quant_b = load_floats(l, 1, &quant, ".bias", c.outputs);
    }
    int channels = channels_of(l, in);
    d->in = load_layers(l, d->kernels->ends, 1, &in, channels, BW_DECODER_CHANNELS, 3);
    load_mid(l, channels);
    for (int i = 0; i < BW_DECODER_LEVELS && !l->code; i++)
        channels = load_level(l, i, channels);
    d->out_norm = load_norm(l, "decoder.conv_norm_out", channels);
    d->out = load_layers(l, d->kernels->ends, 1, &out, RGB, channels, 3);
}

static int check_nothing_extra(const struct loader *l)
{
    for (size_t i = 0; i < l->st->tensor_count; i++) {
        const char *name = l->st->tensors[i].name;
        bool ours = bw_text_after(name, "decoder.") || bw_text_after(name, "post_quant_conv.");
        if (ours && !l->used[i])
            return bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s\" is not part of the decoder", name);
    }
    return BW_OK;
}

static int read_metadata(struct loader *l)
{
    struct bw_decoder *d = l->decoder;
    const char *groups = bw_safetensors_metadata(l->st, "norm_num_groups");
    const char *scaling = bw_safetensors_metadata(l->st, "scaling_factor");
    int64_t count = 32;
    d->scaling = 0.18215;
    if (groups && !bw_text_to_int(groups, 1, MOST_CHANNELS, &count))
        return bw_err_set(l->err, BW_ESYNTAX,
                          "metadata \"norm_num_groups\" is not an integer of 1..%d", MOST_CHANNELS);
    if (scaling && !bw_text_to_number(scaling, 1e-6, 1e6, &d->scaling))
        return bw_err_set(l->err, BW_ESYNTAX,
                          "metadata \"scaling_factor\" is not a number from 1e-6 to 1e6");
    d->groups = (int)count;
    return BW_OK;
}

/* Both walks; then every weight has its place, and none is there. */
static int plan_weights(struct loader *l)
{
    load_decoder(l);
    if (!l->code)
        l->code = check_nothing_extra(l);
    if (!l->code)
        l->code = bw_arena_reserve(&l->decoder->memory, l->err);
    l->filling = true;
    if (!l->code)
        load_decoder(l);
    return l->code;
}

/* ---- converting ---- */

/* [outputs, inputs, pixels] to [outputs, pixels, inputs], the order a convolution gathers in. */
static void turn(int outputs, int inputs, int pixels, const float *from, float *to)
{
    for (int o = 0; o < outputs; o++, from += inputs * pixels)
        for (int p = 0; p < pixels; p++)
            for (int i = 0; i < inputs; i++)
                *to++ = from[i * pixels + p];
}

/* [outputs, inputs, 3, 3] to the [outputs, 2, 2, inputs] of one of the four pixels: in both
 * directions one of two small pixels is met by one weight, the other by two. */
static void turn_enlarged(int outputs, int inputs, int right, int down, const float *from,
                          float *to)
{
    static const int begin[2][3] = {{0, 1, 3}, {0, 2, 3}};
    for (int o = 0; o < outputs; o++, from += inputs * 9) {
        for (int p = 0; p < 4; p++) {
            const int *rows = &begin[down][p / 2], *columns = &begin[right][p % 2];
            for (int i = 0; i < inputs; i++, to++) {
                *to = 0;
                for (int y = rows[0]; y < rows[1]; y++)
                    for (int x = columns[0]; x < columns[1]; x++)
                        *to += from[i * 9 + y * 3 + x];
            }
        }
    }
}

static void pack(const struct conversion *c, const float *floats, float *turned)
{
    int outputs = c->parts * c->outputs;
    if (!c->enlarge) {
        turn(outputs, c->inputs, c->pixels, floats, turned);
        c->kernels->pack(outputs, c->inputs * c->pixels, turned, c->to);
    }
    for (int i = 0; i < 4 && c->enlarge; i++) {
        size_t packed = c->kernels->packed_bytes(outputs, 4 * c->inputs);
        turn_enlarged(outputs, c->inputs, i % 2, i / 2, floats, turned);
        c->kernels->pack(outputs, 4 * c->inputs, turned,
                         (unsigned char *)c->to + (size_t)i * packed);
    }
}

/* One of l->conversions, as bw_loading_run() wants it. */
static bool convert(void *context, int task, float *floats, struct bw_loading_fault *fault)
{
    const struct loader *l = context;
    const struct conversion *c = &l->conversions[task];
    size_t count = c->from[0]->count;
    float *out = c->kernels ? floats : c->to;
    for (int i = 0; i < c->parts; i++) {
        if (!bw_loading_floats(l->st, c->from[i], out + (size_t)i * count, fault))
            return false;
    }
    if (!fault->tensor && c->kernels)
        pack(c, out, floats + l->most_floats);
    return true;
}

int bw_decoder_read(struct bw_decoder **decoder, const struct bw_safetensors *st,
                    const struct bw_kernels *kernels, struct bw_err *err)
{
    struct bw_decoder *d = calloc(1, sizeof *d);
    struct loader loader = {.st = st, .decoder = d, .err = err};
    loader.used = calloc(st->tensor_count + 1, sizeof *loader.used);
    loader.conversions = calloc(st->tensor_count + 1, sizeof *loader.conversions);
    int code = d && loader.used && loader.conversions ? BW_OK
                                                      : bw_err_set(err, BW_ENOMEM, "out of memory");
    bw_gemm_setup();
    if (!code) {
        d->kernels = kernels;
        code = read_metadata(&loader);
    }
    if (!code)
        code = plan_weights(&loader);
    if (!code)
        code = bw_loading_run(st, loader.conversion_count, 2 * loader.most_floats, convert, &loader,
                              d->digest, err);
    free(loader.conversions);
    free(loader.used);
    if (code)
        bw_decoder_free(d);
    else
        *decoder = d;
    return code;
}

int bw_decoder_load(struct bw_decoder **decoder, const char *path, const struct bw_kernels *kernels,
                    struct bw_err *err)
{
    struct bw_safetensors st;
    struct bw_err reason = {0};
    int code = bw_safetensors_open(&st, path, err);
    if (code)
        return code;
    code = bw_decoder_read(decoder, &st, kernels, &reason);
    bw_safetensors_release(&st);
    return code ? bw_err_set(err, code, "%.200s: %s", path, reason.message) : BW_OK;
}

void bw_decoder_free(struct bw_decoder *decoder)
{
    if (!decoder)
        return;
    bw_arena_release(&decoder->memory);
    free(decoder);
}

const char *bw_decoder_digest(const struct bw_decoder *decoder)
{
    return decoder->digest;
}

size_t bw_decoder_parameters(const struct bw_decoder *decoder)
{
    return decoder->parameter_count;
}
