/* Ladder: the schedules a picture may run with, from the best to the cheapest, and what is left to
 * do on each of them at every step.
 *
 * A picture whose schedule is settled has one rung. One that leaves it to the service has
 * BW_LADDER_RUNGS: rung 0 runs every brick, the last gives up as much as the cheapest preset, and
 * at each step every rung costs at most what the rung before it does. So rungs may be changed
 * between any two steps, and what is given up stays between those two.
 */
#ifndef BW_ENGINE_LADDER_H
#define BW_ENGINE_LADDER_H

#include "base/arena.h"
#include "engine/plan.h"
#include "engine/price.h"

enum { BW_LADDER_RUNGS = 24 };

struct bw_ladder {
    int steps, rungs;
    uint8_t *masks;  // [rungs, steps]
    double *rest_ms; // [rungs, steps + 2] what steps i.. will take alone on a team, step `steps`
                     // being the decoder; 0 at the end
    struct bw_arena memory;
};

/* For the plan's size, steps, solver and guidance; its masks are the only rung unless `automatic`.
 * BW_ENOMEM. On success the caller releases the ladder. Any thread. */
int bw_ladder_init(struct bw_ladder *ladder, const struct bw_arch *arch, const struct bw_plan *plan,
                   bool automatic, const struct bw_price *price, struct bw_err *err);

void bw_ladder_release(struct bw_ladder *ladder);

/* Reckon rest_ms anew with what the price has learned. */
void bw_ladder_reprice(struct bw_ladder *ladder, const struct bw_arch *arch,
                       const struct bw_plan *plan, const struct bw_price *price);

static inline uint8_t bw_ladder_mask(const struct bw_ladder *l, int rung, int step)
{
    return l->masks[(size_t)rung * (size_t)l->steps + (size_t)step];
}

static inline double bw_ladder_rest_ms(const struct bw_ladder *l, int rung, int step)
{
    return l->rest_ms[(size_t)rung * (size_t)(l->steps + 2) + (size_t)step];
}

#endif
