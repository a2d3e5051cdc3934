/* Presets come down to one number, an exchange rate between loss and cost: at each step the mask
 * with the least sum of both wins, and the rate is as high as the preset's bound on the loss
 * allows. */
#include "engine/schedule.h"

#include "engine/cost.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const struct bw_preset bw_presets[] = {
    {"light", 0.01, 0.25},
    {"balanced", 0.05, 0.50},
    {"fast", 0.15, 0.75},
    {NULL, 0, 0},
};

double bw_sigma(int i, int steps)
{
    const double low = pow(0.002, 1 / 7.0), high = pow(80, 1 / 7.0);
    if (i >= steps)
        return 0;
    return pow(high + (double)i / (steps > 1 ? steps - 1 : 1) * (low - high), 7);
}

double bw_schedule_excess(const struct bw_arch *arch, const uint8_t *masks, int steps)
{
    double sum = 0;
    for (int i = 0; arch->skip_loss.sigma_count && i < steps; i++)
        sum += bw_arch_excess_loss(arch, bw_sigma(i, steps), masks[i]);
    return sum / steps;
}

/* What the rule weighs: relative to the full network, at each step and for each mask. */
struct trade {
    int steps, mask_count;
    float excess[BW_MAX_STEPS][BW_MAX_MASKS]; // [steps, mask_count] loss(mask)/loss(full) - 1
    float cost[BW_MAX_MASKS];                 // [mask_count] cost(mask)/cost(full)
};

static void fill_trade(struct trade *t, const struct bw_arch *arch, int steps, const double *cost)
{
    uint8_t full = bw_arch_full_mask(arch);
    t->steps = steps;
    t->mask_count = full + 1;
    for (int mask = 1; mask <= full; mask++) {
        t->cost[mask] = (float)(cost[mask] / cost[full]);
        for (int i = 0; i < steps; i++)
            t->excess[i][mask] =
                (float)bw_arch_excess_loss(arch, bw_sigma(i, steps), (uint8_t)mask);
    }
}

/* At each step the mask with the least excess + rate * cost; returns the mean excess. */
static double masks_at_rate(const struct trade *t, double rate, uint8_t *masks)
{
    double excess = 0;
    for (int i = 0; i < t->steps; i++) {
        int best = t->mask_count - 1;
        for (int mask = best - 1; mask > 0; mask--) {
            if (t->excess[i][mask] + rate * t->cost[mask] <
                t->excess[i][best] + rate * t->cost[best])
                best = mask;
        }
        masks[i] = (uint8_t)best;
        excess += t->excess[i][best]; // NOLINT(clang-analyzer-core.uninitialized.Assign): filled
    }
    return excess / t->steps;
}

/* The largest exchange rate that keeps the bound, and its masks, by bisection: excess only grows
 * with the rate. */
static double rate_within(const struct trade *trade, double max_excess, uint8_t *masks)
{
    uint8_t tried[BW_MAX_STEPS];
    double low = 1e-6, high = 1e3;
    memset(masks, trade->mask_count - 1, (size_t)trade->steps);
    for (int round = 0; round < 40; round++) {
        double rate = sqrt(low * high);
        if (masks_at_rate(trade, rate, tried) <= max_excess) {
            memcpy(masks, tried, (size_t)trade->steps);
            low = rate;
        } else {
            high = rate;
        }
    }
    return low;
}

/* Zheng et al., section 4: the top brick rests for a share of the steps. A top brick that sees as
 * much as any other (growth, U) has drawn the picture's layout early and rests at the end; one that
 * refines small tiles (refinement) has nothing to refine at first and rests at the beginning. */
static void masks_for_t_break(const struct bw_arch *arch, double t_break, int steps, uint8_t *masks)
{
    int top = arch->brick_count - 1, rest = top ? (int)lround(t_break * steps) : 0;
    bool at_end = true;
    for (int k = 0; k < top; k++)
        at_end = at_end && arch->bricks[top].size >= arch->bricks[k].size;
    for (int i = 0; i < steps; i++) {
        bool rests = at_end ? i >= steps - rest : i < rest;
        masks[i] = (uint8_t)(bw_arch_full_mask(arch) & ~(rests << top));
    }
}

/* The first step that a range up to `until` does not hold; forgives the rounding of a fraction such
 * as 2/3 written with six decimals. */
static int range_end(double until, int steps)
{
    return (int)ceil(until * steps - 1e-3);
}

