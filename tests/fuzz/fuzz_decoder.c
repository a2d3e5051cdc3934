/* Headers of decoder files: length and a body of zeros are put around them. */
#include "engine/decoder.h"
#include "tests/fuzz/tensors.h"

enum { MAX_BODY_BYTES = 1000000, SIDE = 3 };

/* A decoder that loads can be asked for a picture, and makes it if that is quick: of zeros it is
 * grey. */
static void use(const struct bw_decoder *decoder)
{
    static const float latent[BW_DECODER_CHANNELS * SIDE];
    unsigned char rgb[BW_DECODER_SCALE * BW_DECODER_SCALE * SIDE * 3];
    struct bw_team *team;
    MUST(bw_decoder_flops(decoder, SIDE, 1) > 0 && strlen(bw_decoder_digest(decoder)) == 64);
    MUST(bw_decoder_bytes(decoder, 1, SIDE, 1) < bw_decoder_bytes(decoder, 2, 2 * SIDE, 1));
    if (bw_decoder_flops(decoder, SIDE, 1) > 1e8)
        return;
    MUST(bw_team_new(&team, 1, NULL) == 0);
    MUST(bw_decode(decoder, team, latent, SIDE, 1, rgb, NULL, NULL) == 0);
    for (size_t i = 0; i < sizeof rgb; i++)
        MUST(rgb[i] == 128);
    bw_team_free(team);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_safetensors st;
    struct bw_decoder *decoder;
    struct bw_err err = {0};
    size_t size;
    uint8_t *file = fuzz_file(bytes, count, MAX_BODY_BYTES, &size);
    if (bw_safetensors_parse(&st, file, size, &err)) {
        MUST(err.code == BW_ESYNTAX && *err.message);
    } else {
        if (bw_decoder_read(&decoder, &st, &bw_kernels_portable, &err)) {
            MUST(err.code == BW_ESYNTAX && *err.message);
        } else {
            use(decoder);
            bw_decoder_free(decoder);
        }
        bw_safetensors_release(&st);
    }
    free(file);
    return 0;
}
