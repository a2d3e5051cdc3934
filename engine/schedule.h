/* Skip schedules: which bricks run at which step.
 *
 * Every way to ask for skipping becomes one mask per step (bit k: brick k runs), and every list of
 * masks can be said as explicit ranges, which ask for exactly the same masks again. Pure functions;
 * any thread.
 */
#ifndef BW_ENGINE_SCHEDULE_H
#define BW_ENGINE_SCHEDULE_H

#include "base/err.h"
#include "base/picture.h"
#include "engine/arch.h"

#include <stdint.h>

/* A preset bounds the quality given up: of all schedules whose held-out denoising loss, averaged
 * over the steps, exceeds the full network's by at most max_excess, it is the cheapest the rule of
 * one exchange rate between loss and cost finds. A model without measured losses gets t_break
 * instead. */
struct bw_preset {
    const char *name;
    double max_excess;
    double t_break;
};

/* The presets, from the finest to the cheapest; ends with a NULL name. */
extern const struct bw_preset bw_presets[];

/* The noise level of step i of `steps` (Karras et al., eq. 5: rho 7, from 80 down to 0.002); 0 for
 * i == steps. */
double bw_sigma(int i, int steps);

/* masks[steps] for a picture of that size. BW_ERANGE on "/skip...": unknown preset, a brick the
 * model lacks, or a step at which no brick would run. */
int bw_schedule_make(const struct bw_arch *arch, const struct bw_skip *skip, int steps, int width,
                     int height, uint8_t *masks, struct bw_err *err);

/* masks[rungs, steps], rungs >= 2: schedules from every brick to what the cheapest preset gives up,
 * at rising exchange rates between loss and cost; cost[mask] in any unit. At each step no rung
 * costs more than the one before it. */
void bw_schedule_rungs(const struct bw_arch *arch, int steps, const double *cost, int rungs,
                       uint8_t *masks);

/* The same masks as explicit ranges (or BW_SKIP_NONE). */
struct bw_skip bw_schedule_describe(const struct bw_arch *arch, const uint8_t *masks, int steps);

/* Mean over the steps of loss(mask)/loss(full) - 1; 0 if the model has no table. */
double bw_schedule_excess(const struct bw_arch *arch, const uint8_t *masks, int steps);

#endif
