/* Rungs are exchange rates between loss and time, spaced evenly in their logarithm. Their masks are
 * chosen once; only their prices change afterwards. */
#include "engine/ladder.h"

#include "engine/schedule.h"

#include <string.h>

static void plan_memory(struct bw_ladder *l)
{
    size_t rungs = (size_t)l->rungs, steps = (size_t)l->steps;
    l->rest_ms = BW_TAKE(&l->memory, double, rungs *(steps + 2));
    l->masks = BW_TAKE(&l->memory, uint8_t, rungs * steps);
}

/* Of one evaluation of the picture with each mask. */
static void price_masks(const struct bw_arch *arch, const struct bw_plan *plan,
                        const struct bw_price *price, double ms[BW_MAX_MASKS])
{
    for (int mask = 1; mask <= bw_arch_full_mask(arch); mask++) {
        struct bw_work work = {0};
        bw_work_add(&work, arch, plan->width, plan->height, (uint8_t)mask, bw_plan_passes(plan));
        ms[mask] = bw_price_ms(price, &work);
    }
}

static void fill_rest(struct bw_ladder *l, const struct bw_plan *plan, const struct bw_price *price,
                      const double mask_ms[BW_MAX_MASKS])
{
    double decode_ms = bw_price_decode_ms(price, plan->width, plan->height);
    for (int rung = 0; rung < l->rungs; rung++) {
        double *rest = l->rest_ms + (size_t)rung * (size_t)(l->steps + 2);
        rest[l->steps + 1] = 0;
        rest[l->steps] = decode_ms;
        for (int i = l->steps - 1; i >= 0; i--)
            rest[i] = rest[i + 1] + bw_plan_stages(plan, i) * mask_ms[bw_ladder_mask(l, rung, i)];
    }
}

int bw_ladder_init(struct bw_ladder *ladder, const struct bw_arch *arch, const struct bw_plan *plan,
                   bool automatic, const struct bw_price *price, struct bw_err *err)
{
    struct bw_ladder l = {.steps = plan->steps, .rungs = automatic ? BW_LADDER_RUNGS : 1};
    double mask_ms[BW_MAX_MASKS];
    plan_memory(&l);
    int code = bw_arena_reserve(&l.memory, err);
    if (code)
        return code;
    plan_memory(&l);
    price_masks(arch, plan, price, mask_ms);
    if (automatic)
        bw_schedule_rungs(arch, l.steps, mask_ms, l.rungs, l.masks);
    else
        memcpy(l.masks, plan->masks, (size_t)l.steps);
    fill_rest(&l, plan, price, mask_ms);
    *ladder = l;
    return BW_OK;
}

void bw_ladder_release(struct bw_ladder *ladder)
{
    bw_arena_release(&ladder->memory);
    *ladder = (struct bw_ladder){0};
}

void bw_ladder_reprice(struct bw_ladder *ladder, const struct bw_arch *arch,
                       const struct bw_plan *plan, const struct bw_price *price)
{
    double mask_ms[BW_MAX_MASKS];
    price_masks(arch, plan, price, mask_ms);
    fill_rest(ladder, plan, price, mask_ms);
}
