/* Every figure is a median over calls made for a fixed time. The machine's limit is what they are
 * shares of, so it is measured again between any two evaluations, by the same number of threads: a
 * CPU under vector load is slower than one that has rested. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "engine/cost.h"
#include "engine/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CALLS = 4096, MOST_BATCH = 8, MEMORY_FLOATS = 1 << 26, SAMPLE_STEPS = 12 };

static const struct bw_option options[] = {
    {"model", "FILE", "the model (default: the one that came with the program)"},
    {"precision", "P", "auto (bf16 where the CPU is fast at it), bf16 or f32"},
    {"threads", "N", "most threads to measure with (default: all cores)"},
    {"batch", "N",
     "measure nothing but all bricks on 1 to 8 pictures; prints milliseconds, or one "
     "figure for machines"},
    {"seconds", "S", "time for each figure (default 1)"},
    {"json", "yes|no", "figures for machines instead of a table (default no)"},
    {NULL, NULL, NULL},
};

struct bench {
    char model_path[BW_PATH_CHARS];
    enum bw_precision precision;
    int threads, batch; // batch 0: the whole run
    double seconds;
    bool json;
    struct bw_model *model;
    struct bw_decoder *decoder; // NULL: the network draws no latents
    double load_ms;
    float *pictures; // [MOST_BATCH, x, out, work]
    struct bw_buf out;
    bool listed; // JSON: an entry stands before
};

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    struct bench *b = context;
    if (strcmp(name, "threads") == 0)
        return bw_cmd_threads(value, &b->threads, err);
    if (strcmp(name, "precision") == 0)
        return bw_cmd_precision(value, &b->precision, err);
    if (strcmp(name, "model") == 0)
        snprintf(b->model_path, sizeof b->model_path, "%s", value);
    else if (strcmp(name, "batch") == 0) {
        int64_t batch;
        if (!bw_text_to_int(value, 1, MOST_BATCH, &batch))
            return bw_err_set(err, BW_ERANGE, "--batch: not an integer of 1..%d", MOST_BATCH);
        b->batch = (int)batch;
    } else if (strcmp(name, "seconds") == 0 && !bw_text_to_number(value, 0.01, 600, &b->seconds))
        return bw_err_set(err, BW_ERANGE, "--seconds: not a number of 0.01..600");
    else if (strcmp(name, "json") == 0)
        return bw_option_choice(name, value, "no", "yes", &b->json, err);
    return BW_OK;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct timed {
    void (*call)(void *);
    void *context;
    double ms; // the median
};

/* Median milliseconds of some calls made in turns. */
static void time_in_turns(const struct bench *b, struct timed *timed, int count)
{
    static double ms[2][MOST_CALLS];
    int calls = 0;
    for (int i = 0; i < count; i++)
        timed[i].call(timed[i].context); // once to warm up
    for (double end = bw_now_ms() + b->seconds * 1e3;
         calls < MOST_CALLS && (calls < 5 || bw_now_ms() < end); calls++) {
        for (int i = 0; i < count; i++) {
            double began = bw_now_ms();
            timed[i].call(timed[i].context);
            ms[i][calls] = bw_now_ms() - began;
        }
    }
    for (int i = 0; i < count; i++) {
        qsort(ms[i], (size_t)calls, sizeof **ms, compare);
        timed[i].ms = ms[i][calls / 2];
    }
}

static double median_ms(const struct bench *b, void (*call)(void *), void *context)
{
    struct timed timed = {call, context, 0};
    time_in_turns(b, &timed, 1);
    return timed.ms;
}

/* ---- the machine's limits ---- */

struct limit {
    struct bw_team *team;
    const struct bw_kernels *kernels;
    const float *memory; // [MEMORY_FLOATS]
    double flops[256], sums[256];
};

static void spin_task(void *context, int task, int member)
{
    struct limit *l = context;
    (void)member;
    l->flops[task] = l->kernels->spin(1000000);
}

