/* Rungs: what they give up, what they cost, and what is left to do on each. */
#include "engine/ladder.h"

#include "engine/schedule.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

static struct bw_price price_of(const struct bw_arch *arch)
{
    struct bw_price price = {.arch = arch, .overall = 1};
    for (int k = 0; k < arch->brick_count; k++)
        price.lines[k] =
            (struct bw_price_line){.count = 2, .gigaflops = {1, 2}, .ms = {10.5, 20.5}};
    return price;
}

static struct bw_plan plan_of(const struct bw_arch *arch, int steps)
{
    struct bw_plan plan = {.width = arch->image_size,
                           .height = arch->image_size,
                           .label = -1,
                           .steps = steps,
                           .solver = BW_EULER,
                           .guidance = 1};
    memset(plan.masks, bw_arch_full_mask(arch), sizeof plan.masks);
    return plan;
}

static double mask_ms(const struct bw_price *price, const struct bw_plan *plan, uint8_t mask)
{
    struct bw_work work = {0};
    bw_work_add(&work, price->arch, plan->width, plan->height, mask, bw_plan_passes(plan));
    return bw_price_ms(price, &work);
}

/* What is left is the sum of the evaluations that are, on every rung. */
static void check_rest(const struct bw_ladder *l, const struct bw_plan *plan,
                       const struct bw_price *price)
{
    for (int rung = 0; rung < l->rungs; rung++) {
        double rest = 0;
        for (int i = plan->steps; i >= 0; i--) {
            if (i < plan->steps) {
                bool twice = plan->solver == BW_HEUN && i + 1 < plan->steps;
                rest += (twice ? 2 : 1) * mask_ms(price, plan, bw_ladder_mask(l, rung, i));
            }
            CHECK_OF(fabs(bw_ladder_rest_ms(l, rung, i) - rest) <= 1e-9 * (1 + rest),
                     "rung %d, step %d: %g, not %g", rung, i, bw_ladder_rest_ms(l, rung, i), rest);
        }
    }
}

/* From every brick to the cheapest preset's loss, and at no step dearer from rung to rung. */
static void check_ladder(const struct bw_arch *arch, struct bw_plan *plan)
{
    struct bw_price price = price_of(arch);
    struct bw_ladder l;
    const struct bw_preset *cheapest = bw_presets;
    while (cheapest[1].name)
        cheapest++;
    REQUIRE(bw_ladder_init(&l, arch, plan, true, &price, NULL) == BW_OK);
    CHECK_INT(l.rungs, BW_LADDER_RUNGS);
    CHECK_INT(l.steps, plan->steps);
    for (int i = 0; i < plan->steps; i++) {
        CHECK_INT(bw_ladder_mask(&l, 0, i), bw_arch_full_mask(arch));
        for (int rung = 1; rung < l.rungs; rung++) {
            uint8_t mask = bw_ladder_mask(&l, rung, i);
            CHECK_OF(mask && mask <= bw_arch_full_mask(arch), "rung %d, step %d", rung, i);
            CHECK_OF(mask_ms(&price, plan, mask) <=
                         mask_ms(&price, plan, bw_ladder_mask(&l, rung - 1, i)) + 1e-9,
                     "%d steps, rung %d, step %d", plan->steps, rung, i);
        }
    }
    double excess = -1;
    for (int rung = 0; rung < l.rungs; rung++) {
        double next = bw_schedule_excess(arch, l.masks + rung * l.steps, l.steps);
        CHECK_OF(next >= excess - 1e-6 && next <= cheapest->max_excess + 1e-6, "rung %d: %g", rung,
                 next);
        excess = rung ? next : -1; // a mask may lose a trifle less than all bricks
    }
    check_rest(&l, plan, &price);
    bw_ladder_release(&l);
    CHECK(!l.masks && !l.rest_ms);
}

static void rungs_of_measured_losses(void)
{
    static const int counts[] = {1, 2, 3, 8, 20, 100, 256};
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    for (int c = 0; c < 7; c++) {
        struct bw_plan plan = plan_of(&arch, counts[c]);
        check_ladder(&arch, &plan);
        plan.solver = BW_HEUN;
        plan.label = 1;
        plan.guidance = 2;
        plan.width = 256;
        check_ladder(&arch, &plan);
    }
    bw_arch_release(&arch);
}

