/* Covers: what goes out comes back, and windows weigh every pixel the same. */
#include "engine/tiles.h"

#include "tests/unit/check.h"
#include "tests/unit/random.h"

/* A network of one brick as far as covers look at it. */
static struct bw_arch arch_of(int image_size, int size, int patch)
{
    return (struct bw_arch){.image_size = image_size,
                            .min_size = 1,
                            .channels = 3,
                            .brick_count = 1,
                            .bricks = {{size, patch, 1}}};
}

/* Gather patches of the image alone and put them back as the brick's output would be. */
static void copy_through(const struct bw_cover *c, int channels, const float *image, float *out)
{
    int area = c->patch * c->patch, tokens = c->tile_tokens * c->tile_count;
    float *patch = malloc(sizeof *patch * (size_t)((channels + 2) * area + 1));
    float *token = malloc(sizeof *token * (size_t)(channels * area));
    const struct bw_brick_input input = {.image = image, .scale = 1, .channels = channels};
    for (int i = 0; i < tokens; i++) {
        patch[(channels + 2) * area] = 77;
        bw_cover_gather(c, &input, i, 1, patch);
        CHECK(patch[(channels + 2) * area] == 77);
        for (int pixel = 0; pixel < area; pixel++)
            for (int channel = 0; channel < channels; channel++)
                token[pixel * channels + channel] = patch[channel * area + pixel];
        bw_cover_scatter(c, channels, i, 1, token, out);
    }
    bw_cover_average(c, channels, out);
    free(patch);
    free(token);
}

static void check_inverse(const struct bw_arch *arch, int width, int height, const int shift[2],
                          uint64_t *random)
{
    enum { CHANNELS = 3 };
    struct bw_cover c = bw_cover_make(arch, 0, width, height, shift);
    size_t count = (size_t)CHANNELS * (size_t)width * (size_t)height;
    float *image = malloc(sizeof *image * count), *out = calloc(count + 1, sizeof *out);
    random_fill(random, 1, count, image);
    out[count] = 77;
    for (size_t i = 0; !c.windows && i < count; i++)
        out[i] = NAN; // every pixel has to be written
    copy_through(&c, CHANNELS, image, out);
    for (size_t i = 0; i < count; i++)
        CHECK_OF(c.windows ? fabsf(out[i] - image[i]) < 1e-5f : out[i] == image[i],
                 "%dx%d, tile %d, patch %d, shift %d,%d", width, height, arch->bricks[0].size,
                 arch->bricks[0].patch, shift[0], shift[1]);
    CHECK(out[count] == 77);
    free(image);
    free(out);
}

static void gather_and_scatter_are_inverse(void)
{
    static const int sides[] = {4, 8, 16, 12};
    uint64_t random = 1;
    for (int i = 0; i < 600; i++) {
        int size = sides[random_int(&random, 0, 3)], patch = random_int(&random, 1, 4);
        int image_size = i % 3 ? size * random_int(&random, 2, 3) : size; // every third: global
        if (size % patch)
            continue;
        struct bw_arch arch = arch_of(image_size, size, patch);
        int width = patch * random_int(&random, 1, 12), height = patch * random_int(&random, 1, 12);
        if (bw_arch_tiles(&arch, width, height))
            check_inverse(&arch, width, height,
                          (int[]){random_int(&random, -50, 50), random_int(&random, -50, 50)},
                          &random);
    }
}

/* Coordinates of every pixel of a global cover, in one dimension. */
static float coordinate_at(int i, int length)
{
    return length == 1 ? -1 : (float)(-1 + 2.0 * i / (length - 1));
}

static void inputs_in_order(void)
{
    struct bw_arch arch = arch_of(8, 4, 2);
    float image[3 * 64], below[3 * 64], out[8 * 4];
    for (int i = 0; i < 3 * 64; i++) {
        image[i] = (float)i;
        below[i] = (float)(1000 + i);
    }
    struct bw_cover c = bw_cover_make(&arch, 0, 8, 8, (int[]){1, 3});
    const struct bw_brick_input input = {
        .image = image, .scale = 2, .below = below, .has_below = true, .channels = 3};
    CHECK_INT(c.tile_count, 4);
    CHECK_INT(c.tile_tokens, 4);
    bw_cover_gather(&c, &input, 4 + 2, 1, out); // second tile, second row, first token
    for (int channel = 0; channel < 3; channel++) {
        for (int pixel = 0; pixel < 4; pixel++) {
            int y = 2 + pixel / 2 - 1, x = 4 + pixel % 2 - 3; // rolled back by the shift
            CHECK_NEAR(out[channel * 4 + pixel], 1000 + channel * 64 + y * 8 + x, 0);
            CHECK_NEAR(out[12 + channel * 4 + pixel], 2 * (channel * 64 + y * 8 + x), 0);
            CHECK_NEAR(out[24 + pixel], coordinate_at(y, 8), 1e-6);
            CHECK_NEAR(out[28 + pixel], coordinate_at(x, 8), 1e-6);
        }
    }
    struct bw_brick_input first = input;
    first.below = NULL;
    bw_cover_gather(&c, &first, 0, 1, out);
    for (int i = 0; i < 12; i++)
        CHECK_NEAR(out[i], 0, 0);
}

