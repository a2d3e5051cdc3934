/* Known answers of Philox4x32-10 from the Random123 distribution, and what noise has to be. */
#include "engine/rng.h"

#include "tests/unit/check.h"

static void philox_known_answers(void)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint32_t out[4];
        bw_philox(vectors[i].counter, vectors[i].key, out);
        CHECK_OF(memcmp(out, vectors[i].out, sizeof out) == 0, "vector %zu: %08x", i, out[0]);
    }
}

/* The construction the header promises, element by element. */
static void noise_is_box_muller_of_philox(void)
{
    const uint64_t seed = 0x0012345689abcdef;
    float noise[64];
    bw_noise(seed, 9, 64, noise);
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t words[4];
        bw_philox((uint32_t[]){i / 4, 0, 9, 0}, (uint32_t[]){0x89abcdef, 0x00123456}, words);
        uint32_t a = words[i % 4 / 2 * 2], b = words[i % 4 / 2 * 2 + 1];
        double radius = sqrt(-2 * log((a + 1.0) / 4294967296.0));
        double angle = 2 * M_PI * b / 4294967296.0;
        CHECK_NEAR(noise[i], radius * (i % 2 ? sin(angle) : cos(angle)), 1e-6);
    }
}

static void noise_of_any_length_is_a_prefix(void)
{
    float all[257], part[258];
    bw_noise(42, 3, 257, all);
    for (size_t count = 0; count <= 257; count++) {
        part[count] = 77;
        bw_noise(42, 3, count, part);
        CHECK_OF(memcmp(all, part, count * sizeof *all) == 0 && part[count] == 77, "%zu", count);
    }
}

static void noise_is_normal(void)
{
    enum { COUNT = 1 << 18 };
    static float noise[COUNT];
    for (uint64_t seed = 0; seed < 4; seed++) {
        double mean = 0, square = 0, cube = 0, fourth = 0, neighbour = 0;
        bw_noise(seed * 1234567890123, (uint32_t)seed, COUNT, noise);
        for (int i = 0; i < COUNT; i++) {
            double x = noise[i];
            CHECK(isfinite(x));
            mean += x / COUNT;
            square += x * x / COUNT;
            cube += x * x * x / COUNT;
            fourth += x * x * x * x / COUNT;
            neighbour += x * noise[(i + 1) % COUNT] / COUNT;
        }
        // five standard errors of each estimate
        const double error = 5 / sqrt(COUNT);
        CHECK_NEAR(mean, 0, error);
        CHECK_NEAR(square, 1, sqrt(2) * error);
        CHECK_NEAR(cube, 0, sqrt(15) * error);
        CHECK_NEAR(fourth, 3, sqrt(96) * error);
        CHECK_NEAR(neighbour, 0, error);
    }
}

static int same_count(const float *a, const float *b, int count)
{
    int same = 0;
    for (int i = 0; i < count; i++)
        same += a[i] == b[i];
    return same;
}

static void seed_and_index_change_everything(void)
{
    enum { COUNT = 4096 };
    static float base[COUNT], other[COUNT];
    bw_noise(1, 0, COUNT, base);
    static const struct {
        uint64_t seed;
        uint32_t index;
    } others[] = {{2, 0}, {1, 1}, {1, 2}, {1, UINT32_MAX}, {1 + (1ull << 32), 0}, {1ull << 52, 0}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        bw_noise(others[i].seed, others[i].index, COUNT, other);
        CHECK_OF(same_count(base, other, COUNT) < 4, "seed %llu, index %u",
                 (unsigned long long)others[i].seed, others[i].index);
    }
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(philox_known_answers), TEST(noise_is_box_muller_of_philox),
        TEST(noise_of_any_length_is_a_prefix), TEST(noise_is_normal),
        TEST(seed_and_index_change_everything)};
    return CHECK_RUN("rng", tests);
}
