/* What every set this CPU can run makes of pixels for a group norm, against the same in double
 * precision, and what the contract says about bits. */
#include "tests/unit/kernels.h"

enum { MOST_PIXELS = 37, MOST_CHANNELS = 176, MOST = MOST_PIXELS * MOST_CHANNELS };

static float x[MOST], factor[MOST_CHANNELS], offset[MOST_CHANNELS];
static uint64_t seed = 31;

static struct {
    struct area x, factor, offset, out;
} areas;

/* Numbers of which some are far out: silu() of -100 is all but nothing, of 100 it is 100. */
static void fill(const struct bw_kernels *k, int count, int channels)
{
    fill_activations(k, &seed, 4, count * channels, x);
    for (int i = 0; i < count * channels; i += 29)
        x[i] *= 32;
    random_fill(&seed, 2, (size_t)channels, factor);
    random_fill(&seed, 1, (size_t)channels, offset);
}

/* The pixels as floats or activations, `gap` elements between them. */
static struct bw_pixels place(const struct bw_kernels *k, int first, int count, int channels,
                              int gap, bool narrow)
{
    size_t bytes = narrow ? (size_t)k->activation_bytes : sizeof(float);
    size_t stride = (size_t)(channels + gap), all = (size_t)(count - 1) * stride + (size_t)channels;
    void *at = area_take(&areas.x, all * bytes, 0, NOTHING);
    for (int i = 0; i < count * channels; i++) {
        size_t to = (size_t)(i / channels) * stride + (size_t)(i % channels);
        if (narrow)
            put_activation(k, at, to, x[first * channels + i]);
        else
            ((float *)at)[to] = x[first * channels + i];
    }
    return (struct bw_pixels){count, channels, at, stride * bytes, narrow};
}

static void check_sums(const struct bw_kernels *k, int count, int channels, int gap, bool narrow)
{
    double want[2 * MOST_CHANNELS] = {0}, split[2 * MOST_CHANNELS] = {0};
    size_t bytes = 2 * (size_t)channels * sizeof(double);
    for (int i = 0; i < count * channels; i++) {
        want[i % channels] += x[i];
        want[channels + i % channels] += (double)x[i] * x[i];
    }
    double *sums = area_take(&areas.out, bytes, 0, FENCE);
    memset(sums, 0, bytes);
    struct bw_pixels p = place(k, 0, count, channels, gap, narrow);
    k->sum_pixels(&p, sums);
    CHECK_OF(area_fenced(&areas.out, 1, bytes, bytes), "%s: %dx%d", k->name, count, channels);
    for (int c = 0; c < 2 * channels; c++)
        CHECK_OF(fabs(sums[c] - want[c]) <= 1e-12 * (fabs(want[c]) + 100),
                 "%s: %dx%d, narrow %d: %d is %.17g, not %.17g", k->name, count, channels, narrow,
                 c, sums[c], want[c]);
    for (int first = 0, now; first < count; first += now) {
        now = random_int(&seed, 1, count - first);
        p = place(k, first, now, channels, gap, narrow);
        k->sum_pixels(&p, split);
    }
    CHECK_OF(memcmp(split, sums, bytes) == 0, "%s: %dx%d in parts", k->name, count, channels);
}

static void check_norm(const struct bw_kernels *k, int count, int channels, int gap, bool narrow,
                       bool silu)
{
    size_t bytes = (size_t)(count * channels * k->activation_bytes);
    struct bw_pixels p = place(k, 0, count, channels, gap, narrow);
    const float *f = area_floats(&areas.factor, (size_t)channels, factor, 0);
    const float *o = area_floats(&areas.offset, (size_t)channels, offset, 0);
    void *out = area_take(&areas.out, bytes, 0, FENCE);
    k->norm_pixels(&p, f, o, silu, out);
    CHECK_OF(area_fenced(&areas.out, 1, bytes, bytes), "%s: %dx%d", k->name, count, channels);
    for (int i = 0; i < count * channels; i++) {
        double y = (double)x[i] * f[i % channels] + o[i % channels];
        double size = fabs((double)x[i] * f[i % channels]) + fabs(o[i % channels]);
        double want = silu ? y / (1 + exp(-y)) : y, got = get_activation(k, out, (size_t)i);
        // Of float arithmetic, of exp() far out, and in the sets for bfloat16 of an inverse.
        double within = FLOAT_UNIT * (4 * size + (silu ? 8 * fabs(want) : 0));
        within += activation_error(k, want) * (silu ? 1.05 : 1.01) + 1e-30;
        CHECK_OF(fabs(got - want) <= within, "%s: %dx%d, narrow %d, silu %d: of %g %.9g, not %.9g",
                 k->name, count, channels, narrow, silu, y, got, want);
    }
}

static void check_set(const struct bw_kernels *k)
{
    static const int counts[] = {1, 2, 5, MOST_PIXELS};
    static const int channels[] = {16, 32, 48, 64, 80, 128, MOST_CHANNELS};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (size_t j = 0; j < sizeof channels / sizeof *channels; j++) {
            for (int narrow = 0; narrow < 2; narrow++) {
                fill(k, counts[i], channels[j]);
                check_sums(k, counts[i], channels[j], narrow ? 2 : 3, narrow);
                check_norm(k, counts[i], channels[j], 0, narrow, true);
                check_norm(k, counts[i], channels[j], 6, narrow, false);
            }
        }
    }
}

static void pixels(void)
{
    each_set(check_set);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(pixels)};
    return CHECK_RUN("kernels_pixels", tests);
}
