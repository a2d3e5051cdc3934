/* Metadata that breaks one rule at a time, and the sizes of pictures a network can make. */
#include "engine/arch.h"

#include "tests/unit/check.h"
#include "tests/unit/weights.h"

#define BRICK "{\"size\":4,\"patch\":2,\"depth\":1}"

/* Changes to the metadata of the small PG model that must be refused for that reason. */
static const struct {
    const char *patch, *reason;
} refused[] = {
    {"{\"format\":2}", "format"},
    {"{\"format\":null}", "format"},
    {"{\"name\":\"\"}", "name"},
    {"{\"name\":7}", "name"},
    {"{\"name\":\"123456789012345678901234567890123456789012345678901234567890123456789012345678901"
     "234567890123456\"}",
     "name"},
    {"{\"image_size\":0}", "image_size"},
    {"{\"image_size\":-32}", "image_size"},
    {"{\"image_size\":2049}", "image_size"},
    {"{\"image_size\":32.0}", "image_size"},
    {"{\"image_size\":33}", "image_size is not a multiple"},
    {"{\"channels\":0}", "channels"},
    {"{\"channels\":9}", "channels"},
    {"{\"hidden_size\":0}", "hidden_size"},
    {"{\"hidden_size\":4128}", "hidden_size"},
    {"{\"hidden_size\":80}", "multiple of 32"},
    {"{\"num_heads\":0}", "num_heads"},
    {"{\"num_heads\":3}", "num_heads"},
    {"{\"num_heads\":128}", "num_heads"},
    {"{\"mlp_ratio\":0}", "mlp_ratio"},
    {"{\"mlp_ratio\":9}", "mlp_ratio"},
    {"{\"mlp_ratio\":4.0}", "mlp_ratio"},
    {"{\"min_size\":0}", "min_size"},
    {"{\"min_size\":33}", "min_size"},
    {"{\"min_size\":\"8\"}", "min_size"},
    {"{\"sigma_data\":0}", "sigma_data"},
    {"{\"sigma_data\":-0.5}", "sigma_data"},
    {"{\"sigma_data\":1e4}", "sigma_data"},
    {"{\"sigma_data\":\"0.5\"}", "sigma_data"},
    {"{\"sigma_data\":null}", "sigma_data"},
    {"{\"num_classes\":-1}", "num_classes"},
    {"{\"num_classes\":4097}", "num_classes"},
    {"{\"num_classes\":9}", "classes"},
    {"{\"num_classes\":11}", "classes"},
    {"{\"classes\":null}", "classes"},
    {"{\"classes\":[1,2,3,4,5,6,7,8,9,10]}", "name"},
    {"{\"classes\":[\"\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\"]}", "name"},
    {"{\"bricks\":[]}", "bricks"},
    {"{\"bricks\":{}}", "bricks"},
    {"{\"bricks\":7}", "bricks"},
    {"{\"bricks\":[" BRICK "," BRICK "," BRICK "," BRICK "," BRICK "," BRICK "," BRICK "," BRICK
     "," BRICK "]}",
     "bricks"},
    {"{\"bricks\":[7]}", "size"},
    {"{\"bricks\":[{\"size\":4,\"depth\":1}]}", "patch"},
    {"{\"bricks\":[{\"size\":0,\"patch\":2,\"depth\":1}]}", "size"},
    {"{\"bricks\":[{\"size\":64,\"patch\":2,\"depth\":1}]}", "size"},
    {"{\"bricks\":[{\"size\":5,\"patch\":5,\"depth\":1}]}", "multiple of a brick"},
    {"{\"bricks\":[{\"size\":4,\"patch\":0,\"depth\":1}]}", "patch"},
    {"{\"bricks\":[{\"size\":4,\"patch\":8,\"depth\":1}]}", "patch"},
    {"{\"bricks\":[{\"size\":4,\"patch\":3,\"depth\":1}]}", "patch"},
    {"{\"bricks\":[{\"size\":4,\"patch\":2,\"depth\":0}]}", "depth"},
    {"{\"bricks\":[{\"size\":4,\"patch\":2,\"depth\":65}]}", "depth"},
    {"{\"image_size\":256,\"bricks\":[{\"size\":256,\"patch\":1,\"depth\":1}]}", "16384"},
};

