/* Masks for every way to ask for skipping, and what they cost. */
#include "engine/schedule.h"

#include "engine/cost.h"
#include "engine/plan.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

static uint8_t masks[BW_MAX_STEPS];

static int make(const struct bw_arch *arch, const struct bw_skip *skip, int steps,
                struct bw_err *err)
{
    return bw_schedule_make(arch, skip, steps, arch->image_size, arch->image_size, masks, err);
}

static void noise_levels(void)
{
    for (int steps = 1; steps <= BW_MAX_STEPS; steps++) {
        CHECK_NEAR(bw_sigma(0, steps), 80, 1e-9);
        CHECK_NEAR(bw_sigma(steps, steps), 0, 0);
        if (steps > 1)
            CHECK_NEAR(bw_sigma(steps - 1, steps), 0.002, 1e-12);
        for (int i = 1; i <= steps; i++)
            CHECK(bw_sigma(i, steps) < bw_sigma(i - 1, steps));
    }
}

/* The top brick rests for a share of the steps: at the end, or at the beginning. */
static void check_t_break(const char *path, bool at_end)
{
    struct bw_arch arch = weights_arch_of(path);
    uint8_t full = bw_arch_full_mask(&arch), rested = full >> 1;
    static const double shares[] = {0, 0.01, 0.25, 1 / 3.0, 0.5, 0.75, 0.99, 1};
    static const int counts[] = {1, 2, 3, 12, 20, 256};
    for (int s = 0; s < 8; s++) {
        for (int c = 0; c < 6; c++) {
            struct bw_skip skip = {.kind = BW_SKIP_T_BREAK, .t_break = shares[s]};
            int steps = counts[c], rest = (int)floor(shares[s] * steps + 0.5);
            CHECK_INT(make(&arch, &skip, steps, NULL), BW_OK);
            for (int i = 0; i < steps; i++) {
                bool rests = at_end ? i >= steps - rest : i < rest;
                CHECK_OF(masks[i] == (rests ? rested : full), "%s: %g of %d, step %d", path,
                         shares[s], steps, i);
            }
        }
    }
    bw_arch_release(&arch);
}

static void t_break_by_arrangement(void)
{
    check_t_break(TINY_PG, true);
    check_t_break(TINY_PR, false);
    check_t_break(TINY_U, true);
}

static void ranges_of_fractions(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_skip skip = {
        .kind = BW_SKIP_SCHEDULE, .range_count = 2, .ranges = {{1 / 3.0, 1}, {2 / 3.0, 6}}};
    REQUIRE(make(&arch, &skip, 12, NULL) == BW_OK);
    for (int i = 0; i < 12; i++)
        CHECK_OF(masks[i] == (i < 4 ? 6 : i < 8 ? 1 : 7), "step %d: %d", i, masks[i]);
    skip.ranges[0].until = 0.333333;
    REQUIRE(make(&arch, &skip, 12, NULL) == BW_OK);
    CHECK(masks[3] == 6 && masks[4] == 1);
    skip.ranges[0].until = 0.4; // 4.8 steps: the step it is reached in still belongs to it
    REQUIRE(make(&arch, &skip, 12, NULL) == BW_OK);
    CHECK(masks[4] == 6 && masks[5] == 1);
    skip.ranges[0] = (struct bw_skip_range){1, 3};
    skip.range_count = 1;
    for (int steps = 1; steps <= BW_MAX_STEPS; steps++) {
        REQUIRE(make(&arch, &skip, steps, NULL) == BW_OK);
        CHECK(masks[0] == 4 && masks[steps - 1] == 4);
    }
    bw_arch_release(&arch);
}

/* 2/3 as people write it: the excess of the last digit is no reason for a step more. */
static void fractions_in_six_decimals(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_skip skip = {.kind = BW_SKIP_SCHEDULE, .range_count = 1, .ranges = {{0.666667, 6}}};
    for (int steps = 3; steps <= 24; steps += 3) {
        REQUIRE(make(&arch, &skip, steps, NULL) == BW_OK);
        CHECK_OF(masks[steps * 2 / 3 - 1] == 1 && masks[steps * 2 / 3] == 7, "%d steps", steps);
    }
    bw_arch_release(&arch);
}

