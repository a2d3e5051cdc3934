/* The options are the fields of a request and are read by the same code, so what the service
 * refuses is refused here, in the same words. */
#include "api/request.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/path.h"
#include "base/random.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "engine/companion.h"
#include "engine/sampler.h"
#include "image/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_AREA = 1 << 22 };

static const struct bw_option options[] = {
    {"model", "FILE", "the model (default: the one that came with the program)"},
    {"class", "NAME", "class by name or number (default: unconditional)"},
    {"n", "COUNT", "pictures, 1 to 8 (default 1)"},
    {"size", "WxH", "pixels (default: the model's own)"},
    {"steps", "COUNT", "1 to 256 (default 20)"},
    {"solver", "NAME", "dpmpp2m, heun or euler (default dpmpp2m)"},
    {"guidance", "NUMBER", "0 to 20, 1: none (default 1.5)"},
    {"seed", "NUMBER", "0 to 9007199254740991 (default: random)"},
    {"index", "NUMBER", "which picture of the seed comes first (default 0)"},
    {"skip", "HOW", "none, light, balanced, fast, or JSON such as {\"t_break\":0.5}"},
    {"format", "NAME", "jpeg, png or webp (default: as --out ends, else jpeg)"},
    {"quality", "NUMBER", "of JPEG and WebP, 1 to 100 (default 90)"},
    {"progressive", "BOOLEAN", "true: a JPEG that shows early what it will be (default false)"},
    {"comments", "SWITCH",
     "on: the file says what it was made with; off: it does not (default on)"},
    {"out", "FILE", "where it goes; of several, FILE-0.EXT, FILE-1.EXT ... (default picture.EXT)"},
    {"precision", "P", "auto (bf16 where the CPU is fast at it), bf16 or f32"},
    {"threads", "N", "threads to compute with (default: all cores)"},
    {NULL, NULL, NULL},
};

struct session {
    struct bw_request request;
    char model_path[BW_PATH_CHARS];
    const char *out;
    bool comments;
    int threads;
    enum bw_precision precision;
    struct bw_model *model;
    struct bw_decoder *decoder; // NULL: the network draws RGB
    struct bw_denoiser *denoiser;
    struct bw_sampler samplers[BW_MAX_COUNT];
    int sampler_count;
    unsigned char *rgb[BW_MAX_COUNT]; // [sampler_count] pictures, once they are finished
};

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    struct session *s = context;
    if (strcmp(name, "threads") == 0)
        return bw_cmd_threads(value, &s->threads, err);
    if (strcmp(name, "precision") == 0)
        return bw_cmd_precision(value, &s->precision, err);
    if (strcmp(name, "model") == 0)
        snprintf(s->model_path, sizeof s->model_path, "%s", value);
    else if (strcmp(name, "comments") == 0)
        return bw_option_choice(name, value, "off", "on", &s->comments, err);
    else if (strcmp(name, "out") == 0)
        s->out = value;
    else
        return bw_request_set(&s->request, name, value, err);
    return BW_OK;
}

/* Where the extension of a path begins, with its dot, or the end of the path. */
static const char *extension(const char *path)
{
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    return dot && (!slash || dot > slash) ? dot : path + strlen(path);
}

static void settle(struct session *s)
{
    static const char *const names[] = {[BW_FORMAT_JPEG] = "picture.jpg",
                                        [BW_FORMAT_PNG] = "picture.png",
                                        [BW_FORMAT_WEBP] = "picture.webp"};
    struct bw_request *r = &s->request;
    for (int f = BW_FORMAT_JPEG; s->out && r->format == BW_FORMAT_ANY && f <= BW_FORMAT_WEBP; f++) {
        if (bw_text_same(extension(s->out), extension(names[f])))
            r->format = (enum bw_format)f;
    }
    bw_request_tidy(r);
    if (!s->out)
        s->out = names[r->format];
    if (!r->seeded)
        r->picture.seed = bw_random() & BW_MAX_SEED;
}

static void show_progress(int done, int steps, double began_ms)
{
    char bar[41];
    int filled = done * 40 / steps;
    double elapsed_s = (bw_now_ms() - began_ms) / 1e3;
    memset(bar, ' ', sizeof bar - 1);
    memset(bar, '#', (size_t)filled);
    bar[40] = '\0';
    fprintf(stderr, "\r[%s] step %d/%d  %.1f s, %.1f s left%s", bar, done, steps, elapsed_s,
            done ? elapsed_s / done * (steps - done) : 0, done == steps ? "\n" : " ");
}

/* All pictures advance together, as in the service. */
static void run_samplers(struct session *s)
{
    struct bw_eval evals[BW_MAX_COUNT];
    bool show = isatty(STDERR_FILENO);
    double began_ms = bw_now_ms();
    int steps = s->samplers[0].plan.steps;
    while (bw_sampler_want(&s->samplers[0], &evals[0])) {
        if (show)
            show_progress(bw_sampler_steps_done(&s->samplers[0]), steps, began_ms);
        for (int i = 1; i < s->sampler_count; i++)
            bw_sampler_want(&s->samplers[i], &evals[i]);
        bw_denoise(s->denoiser, evals, s->sampler_count);
        for (int i = 0; i < s->sampler_count; i++)
            bw_sampler_take(&s->samplers[i]);
    }
    if (show)
        show_progress(steps, steps, began_ms);
}

