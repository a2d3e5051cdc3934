/* Each solver is one function that moves x from one noise level to the next by the denoiser's
 * answer. Heun takes two answers per step; `correct` says which one is due. */
#include "engine/sampler.h"

#include "engine/rng.h"
#include "engine/schedule.h"

#include <assert.h>
#include <math.h>

static size_t element_count(const struct bw_sampler *s)
{
    return (size_t)s->arch->channels * (size_t)s->plan.width * (size_t)s->plan.height;
}

static void plan_memory(struct bw_sampler *s)
{
    size_t count = element_count(s);
    s->x = BW_TAKE(&s->memory, double, count);
    s->next = BW_TAKE(&s->memory, double, s->plan.solver == BW_HEUN ? count : 0);
    s->old = BW_TAKE(&s->memory, double, s->plan.solver == BW_DPMPP2M ? count : 0);
    s->input = BW_TAKE(&s->memory, float, count);
    s->out = BW_TAKE(&s->memory, float, count);
    s->work =
        BW_TAKE(&s->memory, float, bw_eval_work_floats(s->arch, s->plan.width, s->plan.height));
}

int bw_sampler_init(struct bw_sampler *sampler, const struct bw_arch *arch,
                    const struct bw_plan *plan, const float *noise, struct bw_err *err)
{
    struct bw_sampler s = {.arch = arch, .plan = *plan};
    plan_memory(&s);
    int code = bw_arena_reserve(&s.memory, err);
    if (code)
        return code;
    plan_memory(&s);
    size_t count = element_count(&s);
    if (!noise)
        bw_noise(plan->seed, plan->index, count, s.input);
    for (size_t i = 0; i < count; i++)
        s.x[i] = (double)(noise ? noise[i] : s.input[i]) * bw_sigma(0, plan->steps);
    *sampler = s;
    return BW_OK;
}

void bw_sampler_release(struct bw_sampler *sampler)
{
    bw_arena_release(&sampler->memory);
    *sampler = (struct bw_sampler){0};
}

/* The R2 low-discrepancy sequence: the same fraction of every local brick's size, another each
 * step. */
static void tile_shifts(const struct bw_arch *arch, int step, int shifts[BW_MAX_BRICKS][2])
{
    double u = fmod(0.7548776662466927 * step, 1), v = fmod(0.5698402909980532 * step, 1);
    for (int k = 0; k < arch->brick_count; k++) {
        bool local = !bw_arch_is_global(arch, k);
        shifts[k][0] = local ? (int)(u * arch->bricks[k].size) : 0;
        shifts[k][1] = local ? (int)(v * arch->bricks[k].size) : 0;
    }
}

bool bw_sampler_want(struct bw_sampler *sampler, struct bw_eval *eval)
{
    struct bw_sampler *s = sampler;
    if (s->step == s->plan.steps)
        return false;
    const double *from = s->correct ? s->next : s->x;
    for (size_t i = 0, count = element_count(s); i < count; i++)
        s->input[i] = (float)from[i];
    *eval = (struct bw_eval){
        .width = s->plan.width,
        .height = s->plan.height,
        .x = s->input,
        .sigma = bw_sigma(s->step + s->correct, s->plan.steps),
        .label = s->plan.label,
        .guidance = s->plan.guidance,
        .mask = s->plan.masks[s->step],
        .out = s->out,
        .work = s->work,
    };
    tile_shifts(s->arch, s->step, eval->shifts);
    return true;
}

static void take_euler(struct bw_sampler *s, double sigma, double next)
{
    for (size_t i = 0, count = element_count(s); i < count; i++)
        s->x[i] += (next - sigma) * (s->x[i] - s->out[i]) / sigma;
}

/* First the prediction, an Euler step; then the correction by the mean of both slopes. */
static void take_heun(struct bw_sampler *s, double sigma, double next)
{
    for (size_t i = 0, count = element_count(s); i < count; i++) {
        if (!s->correct) {
            s->next[i] = s->x[i] + (next - sigma) * (s->x[i] - s->out[i]) / sigma;
        } else {
            double slope = (s->next[i] - s->x[i]) / (next - sigma); // the predicting slope again
            double corrected = (s->next[i] - s->out[i]) / next;
            s->x[i] += (next - sigma) * 0.5 * (slope + corrected);
        }
    }
    s->correct = !s->correct;
}

/* On lambda = -ln(sigma); the first step has no older estimate and is of first order. */
static void take_dpmpp2m(struct bw_sampler *s, double sigma, double next)
{
    double h = log(sigma / next), older = 0;
    if (s->step > 0)
        older = h / (2 * log(bw_sigma(s->step - 1, s->plan.steps) / sigma));
    for (size_t i = 0, count = element_count(s); i < count; i++) {
        double estimate = s->out[i];
        if (s->step > 0)
            estimate += older * (s->out[i] - s->old[i]);
        s->x[i] = next / sigma * s->x[i] - expm1(-h) * estimate;
        s->old[i] = s->out[i];
    }
}

void bw_sampler_take(struct bw_sampler *sampler)
{
    struct bw_sampler *s = sampler;
    double sigma = bw_sigma(s->step, s->plan.steps), next = bw_sigma(s->step + 1, s->plan.steps);
    if (next == 0) {
        for (size_t i = 0, count = element_count(s); i < count; i++)
            s->x[i] = s->out[i];
    } else if (s->plan.solver == BW_EULER) {
        take_euler(s, sigma, next);
    } else if (s->plan.solver == BW_HEUN) {
        take_heun(s, sigma, next);
    } else {
        take_dpmpp2m(s, sigma, next);
    }
    s->step += !s->correct;
}

int bw_sampler_steps_done(const struct bw_sampler *sampler)
{
    return sampler->step;
}

static unsigned char to_byte(float level)
{
    float value = level * 127.5f + 128;
    bool above = value > 0; // false for NaN as well
    return (unsigned char)(!above ? 0 : value > 255 ? 255 : value);
}

void bw_sampler_estimate(const struct bw_sampler *sampler, unsigned char *rgb)
{
    // what interfaces to Stable Diffusion 1 have settled on for previews; of latents as it scales
    // them
    static const float latents[4][3] = {{0.298f, 0.207f, 0.208f},
                                        {0.187f, 0.286f, 0.173f},
                                        {-0.158f, 0.189f, 0.264f},
                                        {-0.184f, -0.271f, -0.473f}};
    static const float pixels[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    size_t plane = (size_t)sampler->plan.width * (size_t)sampler->plan.height;
    int channels = sampler->arch->channels;
    const float(*weights)[3] = channels == 3 ? pixels : latents;
    assert(channels == 3 || channels == 4);
    for (size_t i = 0; i < 3 * plane; i++) {
        float level = 0;
        for (int c = 0; c < channels; c++)
            level += weights[c][i % 3] * sampler->out[(size_t)c * plane + i / 3];
        rgb[i] = to_byte(level);
    }
}

void bw_sampler_bytes(const struct bw_sampler *sampler, unsigned char *rgb)
{
    size_t plane = (size_t)sampler->plan.width * (size_t)sampler->plan.height;
    size_t channels = (size_t)sampler->arch->channels;
    for (size_t i = 0; i < plane * channels; i++)
        rgb[i] = to_byte((float)sampler->x[i % channels * plane + i / channels]);
}

const float *bw_sampler_result(const struct bw_sampler *sampler)
{
    assert(sampler->step == sampler->plan.steps);
    return sampler->out; // the last step goes to where the network says
}
