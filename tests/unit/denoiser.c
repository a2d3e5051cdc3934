/* A picture depends on its own request alone: random mixes of pictures through one call, in any
 * order, on any number of threads, against each picture made alone on one thread, bit for bit. */
#include "engine/denoiser.h"

#include "engine/sampler.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

#include <sys/wait.h>
#include <unistd.h>

enum { PICTURES = 16, MAX_GROUP = 14, MOST_PIXELS = 2048 };

struct result {
    struct bw_plan plan;
    double *x;          // [channels, height, width]
    unsigned char *rgb; // [height, width, channels]
};

static size_t elements(const struct bw_model *model, const struct bw_plan *plan)
{
    return (size_t)model->arch.channels * (size_t)plan->width * (size_t)plan->height;
}

/* Any picture this network can make, with at most `most` steps. */
static struct bw_plan random_plan(const struct bw_arch *arch, int most, uint64_t *random)
{
    struct bw_plan plan = {.steps = random_int(random, 1, most),
                           .solver = (enum bw_solver)random_int(random, 0, 2),
                           .seed = random_next(random) & BW_MAX_SEED,
                           .index = (uint32_t)random_int(random, 0, 7),
                           .label = random_int(random, -1, arch->class_count - 1),
                           .guidance = (double[]){1, 1, 0, 1.5, 4}[random_int(random, 0, 4)]};
    do {
        plan.width = random_int(random, 1, 2 * arch->image_size);
        plan.height = random_int(random, 1, 2 * arch->image_size);
    } while (!bw_arch_tiles(arch, plan.width, plan.height) ||
             plan.width * plan.height > MOST_PIXELS);
    for (int i = 0; i < plan.steps; i++)
        plan.masks[i] = (uint8_t)random_int(random, 1, bw_arch_full_mask(arch));
    return plan;
}

static void keep_result(struct result *r, const struct bw_model *model,
                        const struct bw_sampler *sampler)
{
    size_t count = elements(model, &r->plan);
    r->x = malloc(count * sizeof *r->x);
    r->rgb = malloc(count);
    memcpy(r->x, sampler->x, count * sizeof *r->x);
    bw_sampler_bytes(sampler, r->rgb);
}

static void free_result(struct result *r)
{
    free(r->x);
    free(r->rgb);
}

static void make_alone(struct result *r, const struct bw_model *model, struct bw_denoiser *d)
{
    struct bw_sampler sampler;
    struct bw_eval eval;
    if (bw_sampler_init(&sampler, &model->arch, &r->plan, NULL, NULL))
        abort();
    while (bw_sampler_want(&sampler, &eval)) {
        bw_denoise(d, &eval, 1);
        bw_sampler_take(&sampler);
    }
    keep_result(r, model, &sampler);
    bw_sampler_release(&sampler);
}

static void check_same(const struct result *a, const struct result *b, const struct bw_model *model)
{
    size_t count = elements(model, &a->plan);
    CHECK_OF(memcmp(a->x, b->x, count * sizeof *a->x) == 0, "%s %dx%d", model->arch.name,
             a->plan.width, a->plan.height);
    CHECK(memcmp(a->rgb, b->rgb, count) == 0);
}

/* All pictures at once, a random group of them at each call. */
static void check_mixed(const struct bw_model *model, int threads, const struct result *alone,
                        uint64_t *random)
{
    struct bw_sampler samplers[PICTURES];
    struct bw_denoiser *d;
    int left = PICTURES;
    REQUIRE(bw_denoiser_new(&d, model, threads, NULL) == BW_OK);
    for (int i = 0; i < PICTURES; i++)
        REQUIRE(bw_sampler_init(&samplers[i], &model->arch, &alone[i].plan, NULL, NULL) == BW_OK);
    while (left > 0) {
        struct bw_eval evals[MAX_GROUP];
        struct bw_sampler *members[MAX_GROUP];
        int count = 0, start = random_int(random, 0, PICTURES - 1);
        int most = random_int(random, 1, MAX_GROUP);
        for (int i = 0; i < PICTURES && count < most; i++) {
            struct bw_sampler *s = &samplers[(start + i * 5) % PICTURES];
            if (random_int(random, 0, 2) && bw_sampler_want(s, &evals[count]))
                members[count++] = s;
        }
        bw_denoise(d, evals, count);
        for (int i = 0; i < count; i++) {
            bw_sampler_take(members[i]);
            left -= bw_sampler_steps_done(members[i]) == members[i]->plan.steps;
        }
    }
    for (int i = 0; i < PICTURES; i++) {
        struct result mixed = {.plan = alone[i].plan};
        keep_result(&mixed, model, &samplers[i]);
        check_same(&alone[i], &mixed, model);
        free_result(&mixed);
        bw_sampler_release(&samplers[i]);
    }
    bw_denoiser_free(d);
}

