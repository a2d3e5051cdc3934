/* What calls of the network cost: between and beyond measured points, and learned from calls. */
#include "engine/price.h"

#include "engine/cost.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

/* Three bricks whose times bend: cheap at first, then dearer. */
static struct bw_price bent_price(const struct bw_arch *arch)
{
    struct bw_price price = {.arch = arch, .overall = 1};
    for (int k = 0; k < arch->brick_count; k++)
        price.lines[k] = (struct bw_price_line){
            .count = 3, .gigaflops = {1, 2, 4}, .ms = {10 + k, 11 + k, 31 + k}};
    return price;
}

static struct bw_work work_of(int brick, double gigaflops)
{
    struct bw_work work = {.mask = (uint8_t)(1 << brick)};
    work.gigaflops[brick] = gigaflops;
    return work;
}

static double ms_of(const struct bw_price *price, int brick, double gigaflops)
{
    struct bw_work work = work_of(brick, gigaflops);
    return bw_price_ms(price, &work);
}

static void straight_between_points(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_price price = bent_price(&arch);
    CHECK_NEAR(ms_of(&price, 0, 1), 10, 1e-9);
    CHECK_NEAR(ms_of(&price, 0, 1.5), 10.5, 1e-9);
    CHECK_NEAR(ms_of(&price, 0, 3), 21, 1e-9);
    CHECK_NEAR(ms_of(&price, 2, 4), 33, 1e-9);
    CHECK_NEAR(ms_of(&price, 0, 0.5), 9.5, 1e-9); // the part that does not shrink with the work
    CHECK_NEAR(ms_of(&price, 0, 8), 71, 1e-9);
    bw_arch_release(&arch);
}

/* Two points that a hiccup of the machine has brought to one height say little of work beyond. */
static void flat_lines_rise_beyond_their_points(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_price price = bent_price(&arch);
    price.lines[0].ms[0] = price.lines[0].ms[1] = price.lines[0].ms[2] = 32;
    CHECK_NEAR(ms_of(&price, 0, 3), 32, 1e-9);
    CHECK_NEAR(ms_of(&price, 0, 4 + 64), 32 + 64 * 32.0 / 4 / 2, 1e-9);
    bw_arch_release(&arch);
}

static void more_work_takes_longer(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_price price = bent_price(&arch);
    price.lines[1].count = 1; // all that a model of one size gives
    price.lines[2].ms[0] = 0.1;
    price.lines[2].ms[1] = 9; // a line that would be negative without work
    for (int k = 0; k < 3; k++) {
        double before = 0;
        for (double gigaflops = 0.01; gigaflops < 40; gigaflops *= 1.1) {
            double ms = ms_of(&price, k, gigaflops);
            CHECK_OF(ms > 0 && ms >= before, "brick %d, %g gigaflops: %g ms", k, gigaflops, ms);
            before = ms;
        }
        CHECK(before > ms_of(&price, k, 10));
    }
    bw_arch_release(&arch);
}

/* A call costs what its bricks cost. */
static void bricks_add_up(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_price price = bent_price(&arch);
    struct bw_work all = {0};
    double sum = 0, gigaflops = 0;
    bw_work_add(&all, &arch, 32, 32, 7, 2);
    for (int k = 0; k < 3; k++) {
        struct bw_work one = {0};
        bw_work_add(&one, &arch, 32, 32, (uint8_t)(1 << k), 2);
        sum += bw_price_ms(&price, &one);
        gigaflops += 2 * bw_cost_brick_flops(&arch, k, 32, 32) / 1e9;
        CHECK_NEAR(one.gigaflops[k], all.gigaflops[k], 1e-12);
    }
    CHECK_NEAR(bw_price_ms(&price, &all), sum, 1e-9);
    CHECK_NEAR(bw_work_gigaflops(&all), gigaflops, 1e-12);
    CHECK(!all.mixed && all.mask == 7);
    bw_work_add(&all, &arch, 64, 32, 7, 1);
    CHECK(!all.mixed); // sizes may differ
    bw_work_add(&all, &arch, 32, 32, 3, 1);
    CHECK(all.mixed && all.mask == 7);
    bw_arch_release(&arch);
}

/* A call teaches about its own mask and size; about what was not seen yet only as much as all calls
 * do, and about what was seen nothing. */
static void calls_teach_their_own_kind(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_price price = bent_price(&arch);
    struct bw_work seen = work_of(0, 2), known = work_of(1, 2), larger = work_of(0, 3.5);
    double seen_ms = bw_price_ms(&price, &seen), known_ms = bw_price_ms(&price, &known);
    double larger_ms = bw_price_ms(&price, &larger);
    bw_price_learn(&price, &known, known_ms);
    double unseen_ms = bw_price_ms(&price, &larger);
    bw_price_learn(&price, &seen, 2 * seen_ms); // one call alone is not believed all it says
    CHECK(bw_price_ms(&price, &seen) > 1.2 * seen_ms && bw_price_ms(&price, &seen) < 1.3 * seen_ms);
    CHECK_NEAR(bw_price_ms(&price, &known), known_ms, 1e-3);
    CHECK_NEAR(unseen_ms, larger_ms, 1e-9);
    double ratio = bw_price_ms(&price, &larger) / larger_ms;
    CHECK_OF(ratio > 1 && ratio < 1.2, "%g", ratio);
    for (int i = 0; i < 400; i++)
        bw_price_learn(&price, &seen, 3 * seen_ms);
    CHECK_NEAR(bw_price_ms(&price, &seen) / seen_ms, 3, 1e-3);
    CHECK_NEAR(bw_price_ms(&price, &known), known_ms, 1e-3);
    CHECK_NEAR(bw_price_ms(&price, &larger) / larger_ms, 3, 0.02); // all calls there were say so
    bw_price_learn(&price, &seen, 30 * seen_ms); // one that was held up says little
    CHECK(bw_price_ms(&price, &seen) < 3.5 * seen_ms);
    bw_arch_release(&arch);
}

