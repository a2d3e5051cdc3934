/* Latents: a model that draws them and a tiny decoder, of random weights, in memory or as files. */
#ifndef BW_TESTS_UNIT_LATENTS_H
#define BW_TESTS_UNIT_LATENTS_H

#include "tests/unit/check.h"
#include "tests/unit/decoders.h"
#include "tests/unit/weights.h"

/* "lego" of a model of that name and so many channels (text). */
#define LATENTS_LEGO(name, channels)                                                        \
    "{\"format\":1,\"name\":\"" name "\",\"image_size\":8,\"channels\":" channels           \
    ",\"num_classes\":0,\"classes\":[],\"hidden_size\":32,\"num_heads\":1,\"mlp_ratio\":1," \
    "\"sigma_data\":0.5,\"bricks\":[{\"size\":8,\"patch\":2,\"depth\":1},"                  \
    "{\"size\":4,\"patch\":2,\"depth\":1}]}"

/* A decoder's file: 16 channels at every level, one residual layer in each. */
static inline struct bw_buf latents_decoder_file(uint64_t seed)
{
    static const struct decoder_shape shape = {
        .channels = {16, 16, 16, 16}, .layers = {1, 1, 1, 1}, .groups = 4};
    struct decoder_file file = decoder_open(&shape, seed);
    struct bw_buf bytes = decoder_bytes(&file);
    decoder_close(&file);
    return bytes;
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
