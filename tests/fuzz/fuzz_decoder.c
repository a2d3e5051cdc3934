/* Headers of decoder files: length and a body of zeros are put around them. */
#include "engine/decoder.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

enum { MAX_BODY_BYTES = 1000000, LENGTH_BYTES = 8, SIDE = 3 };

/* The bytes a header says follow it, as far as it makes sense. */
static size_t body_of(const uint8_t *header, size_t count)
{
    json_t *root = json_loadb((const char *)header, count, 0, NULL), *entry;
    const char *name;
    json_int_t most = 0;
    json_object_foreach(root, name, entry)
    {
        const json_t *end = json_array_get(json_object_get(entry, "data_offsets"), 1);
        json_int_t at = json_integer_value(end);
        most = at > most && at <= MAX_BODY_BYTES ? at : most;
    }
    json_decref(root);
    return (size_t)most;
}

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
    MUST(bw_decode(decoder, team, latent, SIDE, 1, rgb, NULL) == 0);
    for (size_t i = 0; i < sizeof rgb; i++)
        MUST(rgb[i] == 128);
    bw_team_free(team);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_safetensors st;
    struct bw_decoder *decoder;
    struct bw_err err = {0};
    size_t size = LENGTH_BYTES + count + body_of(bytes, count);
    uint8_t *file = calloc(1, size);
    MUST(file);
    for (int i = 0; i < LENGTH_BYTES; i++)
        file[i] = (uint8_t)((uint64_t)count >> (8 * i));
    memcpy(file + LENGTH_BYTES, bytes, count);
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
