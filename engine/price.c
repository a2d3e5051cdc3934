/* A brick's time over its work is nearly a line, but not one through the origin: conditioning and
 * the last, half empty round of tasks cost the same for little work. So each brick has a few
 * measured points and straight lines between them, and what neither catches is in the ratios. */
#include "engine/price.h"

#include "base/clock.h"
#include "engine/cost.h"
#include "engine/tiles.h"

#include <math.h>
#include <stdlib.h>

static const double cell_memory = 0.9, overall_memory = 0.97;
static const double most_change = 1.5; // that one call can bring about, before it is smoothed

void bw_work_add(struct bw_work *work, const struct bw_arch *arch, int width, int height,
                 uint8_t mask, int passes)
{
    work->mixed = work->mixed || (work->mask && work->mask != mask);
    work->mask |= mask;
    for (int k = 0; k < arch->brick_count; k++) {
        static const int unshifted[2] = {0, 0};
        if (!(mask >> k & 1))
            continue;
        struct bw_cover cover = bw_cover_make(arch, k, width, height, unshifted);
        work->gigaflops[k] += passes * bw_cost_brick_flops(arch, k, width, height) / 1e9;
        work->tokens[k] += passes * cover.tile_count * cover.tile_tokens;
    }
}

bool bw_work_reaches(const struct bw_work *work, int tokens)
{
    bool reaches = true;
    for (int k = 0; k < BW_MAX_BRICKS; k++)
        reaches = reaches && (!(work->mask >> k & 1) || work->tokens[k] >= tokens);
    return reaches;
}

double bw_work_gigaflops(const struct bw_work *work)
{
    double sum = 0;
    for (int k = 0; k < BW_MAX_BRICKS; k++)
        sum += work->gigaflops[k];
    return sum;
}

/* On the measured points; below the first towards what the first line says of no work, beyond the
 * last along the last line, but as if no more than half of the last had nothing to do with how much
 * work it is. */
static double line_ms(const struct bw_price_line *line, double gigaflops)
{
    int i = 0, last = line->count - 1;
    double beyond = fmax(gigaflops - line->gigaflops[last], 0);
    if (last == 0)
        return line->ms[0] * gigaflops / line->gigaflops[0];
    while (i + 1 < last && gigaflops > line->gigaflops[i + 1])
        i++;
    double slope = (line->ms[i + 1] - line->ms[i]) / (line->gigaflops[i + 1] - line->gigaflops[i]);
    double ms = line->ms[i] + slope * (gigaflops - beyond - line->gigaflops[i]);
    return fmax(ms, 1e-4) + beyond * fmax(slope, line->ms[last] / line->gigaflops[last] / 2);
}

static double expected_ms(const struct bw_price *price, const struct bw_work *work)
{
    double sum = 0;
    for (int k = 0; k < price->arch->brick_count; k++)
        sum += work->mask >> k & 1 ? line_ms(&price->lines[k], work->gigaflops[k]) : 0;
    return sum;
}

/* Half octaves of work. */
static int size_cell(const struct bw_work *work)
{
    int cell = (int)lround(2 * log2(bw_work_gigaflops(work) + 1e-9)) + BW_PRICE_SIZES / 3;
    return cell < 0 ? 0 : cell >= BW_PRICE_SIZES ? BW_PRICE_SIZES - 1 : cell;
}

double bw_price_ms(const struct bw_price *price, const struct bw_work *work)
{
    double seen = work->mixed ? 0 : (double)price->ratio[work->mask][size_cell(work)];
    return expected_ms(price, work) * (seen > 0 ? seen : price->overall);
}

/* A call that was held up must not make its mask look so dear that it is never tried again. */
static double believable(double ratio, double known)
{
    return fmax(known / most_change, fmin(ratio, known * most_change));
}

/* A ratio as it was known, 0 if it was not, and what one more call says of it. */
static float learned(float cell, double overall, double ratio)
{
    double known = cell > 0 ? (double)cell : overall;
    double share = cell > 0 ? 1 - cell_memory : 0.5;
    return (float)(known + share * (believable(ratio, known) - known));
}

void bw_price_learn(struct bw_price *price, const struct bw_work *work, double actual_ms)
{
    double ratio = actual_ms / expected_ms(price, work), overall = price->overall;
    price->overall += (1 - overall_memory) * (believable(ratio, overall) - overall);
    if (work->mixed)
        return;
    float *cell = &price->ratio[work->mask][size_cell(work)];
    *cell = learned(*cell, overall, ratio);
}

/* ---- decoding ---- */