/* The network of the small PG model with some entries replaced. The caller frees it. */
static char *patched(const char *patch)
{
    struct bw_safetensors st;
    if (bw_safetensors_open(&st, TINY_PG, NULL))
        abort();
    json_t *lego = json_loads(bw_safetensors_metadata(&st, "lego"), 0, NULL);
    json_t *changes = json_loads(patch, 0, NULL);
    if (json_object_update(lego, changes))
        abort();
    char *text = json_dumps(lego, 0);
    json_decref(lego);
    json_decref(changes);
    bw_safetensors_release(&st);
    return text;
}

static void every_rule_refuses(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char *text = patched(refused[i].patch);
        struct bw_arch arch = {.hidden = 77};
        struct bw_err err = {0};
        CHECK_OF(weights_arch(&arch, text, NULL, &err) == BW_ESYNTAX, "%s", refused[i].patch);
        CHECK_OF(strstr(err.message, "lego") && strstr(err.message, refused[i].reason), "%s: %s",
                 refused[i].patch, err.message);
        CHECK(arch.hidden == 77 && !arch.class_names);
        free(text);
    }
}

static void what_is_not_a_network(void)
{
    static const char *const texts[] = {"", "{", "[]", "7", "null", "{\"format\":1,\"format\":1}"};
    struct bw_arch arch;
    struct bw_err err = {0};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK_OF(weights_arch(&arch, texts[i], NULL, NULL) == BW_ESYNTAX, "%s", texts[i]);
    CHECK_INT(weights_arch(&arch, NULL, NULL, &err), BW_ESYNTAX);
    CHECK_HOLDS(err.message, "\"lego\" is missing");
}

static void what_is_read(void)
{
    struct bw_arch arch;
    char *text = patched("{\"min_size\":4,\"sigma_data\":1}");
    REQUIRE(weights_arch(&arch, text, NULL, NULL) == BW_OK);
    CHECK_TEXT(arch.name, "tiny-pg-32");
    // 8: a side of 4 is less than the second brick's patch
    CHECK(arch.image_size == 32 && arch.min_size == 8 && arch.channels == 3 && arch.hidden == 64);
    CHECK(arch.heads == 2 && arch.mlp_ratio == 4 && arch.class_count == 10);
    CHECK(arch.brick_count == 3 && arch.bricks[1].size == 16 && arch.bricks[1].patch == 8);
    CHECK(arch.sigma_data == 1 && arch.skip_loss.sigma_count == 0);
    CHECK_INT(bw_arch_full_mask(&arch), 7);
    CHECK(!bw_arch_is_global(&arch, 1) && bw_arch_is_global(&arch, 2));
    CHECK_INT(bw_arch_side_multiple(&arch), 16);
    CHECK_INT(bw_arch_class(&arch, "CLASS 3"), 3);
    CHECK_INT(bw_arch_class(&arch, "class"), -1);
    CHECK_INT(bw_arch_class(&arch, ""), -1);
    bw_arch_release(&arch);
    free(text);
}

#define ONE_BRICK "{\"bricks\":[{\"size\":32,\"patch\":2,\"depth\":1}]}"
#define TWO_BRICKS \
    "{\"bricks\":[{\"size\":4,\"patch\":2,\"depth\":1},{\"size\":32,\"patch\":2,\"depth\":1}]}"

