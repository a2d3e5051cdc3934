/* Weights: model files in memory, made to order or made wrong. */
#ifndef BW_TESTS_UNIT_WEIGHTS_H
#define BW_TESTS_UNIT_WEIGHTS_H

#include "base/buf.h"
#include "engine/model.h"
#include "tests/unit/random.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define TINY_PG  "tests/models/tiny-pg-32.safetensors"
#define TINY_PR  "tests/models/tiny-pr-32.safetensors"
#define TINY_U   "tests/models/tiny-u-32.safetensors"
#define POMOLOGY "models/pomology-128.safetensors"

/* A file of that header and body. */
static inline struct bw_buf weights_file(const char *header, const void *body, size_t body_bytes)
{
    struct bw_buf file = {0};
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)strlen(header) >> (8 * i));
    bw_buf_add(&file, length, sizeof length);
    bw_buf_add_text(&file, header);
    bw_buf_add(&file, body, body_bytes);
    return file;
}

/* The architecture that a file of these metadata alone describes, which become the file's; returns
 * bw_arch_read()'s code. */
static inline int weights_arch_from(struct bw_arch *arch, json_t *metadata, struct bw_err *err)
{
    json_t *header = json_pack("{s:o}", "__metadata__", metadata);
    char *text = json_dumps(header, 0);
    struct bw_buf file = weights_file(text, NULL, 0);
    struct bw_safetensors st;
    int code = bw_safetensors_parse(&st, file.data, file.length_bytes, err);
    if (!code) {
        code = bw_arch_read(arch, &st, err);
        bw_safetensors_release(&st);
    }
    bw_buf_release(&file);
    json_decref(header);
    free(text);
    return code;
}

/* That of a network and those losses; NULL: no such entry. */
static inline int weights_arch(struct bw_arch *arch, const char *lego, const char *losses,
                               struct bw_err *err)
{
    return weights_arch_from(
        arch, json_pack("{s:s, s:s*, s:s*}", "unused", "", "lego", lego, "lego_skip_loss", losses),
        err);
}

/* The architecture of a model file; aborts if it cannot be read. */
static inline struct bw_arch weights_arch_of(const char *path)
{
    struct bw_safetensors st;
    struct bw_arch arch;
    struct bw_err err = {0};
    if (bw_safetensors_open(&st, path, &err) || bw_arch_read(&arch, &st, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    bw_safetensors_release(&st);
    return arch;
}

/* The kernels that the environment and this CPU choose. */
static inline const struct bw_kernels *weights_kernels(void)
{
    const struct bw_kernels *kernels;
    struct bw_err err = {0};
    if (bw_kernels_choose(BW_PRECISION_AUTO, &kernels, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return kernels;
}

static inline struct bw_model *weights_model_of(const char *path)
{
    struct bw_model *model;
    struct bw_err err = {0};
    if (bw_model_load(&model, path, weights_kernels(), &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return model;
}

/* A file on its way: tensors of random weights are added one by one. */
struct weights_builder {
    json_t *header;
    struct bw_buf body;
    uint64_t random;
};

static inline void weights_add(struct weights_builder *b, const char *name, int dims,
                               const int *shape)
{
    json_t *sides = json_array();
    size_t count = 1, begin = b->body.length_bytes;
    for (int i = 0; i < dims; i++) {
        count *= (size_t)shape[i];
        json_array_append_new(sides, json_integer(shape[i]));
    }
    for (size_t i = 0; i < count; i++) {
        float value = (float)(random_unit(&b->random) - 0.5) * 0.2f;
        bw_buf_add(&b->body, &value, sizeof value);
    }
    json_object_set_new(b->header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", sides,
                                  "data_offsets", (json_int_t)begin,
                                  (json_int_t)b->body.length_bytes));
}

static inline void weights_add_layer(struct weights_builder *b, int outputs, int inputs,
                                     const char *prefix)
{
    char name[120];
    snprintf(name, sizeof name, "%s.weight", prefix);
    weights_add(b, name, 2, (int[]){outputs, inputs});
    snprintf(name, sizeof name, "%s.bias", prefix);
    weights_add(b, name, 1, (int[]){outputs});
}

static inline void weights_add_brick(struct weights_builder *b, const struct bw_arch *arch, int k)
{
    char name[100];
    int d = arch->hidden, p = arch->bricks[k].patch, mlp = arch->mlp_ratio * d;
    snprintf(name, sizeof name, "model.%d.x_embedder.proj.weight", k);
    weights_add(b, name, 4, (int[]){d, arch->channels * (k ? 2 : 1) + 2, p, p});
    snprintf(name, sizeof name, "model.%d.x_embedder.proj.bias", k);
    weights_add(b, name, 1, (int[]){d});
    for (int j = 0; j < arch->bricks[k].depth; j++) {
        const struct {
            const char *name;
            int outputs, inputs;
        } layers[] = {{"adaLN_modulation.1", 6 * d, d},
                      {"attn.qkv", 3 * d, d},
                      {"attn.proj", d, d},
                      {"mlp.fc1", mlp, d},
                      {"mlp.fc2", d, mlp}};
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            snprintf(name, sizeof name, "model.%d.blocks.%d.%s", k, j, layers[i].name);
            weights_add_layer(b, layers[i].outputs, layers[i].inputs, name);
        }
    }
    snprintf(name, sizeof name, "model.%d.final_layer.adaLN_modulation.1", k);
    weights_add_layer(b, 2 * d, d, name);
    snprintf(name, sizeof name, "model.%d.final_layer.linear", k);
    weights_add_layer(b, p * p * arch->channels, d, name);
}

/* The file of a model of random weights for that "lego" text; aborts if the text is not a network.
 * What else the metadata is to hold becomes the file's. */
static inline struct bw_buf weights_made_file(const char *lego, json_t *metadata)
{
    struct bw_arch arch;
    struct bw_err err = {0};
    struct weights_builder b = {.header = json_object(), .random = 1};
    if (weights_arch(&arch, lego, NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    json_object_set_new(metadata, "lego", json_string(lego));
    json_object_set_new(b.header, "__metadata__", metadata);
    weights_add_layer(&b, arch.hidden, BW_TIME_FEATURES, "t_embedder.mlp.0");
    weights_add_layer(&b, arch.hidden, arch.hidden, "t_embedder.mlp.2");
    if (arch.class_count)
        weights_add_layer(&b, arch.hidden, arch.class_count, "y_embedder.embedding_table");
    for (int k = 0; k < arch.brick_count; k++)
        weights_add_brick(&b, &arch, k);
    bw_arch_release(&arch);
    char *text = json_dumps(b.header, 0);
    struct bw_buf file = weights_file(text, b.body.data, b.body.length_bytes);
    bw_buf_release(&b.body);
    json_decref(b.header);
    free(text);
    return file;
}

/* The same, loaded. `source` becomes the metadata entry of that name unless NULL. */
static inline struct bw_model *weights_made(const char *lego, const char *source)
{
    struct bw_model *model = NULL;
    struct bw_safetensors st;
    struct bw_err err = {0};
    struct bw_buf file =
        weights_made_file(lego, json_pack("{s:s}", "source", source ? source : ""));
    if (bw_safetensors_parse(&st, file.data, file.length_bytes, &err) ||
        bw_model_read(&model, &st, weights_kernels(), &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    bw_safetensors_release(&st);
    bw_buf_release(&file);
    return model;
}

#endif