/* Half octaves of area. */
static int decode_cell(int width, int height)
{
    int cell = (int)lround(2 * log2((double)width * height));
    return cell < BW_DECODE_SIZES ? cell : BW_DECODE_SIZES - 1;
}

double bw_price_decode_gigaflops(const struct bw_price *price, int width, int height)
{
    const struct bw_decoder *decoder = price->decode.decoder;
    return decoder ? bw_decoder_flops(decoder, width, height) / 1e9 : 0;
}

double bw_price_decode_ms(const struct bw_price *price, int width, int height)
{
    const struct bw_decode_price *p = &price->decode;
    if (!p->decoder)
        return 0;
    double seen = (double)p->ratio[decode_cell(width, height)];
    return p->ms_per_gigaflop * bw_price_decode_gigaflops(price, width, height) *
           (seen > 0 ? seen : p->overall);
}

void bw_price_learn_decode(struct bw_price *price, int width, int height, double actual_ms)
{
    struct bw_decode_price *p = &price->decode;
    double work = bw_price_decode_gigaflops(price, width, height), overall = p->overall;
    double ratio = actual_ms / (p->ms_per_gigaflop * work);
    p->overall += (1 - overall_memory) * (believable(ratio, overall) - overall);
    float *cell = &p->ratio[decode_cell(width, height)];
    *cell = learned(*cell, overall, ratio);
}

/* ---- measuring ---- */

enum { MOST_EVALS = 2, MOST_ROUNDS = 20 };

/* One kind of call to time: so many pictures of that size. */
struct probe {
    int side, evals;
};

/* Pictures of zeros: what is in them does not change how long they take. */
static float *new_pictures(const struct bw_arch *arch, struct bw_eval *evals)
{
    int side = arch->image_size;
    size_t floats = (size_t)arch->channels * (size_t)side * (size_t)side;
    size_t work = bw_eval_work_floats(arch, side, side), each = 2 * floats + work;
    float *memory = calloc(MOST_EVALS * each, sizeof *memory);
    for (int i = 0; memory && i < MOST_EVALS; i++) {
        float *at = memory + (size_t)i * each;
        evals[i] = (struct bw_eval){.x = at,
                                    .sigma = 1,
                                    .label = -1,
                                    .guidance = 1,
                                    .out = at + floats,
                                    .work = at + 2 * floats};
    }
    return memory;
}

static double time_ms(struct bw_denoiser *denoiser, struct bw_eval *evals, struct probe probe,
                      uint8_t mask)
{
    for (int i = 0; i < MOST_EVALS; i++) {
        evals[i].width = evals[i].height = probe.side;
        evals[i].mask = mask;
    }
    double began_ms = bw_now_ms();
    bw_denoise(denoiser, evals, probe.evals);
    return bw_now_ms() - began_ms;
}

/* Noise only ever adds time: the least of several is the best guess. More work takes no less, and
 * no more than in proportion, which also keeps what one slow try says of work far beyond in bounds.
 */
static void add_point(struct bw_price_line *line, double gigaflops, double least_ms)
{
    int last = line->count - 1;
    if (last >= 0 && gigaflops <= line->gigaflops[last])
        return;
    if (last >= 0)
        least_ms = fmax(line->ms[last],
                        fmin(least_ms, line->ms[last] * gigaflops / line->gigaflops[last]));
    line->gigaflops[line->count] = gigaflops;
    line->ms[line->count++] = least_ms;
}

/* The probe of one picture of the model's size: for the first call, when memory and caches are
 * cold, and for all bricks together. */
enum { USUAL = BW_PRICE_POINTS - 2 };

/* Where a single call takes longer than so many times the budget, the first one is all there is of
 * the bricks together, and each alone is timed once: its work then is its price. */
static const double slow_times = 5;

/* [bricks, then all together][probes]: of a brick the least time of several tries, because noise
 * only adds to it; of all together, at one size, what is usual. 0: not timed. */
struct timings {
    double ms[BW_MAX_BRICKS + 1][BW_PRICE_POINTS];
};

static uint8_t mask_of(const struct bw_arch *arch, int k)
{
    return (uint8_t)(k < arch->brick_count ? 1 << k : bw_arch_full_mask(arch));
}

/* A brick alone, or all of them, at every size that there is. */
static void time_one(const struct bw_arch *arch, struct bw_denoiser *denoiser,
                     struct bw_eval *evals, const struct probe *probes, int k, struct timings *t)
{
    bool alone = k < arch->brick_count;
    for (int i = alone ? 0 : USUAL; i <= (alone ? BW_PRICE_POINTS - 1 : USUAL); i++) {
        if (i == 0 && probes[0].side == probes[1].side)
            continue;
        double ms = time_ms(denoiser, evals, probes[i], mask_of(arch, k));
        double known = t->ms[k][i] > 0 ? t->ms[k][i] : ms;
        t->ms[k][i] = alone ? fmin(known, ms) : (known + ms) / 2;
    }
}

