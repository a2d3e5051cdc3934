/* Whole networks with every set this CPU can run, against the portable one. */
#include "engine/denoiser.h"

#include "tests/unit/kernels.h"
#include "tests/unit/weights.h"

enum { SIDE = 128, COUNT = 3 * SIDE * SIDE };

#define LEGO(hidden, heads, bricks)                                                           \
    "{\"format\":1,\"name\":\"made\",\"image_size\":128,\"min_size\":1,\"channels\":3,"       \
    "\"num_classes\":1,\"classes\":[\"a\"],\"hidden_size\":" #hidden ",\"num_heads\":" #heads \
    ",\"mlp_ratio\":1,\"sigma_data\":0.5,\"bricks\":[" bricks "]}"
#define BRICK(size, patch) "{\"size\":" #size ",\"patch\":" #patch ",\"depth\":2}"

/* One evaluation of the same noise. */
static void evaluate(const struct bw_kernels *k, const char *lego, float *out)
{
    static float x[COUNT], work[4 * COUNT];
    struct bw_denoiser *d;
    uint64_t random = 8;
    random_fill(&random, 1, COUNT, x);
    setenv("BRICKWORK_CPU", k->name, 1);
    struct bw_model *model = weights_made(lego, NULL);
    REQUIRE(model->kernels == k && bw_denoiser_new(&d, model, 1, NULL) == BW_OK);
    REQUIRE(bw_eval_work_floats(&model->arch, SIDE, SIDE) <= sizeof work / sizeof *work);
    bw_denoise(d,
               &(struct bw_eval){.width = SIDE,
                                 .height = SIDE,
                                 .x = x,
                                 .sigma = 1,
                                 .mask = bw_arch_full_mask(&model->arch),
                                 .guidance = 1,
                                 .out = out,
                                 .work = work},
               1);
    bw_denoiser_free(d);
    bw_model_free(model);
}

static float plain[COUNT], other[COUNT];
static const char *network;

static void check_set(const struct bw_kernels *k)
{
    double squares = 0, off = 0;
    evaluate(k, network, other);
    for (int i = 0; i < COUNT; i++) {
        squares += (double)plain[i] * plain[i];
        off += ((double)other[i] - plain[i]) * ((double)other[i] - plain[i]);
    }
    double relative = sqrt(off / squares);
    CHECK_OF(squares > 0 && relative < (is_bf16(k) ? 0.01 : 1e-5), "%s: off by %g", k->name,
             relative);
}

static void check_network(const char *lego)
{
    const char *outer = getenv("BRICKWORK_CPU");
    char *kept = outer ? strdup(outer) : NULL;
    network = lego;
    evaluate(&bw_kernels_portable, lego, plain);
    each_set(check_set);
    unsetenv("BRICKWORK_CPU");
    if (kept)
        setenv("BRICKWORK_CPU", kept, 1);
    free(kept);
}

static void local_and_global_bricks(void)
{
    check_network(LEGO(64, 2, BRICK(8, 2) "," BRICK(128, 8)));
}

static void narrow_heads(void)
{
    check_network(LEGO(96, 32, BRICK(16, 4)));
}

/* Patches are then much longer than any other row of the network. */
static void large_patches(void)
{
    check_network(LEGO(64, 2, BRICK(128, 32)));
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(local_and_global_bricks),
        TEST(narrow_heads),
        TEST(large_patches),
    };
    return CHECK_RUN("kernels_network", tests);
}