static void loss_tables(void)
{
    static const char *const bad[] = {
        "",
        "7",
        "{}",
        "{\"sigma\":[],\"bricks\":[\"1\"],\"loss\":[]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\"],\"loss\":[[1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"01\"],\"loss\":[[1,1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"00\"],\"loss\":[[1,1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"1\"],\"loss\":[[1,1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"12\"],\"loss\":[[1,1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",3],\"loss\":[[1,1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,0]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,-1]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,1e99]]}",
        "{\"sigma\":[1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,\"1\"]]}",
        "{\"sigma\":[1,1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,1],[1,1,1]]}",
        "{\"sigma\":[2,1],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,1],[1,1,1]]}",
        "{\"sigma\":[1,2],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,1]]}",
        "{\"sigma\":[0],\"bricks\":[\"10\",\"01\",\"11\"],\"loss\":[[1,1,1]]}",
    };
    char *text = patched(TWO_BRICKS);
    struct bw_arch arch;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_err err = {0};
        CHECK_OF(weights_arch(&arch, text, bad[i], &err) == BW_ESYNTAX, "%s", bad[i]);
        CHECK_HOLDS(err.message, "lego_skip_loss");
    }
    REQUIRE(weights_arch(&arch, text,
                         "{\"sigma\":[1,100],\"bricks\":[\"01\",\"11\",\"10\"],"
                         "\"loss\":[[3,2,4],[6,2,8]]}",
                         NULL) == BW_OK);
    CHECK_NEAR(bw_arch_excess_loss(&arch, 1, 2), 0.5, 1e-6);   // "01" runs brick 1
    CHECK_NEAR(bw_arch_excess_loss(&arch, 100, 1), 3, 1e-6);   // "10" runs brick 0
    CHECK_NEAR(bw_arch_excess_loss(&arch, 10, 1), 2, 1e-6);    // halfway in ln(sigma)
    CHECK_NEAR(bw_arch_excess_loss(&arch, 0.001, 1), 1, 1e-6); // beyond the table: its end
    CHECK_NEAR(bw_arch_excess_loss(&arch, 1e6, 1), 3, 1e-6);
    for (double sigma = 0.5; sigma < 300; sigma *= 1.1)
        CHECK_NEAR(bw_arch_excess_loss(&arch, sigma, 3), 0, 0);
    bw_arch_release(&arch);
    free(text);
}

static void one_and_eight_bricks(void)
{
    struct bw_arch arch;
    char *text = patched(ONE_BRICK);
    REQUIRE(weights_arch(&arch, text, NULL, NULL) == BW_OK);
    CHECK_INT(bw_arch_full_mask(&arch), 1);
    CHECK_INT(bw_arch_side_multiple(&arch), 2); // the patch: one tile is the whole picture
    bw_arch_release(&arch);
    free(text);
    text = patched("{\"bricks\":[" BRICK "," BRICK "," BRICK "," BRICK "," BRICK "," BRICK "," BRICK
                   "," BRICK "]}");
    REQUIRE(weights_arch(&arch, text, NULL, NULL) == BW_OK);
    CHECK_INT(bw_arch_full_mask(&arch), 255);
    bw_arch_release(&arch);
    free(text);
}

static bool allowed(const struct bw_arch *arch, int width, int height, int max_area)
{
    return bw_arch_check_size(arch, width, height, max_area, NULL) == BW_OK;
}

/* Refused, on the right field, and the size the message names instead is itself allowed. */
static void check_refused(const struct bw_arch *arch, int width, int height, int max_area)
{
    struct bw_err err = {0};
    int w = 0, h = 0;
    CHECK_OF(bw_arch_check_size(arch, width, height, max_area, &err) == BW_ERANGE, "%dx%d", width,
             height);
    CHECK_TEXT(err.field, "/size");
    const char *nearest = strstr(err.message, "nearest is ");
    if (CHECK_OF(nearest && sscanf(nearest, "nearest is %dx%d", &w, &h) == 2, "%s", err.message))
        CHECK_OF(allowed(arch, w, h, max_area), "%dx%d of %dx%d within %d, min_size %d", w, h,
                 width, height, max_area, arch->min_size);
}

