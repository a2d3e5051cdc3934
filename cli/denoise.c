/* Replays a recorded case: reads its parameters and inputs, computes, and writes tensors of the
 * same names as the recording holds. */
#include "api/case.h"
#include "base/path.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "engine/denoiser.h"
#include "engine/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bw_option options[] = {
    {"model", "FILE", "the model (default: the one that came with the program)"},
    {"case", "FILE", "the recorded case, a safetensors file with metadata \"case\""},
    {"out", "FILE", "where the computed tensors go"},
    {"precision", "P", "f32 (default), bf16, or auto: bf16 where the CPU is fast at it"},
    {"threads", "N", "threads to compute with (default: all cores)"},
    {NULL, NULL, NULL},
};

struct replay {
    char model_path[BW_PATH_CHARS];
    const char *case_path, *out_path;
    int threads;
    enum bw_precision precision;

    struct bw_model *model;
    struct bw_denoiser *denoiser;
    struct bw_safetensors file;
    struct bw_case recorded;
    size_t count;  // floats of one image
    float *memory; // everything below
    float *input;  // [channels, height, width] x or noise
    struct bw_tensor outputs[BW_MAX_BRICKS + 2];
    char names[BW_MAX_BRICKS][16];
    size_t output_count;
};

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    struct replay *r = context;
    if (strcmp(name, "model") == 0) {
        snprintf(r->model_path, sizeof r->model_path, "%s", value);
    } else if (strcmp(name, "case") == 0) {
        r->case_path = value;
    } else if (strcmp(name, "out") == 0) {
        r->out_path = value;
    } else if (strcmp(name, "threads") == 0) {
        return bw_cmd_threads(value, &r->threads, err);
    } else {
        return bw_cmd_precision(value, &r->precision, err);
    }
    return BW_OK;
}

/* The case's input tensor as floats. */
static int read_input(struct replay *r, const char *name, struct bw_err *err)
{
    const struct bw_case *c = &r->recorded;
    const struct bw_tensor *t = bw_safetensors_find(&r->file, name);
    if (!t || t->dtype == BW_U8 || t->dims != 3 || t->shape[0] != r->model->arch.channels ||
        t->shape[1] != c->height || t->shape[2] != c->width)
        return bw_err_set(err, BW_ESYNTAX, "%s: no float tensor \"%s\" of [%d,%d,%d]", r->case_path,
                          name, r->model->arch.channels, c->height, c->width);
    bw_tensor_to_float(t, 0, t->count, r->input);
    return BW_OK;
}

static void add_output(struct replay *r, const char *name, enum bw_dtype dtype, const void *bytes,
                       bool planar)
{
    int64_t channels = r->model->arch.channels, h = r->recorded.height, w = r->recorded.width;
    struct bw_tensor t = {
        .name = name, .bytes = bytes, .dtype = dtype, .dims = 3, .count = r->count};
    t.size_bytes = r->count * (dtype == BW_U8 ? 1 : sizeof(float));
    memcpy(t.shape, planar ? (int64_t[]){channels, h, w} : (int64_t[]){h, w, channels},
           3 * sizeof *t.shape);
    r->outputs[r->output_count++] = t;
}

static int replay_denoise(struct replay *r, struct bw_err *err)
{
    const struct bw_case *c = &r->recorded;
    int code = read_input(r, "x", err);
    if (code)
        return code;
    float *next = r->input + r->count;
    struct bw_eval eval = {.width = c->width,
                           .height = c->height,
                           .x = r->input,
                           .sigma = c->sigma,
                           .label = c->label,
                           .guidance = 1,
                           .mask = c->mask,
                           .out = next,
                           .work = next + r->count};
    memcpy(eval.shifts, c->shifts, sizeof eval.shifts);
    next += 5 * r->count;
    add_output(r, "x", BW_F32, r->input, true);
    for (int k = 0; k < r->model->arch.brick_count; k++, next += r->count) {
        if (!(c->mask >> k & 1))
            continue;
        eval.trace[k] = next;
        snprintf(r->names[k], sizeof r->names[k], "brick%d", k);
        add_output(r, r->names[k], BW_F32, next, true);
    }
    add_output(r, "d", BW_F32, eval.out, true);
    bw_denoise(r->denoiser, &eval, 1);
    return BW_OK;
}