static void spin_all(void *context)
{
    struct limit *l = context;
    bw_team_run(l->team, spin_task, l, bw_team_threads(l->team));
}

static void read_task(void *context, int task, int member)
{
    struct limit *l = context;
    size_t share = MEMORY_FLOATS / (size_t)bw_team_threads(l->team) / 16 * 16;
    const float *at = l->memory + (size_t)task * share;
    float sums[16] = {0};
    (void)member;
    for (size_t i = 0; i < share; i += 16)
        for (int j = 0; j < 16; j++)
            sums[j] += at[i + (size_t)j];
    for (int j = 0; j < 16; j++)
        l->sums[task] += sums[j];
}

static void read_all(void *context)
{
    struct limit *l = context;
    bw_team_run(l->team, read_task, l, bw_team_threads(l->team));
}

/* FLOP/s of the kernels' multiply-adds when spin_all() takes so long. */
static double limit_flops(const struct limit *l, double ms)
{
    double sum = 0;
    for (int i = 0; i < bw_team_threads(l->team); i++)
        sum += l->flops[i];
    return sum / ms * 1e3;
}

static double measure_flops(const struct bench *b, struct bw_team *team)
{
    struct limit l = {.team = team, .kernels = b->model->kernels};
    return limit_flops(&l, median_ms(b, spin_all, &l));
}

/* Bytes read from main memory a second. */
static double measure_memory(const struct bench *b, struct bw_team *team)
{
    float *memory = malloc(sizeof(float) * MEMORY_FLOATS);
    if (!memory)
        return 0;
    memset(memory, 0, sizeof(float) * MEMORY_FLOATS);
    struct limit l = {.team = team, .memory = memory};
    double ms = median_ms(b, read_all, &l);
    free(memory);
    return sizeof(float) * MEMORY_FLOATS / ms * 1e3;
}

/* ---- the network ---- */

struct evaluation {
    struct bw_denoiser *denoiser;
    struct bw_eval evals[MOST_BATCH];
    int batch;
};

static void evaluate(void *context)
{
    struct evaluation *e = context;
    bw_denoise(e->denoiser, e->evals, e->batch);
}

static struct evaluation make_evaluation(const struct bench *b, struct bw_denoiser *denoiser,
                                         int batch, uint8_t mask)
{
    int side = b->model->arch.image_size;
    size_t floats = (size_t)b->model->arch.channels * (size_t)side * (size_t)side;
    struct evaluation e = {.denoiser = denoiser, .batch = batch};
    for (int i = 0; i < batch; i++) {
        float *x = b->pictures + (size_t)i * 6 * floats;
        e.evals[i] = (struct bw_eval){.width = side,
                                      .height = side,
                                      .x = x,
                                      .sigma = 1,
                                      .label = b->model->arch.class_count ? 0 : -1,
                                      .guidance = 1,
                                      .mask = mask,
                                      .out = x + floats,
                                      .work = x + 2 * floats};
    }
    return e;
}

/* One figure: a line of the table or an entry of the JSON list. */
static void report(struct bench *b, int threads, int batch, uint8_t mask, double ms, double limit)
{
    const struct bw_arch *arch = &b->model->arch;
    double flops = batch * bw_cost_flops(arch, arch->image_size, arch->image_size, mask);
    double rate = flops / ms * 1e3;
    char bricks[BW_MAX_BRICKS + 1] = "";
    for (int k = 0; k < arch->brick_count; k++)
        bricks[k] = mask >> k & 1 ? '1' : '0';
    if (b->json)
        bw_buf_addf(
            &b->out,
            "%s{\"threads\":%d,\"batch\":%d,\"bricks\":\"%s\",\"ms\":%.4f,\"ms_per_picture\":%.4f,"
            "\"gigaflops\":%.4f,\"gflops_per_s\":%.1f,\"limit_gflops_per_s\":%.1f,"
            "\"share_of_limit\":%.4f}",
            b->listed ? "," : "", threads, batch, bricks, ms, ms / batch, flops / 1e9, rate / 1e9,
            limit / 1e9, rate / limit);
    else
        bw_buf_addf(&b->out, "  %7d %6d  %-8s %10.2f %10.2f %9.0f %9.0f %8.1f %%\n", threads, batch,
                    bricks, ms, ms / batch, rate / 1e9, limit / 1e9, 100 * rate / limit);
    b->listed = true;
}