static void check_model(struct bw_model *model, uint64_t seed)
{
    struct result alone[PICTURES];
    struct bw_denoiser *d;
    REQUIRE(bw_denoiser_new(&d, model, 1, NULL) == BW_OK);
    for (int i = 0; i < PICTURES; i++) {
        alone[i].plan = random_plan(&model->arch, 2, &seed);
        make_alone(&alone[i], model, d);
    }
    bw_denoiser_free(d);
    for (int threads = 1; threads <= 4; threads++)
        check_mixed(model, threads, alone, &seed);
    for (int i = 0; i < PICTURES; i++)
        free_result(&alone[i]);
    bw_model_free(model);
}

static void company_makes_no_difference_pg(void)
{
    check_model(weights_model_of(TINY_PG), 1);
}

static void company_makes_no_difference_pr(void)
{
    check_model(weights_model_of(TINY_PR), 2);
}

static void company_makes_no_difference_u(void)
{
    check_model(weights_model_of(TINY_U), 3);
}

#define LEGO(image, channels, hidden, heads, bricks)                                           \
    "{\"format\":1,\"name\":\"made\",\"image_size\":" #image                                   \
    ",\"min_size\":1,\"channels\":" #channels                                                  \
    ",\"num_classes\":1,\"classes\":[\"a\"],\"hidden_size\":" #hidden ",\"num_heads\":" #heads \
    ",\"mlp_ratio\":1,\"sigma_data\":0.5,\"bricks\":[" bricks "]}"

/* The corners of what metadata may ask for: one channel, heads one wide, patches of one pixel,
 * eight bricks, several blocks. */
static void unusual_networks(void)
{
    check_model(weights_made(LEGO(8, 1, 32, 32, "{\"size\":8,\"patch\":1,\"depth\":2}"), NULL), 4);
    check_model(weights_made(LEGO(6, 8, 64, 1,
                                  "{\"size\":1,\"patch\":1,\"depth\":1},"
                                  "{\"size\":3,\"patch\":3,\"depth\":1},"
                                  "{\"size\":6,\"patch\":2,\"depth\":1}"),
                             NULL),
                5);
#define B "{\"size\":4,\"patch\":2,\"depth\":1}"
    check_model(weights_made(LEGO(4, 3, 32, 2, B "," B "," B "," B "," B "," B "," B "," B), NULL),
                6);
}

/* Every picture of a seed is another, and the index alone decides which. */
static void indices_are_pictures(void)
{
    struct bw_model *model = weights_model_of(TINY_PG);
    struct bw_denoiser *d;
    struct result results[8];
    REQUIRE(bw_denoiser_new(&d, model, 2, NULL) == BW_OK);
    for (int i = 0; i < 8; i++) {
        results[i].plan = (struct bw_plan){.width = 32,
                                           .height = 32,
                                           .label = 1,
                                           .steps = 2,
                                           .guidance = 1,
                                           .seed = 9,
                                           .index = i % 4};
        memset(results[i].plan.masks, 7, 2);
        make_alone(&results[i], model, d);
    }
    for (int i = 0; i < 4; i++) {
        check_same(&results[i], &results[i + 4], model);
        for (int j = 0; j < i; j++)
            CHECK(memcmp(results[i].rgb, results[j].rgb, 3 * 32 * 32) != 0);
    }
    for (int i = 0; i < 8; i++)
        free_result(&results[i]);
    bw_denoiser_free(d);
    bw_model_free(model);
}

static void step_counts(void)
{
    struct bw_model *model = weights_model_of(TINY_PG);
    struct bw_denoiser *d;
    REQUIRE(bw_denoiser_new(&d, model, 2, NULL) == BW_OK);
    static const int counts[] = {1, 2, 256};
    for (int solver = BW_DPMPP2M; solver <= BW_EULER; solver++) {
        for (int c = 0; c < 3; c++) {
            struct result r = {.plan = {.width = 16,
                                        .height = 16,
                                        .label = -1,
                                        .guidance = 1,
                                        .steps = counts[c],
                                        .solver = (enum bw_solver)solver}};
            memset(r.plan.masks, 1, sizeof r.plan.masks);
            make_alone(&r, model, d);
            for (size_t i = 0; i < elements(model, &r.plan); i++)
                CHECK_OF(isfinite(r.x[i]), "solver %d, %d steps", solver, counts[c]);
            free_result(&r);
        }
    }
    bw_denoiser_free(d);
    bw_model_free(model);
}

