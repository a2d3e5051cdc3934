/* Plan: a picture as asked for, resolved against a model; everything its bytes depend on. */
#ifndef BW_ENGINE_PLAN_H
#define BW_ENGINE_PLAN_H

#include "base/err.h"
#include "base/picture.h"
#include "engine/arch.h"

struct bw_plan {
    int width, height; // of what the network draws: a model of latents has 1/8 of the picture's
    int label;         // class index, or -1
    int steps;
    enum bw_solver solver;
    double guidance;
    uint64_t seed;
    uint32_t index;
    uint8_t masks[BW_MAX_STEPS]; // [steps] bit k: brick k runs
};

/* Resolve and check. The numbers of `picture` are within the ranges of base/picture.h already;
 * max_area bounds width * height in pixels. BW_ERANGE on "/size", "/class" or "/skip...", and *plan
 * is untouched. Any thread. */
int bw_plan_make(struct bw_plan *plan, const struct bw_arch *arch, const struct bw_picture *picture,
                 int max_area, struct bw_err *err);

/* The same picture said explicitly: class by name, size, masks as ranges. Asking for it again gives
 * the same plan. */
struct bw_picture bw_plan_picture(const struct bw_plan *plan, const struct bw_arch *arch);

/* How often the network runs in one evaluation: 2 with guidance, else 1. */
int bw_plan_passes(const struct bw_plan *plan);

/* Evaluations of a step: 2 with Heun's method except at the last, else 1. */
int bw_plan_stages(const struct bw_plan *plan, int step);

/* Calls of the network with guidance counted: what the sampler will ask for. */
int bw_plan_evaluations(const struct bw_plan *plan);

/* Floating-point operations of all those calls. */
double bw_plan_flops(const struct bw_plan *plan, const struct bw_arch *arch);

#endif