static void described_masks_come_back(void)
{
    struct bw_arch arch = weights_arch_of(TINY_U);
    uint8_t wanted[BW_MAX_STEPS];
    uint64_t random = 7;
    for (int round = 0; round < 6000; round++) {
        int steps = 1 + round % BW_MAX_STEPS, change = random_int(&random, 1, 20);
        for (int i = 0; i < steps; i++)
            wanted[i] = i && random_int(&random, 1, 20) > change
                            ? wanted[i - 1]
                            : (uint8_t)random_int(&random, 1, 31);
        if (round % 50 == 0)
            memset(wanted, 31, sizeof wanted);
        struct bw_skip skip = bw_schedule_describe(&arch, wanted, steps);
        bool none = true;
        for (int i = 0; i < steps; i++)
            none = none && wanted[i] == 31;
        CHECK_INT(skip.kind, none ? BW_SKIP_NONE : BW_SKIP_SCHEDULE);
        double before = 0;
        for (int r = 0; r < skip.range_count; r++) {
            CHECK(skip.ranges[r].until > before && skip.ranges[r].until <= 1);
            before = skip.ranges[r].until;
        }
        REQUIRE(make(&arch, &skip, steps, NULL) == BW_OK);
        CHECK_OF(memcmp(masks, wanted, (size_t)steps) == 0, "round %d, %d steps", round, steps);
    }
    bw_arch_release(&arch);
}

static double schedule_flops(const struct bw_arch *arch, int steps, int width, int height)
{
    double sum = 0;
    for (int i = 0; i < steps; i++)
        sum += bw_cost_flops(arch, width, height, masks[i]);
    return sum;
}

static void presets_keep_their_bounds(void)
{
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    static const int counts[] = {1, 2, 4, 8, 12, 20, 50, 100, 256};
    static const int sizes[][2] = {{128, 128}, {192, 128}, {512, 512}};
    for (int c = 0; c < 9; c++) {
        for (int s = 0; s < 3; s++) {
            int w = sizes[s][0], h = sizes[s][1];
            double before = counts[c] * bw_cost_flops(&arch, w, h, 7);
            for (const struct bw_preset *p = bw_presets; p->name; p++) {
                struct bw_skip skip = {.kind = BW_SKIP_PRESET};
                snprintf(skip.preset, sizeof skip.preset, "%s", p->name);
                REQUIRE(bw_schedule_make(&arch, &skip, counts[c], w, h, masks, NULL) == BW_OK);
                double excess = bw_schedule_excess(&arch, masks, counts[c]);
                double flops = schedule_flops(&arch, counts[c], w, h);
                CHECK_OF(excess <= p->max_excess + 1e-6, "%s at %d steps: %g", p->name, counts[c],
                         excess);
                CHECK_OF(flops <= before, "%s at %d steps", p->name, counts[c]);
                CHECK_OF(flops < before || counts[c] < 20, "%s at %d steps", p->name, counts[c]);
                for (int i = 0; i < counts[c]; i++)
                    CHECK(masks[i] >= 1 && masks[i] <= 7);
                before = flops;
            }
        }
    }
    bw_arch_release(&arch);
}

static void presets_save(void)
{
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    const double full = 20 * bw_cost_flops(&arch, 128, 128, 7);
    struct bw_skip skip = {.kind = BW_SKIP_PRESET, .preset = "light"};
    REQUIRE(make(&arch, &skip, 20, NULL) == BW_OK);
    double share = schedule_flops(&arch, 20, 128, 128) / full;
    CHECK_OF(share <= 0.7, "light costs %g", share);
    strcpy(skip.preset, "balanced");
    REQUIRE(make(&arch, &skip, 20, NULL) == BW_OK);
    share = schedule_flops(&arch, 20, 128, 128) / full;
    CHECK_OF(share <= 0.5, "balanced costs %g", share);
    bw_arch_release(&arch);
}

