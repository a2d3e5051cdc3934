/* An evaluation becomes one pass through the bricks, or two with guidance. All passes move brick by
 * brick: those whose mask holds the brick run it together, the others stand still. */
#include "engine/denoiser.h"

#include "engine/brick.h"
#include "engine/gemm.h"
#include "engine/ops.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PASSES = 16 };

/* Karras et al., table 1. */
struct preconditioning {
    float skip, out, in;
};

struct denoise_pass {
    struct bw_pass pass;
    const struct bw_eval *eval;
    int label;
    float *images[2]; // [channels, height, width] each: the bricks' outputs, in turn
    float *result;    // the last brick's output
};

struct bw_denoiser {
    const struct bw_model *model;
    struct bw_team *team;
    struct bw_arena arena;
    struct bw_brick_scratch *scratch;
    float *features;   // [MAX_PASSES, BW_TIME_FEATURES]
    float *embedding;  // [MAX_PASSES, hidden]
    float *condition;  // [MAX_PASSES, hidden]: silu of the conditioning vector
    void *narrowed;    // [MAX_PASSES, hidden]: the same as activations
    float *modulation; // [MAX_PASSES, modulation_width]
    struct denoise_pass passes[MAX_PASSES];
    int pass_count;
    uint8_t masks;               // bricks that any pass runs
    const struct bw_eval *evals; // of the group at hand
};

static struct preconditioning precondition(double sigma, double sigma_data)
{
    double s2 = sigma * sigma + sigma_data * sigma_data;
    return (struct preconditioning){.skip = (float)(sigma_data * sigma_data / s2),
                                    .out = (float)(sigma * sigma_data / sqrt(s2)),
                                    .in = (float)(1 / sqrt(s2))};
}

static size_t image_floats(const struct bw_arch *arch, int width, int height)
{
    return (size_t)arch->channels * (size_t)width * (size_t)height;
}

size_t bw_eval_work_floats(const struct bw_arch *arch, int width, int height)
{
    return 4 * image_floats(arch, width, height); // two passes, two images each
}

static void plan_memory(struct bw_denoiser *d, int threads)
{
    size_t hidden = (size_t)d->model->arch.hidden;
    d->scratch = bw_brick_scratch_take(&d->arena, d->model, threads);
    d->features = BW_TAKE(&d->arena, float, (size_t)MAX_PASSES *BW_TIME_FEATURES);
    d->embedding = BW_TAKE(&d->arena, float, MAX_PASSES *hidden);
    d->condition = BW_TAKE(&d->arena, float, MAX_PASSES *hidden);
    d->narrowed =
        bw_arena_take(&d->arena, MAX_PASSES * hidden, (size_t)d->model->kernels->activation_bytes);
    d->modulation = BW_TAKE(&d->arena, float, MAX_PASSES * d->model->modulation_width);
}

int bw_denoiser_new(struct bw_denoiser **out, const struct bw_model *model, int threads,
                    struct bw_err *err)
{
    struct bw_denoiser *d = calloc(1, sizeof *d);
    if (!d)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    d->model = model;
    bw_gemm_setup();
    plan_memory(d, threads);
    int code = bw_arena_reserve(&d->arena, err);
    if (!code) {
        plan_memory(d, threads);
        code = bw_team_new(&d->team, threads, err);
    }
    if (code)
        bw_denoiser_free(d);
    else
        *out = d;
    return code;
}

void bw_denoiser_free(struct bw_denoiser *denoiser)
{
    if (!denoiser)
        return;
    bw_team_free(denoiser->team);
    bw_arena_release(&denoiser->arena);
    free(denoiser);
}

struct bw_team *bw_denoiser_team(struct bw_denoiser *denoiser)
{
    return denoiser->team;
}

/* Task: silu(c) of one pass, c = MLP(timestep embedding of ln(sigma)/4) + class embedding. */
static void run_condition(void *context, int task, int member)
{
    struct bw_denoiser *d = context;
    const struct bw_model *m = d->model;
    struct denoise_pass *p = &d->passes[task];
    int hidden = m->arch.hidden, half = BW_TIME_FEATURES / 2;
    float *features = d->features + (size_t)task * BW_TIME_FEATURES;
    float *embedding = d->embedding + (size_t)task * (size_t)hidden;
    float *condition = d->condition + (size_t)task * (size_t)hidden;
    float noise = (float)(log(p->eval->sigma) / 4);
    (void)member;
    for (int i = 0; i < half; i++) {
        float angle = noise * (float)pow(10000, -(double)i / half);
        features[i] = cosf(angle);
        features[half + i] = sinf(angle);
    }
    bw_matvec(hidden, BW_TIME_FEATURES, m->time1.w, m->time1.b, features, embedding);
    bw_silu(hidden, embedding, embedding);
    bw_matvec(hidden, hidden, m->time2.w, m->time2.b, embedding, condition);
    const float *classes = m->classes.w;
    for (int i = 0; classes && i < hidden; i++) {
        const float *row = classes + (size_t)i * (size_t)m->classes.inputs;
        condition[i] += (p->label < 0 ? 0 : row[p->label]) + m->classes.b[i];
    }
    bw_silu(hidden, condition, condition);
    size_t at = (size_t)task * (size_t)hidden * (size_t)m->kernels->activation_bytes;
    m->kernels->narrow(1, hidden, condition, (unsigned char *)d->narrowed + at);
}