static void time_all(const struct bw_arch *arch, struct bw_denoiser *denoiser,
                     struct bw_eval *evals, const struct probe *probes, double budget_ms,
                     struct timings *t)
{
    double first_ms = time_ms(denoiser, evals, probes[USUAL], bw_arch_full_mask(arch));
    if (first_ms > slow_times * budget_ms) {
        for (int k = 0; k < arch->brick_count; k++)
            t->ms[k][USUAL] = time_ms(denoiser, evals, probes[USUAL], mask_of(arch, k));
        t->ms[arch->brick_count][USUAL] = first_ms;
        return;
    }
    double began_ms = bw_now_ms();
    int rounds = 0;
    do {
        for (int k = 0; k <= arch->brick_count; k++)
            time_one(arch, denoiser, evals, probes, k, t);
        rounds++;
    } while (rounds < MOST_ROUNDS && bw_now_ms() - began_ms < budget_ms * rounds / (rounds + 1));
}

int bw_price_measure(struct bw_price *price, const struct bw_arch *arch,
                     struct bw_denoiser *denoiser, double budget_ms, struct bw_err *err)
{
    const struct probe probes[BW_PRICE_POINTS] = {
        {arch->min_size, 1}, {arch->image_size, 1}, {arch->image_size, 2}};
    struct timings timings = {0};
    struct bw_eval evals[MOST_EVALS];
    float *memory = new_pictures(arch, evals);
    if (!memory)
        return bw_err_set(err, BW_ENOMEM, "out of memory for measuring the network");
    time_all(arch, denoiser, evals, probes, budget_ms, &timings);
    free(memory);

    *price = (struct bw_price){.arch = arch, .overall = 1};
    for (int k = 0; k <= arch->brick_count; k++) {
        for (int i = 0; i < BW_PRICE_POINTS; i++) {
            struct bw_work work = {0};
            if (timings.ms[k][i] <= 0)
                continue;
            bw_work_add(&work, arch, probes[i].side, probes[i].side, mask_of(arch, k),
                        probes[i].evals);
            if (k < arch->brick_count)
                add_point(&price->lines[k], bw_work_gigaflops(&work), timings.ms[k][i]);
            else // in company bricks find the caches full of each other's weights
                price->overall = timings.ms[k][i] / expected_ms(price, &work);
        }
    }
    return BW_OK;
}

/* ---- measuring the decoder ---- */

enum { FIRST_DECODE_SIDE = 4, MOST_DECODES = 3 };

/* The least of some tries; negative without memory. */
static double time_decode_ms(const struct bw_decoder *decoder, struct bw_team *team,
                             const float *latent, unsigned char *rgb, int side)
{
    double least_ms = -1;
    for (int i = 0; i < MOST_DECODES; i++) {
        double began_ms = bw_now_ms();
        if (bw_decode(decoder, team, latent, side, side, rgb, NULL, NULL))
            return -1;
        double ms = bw_now_ms() - began_ms;
        least_ms = i && least_ms < ms ? least_ms : ms;
    }
    return least_ms;
}

/* Sides double, so each is about four times the work of the one before. */
int bw_price_measure_decoder(struct bw_price *price, const struct bw_decoder *decoder,
                             struct bw_team *team, double budget_ms, struct bw_err *err)
{
    const int most = price->arch->image_size;
    size_t area = (size_t)most * (size_t)most;
    float *latent = calloc(BW_DECODER_CHANNELS * area, sizeof *latent);
    unsigned char *rgb = malloc(3 * area * BW_DECODER_SCALE * BW_DECODER_SCALE);
    int side = most < FIRST_DECODE_SIDE ? most : FIRST_DECODE_SIDE;
    double ms = latent && rgb ? time_decode_ms(decoder, team, latent, rgb, side) : -1;
    while (ms >= 0 && side < most && 5 * MOST_DECODES * ms < budget_ms) {
        side = 2 * side < most ? 2 * side : most;
        ms = time_decode_ms(decoder, team, latent, rgb, side);
    }
    free(latent);
    free(rgb);
    if (ms < 0)
        return bw_err_set(err, BW_ENOMEM, "out of memory for measuring the decoder");
    price->decode = (struct bw_decode_price){.decoder = decoder, .overall = 1};
    price->decode.ms_per_gigaflop = fmax(ms, 1e-4) / (bw_decoder_flops(decoder, side, side) / 1e9);
    return BW_OK;
}