/* Column of the first pixel of each window, read off the coordinate channel. */
static void check_windows(int length, int size)
{
    struct bw_arch arch = arch_of(size, size, 1);
    struct bw_cover c = bw_cover_make(&arch, 0, length, size, (int[]){3, 5});
    const struct bw_brick_input input = {.channels = 0};
    int before = 0;
    CHECK_INT(c.rows, 1);
    CHECK(c.shift_x == 0 && c.shift_y == 0);
    CHECK_OF(c.windows == (c.columns > 1), "%d of %d", size, length);
    for (int i = 0; i < c.columns; i++) {
        float at[2];
        bw_cover_gather(&c, &input, i * c.tile_tokens, 1, at);
        int offset = length == 1 ? 0 : (int)lround(((double)at[1] + 1) / 2 * (length - 1));
        CHECK_OF(i > 0 || offset == 0, "%d of %d", size, length);
        CHECK_OF(i < c.columns - 1 || offset == length - size, "%d of %d: %d", size, length,
                 offset);
        CHECK_OF(i == 0 || (offset > before && offset - before <= (size > 1 ? size / 2 : 1)),
                 "%d of %d: %d after %d", size, length, offset, before);
        before = offset;
    }
}

static void windows_cover_the_length(void)
{
    for (int size = 1; size <= 40; size++)
        for (int length = size; length <= 5 * size + 7; length++)
            check_windows(length, size);
    check_windows(2048, 128);
}

/* The longest strip that settings allow: the last window must still end where the picture ends. */
static void windows_of_the_longest_strip(void)
{
    struct bw_arch arch = arch_of(32, 32, 2);
    const struct bw_brick_input input = {.channels = 0};
    float at[2 * 4];
    struct bw_cover c = bw_cover_make(&arch, 0, (1 << 24) / 32, 32, (int[]){0, 0});
    bw_cover_gather(&c, &input, c.tile_count * c.tile_tokens - 1, 1, at);
    CHECK_NEAR(at[7], 1, 1e-6);
    bw_cover_gather(&c, &input, (c.tile_count / 2) * c.tile_tokens, 1, at);
    CHECK_NEAR(at[4], 0, 1e-3);
}

static void average_of_a_constant(void)
{
    for (int width = 16; width <= 75; width++) {
        struct bw_arch arch = arch_of(16, 16, 1);
        struct bw_cover c = bw_cover_make(&arch, 0, width, 33, (int[]){0, 0});
        size_t count = (size_t)width * 33;
        float *image = calloc(count, sizeof *image);
        const float token = 0.7f;
        for (int i = 0; i < c.tile_count * c.tile_tokens; i++)
            bw_cover_scatter(&c, 1, i, 1, &token, image);
        bw_cover_average(&c, 1, image);
        for (size_t i = 0; i < count; i++)
            CHECK_NEAR(image[i], 0.7, 1e-6);
        free(image);
    }
}

/* Scattered one by one or all at once: the same picture. */
static void any_split_is_the_same(void)
{
    struct bw_arch arch = arch_of(16, 8, 2);
    struct bw_cover c = bw_cover_make(&arch, 0, 16, 24, (int[]){5, 3});
    enum { COUNT = 3 * 16 * 24, TOKENS = 16 * 24 / 4 };
    static float image[COUNT], whole[TOKENS * 5 * 4], part[TOKENS * 5 * 4];
    uint64_t random = 2;
    random_fill(&random, 1, COUNT, image);
    const struct bw_brick_input input = {.image = image, .scale = 0.3f, .channels = 3};
    bw_cover_gather(&c, &input, 0, TOKENS, whole);
    for (int i = 0; i < TOKENS; i++)
        bw_cover_gather(&c, &input, i, 1, part + i * 20);
    CHECK(memcmp(whole, part, sizeof whole) == 0);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(gather_and_scatter_are_inverse), TEST(inputs_in_order),
        TEST(windows_cover_the_length),       TEST(average_of_a_constant),
        TEST(any_split_is_the_same),          TEST(windows_of_the_longest_strip)};
    return CHECK_RUN("tiles", tests);
}