/* Task: one strip of the modulation vector of every pass. */
static void run_modulation(void *context, int task, int member)
{
    struct bw_denoiser *d = context;
    const struct bw_model *m = d->model;
    const struct bw_modulation_strip *strip = &m->strips[task];
    (void)member;
    if (d->masks >> strip->brick & 1)
        m->kernels->vectors(d->pass_count, strip->row, BW_MODULATION_ROWS, strip->from->inputs,
                            d->narrowed, strip->from->w, strip->from->b,
                            d->modulation + (size_t)task * BW_MODULATION_ROWS, m->modulation_width);
}

static void run_brick(struct bw_denoiser *d, int k)
{
    struct bw_pass *active[MAX_PASSES];
    const struct bw_arch *arch = &d->model->arch;
    int count = 0;
    for (int i = 0; i < d->pass_count; i++) {
        struct denoise_pass *p = &d->passes[i];
        if (!(p->pass.mask >> k & 1))
            continue;
        p->pass.cover = bw_cover_make(arch, k, p->eval->width, p->eval->height, p->eval->shifts[k]);
        p->pass.input.has_below = k > 0;
        p->pass.input.below = p->result;
        p->pass.output = p->images[p->result == p->images[0]];
        active[count++] = &p->pass;
    }
    if (count)
        bw_brick_run(d->model, k, active, count, d->team, d->scratch);
    for (int i = 0; i < d->pass_count; i++) {
        struct denoise_pass *p = &d->passes[i];
        const struct bw_eval *e = p->eval;
        if (!(p->pass.mask >> k & 1))
            continue;
        p->result = p->pass.output;
        if (e->trace[k] && p->label == e->label)
            memcpy(e->trace[k], p->result, sizeof(float) * image_floats(arch, e->width, e->height));
    }
}

/* Task: the denoised picture of one evaluation from its one or two passes. */
static void run_combine(void *context, int task, int member)
{
    struct bw_denoiser *d = context;
    const struct bw_eval *e = &d->evals[task];
    const struct preconditioning c = precondition(e->sigma, d->model->arch.sigma_data);
    size_t floats = image_floats(&d->model->arch, e->width, e->height);
    const float *with = NULL, *without = NULL;
    (void)member;
    for (int i = 0; i < d->pass_count; i++) {
        if (d->passes[i].eval == e)
            *(with ? &without : &with) = d->passes[i].result;
    }
    assert(with);
    float guidance = (float)e->guidance;
    for (size_t i = 0; i < floats; i++) {
        float conditional = c.skip * e->x[i] + c.out * with[i];
        float unconditional = without ? c.skip * e->x[i] + c.out * without[i] : 0;
        e->out[i] =
            without ? unconditional + guidance * (conditional - unconditional) : conditional;
    }
}

int bw_eval_passes(const struct bw_eval *eval)
{
    return eval->guidance == 1 || eval->label < 0 ? 1 : 2;
}

static void add_passes(struct bw_denoiser *d, const struct bw_eval *eval)
{
    size_t floats = image_floats(&d->model->arch, eval->width, eval->height);
    const struct preconditioning c = precondition(eval->sigma, d->model->arch.sigma_data);
    for (int i = 0; i < bw_eval_passes(eval); i++) {
        struct denoise_pass *p = &d->passes[d->pass_count++];
        d->masks |= eval->mask;
        p->eval = eval;
        p->label = i ? -1 : eval->label;
        p->images[0] = eval->work + (size_t)(2 * i) * floats;
        p->images[1] = p->images[0] + floats;
        p->result = NULL;
        p->pass = (struct bw_pass){
            .mask = eval->mask,
            .input = {.image = eval->x, .scale = c.in, .channels = d->model->arch.channels},
            .modulation = d->modulation + (size_t)(p - d->passes) * d->model->modulation_width,
        };
    }
}

static void run_group(struct bw_denoiser *d, const struct bw_eval *evals, int count)
{
    d->evals = evals;
    d->pass_count = 0;
    d->masks = 0;
    for (int i = 0; i < count; i++)
        add_passes(d, &evals[i]);
    bw_team_run(d->team, run_condition, d, d->pass_count);
    bw_team_run(d->team, run_modulation, d, (int)(d->model->modulation_width / BW_MODULATION_ROWS));
    for (int k = 0; k < d->model->arch.brick_count; k++)
        run_brick(d, k);
    bw_team_run(d->team, run_combine, d, count);
}

void bw_denoise(struct bw_denoiser *denoiser, const struct bw_eval *evals, int count)
{
    while (count > 0) {
        int taken = 0, passes = 0;
        while (taken < count && passes + bw_eval_passes(&evals[taken]) <= MAX_PASSES)
            passes += bw_eval_passes(&evals[taken++]);
        run_group(denoiser, evals, taken);
        evals += taken;
        count -= taken;
    }
}