static void bench_mask(struct bench *b, struct bw_denoiser *denoiser, struct bw_team *team,
                       int batch, uint8_t mask)
{
    struct evaluation e = make_evaluation(b, denoiser, batch, mask);
    struct limit l = {.team = team, .kernels = b->model->kernels};
    struct timed timed[2] = {{evaluate, &e, 0}, {spin_all, &l, 0}};
    time_in_turns(b, timed, 2);
    report(b, bw_team_threads(team), batch, mask, timed[0].ms, limit_flops(&l, timed[1].ms));
}

/* Every mask, all bricks first, for small and large batches. */
static int bench_threads(struct bench *b, int threads, struct bw_err *err)
{
    static const int batches[] = {1, MOST_BATCH};
    struct bw_denoiser *denoiser = NULL;
    struct bw_team *team = NULL;
    int code = bw_denoiser_new(&denoiser, b->model, threads, err);
    if (!code)
        code = bw_team_new(&team, threads, err);
    for (int i = 0; !code && i < 2; i++) {
        for (int mask = bw_arch_full_mask(&b->model->arch); mask > 0; mask--)
            bench_mask(b, denoiser, team, batches[i], (uint8_t)mask);
    }
    bw_team_free(team);
    bw_denoiser_free(denoiser);
    return code;
}

/* ---- a whole picture ---- */

struct picture {
    const struct bw_arch *arch;
    struct bw_denoiser *denoiser;
    struct bw_plan plan;
    unsigned char *rgb;
    double network_ms, all_ms; // of all calls
};

static void sample(void *context)
{
    struct picture *p = context;
    struct bw_sampler sampler;
    struct bw_eval eval;
    double start = bw_now_ms();
    if (bw_sampler_init(&sampler, p->arch, &p->plan, NULL, NULL))
        return;
    while (bw_sampler_want(&sampler, &eval)) {
        double began = bw_now_ms();
        bw_denoise(p->denoiser, &eval, 1);
        p->network_ms += bw_now_ms() - began;
        bw_sampler_take(&sampler);
    }
    bw_sampler_bytes(&sampler, p->rgb);
    bw_sampler_release(&sampler);
    p->all_ms += bw_now_ms() - start;
}

/* Not getrusage(): whoever started this program counts there as well. 0 if the system does not say.
 */
static double peak_rss_mib(void)
{
    struct bw_buf text = {0};
    const char *line = bw_buf_add_file(&text, "/proc/self/status", NULL) || !text.data
                           ? NULL
                           : strstr(text.data, "\nVmHWM:");
    double mib = line ? strtod(line + 7, NULL) / 1024 : 0;
    bw_buf_release(&text);
    return mib;
}

static int bench_picture(struct bench *b, struct bw_err *err)
{
    const struct bw_arch *arch = &b->model->arch;
    struct picture p = {.arch = arch};
    struct bw_picture asked = bw_picture_default();
    asked.steps = SAMPLE_STEPS;
    asked.class_index = arch->class_count ? 0 : BW_CLASS_NONE;
    int code = bw_plan_make(&p.plan, arch, &asked, 1 << 24, err);
    if (!code)
        code = bw_denoiser_new(&p.denoiser, b->model, b->threads, err);
    if (code)
        return code;
    p.rgb = (unsigned char *)b->pictures;
    double ms = median_ms(b, sample, &p);
    double outside = 100 * (1 - p.network_ms / p.all_ms);
    bw_buf_addf(&b->out,
                b->json
                    ? "],\"picture\":{\"steps\":%d,\"evaluations\":%d,\"ms\":%.3f,"
                      "\"outside_network_percent\":%.2f}"
                    : "\na picture of %d steps, %d evaluations: %.1f ms, %.1f %% of it outside the "
                      "network\n",
                SAMPLE_STEPS, bw_plan_evaluations(&p.plan), ms, outside);
    bw_denoiser_free(p.denoiser);
    return BW_OK;
}

