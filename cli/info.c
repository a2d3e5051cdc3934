/* Everything printed comes from the loaded model, so a file that prints is a file that runs. Tiles
 * and evaluations are in the network's own units, pictures in pixels. */
#include "base/path.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "engine/companion.h"
#include "engine/cost.h"
#include "engine/model.h"

#include <stdio.h>
#include <string.h>

static const struct bw_option options[] = {
    {"model", "FILE", "the model (default: the one that came with the program)"},
    {NULL, NULL, NULL},
};

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    (void)name, (void)err;
    snprintf(context, BW_PATH_CHARS, "%s", value);
    return BW_OK;
}

/* Of the decoder there is the name at least; the file may be elsewhere for now. */
static void print_decoder(const struct bw_model *m, const char *path)
{
    const struct bw_arch *a = &m->arch;
    struct bw_decoder *decoder;
    struct bw_err err = {0};
    if (!*a->decoder)
        return;
    printf("  decoder     %s, sha-256 %s\n", a->decoder, a->decoder_digest);
    if (bw_cmd_load_decoder(&decoder, m, path, &err)) {
        printf("              not there: %s\n", err.message);
        return;
    }
    printf("              %zu parameters, %.2f GFLOP at %dx%d\n", bw_decoder_parameters(decoder),
           bw_decoder_flops(decoder, a->image_size, a->image_size) / 1e9,
           a->image_size * BW_DECODER_SCALE, a->image_size * BW_DECODER_SCALE);
    bw_decoder_free(decoder);
}

static void print_model(const struct bw_model *m, const char *path)
{
    const struct bw_arch *a = &m->arch;
    double whole = bw_cost_flops(a, a->image_size, a->image_size, bw_arch_full_mask(a));
    int scale = bw_arch_scale(a), side = a->image_size * scale;
    printf("%s\n  file        %s, %zu bytes\n  sha-256     %s\n", a->name, path, m->file_bytes,
           m->digest);
    printf("  parameters  %zu\n  license     %s\n  source      %s\n", m->parameter_count,
           *m->license ? m->license : "not stated", *m->source ? m->source : "not stated");
    printf("  network     hidden %d, %d heads of %d, MLP ratio %d, sigma_data %g\n", a->hidden,
           a->heads, a->hidden / a->heads, a->mlp_ratio, a->sigma_data);
    int step = bw_arch_side_multiple(a), least = a->min_size * scale;
    printf("  pictures    %dx%d, %d channels; sides of at least %d", side, side,
           scale > 1 ? 3 : a->channels, least);
    if (step > least)
        printf(", from %d on", step);
    printf("%s multiples of %d\n", step > least ? "" : ",", step);
    if (scale > 1)
        printf("  latents     %dx%d, %d channels, each of %dx%d pixels\n", a->image_size,
               a->image_size, a->channels, scale, scale);
    printf("  evaluation  %.2f GFLOP at %dx%d\n", whole / 1e9, a->image_size, a->image_size);
    for (int k = 0; k < a->brick_count; k++) {
        const struct bw_brick_shape *b = &a->bricks[k];
        double share = bw_cost_flops(a, a->image_size, a->image_size, (uint8_t)(1 << k)) / whole;
        printf("  brick %d     %s tiles of %d, patches of %d, depth %d, %.0f%% of the work\n", k,
               bw_arch_is_global(a, k) ? "global," : "local,", b->size, b->patch, b->depth,
               100 * share);
    }
    print_decoder(m, path);
    printf("  skip loss   %s\n", a->skip_loss.sigma_count ? "measured" : "not measured");
    printf("  classes     %s", a->class_count ? "" : "none (unconditional)");
    for (int i = 0; i < a->class_count; i++)
        printf("%s%d %s", i ? ", " : "", i, a->class_names[i]);
    printf("\n");
}

int bw_cmd_info(int count, char **arguments)
{
    char path[BW_PATH_CHARS];
    struct bw_err err = {0};
    struct bw_model *model = NULL;
    bool help;
    bw_default_model(path);
    int code = bw_options_read(options, count, arguments, set_option, path, &help, &err);
    if (!code && help) {
        bw_options_help("usage: brickwork info [--model FILE]\n\nSays what a model file holds.",
                        options);
        return BW_EXIT_OK;
    }
    if (!code)
        code = bw_cmd_load(&model, path, BW_PRECISION_F32, &err);
    if (code)
        return bw_cmd_failed(&err);
    print_model(model, path);
    bw_model_free(model);
    return BW_EXIT_OK;
}
