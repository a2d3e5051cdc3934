/* Decoders: files of random decoders in memory, made to order or made wrong. */
#ifndef BW_TESTS_UNIT_DECODERS_H
#define BW_TESTS_UNIT_DECODERS_H

#include "base/buf.h"
#include "engine/decoder.h"
#include "tests/unit/random.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DECODER_LEVELS = 4 };

struct decoder_shape {
    int channels[DECODER_LEVELS]; // of each level, the smallest picture first
    int layers[DECODER_LEVELS];
    int groups;
    bool quant; // post_quant_conv is there
    bool old;   // names and shapes of the attention's layers
};

/* A file on its way. */
struct decoder_file {
    json_t *header;
    float *body; // [count]
    size_t count;
    uint64_t random;
};

static inline void decoder_name(struct decoder_file *f, const char *name, int dims,
                                const int *shape, float scale, float middle)
{
    json_t *sides = json_array();
    size_t count = 1, bytes = f->count * sizeof *f->body;
    for (int i = 0; i < dims; i++) {
        count *= (size_t)shape[i];
        json_array_append_new(sides, json_integer(shape[i]));
    }
    f->body = realloc(f->body, bytes + count * sizeof *f->body);
    if (!f->body)
        abort();
    random_fill(&f->random, scale, count, f->body + f->count);
    for (size_t i = 0; i < count; i++)
        f->body[f->count++] += middle;
    json_object_set_new(f->header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", sides,
                                  "data_offsets", (json_int_t)bytes,
                                  (json_int_t)(bytes + count * sizeof *f->body)));
}

/* A layer of side 3 or 1, or of side 0: a matrix. Its outputs are as large as its inputs. */
static inline void decoder_layer(struct decoder_file *f, const char *prefix, int outputs,
                                 int inputs, int side)
{
    char name[160];
    int fan = inputs * (side == 3 ? 9 : 1);
    snprintf(name, sizeof name, "%s.weight", prefix);
    decoder_name(f, name, side ? 4 : 2, (int[]){outputs, inputs, side, side}, sqrtf(3 / (float)fan),
                 0);
    snprintf(name, sizeof name, "%s.bias", prefix);
    decoder_name(f, name, 1, &outputs, 0.2f, 0);
}

static inline void decoder_norm(struct decoder_file *f, const char *prefix, int channels)
{
    char name[160];
    snprintf(name, sizeof name, "%s.weight", prefix);
    decoder_name(f, name, 1, &channels, 0.3f, 1);
    snprintf(name, sizeof name, "%s.bias", prefix);
    decoder_name(f, name, 1, &channels, 0.3f, 0);
}

static inline void decoder_resnet(struct decoder_file *f, const char *prefix, int outputs,
                                  int inputs)
{
    char name[5][120];
    const char *const ends[] = {"norm1", "conv1", "norm2", "conv2", "conv_shortcut"};
    for (int i = 0; i < 5; i++)
        snprintf(name[i], sizeof name[i], "%s.%s", prefix, ends[i]);
    decoder_norm(f, name[0], inputs);
    decoder_layer(f, name[1], outputs, inputs, 3);
    decoder_norm(f, name[2], outputs);
    decoder_layer(f, name[3], outputs, outputs, 3);
    if (inputs != outputs)
        decoder_layer(f, name[4], outputs, inputs, 1);
}

/* Header and body of a file; decoder_close() releases them. */
static inline struct decoder_file decoder_open(const struct decoder_shape *s, uint64_t seed)
{
    static const char *const attention[2][4] = {{"to_q", "to_k", "to_v", "to_out.0"},
                                                {"query", "key", "value", "proj_attn"}};
    struct decoder_file f = {.random = seed};
    char name[100], groups[12];
    snprintf(groups, sizeof groups, "%d", s->groups);
    f.header = json_pack("{s:{s:s}}", "__metadata__", "norm_num_groups", groups);
    decoder_layer(&f, "encoder.conv_in", 3, 3, 1); // to be ignored
    if (s->quant)
        decoder_layer(&f, "post_quant_conv", 4, 4, 1);
    int top = s->channels[0];
    decoder_layer(&f, "decoder.conv_in", top, 4, 3);
    decoder_resnet(&f, "decoder.mid_block.resnets.0", top, top);
    decoder_norm(&f, "decoder.mid_block.attentions.0.group_norm", top);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "decoder.mid_block.attentions.0.%s", attention[s->old][i]);
        decoder_layer(&f, name, top, top, s->old);
    }
    decoder_resnet(&f, "decoder.mid_block.resnets.1", top, top);
    for (int i = 0; i < DECODER_LEVELS; i++) {
        int channels = s->channels[i];
        for (int k = 0; k < s->layers[i]; k++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, k);
            decoder_resnet(&f, name, channels, k || !i ? channels : s->channels[i - 1]);
        }
        snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        if (i + 1 < DECODER_LEVELS)
            decoder_layer(&f, name, channels, channels, 3);
    }
    decoder_norm(&f, "decoder.conv_norm_out", s->channels[3]);
    decoder_layer(&f, "decoder.conv_out", 3, s->channels[3], 3);
    return f;
}

static inline void decoder_close(struct decoder_file *f)
{
    json_decref(f->header);
    free(f->body);
}

/* The file's bytes. */
static inline struct bw_buf decoder_bytes(const struct decoder_file *f)
{
    struct bw_buf file = {0};
    char *text = json_dumps(f->header, 0);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)strlen(text) >> (8 * i));
    bw_buf_add(&file, length, sizeof length);
    bw_buf_add_text(&file, text);
    bw_buf_add(&file, f->body, f->count * sizeof *f->body);
    free(text);
    return file;
}

/* Read it as a decoder; bw_decoder_read()'s code. */
static inline int decoder_read(const struct decoder_file *f, const struct bw_kernels *kernels,
                               struct bw_decoder **decoder, struct bw_err *err)
{
    struct bw_buf file = decoder_bytes(f);
    struct bw_safetensors st;
    int code = bw_safetensors_parse(&st, file.data, file.length_bytes, err);
    if (!code) {
        code = bw_decoder_read(decoder, &st, kernels, err);
        bw_safetensors_release(&st);
    }
    bw_buf_release(&file);
    return code;
}

/* A tensor's numbers, or NULL. */
static inline float *decoder_tensor(const struct decoder_file *f, const char *prefix,
                                    const char *end)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, end);
    const json_t *entry = json_object_get(f->header, name);
    const json_t *begin = json_array_get(json_object_get(entry, "data_offsets"), 0);
    return entry ? f->body + json_integer_value(begin) / (json_int_t)sizeof(float) : NULL;
}

#endif