/* The last rung is worth having, and those between are not all the same. */
static void rungs_differ(void)
{
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    struct bw_price price = price_of(&arch);
    struct bw_plan plan = plan_of(&arch, 20);
    struct bw_ladder l;
    int different = 0;
    REQUIRE(bw_ladder_init(&l, &arch, &plan, true, &price, NULL) == BW_OK);
    for (int rung = 1; rung < l.rungs; rung++)
        different += bw_ladder_rest_ms(&l, rung, 0) < bw_ladder_rest_ms(&l, rung - 1, 0) - 1e-9;
    CHECK_OF(different >= 8, "%d", different);
    double share = bw_ladder_rest_ms(&l, l.rungs - 1, 0) / bw_ladder_rest_ms(&l, 0, 0);
    CHECK_OF(share < 0.5, "%g", share);
    CHECK(bw_schedule_excess(&arch, l.masks + (l.rungs - 1) * 20, 20) > 0.1);
    bw_ladder_release(&l);
    bw_arch_release(&arch);
}

/* Without measured losses the top brick rests longer and longer, up to the cheapest t_break. */
static void rungs_without_losses(void)
{
    static const char *const paths[] = {TINY_PG, TINY_PR, TINY_U};
    for (int p = 0; p < 3; p++) {
        struct bw_arch arch = weights_arch_of(paths[p]);
        struct bw_price price = price_of(&arch);
        struct bw_plan plan = plan_of(&arch, 20);
        struct bw_skip fast = {.kind = BW_SKIP_PRESET, .preset = "fast"};
        struct bw_ladder l;
        uint8_t masks[20], full = bw_arch_full_mask(&arch);
        int before = 0;
        check_ladder(&arch, &plan);
        REQUIRE(bw_ladder_init(&l, &arch, &plan, true, &price, NULL) == BW_OK);
        for (int rung = 0; rung < l.rungs; rung++) {
            int resting = 0;
            for (int i = 0; i < 20; i++) {
                uint8_t mask = bw_ladder_mask(&l, rung, i);
                CHECK(mask == full || mask == full >> 1);
                resting += mask != full;
            }
            CHECK(resting >= before);
            before = resting;
        }
        REQUIRE(bw_schedule_make(&arch, &fast, 20, 32, 32, masks, NULL) == BW_OK);
        CHECK(memcmp(masks, l.masks + (l.rungs - 1) * 20, 20) == 0);
        bw_ladder_release(&l);
        bw_arch_release(&arch);
    }
}

/* One brick cannot rest: every rung is the same, and that is fine. */
static void one_brick(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    arch.brick_count = 1;
    struct bw_plan plan = plan_of(&arch, 10);
    check_ladder(&arch, &plan);
    bw_arch_release(&arch);
}

/* A schedule that is settled is the only rung. */
static void settled_schedules(void)
{
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    struct bw_price price = price_of(&arch);
    struct bw_plan plan = plan_of(&arch, 30);
    struct bw_ladder l;
    uint64_t random = 4;
    plan.solver = BW_HEUN;
    for (int i = 0; i < 30; i++)
        plan.masks[i] = (uint8_t)random_int(&random, 1, 7);
    REQUIRE(bw_ladder_init(&l, &arch, &plan, false, &price, NULL) == BW_OK);
    CHECK_INT(l.rungs, 1);
    CHECK(memcmp(l.masks, plan.masks, 30) == 0);
    check_rest(&l, &plan, &price);
    bw_ladder_release(&l);
    bw_arch_release(&arch);
}

/* What was learned changes the times and no mask. */
static void repriced(void)
{
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    struct bw_price price = price_of(&arch);
    struct bw_plan plan = plan_of(&arch, 12);
    struct bw_ladder l;
    uint8_t masks[BW_LADDER_RUNGS * 12];
    struct bw_work full = {0};
    REQUIRE(bw_ladder_init(&l, &arch, &plan, true, &price, NULL) == BW_OK);
    memcpy(masks, l.masks, sizeof masks);
    double before_ms = bw_ladder_rest_ms(&l, 0, 0);
    bw_work_add(&full, &arch, 128, 128, 7, 1);
    double full_ms = bw_price_ms(&price, &full);
    for (int i = 0; i < 100; i++)
        bw_price_learn(&price, &full, 2 * full_ms);
    bw_ladder_reprice(&l, &arch, &plan, &price);
    CHECK_NEAR(bw_ladder_rest_ms(&l, 0, 0) / before_ms, 2, 1e-3);
    check_rest(&l, &plan, &price);
    CHECK(memcmp(masks, l.masks, sizeof masks) == 0);
    bw_ladder_release(&l);
    bw_arch_release(&arch);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(rungs_of_measured_losses), TEST(rungs_differ),
                                              TEST(rungs_without_losses),     TEST(one_brick),
                                              TEST(settled_schedules),        TEST(repriced)};
    return CHECK_RUN("ladder", tests);
}