/* Without measured losses a preset is its t_break; one brick alone never rests. */
static void presets_without_losses(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_skip skip = {.kind = BW_SKIP_PRESET, .preset = "balanced"};
    REQUIRE(make(&arch, &skip, 10, NULL) == BW_OK);
    for (int i = 0; i < 10; i++)
        CHECK_INT(masks[i], i < 5 ? 7 : 3);
    CHECK_NEAR(bw_schedule_excess(&arch, masks, 10), 0, 0);
    arch.brick_count = 1;
    REQUIRE(make(&arch, &skip, 10, NULL) == BW_OK);
    for (int i = 0; i < 10; i++)
        CHECK_INT(masks[i], 1);
    bw_arch_release(&arch);
}

static void check_error(const struct bw_arch *arch, const struct bw_skip *skip, const char *field)
{
    struct bw_err err = {0};
    CHECK_INT(make(arch, skip, 10, &err), BW_ERANGE);
    CHECK_TEXT(err.field, field);
    CHECK(*err.message);
}

static void errors_name_their_field(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    check_error(&arch, &(struct bw_skip){.kind = BW_SKIP_PRESET, .preset = "auto"}, "/skip");
    check_error(&arch, &(struct bw_skip){.kind = BW_SKIP_PRESET, .preset = "Light"}, "/skip");
    struct bw_skip ranges = {
        .kind = BW_SKIP_SCHEDULE, .range_count = 3, .ranges = {{0.1, 1}, {0.2, 0}, {0.3, 7}}};
    check_error(&arch, &ranges, "/skip/schedule/2/skip");
    ranges.ranges[1].resting = 8;
    check_error(&arch, &ranges, "/skip/schedule/1/skip");
    arch.brick_count = 1;
    struct bw_skip rest = {.kind = BW_SKIP_T_BREAK, .t_break = 0.5};
    check_error(&arch, &rest, "/skip/t_break");
    rest.t_break = 0;
    CHECK_INT(make(&arch, &rest, 10, NULL), BW_OK);
    bw_arch_release(&arch);
}

static void costs_add_up(void)
{
    static const char *const paths[] = {TINY_PG, TINY_PR, TINY_U, POMOLOGY};
    for (int i = 0; i < 4; i++) {
        struct bw_arch arch = weights_arch_of(paths[i]);
        int side = arch.image_size;
        double sum = 0, full = bw_cost_flops(&arch, side, side, bw_arch_full_mask(&arch));
        for (int k = 0; k < arch.brick_count; k++) {
            double one = bw_cost_flops(&arch, side, side, (uint8_t)(1 << k));
            CHECK(one > 0 && bw_cost_flops(&arch, 2 * side, side, (uint8_t)(1 << k)) > one);
            sum += one;
        }
        CHECK_NEAR(sum / full, 1, 1e-12);
        CHECK_NEAR(bw_cost_flops(&arch, side, side, 0), 0, 0);
        bw_arch_release(&arch);
    }
}

/* One brick counted by hand: 16 tokens of 2x2 pixels, 64 wide, in a picture of 4x16. */
static void cost_by_hand(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    double tokens = 16, d = 64, tile = 4;
    double per_token = 12 * d * d + 2 * tile * d + (3 + 2) * 4 * d + 4 * 3 * d;
    CHECK_NEAR(bw_cost_flops(&arch, 4, 16, 1), 2 * (tokens * per_token + 8 * d * d), 1e-3);
    bw_arch_release(&arch);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(noise_levels),
                                              TEST(t_break_by_arrangement),
                                              TEST(ranges_of_fractions),
                                              TEST(fractions_in_six_decimals),
                                              TEST(described_masks_come_back),
                                              TEST(presets_keep_their_bounds),
                                              TEST(presets_save),
                                              TEST(presets_without_losses),
                                              TEST(errors_name_their_field),
                                              TEST(costs_add_up),
                                              TEST(cost_by_hand)};
    return CHECK_RUN("schedule", tests);
}
