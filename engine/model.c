/* One function lists what the network consists of. It runs twice: the first walk checks every
 * tensor and measures, the second hands out the memory reserved in between and notes what is to be
 * converted into it. Some threads then do that, each tensor by itself, and one of them makes the
 * file's digest. Most of the time goes into touching new memory, which halves with the threads. */
#include "engine/model.h"

#include "base/text.h"
#include "engine/loading.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How the kernels lay out a matrix; without functions it is plain floats. */
struct packing {
    size_t (*bytes)(int outputs, int inputs);
    void (*pack)(int outputs, int inputs, const float *w, void *packed);
};

struct conversion {
    const struct bw_tensor *from;
    struct packing packing;
    int outputs, inputs;
    void *to;
};

struct loader {
    const struct bw_safetensors *st;
    struct bw_model *model;
    bool *used;                     // [st->tensor_count]
    int code;                       // the first failure stops everything after it
    bool filling;                   // the second walk
    struct conversion *conversions; // [conversion_count], at most st->tensor_count
    int conversion_count;
    size_t most_floats; // of one tensor
    struct bw_err *err;
};

static int check_tensor(struct loader *l, const char *name, int dims, const int64_t *shape)
{
    const struct bw_tensor *t = bw_safetensors_find(l->st, name);
    if (!t)
        return bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s\" is missing", name);
    if (t->dtype == BW_U8)
        return bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s\": dtype is not a float", name);
    if (t->dims != dims || memcmp(t->shape, shape, (size_t)dims * sizeof *shape))
        return bw_loading_refuse_shape(t, dims, shape, "network", l->err);
    l->used[t - l->st->tensors] = true;
    l->model->parameter_count += t->count;
    if (t->count > l->most_floats)
        l->most_floats = t->count;
    return BW_OK;
}

/* Note what is to become of a tensor. */
static void *note(struct loader *l, const char *name, struct packing packing, int outputs,
                  int inputs, void *to)
{
    if (l->filling)
        l->conversions[l->conversion_count++] =
            (struct conversion){.from = bw_safetensors_find(l->st, name),
                                .packing = packing,
                                .outputs = outputs,
                                .inputs = inputs,
                                .to = to};
    return to;
}

/* A tensor as plain floats. */
static const float *load_floats(struct loader *l, const char *name, int dims, const int64_t *shape)
{
    size_t count = 1;
    for (int i = 0; i < dims; i++)
        count *= (size_t)shape[i];
    if (!l->code && !l->filling)
        l->code = check_tensor(l, name, dims, shape);
    if (l->code)
        return NULL;
    return note(l, name, (struct packing){0}, 0, 0, BW_TAKE(&l->model->memory, float, count));
}

enum layout { PACKED, FINE, ENDS, PLAIN };

static struct packing packing_of(const struct bw_kernels *kernels, enum layout layout)
{
    if (layout == FINE)
        return (struct packing){kernels->fine->packed_bytes, kernels->fine->pack};
    kernels = layout == ENDS ? kernels->ends : kernels;
    return (struct packing){kernels->packed_bytes, kernels->pack};
}

/* A matrix as the kernels want it. */
static const void *load_packed(struct loader *l, struct packing packing, const char *name, int dims,
                               const int64_t *shape, int inputs)
{
    int outputs = (int)shape[0];
    if (!l->code && !l->filling)
        l->code = check_tensor(l, name, dims, shape);
    if (l->code)
        return NULL;
    size_t bytes = packing.bytes(outputs, inputs);
    return note(l, name, packing, outputs, inputs, bw_arena_take(&l->model->memory, bytes, 1));
}

