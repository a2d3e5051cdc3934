/* Which set is chosen, and what every set this CPU can run makes of rows, against the same in
 * double precision. "kernels sets" names the sets that can run, one a line.
 *
 * Tolerances: as for products, a sum may be off by eight float units of its terms' sizes. */
#include "tests/unit/kernels.h"

enum { MOST = 20 * 1152, SPREAD = 8 };

static float x[MOST], shift[MOST], scale[MOST], result[MOST], again[MOST];
static uint64_t seed = 21;

static struct {
    struct area x, shift, scale, out;
} areas;

/* The best set from place `first` of the table on whose activations are of those bytes; 0: any. */
static const struct bw_kernels *best_of(int first, int bytes)
{
    for (int i = first; i < SETS; i++) {
        if (bw_kernels_runs(sets[i]) && (!bytes || sets[i]->activation_bytes == bytes))
            return sets[i];
    }
    return NULL;
}

static void check_choice(enum bw_precision precision, const struct bw_kernels *want)
{
    const struct bw_kernels *kernels = NULL;
    struct bw_err err = {0};
    const char *limit = getenv("BRICKWORK_CPU");
    int code = bw_kernels_choose(precision, &kernels, &err);
    CHECK_OF(code == (want ? BW_OK : BW_ERANGE) && kernels == want,
             "precision %d, BRICKWORK_CPU=%s: code %d, %s", precision, limit ? limit : "(unset)",
             code, kernels ? kernels->name : "no set");
    CHECK(!want == (*err.message != '\0'));
}

static void check_choices(int first)
{
    check_choice(BW_PRECISION_AUTO, best_of(first, 0));
    check_choice(BW_PRECISION_BF16, best_of(first, 2));
    check_choice(BW_PRECISION_F32, best_of(first, 4));
}

static void choosing(void)
{
    static const char *const names[] = {"amx", "avx512bf16", "avx512", "avx2", "portable"};
    static const char *const wrong[] = {"avx", "AVX2", " avx2", "avx512bf16x", "sse", "x"};
    const char *outer = getenv("BRICKWORK_CPU");
    char *kept = outer ? strdup(outer) : NULL;
    for (int i = 0; i < SETS; i++) {
        CHECK_TEXT(sets[i]->name, names[i]);
        CHECK_INT(sets[i]->activation_bytes, i < 2 ? 2 : 4);
        setenv("BRICKWORK_CPU", names[i], 1);
        check_choices(i);
    }
    setenv("BRICKWORK_CPU", "avx2", 1);
    check_choice(BW_PRECISION_BF16, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("BRICKWORK_CPU", wrong[i], 1);
        for (int precision = BW_PRECISION_AUTO; precision <= BW_PRECISION_F32; precision++)
            check_choice((enum bw_precision)precision, NULL);
    }
    setenv("BRICKWORK_CPU", "", 1);
    check_choices(0);
    unsetenv("BRICKWORK_CPU");
    check_choices(0);
    if (kept)
        setenv("BRICKWORK_CPU", kept, 1);
    free(kept);
}

/* A set needs all that the sets after it need. */
static void sets_are_ordered(void)
{
    CHECK(bw_kernels_runs(&bw_kernels_portable));
    for (int i = 0; i + 1 < SETS; i++)
        CHECK_OF(!bw_kernels_runs(sets[i]) || bw_kernels_runs(sets[i + 1]), "%s", sets[i]->name);
}

/* The ends of the network are float arithmetic that runs wherever the set does. */
static void ends_are_float(void)
{
    for (int i = 0; i < SETS; i++) {
        const struct bw_kernels *ends = sets[i]->ends;
        CHECK_OF(ends->activation_bytes == sizeof(float), "%s", sets[i]->name);
        CHECK_OF(bw_kernels_runs(ends) || !bw_kernels_runs(sets[i]), "%s", sets[i]->name);
        CHECK_OF(ends == sets[i] || sets[i]->activation_bytes == 2, "%s", sets[i]->name);
    }
}