/* What different masks did together says nothing about any of them. */
static void mixed_calls_teach_about_all(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_price price = bent_price(&arch);
    struct bw_work mixed = {0}, full = {0};
    bw_work_add(&mixed, &arch, 32, 32, 7, 1);
    bw_work_add(&mixed, &arch, 32, 32, 3, 1);
    bw_work_add(&full, &arch, 32, 32, 7, 1);
    double mixed_ms = bw_price_ms(&price, &mixed), full_ms = bw_price_ms(&price, &full);
    struct bw_work as_much = mixed; // of one mask, and as large
    as_much.mixed = false;
    bw_price_learn(&price, &full, full_ms);
    bw_price_learn(&price, &as_much, mixed_ms);
    for (int i = 0; i < 300; i++)
        bw_price_learn(&price, &mixed, 2 * mixed_ms);
    CHECK_NEAR(bw_price_ms(&price, &mixed) / mixed_ms, 2, 1e-3);
    CHECK_NEAR(bw_price_ms(&price, &full) / full_ms, 1, 1e-6);
    CHECK_NEAR(bw_price_ms(&price, &as_much) / mixed_ms, 1, 1e-6);
    bw_arch_release(&arch);
}

/* Work of every size has a place to be learned in: none disturbs another far from it. */
static void sizes_are_kept_apart(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    for (double gigaflops = 0.1; gigaflops < 50; gigaflops *= 4) {
        struct bw_price price = bent_price(&arch);
        struct bw_work small = work_of(0, gigaflops), large = work_of(0, 4 * gigaflops);
        double small_ms = bw_price_ms(&price, &small), large_ms = bw_price_ms(&price, &large);
        for (int i = 0; i < 200; i++) {
            bw_price_learn(&price, &small, 2 * small_ms);
            bw_price_learn(&price, &large, 5 * large_ms);
        }
        CHECK_NEAR(bw_price_ms(&price, &small) / small_ms, 2, 1e-3);
        CHECK_NEAR(bw_price_ms(&price, &large) / large_ms, 5, 1e-3);
    }
    bw_arch_release(&arch);
}

/* A price of that model, and how many points each of its lines has to have. */
static void measured(const char *path, double budget_ms, int least, int most)
{
    struct bw_model *model = weights_model_of(path);
    struct bw_denoiser *denoiser;
    struct bw_price price;
    REQUIRE(bw_denoiser_new(&denoiser, model, 1, NULL) == BW_OK);
    REQUIRE(bw_price_measure(&price, &model->arch, denoiser, budget_ms, NULL) == BW_OK);
    for (int k = 0; k < model->arch.brick_count; k++) {
        const struct bw_price_line *line = &price.lines[k];
        CHECK_OF(line->count >= least && line->count <= most, "%d", line->count);
        CHECK(line->gigaflops[0] > 0 && line->ms[0] > 0);
        for (int i = 1; i < line->count; i++) {
            double growth = line->gigaflops[i] / line->gigaflops[i - 1];
            CHECK(growth > 1 && line->ms[i] >= line->ms[i - 1]);
            CHECK(line->ms[i] <= line->ms[i - 1] * growth * (1 + 1e-9)); // held up or not
        }
    }
    struct bw_work work = {0};
    int side = model->arch.image_size;
    bw_work_add(&work, &model->arch, side, side, bw_arch_full_mask(&model->arch), 1);
    double ms = bw_price_ms(&price, &work);
    CHECK_OF(ms > 0 && isfinite(ms), "%g", ms);
    bw_denoiser_free(denoiser);
    bw_model_free(model);
}

static void every_arrangement_is_measured(void)
{
    enum { PATIENT_MS = 200 }; // no call of these takes five times that
    measured(TINY_PG, PATIENT_MS, 2, BW_PRICE_POINTS);
    measured(TINY_PR, PATIENT_MS, 2, BW_PRICE_POINTS);
    measured(TINY_U, PATIENT_MS, 2, BW_PRICE_POINTS);
}

/* Whatever takes longer than there is time for is not done over and over. */
static void slow_networks_are_measured_once(void)
{
    measured(TINY_PG, 0, 1, 1);
    measured(TINY_U, 0, 1, 1);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(straight_between_points),        TEST(flat_lines_rise_beyond_their_points),
        TEST(more_work_takes_longer),         TEST(bricks_add_up),
        TEST(calls_teach_their_own_kind),     TEST(mixed_calls_teach_about_all),
        TEST(sizes_are_kept_apart),           TEST(every_arrangement_is_measured),
        TEST(slow_networks_are_measured_once)};
    return CHECK_RUN("price", tests);
}
