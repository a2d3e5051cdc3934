/* Decodes one latent picture, and says how far it is from a recorded one if asked to. */
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "engine/decoder.h"
#include "image/encode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bw_option options[] = {
    {"decoder", "FILE", "the decoder, a safetensors file with diffusers' tensor names"},
    {"latent", "FILE", "a safetensors file with the tensor \"latent\" of [4,height,width]"},
    {"out", "FILE", "where the picture goes, as PNG"},
    {"check", "FILE", "also compare with its tensor \"image\", [3,8*height,8*width] of -1 to 1"},
    {"precision", "P", "auto (default: bf16 where the CPU is fast at it), bf16 or f32"},
    {"threads", "N", "threads to compute with (default: all cores)"},
    {NULL, NULL, NULL},
};

struct decode {
    const char *decoder_path, *latent_path, *out_path, *check_path;
    int threads;
    enum bw_precision precision;

    struct bw_decoder *decoder;
    struct bw_team *team;
    int width, height;       // of the latent
    float *latent;           // [4, height, width]
    unsigned char *rgb;      // [8*height, 8*width, 3]
    float *image, *recorded; // [8*height, 8*width, 3] and [3, 8*height, 8*width]
};

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    struct decode *d = context;
    if (strcmp(name, "threads") == 0)
        return bw_cmd_threads(value, &d->threads, err);
    if (strcmp(name, "precision") == 0)
        return bw_cmd_precision(value, &d->precision, err);
    const char **path = strcmp(name, "decoder") == 0  ? &d->decoder_path
                        : strcmp(name, "latent") == 0 ? &d->latent_path
                        : strcmp(name, "out") == 0    ? &d->out_path
                                                      : &d->check_path;
    *path = value;
    return BW_OK;
}

static int read_latent(struct decode *d, struct bw_err *err)
{
    enum { MOST_SIDE = 1024 };
    struct bw_safetensors st;
    int code = bw_safetensors_open(&st, d->latent_path, err);
    if (code)
        return code;
    const struct bw_tensor *t = bw_safetensors_find(&st, "latent");
    if (!t || t->dtype == BW_U8 || t->dims != 3 || t->shape[0] != BW_DECODER_CHANNELS ||
        t->count == 0 || t->shape[1] > MOST_SIDE || t->shape[2] > MOST_SIDE) {
        code = bw_err_set(err, BW_ESYNTAX,
                          "%s: no float tensor \"latent\" of [%d,height,width], sides 1 to %d",
                          d->latent_path, BW_DECODER_CHANNELS, MOST_SIDE);
    } else {
        d->height = (int)t->shape[1];
        d->width = (int)t->shape[2];
        d->latent = malloc(t->count * sizeof *d->latent);
        if (d->latent)
            bw_tensor_to_float(t, 0, t->count, d->latent);
        else
            code = bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    bw_safetensors_release(&st);
    return code;
}

static int read_recorded(struct decode *d, struct bw_err *err)
{
    struct bw_safetensors st;
    int code = bw_safetensors_open(&st, d->check_path, err);
    if (code)
        return code;
    int64_t want[] = {3, BW_DECODER_SCALE * d->height, BW_DECODER_SCALE * d->width};
    const struct bw_tensor *t = bw_safetensors_find(&st, "image");
    if (!t || t->dtype == BW_U8 || t->dims != 3 || memcmp(t->shape, want, sizeof want))
        code = bw_err_set(err, BW_ESYNTAX, "%s: no float tensor \"image\" of [3,%lld,%lld]",
                          d->check_path, (long long)want[1], (long long)want[2]);
    else
        bw_tensor_to_float(t, 0, t->count, d->recorded);
    bw_safetensors_release(&st);
    return code;
}

/* How far the picture is from the recorded one, before both are rounded. */
static int check(struct decode *d, size_t count, struct bw_err *err)
{
    int code = read_recorded(d, err);
    if (code)
        return code;
    double most = 0, squares = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        double want = d->recorded[i % 3 * (count / 3) + i / 3], off = d->image[i] - want;
        most = fabs(off) <= most ? most : fabs(off); // what is no number is far off
        squares += off * off;
        size += want * want;
    }
    printf("  difference  relative RMS %.3g; in steps of 8 bits RMS %.3g, at most %.3g\n",
           sqrt(squares / size), 127.5 * sqrt(squares / (double)count), 127.5 * most);
    return BW_OK;
}