/* ---- the decoder ---- */

struct decoding {
    const struct bw_decoder *decoder;
    struct bw_team *team;
    float *latent;      // [4, side, side]
    unsigned char *rgb; // [8*side, 8*side, 3]
    int side;
    struct bw_err err;
};

static void decode(void *context)
{
    struct decoding *d = context;
    bw_decode(d->decoder, d->team, d->latent, d->side, d->side, d->rgb, NULL, &d->err);
}

/* A picture of the model's own size, as a share of the limit like an evaluation. */
static int bench_decoder(struct bench *b, struct bw_err *err)
{
    size_t area = (size_t)b->model->arch.image_size * (size_t)b->model->arch.image_size;
    struct decoding d = {.decoder = b->decoder,
                         .latent = calloc(BW_DECODER_CHANNELS * area, sizeof(float)),
                         .rgb = malloc(3 * area * BW_DECODER_SCALE * BW_DECODER_SCALE),
                         .side = b->model->arch.image_size};
    int code = d.rgb && d.latent ? bw_team_new(&d.team, b->threads, err)
                                 : bw_err_set(err, BW_ENOMEM, "out of memory");
    if (!code) {
        struct limit l = {.team = d.team, .kernels = b->model->kernels};
        struct timed timed[2] = {{decode, &d, 0}, {spin_all, &l, 0}};
        time_in_turns(b, timed, 2);
        code = d.err.code ? bw_err_set(err, d.err.code, "%s", d.err.message) : BW_OK;
        double flops = bw_decoder_flops(d.decoder, d.side, d.side);
        double rate = flops / timed[0].ms * 1e3, limit = limit_flops(&l, timed[1].ms);
        bw_buf_addf(&b->out,
                    b->json ? ",\"decoder\":{\"ms\":%.3f,\"gigaflops\":%.4f,\"gflops_per_s\":%.1f,"
                              "\"limit_gflops_per_s\":%.1f,\"share_of_limit\":%.4f}"
                            : "decoding it: %.1f ms, %.1f GFLOP, %.0f of %.0f GFLOP/s, %.3f of the "
                              "limit\n",
                    timed[0].ms, flops / 1e9, rate / 1e9, limit / 1e9, rate / limit);
    }
    bw_team_free(d.team);
    free(d.latent);
    free(d.rgb);
    return code;
}

/* ---- the whole run ---- */

static void report_limits(struct bench *b, int threads, double flops, double bytes)
{
    const char *name = b->model->kernels->name;
    if (b->json)
        bw_buf_addf(&b->out, "%s{\"threads\":%d,\"gflops_per_s\":%.1f,\"memory_gb_per_s\":%.2f}",
                    b->listed ? "," : "", threads, flops / 1e9, bytes / 1e9);
    else
        bw_buf_addf(&b->out,
                    "limit of %s with %d thread%s, rested: %.0f GFLOP/s; memory is read at %.1f "
                    "GB/s\n",
                    name, threads, threads > 1 ? "s" : "", flops / 1e9, bytes / 1e9);
    b->listed = true;
}

static void report_end(struct bench *b)
{
    bw_buf_addf(&b->out,
                b->json ? ",\"load_ms\":%.2f,\"peak_rss_mib\":%.1f}\n"
                        : "loading the model: %.1f ms; peak RSS of this run: %.1f MiB\n",
                b->load_ms, peak_rss_mib());
}