/* With one step every solver takes the network's first answer. */
static void one_step_is_the_estimate(void)
{
    struct bw_model *model = weights_model_of(TINY_U);
    struct bw_denoiser *d;
    struct result r[3];
    REQUIRE(bw_denoiser_new(&d, model, 1, NULL) == BW_OK);
    for (int solver = 0; solver < 3; solver++) {
        r[solver].plan = (struct bw_plan){.width = 32,
                                          .height = 32,
                                          .label = 2,
                                          .guidance = 3,
                                          .steps = 1,
                                          .solver = (enum bw_solver)solver,
                                          .masks = {31}};
        make_alone(&r[solver], model, d);
        check_same(&r[0], &r[solver], model);
    }
    for (int solver = 0; solver < 3; solver++)
        free_result(&r[solver]);
    bw_denoiser_free(d);
    bw_model_free(model);
}

/* Guidance g is a straight line through unconditional (0) and conditional (1). */
static void guidance_is_linear(void)
{
    struct bw_model *model = weights_model_of(TINY_PG);
    struct bw_denoiser *d;
    enum { COUNT = 3 * 32 * 32 };
    static float x[COUNT], out[4][COUNT], work[4][4 * COUNT];
    struct bw_eval evals[4];
    uint64_t random = 5;
    random_fill(&random, 1, COUNT, x);
    REQUIRE(bw_denoiser_new(&d, model, 2, NULL) == BW_OK);
    CHECK_INT((long long)bw_eval_work_floats(&model->arch, 32, 32), 4 * COUNT);
    for (int i = 0; i < 4; i++)
        evals[i] = (struct bw_eval){.width = 32,
                                    .height = 32,
                                    .x = x,
                                    .sigma = 1,
                                    .mask = 7,
                                    .label = i == 3 ? -1 : 4,
                                    .guidance = (double[]){0, 1, 2.5, 7}[i],
                                    .out = out[i],
                                    .work = work[i]};
    bw_denoise(d, evals, 4);
    bw_denoise(d, evals, 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_NEAR(out[2][i], out[0][i] + 2.5 * ((double)out[1][i] - out[0][i]), 1e-5);
        CHECK(out[3][i] == out[0][i]);
    }
    bw_denoiser_free(d);
    bw_model_free(model);
}

static void bytes_are_clamped(void)
{
    const struct bw_arch arch = {.channels = 1};
    double x[] = {-1e30, -2, -1.004, -1, 0, 0.5, 0.99607, 1, 1.1, 1e30, NAN, INFINITY};
    static const unsigned char want[] = {0, 0, 0, 0, 128, 191, 254, 255, 255, 255, 0, 255};
    struct bw_sampler s = {.arch = &arch, .plan = {.width = 12, .height = 1}, .x = x};
    unsigned char rgb[12];
    bw_sampler_bytes(&s, rgb);
    for (int i = 0; i < 12; i++)
        CHECK_OF(rgb[i] == want[i], "%g gives %d", x[i], rgb[i]);
}

/* Small tiles and narrow heads make the most tasks of one call; in a child, which may abort. */
static void the_most_tasks(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct bw_model *model = weights_made(LEGO(128, 1, 64, 64,
                                                   "{\"size\":1,\"patch\":1,\"depth\":1},"
                                                   "{\"size\":128,\"patch\":1,\"depth\":1}"),
                                              NULL);
        struct bw_denoiser *d;
        struct result r = {
            .plan = {
                .width = 128, .height = 128, .label = -1, .guidance = 1, .steps = 1, .masks = {1}}};
        fclose(stderr);
        if (bw_denoiser_new(&d, model, 2, NULL))
            _exit(2);
        make_alone(&r, model, d);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_OF(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status %d", status);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(the_most_tasks),
                                              TEST(company_makes_no_difference_pg),
                                              TEST(company_makes_no_difference_pr),
                                              TEST(company_makes_no_difference_u),
                                              TEST(unusual_networks),
                                              TEST(indices_are_pictures),
                                              TEST(step_counts),
                                              TEST(one_step_is_the_estimate),
                                              TEST(guidance_is_linear),
                                              TEST(bytes_are_clamped)};
    return CHECK_RUN("denoiser", tests);
}