static int masks_for_ranges(const struct bw_arch *arch, const struct bw_skip *skip, int steps,
                            uint8_t *masks, struct bw_err *err)
{
    uint8_t full = bw_arch_full_mask(arch);
    int i = 0;
    for (int r = 0; r < skip->range_count; r++) {
        uint8_t resting = skip->ranges[r].resting;
        char field[64];
        snprintf(field, sizeof field, "/skip/schedule/%d/skip", r);
        if (resting & ~full)
            return bw_err_set_field(err, BW_ERANGE, field, "%s has bricks 0..%d only", arch->name,
                                    arch->brick_count - 1);
        if (resting == full)
            return bw_err_set_field(err, BW_ERANGE, field,
                                    "at least one of the %d bricks has to run at every step",
                                    arch->brick_count);
        for (int end = range_end(skip->ranges[r].until, steps); i < end && i < steps; i++)
            masks[i] = full & (uint8_t)~resting;
    }
    memset(masks + i, full, (size_t)(steps - i));
    return BW_OK;
}

/* Presets reckon with operations, not with time: they mean the same on every machine. */
static void masks_within(const struct bw_arch *arch, double max_excess, int steps, int width,
                         int height, uint8_t *masks)
{
    struct trade trade;
    double cost[BW_MAX_MASKS];
    for (int mask = 1; mask <= bw_arch_full_mask(arch); mask++)
        cost[mask] = bw_cost_flops(arch, width, height, (uint8_t)mask);
    fill_trade(&trade, arch, steps, cost);
    rate_within(&trade, max_excess, masks);
}

static int masks_for_preset(const struct bw_arch *arch, const char *name, int steps, int width,
                            int height, uint8_t *masks, struct bw_err *err)
{
    for (const struct bw_preset *p = bw_presets; p->name; p++) {
        if (strcmp(p->name, name))
            continue;
        if (arch->skip_loss.sigma_count)
            masks_within(arch, p->max_excess, steps, width, height, masks);
        else
            masks_for_t_break(arch, p->t_break, steps, masks);
        return BW_OK;
    }
    return bw_err_set_field(err, BW_ERANGE, "/skip",
                            "\"%s\" is not none, auto, light, balanced or fast", name);
}

int bw_schedule_make(const struct bw_arch *arch, const struct bw_skip *skip, int steps, int width,
                     int height, uint8_t *masks, struct bw_err *err)
{
    switch (skip->kind) {
    case BW_SKIP_PRESET:
        return masks_for_preset(arch, skip->preset, steps, width, height, masks, err);
    case BW_SKIP_T_BREAK:
        if (arch->brick_count == 1 && lround(skip->t_break * steps) > 0)
            return bw_err_set_field(err, BW_ERANGE, "/skip/t_break",
                                    "%s has one brick, which cannot rest", arch->name);
        masks_for_t_break(arch, skip->t_break, steps, masks);
        return BW_OK;
    case BW_SKIP_SCHEDULE:
        return masks_for_ranges(arch, skip, steps, masks, err);
    case BW_SKIP_NONE:
    case BW_SKIP_AUTO:
        break;
    }
    memset(masks, bw_arch_full_mask(arch), (size_t)steps);
    return BW_OK;
}

void bw_schedule_rungs(const struct bw_arch *arch, int steps, const double *cost, int rungs,
                       uint8_t *masks)
{
    const struct bw_preset *cheapest = bw_presets;
    while (cheapest[1].name)
        cheapest++;
    uint8_t *last = masks + (size_t)(rungs - 1) * (size_t)steps;
    struct trade trade;
    double rate = 0, spread = 0;
    if (arch->skip_loss.sigma_count) {
        fill_trade(&trade, arch, steps, cost);
        rate = rate_within(&trade, cheapest->max_excess, last);
        spread = pow(200, 1.0 / (rungs - 2)); // below a 200th of the last rate little is saved
    }
    for (int rung = rungs - 2; rung > 0; rung--) {
        uint8_t *at = masks + (size_t)rung * (size_t)steps;
        if (arch->skip_loss.sigma_count && rate > 0)
            masks_at_rate(&trade, rate /= spread, at);
        else
            masks_for_t_break(arch, cheapest->t_break * rung / (rungs - 1), steps, at);
    }
    if (!(rate > 0))
        masks_for_t_break(arch, cheapest->t_break, steps, last);
    memset(masks, bw_arch_full_mask(arch), (size_t)steps);
}

struct bw_skip bw_schedule_describe(const struct bw_arch *arch, const uint8_t *masks, int steps)
{
    uint8_t full = bw_arch_full_mask(arch);
    struct bw_skip skip = {.kind = BW_SKIP_NONE};
    for (int i = 0; i < steps; i++) {
        if (i + 1 < steps && masks[i + 1] == masks[i])
            continue;
        struct bw_skip_range range = {(double)(i + 1) / steps, (uint8_t)(full & ~masks[i])};
        skip.ranges[skip.range_count++] = range;
        if (range.resting)
            skip.kind = BW_SKIP_SCHEDULE;
    }
    if (skip.kind == BW_SKIP_NONE)
        skip.range_count = 0;
    return skip;
}