/* The pictures' pixels, decoded if the network draws latents. */
static int draw_pictures(struct session *s, struct bw_err *err)
{
    int code = BW_OK;
    for (int i = 0; !code && i < s->sampler_count; i++) {
        const struct bw_picture picture = bw_plan_picture(&s->samplers[i].plan, &s->model->arch);
        s->rgb[i] = malloc((size_t)picture.width * (size_t)picture.height * 3);
        if (!s->rgb[i])
            return bw_err_set(err, BW_ENOMEM, "out of memory");
        code = bw_companion_picture(s->decoder, bw_denoiser_team(s->denoiser), &s->samplers[i],
                                    s->rgb[i], err);
    }
    return code;
}

static int encode(const struct session *s, int i, struct bw_buf *out, struct bw_err *err)
{
    const struct bw_request *r = &s->request;
    const struct bw_picture picture = bw_plan_picture(&s->samplers[i].plan, &s->model->arch);
    char *comment = s->comments ? bw_comment_render(r, &picture, s->model->digest) : NULL;
    if (s->comments && !comment)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    const struct bw_encoding encoding = {.format = r->format,
                                         .quality = r->quality,
                                         .progressive = r->progressive,
                                         .comment = comment};
    int code = bw_image_encode(s->rgb[i], picture.width, picture.height, &encoding, out, err);
    free(comment);
    return code;
}

static int write_picture(const struct session *s, int i, struct bw_err *err)
{
    char path[BW_PATH_CHARS];
    const char *end = extension(s->out);
    if (s->sampler_count == 1)
        snprintf(path, sizeof path, "%s", s->out);
    else
        snprintf(path, sizeof path, "%.*s-%d%s", (int)(end - s->out), s->out, i, end);
    struct bw_buf bytes = {0};
    int code = encode(s, i, &bytes, err);
    if (!code)
        code = bw_cmd_write(path, &bytes, err);
    if (!code)
        printf("%s\n", path);
    bw_buf_release(&bytes);
    return code;
}

/* Say on standard error what was made, as a request that makes it again. */
static void report(struct session *s, const struct bw_plan *plan, double duration_ms)
{
    struct bw_request r = s->request;
    double flops = bw_plan_flops(plan, &s->model->arch);
    if (s->decoder)
        flops += bw_decoder_flops(s->decoder, plan->width, plan->height);
    r.picture = bw_plan_picture(plan, &s->model->arch);
    char *text = bw_request_render(&r);
    fprintf(stderr, "%d picture%s, %d evaluations, %.1f GFLOP, %.0f ms: %s\n", r.count,
            r.count > 1 ? "s" : "", bw_plan_evaluations(plan) * r.count, flops * r.count / 1e9,
            duration_ms, text ? text : "");
    free(text);
}

static int generate(struct session *s, struct bw_err *err)
{
    struct bw_plan plan;
    if (s->request.picture.skip.kind == BW_SKIP_AUTO)
        return bw_err_set_field(err, BW_ERANGE, "/skip",
                                "auto is for a server that has a deadline to keep");
    int code = bw_cmd_load(&s->model, s->model_path, s->precision, err);
    if (!code)
        code = bw_companion_check(&s->model->arch, s->model_path, err);
    if (!code)
        code = bw_cmd_load_decoder(&s->decoder, s->model, s->model_path, err);
    if (!code)
        code = bw_plan_make(&plan, &s->model->arch, &s->request.picture, MAX_AREA, err);
    if (!code) {
        const struct bw_picture picture = bw_plan_picture(&plan, &s->model->arch);
        code = bw_image_check_size(s->request.format, picture.width, picture.height, err);
    }
    if (!code)
        code = bw_denoiser_new(&s->denoiser, s->model, s->threads, err);
    for (int i = 0; !code && i < s->request.count; i++) {
        struct bw_plan own = plan;
        own.index += (uint32_t)i;
        code = bw_sampler_init(&s->samplers[i], &s->model->arch, &own, NULL, err);
        s->sampler_count += !code;
    }
    if (code)
        return code;
    strcpy(s->request.model, s->model->arch.name);
    double began_ms = bw_now_ms();
    run_samplers(s);
    code = draw_pictures(s, err);
    if (!code)
        report(s, &plan, bw_now_ms() - began_ms);
    for (int i = 0; !code && i < s->sampler_count; i++)
        code = write_picture(s, i, err);
    return code;
}

int bw_cmd_generate(int count, char **arguments)
{
    struct session s = {
        .request = bw_request_default(), .comments = true, .threads = bw_cmd_all_cores()};
    struct bw_err err = {0};
    bool help;
    bw_default_model(s.model_path);
    int code = bw_options_read(options, count, arguments, set_option, &s, &help, &err);
    if (!code && help) {
        bw_options_help(
            "usage: brickwork generate [options]\n\nMakes pictures and prints the names "
            "of their files. The request that makes them\nagain goes to standard error.",
            options);
        return BW_EXIT_OK;
    }
    if (!code) {
        settle(&s);
        code = generate(&s, &err);
    }
    for (int i = 0; i < s.sampler_count; i++) {
        bw_sampler_release(&s.samplers[i]);
        free(s.rgb[i]);
    }
    bw_denoiser_free(s.denoiser);
    bw_decoder_free(s.decoder);
    bw_model_free(s.model);
    return code ? bw_cmd_failed(&err) : BW_EXIT_OK;
}
