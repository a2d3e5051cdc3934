/* Latents: a model that draws them and a tiny decoder, of random weights, in memory or as files. */
#ifndef BW_TESTS_UNIT_LATENTS_H
#define BW_TESTS_UNIT_LATENTS_H

#include "engine/decoder.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

/* "lego" of a model of that name and so many channels (text). */
#define LATENTS_LEGO(name, channels)                                                        \
    "{\"format\":1,\"name\":\"" name "\",\"image_size\":8,\"channels\":" channels           \
    ",\"num_classes\":0,\"classes\":[],\"hidden_size\":32,\"num_heads\":1,\"mlp_ratio\":1," \
    "\"sigma_data\":0.5,\"bricks\":[{\"size\":8,\"patch\":2,\"depth\":1},"                  \
    "{\"size\":4,\"patch\":2,\"depth\":1}]}"

enum { LATENT_CHANNELS = 16 };

static inline void latents_add_conv(struct weights_builder *b, const char *prefix, int outputs,
                                    int inputs, int side)
{
    char name[120];
    snprintf(name, sizeof name, "%s.weight", prefix);
    weights_add(b, name, 4, (int[]){outputs, inputs, side, side});
    snprintf(name, sizeof name, "%s.bias", prefix);
    weights_add(b, name, 1, (int[]){outputs});
}

static inline void latents_add_norm(struct weights_builder *b, const char *prefix)
{
    char name[120];
    snprintf(name, sizeof name, "%s.weight", prefix);
    weights_add(b, name, 1, (int[]){LATENT_CHANNELS});
    snprintf(name, sizeof name, "%s.bias", prefix);
    weights_add(b, name, 1, (int[]){LATENT_CHANNELS});
}

static inline void latents_add_resnet(struct weights_builder *b, const char *prefix)
{
    char name[100];
    for (int i = 1; i <= 2; i++) {
        snprintf(name, sizeof name, "%.80s.norm%d", prefix, i);
        latents_add_norm(b, name);
        snprintf(name, sizeof name, "%.80s.conv%d", prefix, i);
        latents_add_conv(b, name, LATENT_CHANNELS, LATENT_CHANNELS, 3);
    }
}

/* A decoder's file: 16 channels at every level, one residual layer in each. */
static inline struct bw_buf latents_decoder_file(uint64_t seed)
{
    struct weights_builder b = {.header = json_object(), .random = seed};
    char name[100];
    json_object_set_new(b.header, "__metadata__", json_pack("{s:s}", "norm_num_groups", "4"));
    latents_add_conv(&b, "decoder.conv_in", LATENT_CHANNELS, BW_DECODER_CHANNELS, 3);
    latents_add_resnet(&b, "decoder.mid_block.resnets.0");
    latents_add_resnet(&b, "decoder.mid_block.resnets.1");
    latents_add_norm(&b, "decoder.mid_block.attentions.0.group_norm");
    static const char *const layers[] = {"to_q", "to_k", "to_v", "to_out.0"};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "decoder.mid_block.attentions.0.%s", layers[i]);
        weights_add_layer(&b, LATENT_CHANNELS, LATENT_CHANNELS, name);
    }
    for (int level = 0; level < 4; level++) {
        snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.0", level);
        latents_add_resnet(&b, name);
        snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv", level);
        if (level < 3)
            latents_add_conv(&b, name, LATENT_CHANNELS, LATENT_CHANNELS, 3);
    }
    latents_add_norm(&b, "decoder.conv_norm_out");
    latents_add_conv(&b, "decoder.conv_out", 3, LATENT_CHANNELS, 3);
    char *text = json_dumps(b.header, 0);
    struct bw_buf file = weights_file(text, b.body.data, b.body.length_bytes);
    free(text);
    json_decref(b.header);
    bw_buf_release(&b.body);
    return file;
}

/* The same, loaded; aborts if it cannot be. */
static inline struct bw_decoder *latents_decoder(void)
{
    struct bw_buf file = latents_decoder_file(1);
    struct bw_safetensors st;
    struct bw_decoder *decoder;
    struct bw_err err = {0};
    if (bw_safetensors_parse(&st, file.data, file.length_bytes, &err) ||
        bw_decoder_read(&decoder, &st, weights_kernels(), &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    bw_safetensors_release(&st);
    bw_buf_release(&file);
    return decoder;
}

/* The file of a model that names the decoder of that file as `name`. */
static inline struct bw_buf latents_model_file(const char *lego, const char *name,
                                               const struct bw_buf *decoder)
{
    char digest[BW_DIGEST_CHARS];
    bw_digest(decoder->data, decoder->length_bytes, digest);
    return weights_made_file(lego,
                             json_pack("{s:s, s:s}", "decoder", name, "decoder_sha256", digest));
}

#endif