/* A linear layer whose weight has `dims` dimensions, the first being its outputs. */
static struct bw_linear load_layer(struct loader *l, enum layout layout, int dims,
                                   const int64_t *shape, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static struct bw_linear load_layer(struct loader *l, enum layout layout, int dims,
                                   const int64_t *shape, const char *format, ...)
{
    char prefix[64], name[80];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    struct bw_linear layer = {.outputs = (int)shape[0], .inputs = 1, .fine = layout == FINE};
    for (int i = 1; i < dims; i++)
        layer.inputs *= (int)shape[i];
    snprintf(name, sizeof name, "%s.weight", prefix);
    layer.w = layout == PLAIN ? load_floats(l, name, dims, shape)
                              : load_packed(l, packing_of(l->model->kernels, layout), name, dims,
                                            shape, layer.inputs);
    snprintf(name, sizeof name, "%s.bias", prefix);
    layer.b = load_floats(l, name, 1, shape);
    return layer;
}

#define LAYER(l, layout, outputs, inputs, ...) \
    load_layer((l), (layout), 2, (int64_t[]){(outputs), (inputs)}, __VA_ARGS__)

/* The first half of a row encodes the token's column, the second its row; in each half the sines of
 * all frequencies, then the cosines. */
static void fill_positions(float *out, int side, int hidden)
{
    int quarter = hidden / 4;
    for (int token = 0; token < side * side; token++) {
        int place[2] = {token % side, token / side};
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < quarter; i++) {
                double angle = place[half] / pow(10000, (double)i / quarter);
                *(out + i) = (float)sin(angle);
                *(out + quarter + i) = (float)cos(angle);
            }
            out += hidden / 2;
        }
    }
}

/* Append a modulation matrix to the vector all of them make together. */
static void add_strips(struct loader *l, const struct bw_linear *from, int brick)
{
    struct bw_model *m = l->model;
    for (int row = 0; row < from->outputs; row += BW_MODULATION_ROWS) {
        if (l->filling)
            m->strips[m->modulation_width / BW_MODULATION_ROWS] =
                (struct bw_modulation_strip){from, row, brick};
        m->modulation_width += BW_MODULATION_ROWS;
    }
}

static void load_brick(struct loader *l, int k)
{
    struct bw_model *m = l->model;
    struct bw_brick *b = &m->bricks[k];
    int d = m->arch.hidden, p = m->arch.bricks[k].patch, mlp = m->arch.mlp_ratio * d;
    bool fine = m->kernels->fine != NULL;
    // Half of what rounding costs a picture is lost in the last brick: nothing comes after to even
    // it out.
    bool cares = fine && (m->kernels->fine_is_free || k + 1 == m->arch.brick_count);
    enum layout normed = cares ? FINE : PACKED;
    b->shape = m->arch.bricks[k];
    b->inputs = m->arch.channels * (k ? 2 : 1) + 2;
    b->side_tokens = b->shape.size / p;
    b->modulation_at = m->modulation_width;
    b->embed = load_layer(l, fine && b->inputs * p * p % 32 == 0 ? FINE : ENDS, 4,
                          (int64_t[]){d, b->inputs, p, p}, "model.%d.x_embedder.proj", k);
    struct bw_block *blocks = BW_TAKE(&m->memory, struct bw_block, (size_t)b->shape.depth);
    b->blocks = blocks;
    for (int j = 0; j < b->shape.depth && !l->code; j++) {
        struct bw_block block = {
            .modulation = LAYER(l, PACKED, 6 * d, d, "model.%d.blocks.%d.adaLN_modulation.1", k, j),
            .qkv = LAYER(l, normed, 3 * d, d, "model.%d.blocks.%d.attn.qkv", k, j),
            .proj = LAYER(l, PACKED, d, d, "model.%d.blocks.%d.attn.proj", k, j),
            .fc1 = LAYER(l, normed, mlp, d, "model.%d.blocks.%d.mlp.fc1", k, j),
            .fc2 = LAYER(l, PACKED, d, mlp, "model.%d.blocks.%d.mlp.fc2", k, j),
        };
        if (l->filling)
            blocks[j] = block;
        add_strips(l, l->filling ? &blocks[j].modulation : &block.modulation, k);
    }
    b->final_modulation = LAYER(l, PACKED, 2 * d, d, "model.%d.final_layer.adaLN_modulation.1", k);
    b->final =
        LAYER(l, fine ? FINE : ENDS, p * p * m->arch.channels, d, "model.%d.final_layer.linear", k);
    add_strips(l, &b->final_modulation, k);
    size_t tokens = (size_t)b->side_tokens * (size_t)b->side_tokens;
    float *positions = BW_TAKE(&m->memory, float, tokens *(size_t)d);
    b->positions = positions;
    if (l->filling)
        fill_positions(positions, b->side_tokens, d);
}