static int prepare(struct bench *b, struct bw_err *err)
{
    double began = bw_now_ms();
    int code = bw_cmd_load(&b->model, b->model_path, b->precision, err);
    if (code)
        return code;
    code = bw_cmd_load_decoder(&b->decoder, b->model, b->model_path, err);
    if (code)
        return code;
    b->load_ms = bw_now_ms() - began;
    size_t side = (size_t)b->model->arch.image_size;
    b->pictures =
        calloc(MOST_BATCH * 6 * (size_t)b->model->arch.channels * side * side, sizeof(float));
    if (!b->pictures)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    return BW_OK;
}

/* The one figure beside the limit, and what loading took. */
static int figure_of_one(struct bench *b, struct bw_denoiser *denoiser, struct bw_err *err)
{
    struct bw_team *team;
    int code = bw_team_new(&team, b->threads, err);
    if (code)
        return code;
    bw_buf_addf(&b->out, "{\"kernels\":\"%s\",\"parameters\":%zu,\"load_ms\":%.2f,\"evaluation\":",
                b->model->kernels->name, b->model->parameter_count, b->load_ms);
    bench_mask(b, denoiser, team, b->batch, bw_arch_full_mask(&b->model->arch));
    bw_buf_addf(&b->out, ",\"peak_rss_mib\":%.1f}\n", peak_rss_mib());
    bw_team_free(team);
    return BW_OK;
}

static int run_one(struct bench *b, struct bw_err *err)
{
    struct bw_denoiser *denoiser;
    int code = bw_denoiser_new(&denoiser, b->model, b->threads, err);
    if (code)
        return code;
    if (b->json) {
        code = figure_of_one(b, denoiser, err);
    } else {
        struct evaluation e =
            make_evaluation(b, denoiser, b->batch, bw_arch_full_mask(&b->model->arch));
        bw_buf_addf(&b->out, "%.4f\n", median_ms(b, evaluate, &e));
    }
    bw_denoiser_free(denoiser);
    return code;
}

static int run_all(struct bench *b, struct bw_err *err)
{
    int counts[2] = {1, b->threads}, rounds = b->threads > 1 ? 2 : 1, code = BW_OK;
    if (b->json)
        bw_buf_addf(&b->out, "{\"kernels\":\"%s\",\"limits\":[", b->model->kernels->name);
    for (int i = 0; !code && i < rounds; i++) {
        struct bw_team *team;
        code = bw_team_new(&team, counts[i], err);
        if (code)
            return code;
        report_limits(b, counts[i], measure_flops(b, team), measure_memory(b, team));
        bw_team_free(team);
    }
    b->listed = false;
    bw_buf_addf(&b->out,
                b->json
                    ? "],\"evaluations\":["
                    : "\n  threads  batch  bricks      ms/call ms/picture   GFLOP/s     limit    "
                      "share\n");
    for (int i = 0; !code && i < rounds; i++)
        code = bench_threads(b, counts[i], err);
    if (!code)
        code = bench_picture(b, err);
    if (!code && b->decoder)
        code = bench_decoder(b, err);
    report_end(b);
    return code;
}

int bw_cmd_bench(int count, char **arguments)
{
    struct bench b = {.threads = bw_cmd_all_cores(), .seconds = 1};
    struct bw_err err = {0};
    bool help;
    bw_default_model(b.model_path);
    int code = bw_options_read(options, count, arguments, set_option, &b, &help, &err);
    if (!code && help) {
        bw_options_help(
            "usage: brickwork bench [options]\n\nMeasures this machine's limits and, as shares "
            "of them, evaluations of the network:\nevery mask, one picture and eight, one "
            "thread and all; of a model of latents its\ndecoder as well.",
            options);
        return BW_EXIT_OK;
    }
    if (!code)
        code = prepare(&b, &err);
    if (!code)
        code = b.batch ? run_one(&b, &err) : run_all(&b, &err);
    if (!code && b.out.failed)
        code = bw_err_set(&err, BW_ENOMEM, "out of memory");
    if (!code)
        fputs(b.out.data, stdout);
    bw_buf_release(&b.out);
    free(b.pictures);
    bw_decoder_free(b.decoder);
    bw_model_free(b.model);
    return code ? bw_cmd_failed(&err) : BW_EXIT_OK;
}
