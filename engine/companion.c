/* What a model file says of its decoder meets the decoder's file here and nowhere else. */
#include "engine/companion.h"

#include <stdio.h>
#include <string.h>

int bw_companion_path(char path[BW_PATH_CHARS], const char *model_path, const struct bw_arch *arch,
                      struct bw_err *err)
{
    const char *slash = strrchr(model_path, '/');
    int folder = slash ? (int)(slash - model_path) + 1 : 0;
    if ((size_t)folder + strlen(arch->decoder) >= BW_PATH_CHARS)
        return bw_err_set(err, BW_ERANGE, "%.200s: the path of its decoder is too long",
                          model_path);
    snprintf(path, BW_PATH_CHARS, "%.*s%s", folder, model_path, arch->decoder);
    return BW_OK;
}

int bw_companion_load(struct bw_decoder **decoder, const char *path, const struct bw_arch *arch,
                      const struct bw_kernels *kernels, struct bw_err *err)
{
    struct bw_decoder *d;
    int code = bw_decoder_load(&d, path, kernels, err);
    if (code)
        return code;
    if (strcmp(bw_decoder_digest(d), arch->decoder_digest)) {
        code = bw_err_set(err, BW_ESYNTAX,
                          "%.200s: its SHA-256 is %s, the model was made for one of %s", path,
                          bw_decoder_digest(d), arch->decoder_digest);
        bw_decoder_free(d);
        return code;
    }
    *decoder = d;
    return BW_OK;
}

bool bw_companion_is_decoder(const char *path)
{
    struct bw_safetensors st;
    if (bw_safetensors_open(&st, path, NULL))
        return false;
    bool is =
        !bw_safetensors_metadata(&st, "lego") && bw_safetensors_find(&st, "decoder.conv_in.weight");
    bw_safetensors_release(&st);
    return is;
}

int bw_companion_check(const struct bw_arch *arch, const char *model_path, struct bw_err *err)
{
    if (arch->channels == 3 || *arch->decoder)
        return BW_OK;
    if (arch->channels == BW_DECODER_CHANNELS)
        return bw_err_set(err, BW_ERANGE,
                          "%.200s: pictures of 4 channels need a decoder, and metadata \"decoder\" "
                          "names none",
                          model_path);
    return bw_err_set(err, BW_ERANGE, "%.200s: pictures of %d channels cannot be encoded",
                      model_path, arch->channels);
}

int bw_companion_picture(const struct bw_decoder *decoder, struct bw_team *team,
                         const struct bw_sampler *sampler, unsigned char *rgb, struct bw_err *err)
{
    if (decoder)
        return bw_decode(decoder, team, bw_sampler_result(sampler), sampler->plan.width,
                         sampler->plan.height, rgb, NULL, err);
    bw_sampler_bytes(sampler, rgb);
    return BW_OK;
}