/* The whole network, in one place. */
static void load_network(struct loader *l)
{
    struct bw_model *m = l->model;
    int d = m->arch.hidden;
    size_t strips = m->modulation_width / BW_MODULATION_ROWS; // known on the second walk
    m->modulation_width = 0;
    m->strips = BW_TAKE(&m->memory, struct bw_modulation_strip, strips);
    m->time1 = LAYER(l, PLAIN, d, BW_TIME_FEATURES, "t_embedder.mlp.0");
    m->time2 = LAYER(l, PLAIN, d, d, "t_embedder.mlp.2");
    if (m->arch.class_count)
        m->classes = LAYER(l, PLAIN, d, m->arch.class_count, "y_embedder.embedding_table");
    for (int k = 0; k < m->arch.brick_count && !l->code; k++)
        load_brick(l, k);
}

static int check_nothing_extra(const struct loader *l)
{
    for (size_t i = 0; i < l->st->tensor_count; i++) {
        if (!l->used[i])
            return bw_err_set(l->err, BW_ESYNTAX, "tensor \"%s\" is not part of the network",
                              l->st->tensors[i].name);
    }
    return BW_OK;
}

/* Both walks; then every weight has its place, and none is there. */
static int plan_weights(struct loader *l)
{
    struct bw_model *m = l->model;
    load_network(l);
    if (!l->code)
        l->code = check_nothing_extra(l);
    if (l->code)
        return l->code;
    size_t strips = m->modulation_width / BW_MODULATION_ROWS;
    bw_arena_take(&m->memory, strips,
                  sizeof(struct bw_modulation_strip)); // the first walk had none
    l->code = bw_arena_reserve(&m->memory, l->err);
    l->filling = true;
    if (!l->code)
        load_network(l);
    return l->code;
}

/* One of l->conversions, as bw_loading_run() wants it. */
static bool convert(void *context, int task, float *floats, struct bw_loading_fault *fault)
{
    const struct loader *l = context;
    const struct conversion *c = &l->conversions[task];
    float *out = c->packing.pack ? floats : c->to;
    if (!bw_loading_floats(l->st, c->from, out, fault))
        return false;
    if (!fault->tensor && c->packing.pack)
        c->packing.pack(c->outputs, c->inputs, out, c->to);
    return true;
}

static void copy_metadata(const struct bw_safetensors *st, const char *key, char *out, size_t room)
{
    const char *text = bw_safetensors_metadata(st, key);
    snprintf(out, room, "%s", text ? text : "");
    bw_text_mend(out);
}

int bw_model_read(struct bw_model **model, const struct bw_safetensors *st,
                  const struct bw_kernels *kernels, struct bw_err *err)
{
    struct bw_model *m = calloc(1, sizeof *m);
    struct loader loader = {.st = st, .model = m, .err = err};
    loader.used = calloc(st->tensor_count + 1, sizeof *loader.used);
    loader.conversions = calloc(st->tensor_count + 1, sizeof *loader.conversions);
    int code = m && loader.used && loader.conversions ? BW_OK
                                                      : bw_err_set(err, BW_ENOMEM, "out of memory");
    if (!code) {
        m->kernels = kernels;
        m->file_bytes = st->file_bytes;
        code = bw_arch_read(&m->arch, st, err);
    }
    if (!code)
        code = plan_weights(&loader);
    if (!code)
        code = bw_loading_run(st, loader.conversion_count, loader.most_floats, convert, &loader,
                              m->digest, err);
    free(loader.conversions);
    free(loader.used);
    if (code) {
        bw_model_free(m);
        return code;
    }
    copy_metadata(st, "license", m->license, sizeof m->license);
    copy_metadata(st, "source", m->source, sizeof m->source);
    *model = m;
    return BW_OK;
}

int bw_model_load(struct bw_model **model, const char *path, const struct bw_kernels *kernels,
                  struct bw_err *err)
{
    struct bw_safetensors st;
    struct bw_err reason = {0};
    int code = bw_safetensors_open(&st, path, err);
    if (code)
        return code;
    code = bw_model_read(model, &st, kernels, &reason);
    bw_safetensors_release(&st);
    return code ? bw_err_set(err, code, "%.200s: %s", path, reason.message) : BW_OK;
}

void bw_model_free(struct bw_model *model)
{
    if (!model)
        return;
    bw_arena_release(&model->memory);
    bw_arch_release(&model->arch);
    free(model);
}