static void sizes_of_pomology(void)
{
    struct bw_arch arch = weights_arch_of(POMOLOGY);
    static const int good[][2] = {{128, 128}, {128, 192}, {192, 128}, {256, 256},
                                  {128, 384}, {160, 128}, {512, 512}, {2048, 128}};
    static const int bad[][2] = {{100, 128},   {128, 100},       {0, 0},      {64, 64},
                                 {128, 64},    {100000, 100000}, {512, 544},  {129, 129},
                                 {-128, -128}, {999999, 999999}, {1, 999999}, {2080, 128}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(allowed(&arch, good[i][0], good[i][1], 262144), "%dx%d", good[i][0], good[i][1]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(&arch, bad[i][0], bad[i][1], 262144);
    check_refused(&arch, 256, 256, 128 * 128);
    bw_arch_release(&arch);
}

static void min_size_is_honoured(void)
{
    struct bw_arch arch = weights_arch_of(TINY_PG);
    CHECK(!allowed(&arch, 16, 16, 4096) && bw_arch_tiles(&arch, 16, 16));
    arch.min_size = 8;
    CHECK(allowed(&arch, 8, 8, 4096) && allowed(&arch, 16, 32, 4096));
    CHECK(!allowed(&arch, 4, 8, 4096));  // under the minimum
    CHECK(!allowed(&arch, 12, 8, 4096)); // not a multiple of the second brick's patch
    CHECK(!allowed(&arch, 24, 12, 4096) && !allowed(&arch, 20, 32, 4096));
    check_refused(&arch, 9, 9, 1024);
    bw_arch_release(&arch);
}

/* An architecture with nothing but what sizes depend on. */
static struct bw_arch random_arch(uint64_t *random)
{
    static const int sides[] = {12, 16, 24, 32, 60, 128};
    struct bw_arch arch = {.name = "random", .channels = 3, .hidden = 64, .heads = 2};
    arch.image_size = sides[random_int(random, 0, 5)];
    arch.brick_count = random_int(random, 1, 4);
    for (int k = 0; k < arch.brick_count; k++) {
        struct bw_brick_shape *b = &arch.bricks[k];
        do
            b->size = random_int(random, 1, arch.image_size);
        while (arch.image_size % b->size);
        do
            b->patch = random_int(random, 1, b->size);
        while (b->size % b->patch);
    }
    return arch;
}

/* The rule of a brick as the design states it. */
static bool side_fits(const struct bw_arch *arch, int k, int side)
{
    const struct bw_brick_shape *b = &arch->bricks[k];
    if (side < b->size)
        return side % b->patch == 0;
    return b->size == arch->image_size || side % b->size == 0;
}

/* max_area holds at least the training size, so an allowed size exists. */
static void check_random_size(const struct bw_arch *arch, uint64_t *random)
{
    int most = arch->image_size * random_int(random, 1, 4);
    int width = random_int(random, 0, 3 * most), height = random_int(random, 0, 3 * most);
    int max_area = arch->image_size * arch->image_size + random_int(random, 0, most * most);
    bool good = width >= arch->min_size && height >= arch->min_size && width * height <= max_area;
    for (int k = 0; k < arch->brick_count; k++)
        good = good && side_fits(arch, k, width) && side_fits(arch, k, height);
    if (good)
        CHECK_OF(allowed(arch, width, height, max_area), "%dx%d", width, height);
    else
        check_refused(arch, width, height, max_area);
}

static void random_sizes_with_a_tileable_minimum(void)
{
    uint64_t random = 5;
    for (int i = 0; i < 4000; i++) {
        struct bw_arch arch = random_arch(&random);
        arch.min_size = arch.image_size;
        if (bw_arch_tiles(&arch, arch.image_size / 2, arch.image_size / 2) && i % 2)
            arch.min_size = arch.image_size / 2;
        check_random_size(&arch, &random);
    }
}

static void random_sizes_with_any_minimum(void)
{
    uint64_t random = 6;
    for (int i = 0; i < 4000; i++) {
        struct bw_arch arch = random_arch(&random);
        arch.min_size = random_int(&random, 1, arch.image_size);
        while (!bw_arch_tiles(&arch, arch.min_size, arch.min_size)) // as reading a model does
            arch.min_size++;
        check_random_size(&arch, &random);
    }
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(every_rule_refuses),
        TEST(what_is_not_a_network),
        TEST(what_is_read),
        TEST(loss_tables),
        TEST(one_and_eight_bricks),
        TEST(sizes_of_pomology),
        TEST(min_size_is_honoured),
        TEST(random_sizes_with_a_tileable_minimum),
        TEST(random_sizes_with_any_minimum),
    };
    return CHECK_RUN("arch", tests);
}