static int write_png(const struct decode *d, struct bw_err *err)
{
    struct bw_buf png = {0};
    struct bw_encoding encoding = {.format = BW_FORMAT_PNG, .quality = 90};
    int code = bw_image_encode(d->rgb, BW_DECODER_SCALE * d->width, BW_DECODER_SCALE * d->height,
                               &encoding, &png, err);
    if (!code)
        code = bw_cmd_write(d->out_path, &png, err);
    bw_buf_release(&png);
    return code;
}

static int decode(struct decode *d, struct bw_err *err)
{
    const struct bw_kernels *kernels;
    int code = bw_kernels_choose(d->precision, &kernels, err);
    if (!code)
        code = bw_decoder_load(&d->decoder, d->decoder_path, kernels, err);
    if (!code)
        code = read_latent(d, err);
    if (!code)
        code = bw_team_new(&d->team, d->threads, err);
    if (code)
        return code;
    size_t count = (size_t)d->width * (size_t)d->height * BW_DECODER_SCALE * BW_DECODER_SCALE * 3;
    d->rgb = malloc(count);
    d->image = malloc(count * sizeof *d->image);
    d->recorded = malloc(count * sizeof *d->recorded);
    if (!d->rgb || !d->image || !d->recorded)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    double began_ms = bw_now_ms();
    code = bw_decode(d->decoder, d->team, d->latent, d->width, d->height, d->rgb,
                     d->check_path ? d->image : NULL, err);
    double took_ms = bw_now_ms() - began_ms;
    if (!code)
        code = write_png(d, err);
    if (code)
        return code;
    double flops = bw_decoder_flops(d->decoder, d->width, d->height);
    printf("%s\n  parameters  %zu\n  sha-256     %s\n", d->decoder_path,
           bw_decoder_parameters(d->decoder), bw_decoder_digest(d->decoder));
    printf("  picture     %dx%d in %.1f ms, %.1f GFLOP, %.1f MiB of memory, %d threads, %s\n",
           BW_DECODER_SCALE * d->width, BW_DECODER_SCALE * d->height, took_ms, flops / 1e9,
           (double)bw_decoder_bytes(d->decoder, d->threads, d->width, d->height) / (1 << 20),
           d->threads, kernels->name);
    return d->check_path ? check(d, count, err) : BW_OK;
}

int bw_cmd_decode(int count, char **arguments)
{
    struct decode d = {.threads = bw_cmd_all_cores()};
    struct bw_err err = {0};
    bool help;
    int code = bw_options_read(options, count, arguments, set_option, &d, &help, &err);
    if (!code && help) {
        bw_options_help("usage: brickwork decode --decoder FILE --latent FILE --out FILE "
                        "[options]\n\nMakes a picture of a latent one, with the decoder of Stable "
                        "Diffusion's autoencoder.",
                        options);
        return BW_EXIT_OK;
    }
    if (!code && (!d.decoder_path || !d.latent_path || !d.out_path))
        code =
            bw_err_set(&err, BW_ERANGE, "decode needs --decoder, --latent and --out; see --help");
    if (!code)
        code = decode(&d, &err);
    bw_team_free(d.team);
    bw_decoder_free(d.decoder);
    free(d.latent);
    free(d.rgb);
    free(d.image);
    free(d.recorded);
    return code ? bw_cmd_failed(&err) : BW_EXIT_OK;
}
