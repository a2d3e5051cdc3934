/* Plans: a picture resolved against a model, and said again explicitly. */
#include "engine/plan.h"

#include "engine/cost.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

static void check_refused(const struct bw_arch *arch, const struct bw_picture *picture,
                          const char *field)
{
    struct bw_plan plan = {.width = 77};
    struct bw_err err = {0};
    CHECK_INT(bw_plan_make(&plan, arch, picture, 4096, &err), BW_ERANGE);
    CHECK_TEXT(err.field, field);
    CHECK_INT(plan.width, 77);
}

static void defaults(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_picture picture = bw_picture_default();
    struct bw_plan plan;
    REQUIRE(bw_plan_make(&plan, &arch, &picture, 4096, NULL) == BW_OK);
    CHECK(plan.width == 32 && plan.height == 32 && plan.label == -1 && plan.steps == 20);
    CHECK(plan.guidance == 1.5 && plan.seed == 0 && plan.index == 0);
    for (int i = 0; i < 20; i++)
        CHECK_INT(plan.masks[i], 7);
    bw_arch_release(&arch);
}

static void classes(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_picture picture = bw_picture_default();
    struct bw_plan plan;
    picture.class_index = BW_CLASS_NAMED;
    strcpy(picture.class_name, "CLASS 4");
    CHECK(bw_plan_make(&plan, &arch, &picture, 4096, NULL) == BW_OK && plan.label == 4);
    strcpy(picture.class_name, "class 10");
    check_refused(&arch, &picture, "/class");
    picture.class_index = 9;
    CHECK(bw_plan_make(&plan, &arch, &picture, 4096, NULL) == BW_OK && plan.label == 9);
    picture.class_index = 10;
    check_refused(&arch, &picture, "/class");
    picture.class_index = INT32_MAX;
    check_refused(&arch, &picture, "/class");
    bw_arch_release(&arch);
    arch = weights_arch_of(TINY_PR);
    picture.class_index = 0;
    check_refused(&arch, &picture, "/class");
    bw_arch_release(&arch);
}

static void sizes_and_skips(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_picture picture = bw_picture_default();
    picture.width = picture.height = 33;
    check_refused(&arch, &picture, "/size");
    picture.width = 64;
    picture.height = 96; // 6144 pixels
    check_refused(&arch, &picture, "/size");
    picture.width = 0; // one side alone is the model's own
    picture.height = 64;
    struct bw_plan plan;
    CHECK(bw_plan_make(&plan, &arch, &picture, 4096, NULL) == BW_OK && plan.width == 32);
    picture.skip = (struct bw_skip){.kind = BW_SKIP_PRESET, .preset = "nonsense"};
    check_refused(&arch, &picture, "/skip");
    picture.skip =
        (struct bw_skip){.kind = BW_SKIP_SCHEDULE, .range_count = 1, .ranges = {{1, 128}}};
    check_refused(&arch, &picture, "/skip/schedule/0/skip");
    bw_arch_release(&arch);
}

static bool same_plan(const struct bw_plan *a, const struct bw_plan *b)
{
    return a->width == b->width && a->height == b->height && a->label == b->label &&
           a->steps == b->steps && a->solver == b->solver && a->guidance == b->guidance &&
           a->seed == b->seed && a->index == b->index &&
           memcmp(a->masks, b->masks, (size_t)a->steps) == 0;
}

static void explicit_pictures_are_the_same(void)
{
    static const char *const skips[] = {"light", "balanced", "fast"};
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    uint64_t random = 8;
    for (int i = 0; i < 400; i++) {
        struct bw_picture picture = bw_picture_default();
        struct bw_plan plan, again;
        picture.steps = random_int(&random, 1, BW_MAX_STEPS);
        picture.class_index = random_int(&random, -1, 13);
        picture.solver = (enum bw_solver)random_int(&random, 0, 2);
        picture.guidance = 20 * random_unit(&random);
        picture.seed = random_next(&random) & BW_MAX_SEED;
        picture.index = (uint32_t)random_next(&random);
        picture.width = 32 * random_int(&random, 4, 8);
        if (i % 3 == 0) {
            picture.skip.kind = BW_SKIP_PRESET;
            strcpy(picture.skip.preset, skips[i % 9 / 3]);
        } else if (i % 3 == 1) {
            picture.skip =
                (struct bw_skip){.kind = BW_SKIP_T_BREAK, .t_break = random_unit(&random)};
        }
        REQUIRE(bw_plan_make(&plan, &arch, &picture, 1 << 18, NULL) == BW_OK);
        picture = bw_plan_picture(&plan, &arch);
        REQUIRE(bw_plan_make(&again, &arch, &picture, 1 << 18, NULL) == BW_OK);
        CHECK(same_plan(&plan, &again));
    }
    bw_arch_release(&arch);
}

/* Two classes of one name: asking for the second by name must not give the first, so such a model
 * is refused or the second is said by its index. */
static void classes_of_one_name(void)
{
    static const char lego[] =
        "{\"format\":1,\"name\":\"n\",\"image_size\":4,\"channels\":3,\"num_classes\":2,"
        "\"classes\":[\"Apple\",\"apple\"],\"hidden_size\":32,\"num_heads\":1,\"mlp_ratio\":1,"
        "\"sigma_data\":0.5,\"bricks\":[{\"size\":4,\"patch\":2,\"depth\":1}]}";
    struct bw_arch arch;
    struct bw_plan plan, again;
    struct bw_picture picture = bw_picture_default();
    if (weights_arch(&arch, lego, NULL, NULL))
        return;
    picture.class_index = 1;
    REQUIRE(bw_plan_make(&plan, &arch, &picture, 4096, NULL) == BW_OK);
    picture = bw_plan_picture(&plan, &arch);
    REQUIRE(bw_plan_make(&again, &arch, &picture, 4096, NULL) == BW_OK);
    CHECK_INT(again.label, plan.label);
    bw_arch_release(&arch);
}

static void work_is_counted(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    struct bw_plan plan = {
        .width = 32, .height = 64, .label = -1, .steps = 4, .guidance = 3, .masks = {7, 1, 2, 4}};
    double once = 0;
    for (int i = 0; i < 4; i++)
        once += bw_cost_flops(&arch, 32, 64, plan.masks[i]);
    CHECK_INT(bw_plan_evaluations(&plan), 4);
    CHECK_NEAR(bw_plan_flops(&plan, &arch) / once, 1, 1e-12);
    plan.label = 3;
    CHECK_INT(bw_plan_evaluations(&plan), 8);
    CHECK_NEAR(bw_plan_flops(&plan, &arch) / once, 2, 1e-12);
    plan.guidance = 1;
    CHECK_INT(bw_plan_evaluations(&plan), 4);
    plan.solver = BW_HEUN; // the last step has no second evaluation
    CHECK_INT(bw_plan_evaluations(&plan), 7);
    CHECK_NEAR(bw_plan_flops(&plan, &arch), 2 * once - bw_cost_flops(&arch, 32, 64, 4), 1e-3);
    plan.guidance = 0;
    CHECK_INT(bw_plan_evaluations(&plan), 14);
    bw_arch_release(&arch);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(defaults),
                                              TEST(classes),
                                              TEST(sizes_and_skips),
                                              TEST(explicit_pictures_are_the_same),
                                              TEST(classes_of_one_name),
                                              TEST(work_is_counted)};
    return CHECK_RUN("plan", tests);
}