static void precisions(void)
{
    static const char *const names[] = {"auto", "bf16", "f32"};
    static const char *const wrong[] = {"", "AUTO", "bf", "bf166", "fp32", " f32"};
    enum bw_precision precision = BW_PRECISION_F32;
    for (int i = 0; i < 3; i++)
        CHECK_OF(bw_kernels_precision(names[i], &precision) && (int)precision == i, "%s", names[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_OF(!bw_kernels_precision(wrong[i], &precision), "%s", wrong[i]);
    CHECK_INT(precision, BW_PRECISION_F32);
}

/* norm or, without shift and scale, narrow; out[rows, stride(width)]. */
static void run_rows(const struct bw_kernels *k, int rows, int width, const float *from,
                     bool modulated, int tail, float *out)
{
    size_t count = (size_t)(rows * bw_kernels_stride(width)), bytes = (size_t)k->activation_bytes;
    const float *in = area_floats(&areas.x, (size_t)(rows * width), from, tail);
    void *y = area_take(&areas.out, count * bytes, (size_t)tail * bytes, FENCE);
    if (modulated)
        k->norm(rows, width, in, area_floats(&areas.shift, (size_t)width, shift, tail),
                area_floats(&areas.scale, (size_t)width, scale, tail), y);
    else
        k->narrow(rows, width, in, y);
    CHECK_OF(area_fenced(&areas.out, 1, count * bytes, 0), "%s: %dx%d", k->name, rows, width);
    for (size_t i = 0; i < count; i++)
        out[i] = get_activation(k, y, i);
}

static void check_norm_row(const struct bw_kernels *k, int width, const float *row,
                           const float *got)
{
    double mean = 0, squares = 0, size = 0;
    for (int i = 0; i < width; i++) {
        mean += (double)row[i] / width;
        size = fmax(size, fabs(row[i]));
    }
    for (int i = 0; i < width; i++)
        squares += (row[i] - mean) * (row[i] - mean) / width;
    double inverse = 1 / sqrt(squares + 1e-6);
    for (int i = 0; i < width; i++) {
        double gain = inverse * (1 + scale[i]), want = (row[i] - mean) * gain + shift[i];
        double within = SPREAD * FLOAT_UNIT *
                        (size * fabs(gain) + fabs((row[i] - mean) * gain) + fabs(shift[i]));
        within += is_bf16(k) ? BF16_UNIT * (fabs(want) + within) : 0;
        CHECK_OF(fabs(got[i] - want) <= within, "%s: width %d, [%d] is %.9g, not %.9g within %g",
                 k->name, width, i, got[i], want, within);
    }
}

static void check_norm(const struct bw_kernels *k)
{
    static const int widths[] = {32, 64, 96, 320, 384, 1152};
    for (int i = 0; i < 48; i++) {
        int width = widths[i % 6], rows = i % 20 + 1;
        float offset = (float)random_int(&seed, -20, 20);
        random_fill(&seed, 3, (size_t)(rows * width), x);
        random_fill(&seed, 2, (size_t)width, shift);
        random_fill(&seed, 2, (size_t)width, scale);
        for (int j = 0; j < rows * width; j++)
            x[j] += offset;
        run_rows(k, rows, width, x, true, i % 5, result);
        for (int r = 0; r < rows; r++) {
            check_norm_row(k, width, x + r * width, result + r * width);
            run_rows(k, 1, width, x + r * width, true, r % 3, again);
            CHECK_OF(memcmp(again, result + r * width, sizeof *again * (size_t)width) == 0,
                     "%s: row %d of %dx%d depends on more than itself", k->name, r, rows, width);
        }
    }
}

static void norm(void)
{
    each_set(check_norm);
}

/* Nothing varies, so that what is left is the shift; sums of these numbers are exact. */
static void check_constant_rows(const struct bw_kernels *k)
{
    static const float constants[] = {0, 5, -5, 1024, 1e4f};
    random_fill(&seed, 2, 96, shift);
    random_fill(&seed, 2, 96, scale);
    for (int width = 32; width <= 96; width += 32) {
        for (int c = 0; c < 5; c++) {
            for (int i = 0; i < width; i++)
                x[i] = constants[c];
            run_rows(k, 1, width, x, true, 0, result);
            for (int i = 0; i < width; i++)
                CHECK_OF(result[i] == as_activation(k, shift[i]), "%s: %d of %g: %g, not %g",
                         k->name, width, constants[c], result[i], shift[i]);
        }
    }
}

static void norm_of_constant_rows(void)
{
    each_set(check_constant_rows);
}

static void check_narrow(const struct bw_kernels *k)
{
    static const float special[] = {0,       -0.0f,       INFINITY,   -INFINITY,
                                    3.4e38f, 1 + 0x1p-8f, 1 + 0x3p-8f};
    enum { SPECIAL = sizeof special / sizeof *special };
    for (int width = 1; width <= 70; width++) {
        int rows = width % 9 + 1, stride = bw_kernels_stride(width);
        random_fill(&seed, 100, (size_t)(rows * width), x);
        for (int i = 0; i < rows * width; i += 3)
            x[i] = special[random_int(&seed, 0, SPECIAL - 1)];
        run_rows(k, rows, width, x, false, width % 4, result);
        for (int i = 0; i < rows * stride; i++) {
            bool padding = i % stride >= width;
            float want = padding ? 0 : as_activation(k, x[i / stride * width + i % stride]);
            CHECK_OF(memcmp(&result[i], &want, sizeof want) == 0, "%s: %dx%d, [%d] is %g, not %g",
                     k->name, rows, width, i, result[i], want);
        }
    }
}

static void narrow(void)
{
    each_set(check_narrow);
}

/* Operations are counted, not guessed. */
static void check_spin(const struct bw_kernels *k)
{
    double once = k->spin(1);
    CHECK_OF(once > 0 && k->spin(0) == 0 && k->spin(100) == 100 * once, "%s: %g", k->name, once);
}

static void spin(void)
{
    each_set(check_spin);
}

int main(int count, char **arguments)
{
    static const struct check_test tests[] = {
        TEST(choosing), TEST(sets_are_ordered),      TEST(precisions), TEST(ends_are_float),
        TEST(norm),     TEST(norm_of_constant_rows), TEST(narrow),     TEST(spin),
    };
    if (count > 1 && strcmp(arguments[1], "sets") == 0) {
        for (int i = 0; i < SETS; i++) {
            if (bw_kernels_runs(sets[i]))
                printf("%s\n", sets[i]->name);
        }
        return 0;
    }
    return CHECK_RUN("kernels", tests);
}