static int replay_sample(struct replay *r, struct bw_err *err)
{
    const struct bw_case *c = &r->recorded;
    const struct bw_arch *arch = &r->model->arch;
    struct bw_plan plan = {.width = c->width,
                           .height = c->height,
                           .label = c->label,
                           .steps = c->steps,
                           .solver = c->solver,
                           .guidance = c->guidance};
    if (c->mask_count)
        memcpy(plan.masks, c->masks, sizeof plan.masks);
    else
        memset(plan.masks, bw_arch_full_mask(arch), sizeof plan.masks);
    struct bw_sampler sampler;
    struct bw_eval eval;
    int code = read_input(r, "noise", err);
    if (!code)
        code = bw_sampler_init(&sampler, arch, &plan, r->input, err);
    if (code)
        return code;
    while (bw_sampler_want(&sampler, &eval)) {
        bw_denoise(r->denoiser, &eval, 1);
        bw_sampler_take(&sampler);
    }
    float *image = r->input + r->count;
    unsigned char *rgb = (unsigned char *)(image + r->count);
    for (size_t i = 0; i < r->count; i++)
        image[i] = (float)sampler.x[i];
    bw_sampler_bytes(&sampler, rgb);
    bw_sampler_release(&sampler);
    add_output(r, "noise", BW_F32, r->input, true);
    add_output(r, "image", BW_F32, image, true);
    add_output(r, "rgb", BW_U8, rgb, false);
    return BW_OK;
}

static int open_case(struct replay *r, struct bw_err *err)
{
    const struct bw_arch *arch = &r->model->arch;
    int code = bw_safetensors_open(&r->file, r->case_path, err);
    if (code)
        return code;
    const char *text = bw_safetensors_metadata(&r->file, "case");
    if (!text)
        return bw_err_set(err, BW_ESYNTAX, "%s: no metadata \"case\"", r->case_path);
    code = bw_case_read(&r->recorded, text, arch->brick_count, arch->class_count, err);
    if (!code && !bw_arch_tiles(arch, r->recorded.width, r->recorded.height))
        code = bw_err_set(err, BW_ERANGE, "%s: the bricks of %s cannot tile %dx%d", r->case_path,
                          arch->name, r->recorded.width, r->recorded.height);
    return code;
}

static int replay(struct replay *r, struct bw_err *err)
{
    int code = bw_cmd_load(&r->model, r->model_path, r->precision, err);
    if (!code)
        code = open_case(r, err);
    if (!code)
        code = bw_denoiser_new(&r->denoiser, r->model, r->threads, err);
    if (code)
        return code;
    r->count =
        (size_t)r->model->arch.channels * (size_t)r->recorded.width * (size_t)r->recorded.height;
    r->memory = calloc(r->count * (6 + BW_MAX_BRICKS), sizeof *r->memory);
    r->input = r->memory;
    if (!r->memory)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    code = r->recorded.sample ? replay_sample(r, err) : replay_denoise(r, err);
    if (!code)
        code = bw_safetensors_write(r->out_path, r->outputs, r->output_count, "case",
                                    bw_safetensors_metadata(&r->file, "case"), err);
    return code;
}

int bw_cmd_denoise(int count, char **arguments)
{
    struct replay r = {.threads = bw_cmd_all_cores(), .precision = BW_PRECISION_F32};
    struct bw_err err = {0};
    bool help;
    bw_default_model(r.model_path);
    int code = bw_options_read(options, count, arguments, set_option, &r, &help, &err);
    if (!code && help) {
        bw_options_help(
            "usage: brickwork denoise --case IN --out OUT [options]\n\n"
            "Replays one evaluation of the network, or one whole picture, with the "
            "parameters\nand inputs recorded in IN, and writes the tensors that IN holds, "
            "as computed here.",
            options);
        return BW_EXIT_OK;
    }
    if (!code && (!r.case_path || !r.out_path))
        code = bw_err_set(&err, BW_ERANGE, "denoise needs --case and --out; see --help");
    if (!code)
        code = replay(&r, &err);
    bw_denoiser_free(r.denoiser);
    bw_safetensors_release(&r.file);
    bw_model_free(r.model);
    free(r.memory);
    return code ? bw_cmd_failed(&err) : BW_EXIT_OK;
}
