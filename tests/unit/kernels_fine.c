/* Fine products of every set that has them and this CPU can run, against sums in double precision.
 *
 * Tolerances: each number is off by at most half a unit of its row. Such errors have either sign,
 * so that a sum's grows like a random walk; SPREAD of its standard deviations are allowed. */
#include "tests/unit/kernels.h"

enum { MOST_ROWS = 130, MOST = 416, SPREAD = 6, WHOLE = INT16_MAX };

static float x[MOST_ROWS * MOST], shift[MOST], scale[MOST]; // what norm() reads
static float w[MOST * MOST], bias[MOST], gate[MOST], before[MOST_ROWS * MOST];
static float result[MOST_ROWS * MOST], again[MOST_ROWS * MOST]; // [rows, outputs]
static double normed[MOST_ROWS * MOST];                         // [rows, inputs]
static uint64_t seed = 31;

static struct {
    struct area x, shift, scale, a, w, packed, bias, gate, y;
} areas;

struct shape {
    int rows, outputs, inputs;
    bool bias, gelu;
    enum bw_sink store;
};

/* Fine rows of first..first + rows - 1 of x. */
static void *run_norm(const struct bw_kernels *k, const struct shape *s, int first, int rows,
                      int tail)
{
    size_t width = (size_t)s->inputs, bytes = bw_kernels_fine_bytes(rows, s->inputs);
    const float *in = area_floats(&areas.x, (size_t)rows * width, x + (size_t)first * width, tail);
    void *out = area_take(&areas.a, bytes, 2 * (size_t)tail, FENCE);
    k->fine->norm(rows, s->inputs, in, area_floats(&areas.shift, width, shift, tail),
                  area_floats(&areas.scale, width, scale, tail), out);
    CHECK_OF(area_fenced(&areas.a, 1, bytes, 0), "%s: norm %dx%d", k->name, rows, s->inputs);
    return out;
}

static void run_product(const struct bw_kernels *k, const struct shape *s, int first, int rows,
                        int tail, float *out)
{
    size_t n = (size_t)s->outputs, bytes = k->fine->packed_bytes(s->outputs, s->inputs);
    bool narrow = s->store == BW_STORE_ACTIVATION;
    size_t row_bytes = n * (narrow ? (size_t)k->activation_bytes : sizeof(float));
    void *packed = area_take(&areas.packed, bytes, 2 * (size_t)tail, FENCE);
    k->fine->pack(s->outputs, s->inputs, area_floats(&areas.w, n * (size_t)s->inputs, w, tail),
                  packed);
    CHECK_OF(area_fenced(&areas.packed, 1, bytes, 0), "%s: pack %dx%d", k->name, s->outputs,
             s->inputs);
    struct bw_product p = {
        .rows = rows,
        .outputs = s->outputs,
        .inputs = s->inputs,
        .a = run_norm(k, s, first, rows, tail),
        .a_stride = s->inputs,
        .w = packed,
        .bias = s->bias ? area_floats(&areas.bias, n, bias, tail) : NULL,
        .gate = area_floats(&areas.gate, n, gate, tail),
        .gelu = s->gelu,
        .store = s->store,
        .y = area_take(&areas.y, (size_t)rows * row_bytes, (size_t)tail * 4, FENCE),
        .y_stride = s->outputs,
    };
    if (s->store == BW_STORE_GATED)
        memcpy(p.y, before + (size_t)first * n, (size_t)rows * row_bytes);
    k->fine->product(&p);
    CHECK_OF(area_fenced(&areas.y, 1, (size_t)rows * row_bytes, 0), "%s: %dx%dx%d", k->name, rows,
             s->outputs, s->inputs);
    for (size_t i = 0; i < (size_t)rows * n; i++)
        out[i] = narrow ? get_activation(k, p.y, i) : ((float *)p.y)[i];
}

static void fill(const struct shape *s)
{
    random_fill(&seed, 3, (size_t)(s->rows * s->inputs), x);
    random_fill(&seed, 2, (size_t)s->inputs, shift);
    random_fill(&seed, 2, (size_t)s->inputs, scale);
    random_fill(&seed, 1, (size_t)(s->outputs * s->inputs), w);
    random_fill(&seed, 1, (size_t)s->outputs, bias);
    random_fill(&seed, 2, (size_t)s->outputs, gate);
    random_fill(&seed, 2, (size_t)(s->rows * s->outputs), before);
}

/* The twin of norm(), and the norm of what it makes of each row. */
static double norm_twin(const struct shape *s, int row)
{
    const float *in = x + row * s->inputs;
    double mean = 0, variance = 0, squares = 0, *out = normed + row * s->inputs;
    for (int i = 0; i < s->inputs; i++)
        mean += (double)in[i] / s->inputs;
    for (int i = 0; i < s->inputs; i++)
        variance += (in[i] - mean) * (in[i] - mean) / s->inputs;
    for (int i = 0; i < s->inputs; i++) {
        out[i] = (in[i] - mean) / sqrt(variance + 1e-6) * (1 + (double)scale[i]) + shift[i];
        squares += out[i] * out[i];
    }
    return sqrt(squares);
}

/* Bytes of one half of a fine row of AMX. */
static int filled_to(int width)
{
    return (width + 63) / 64 * 64;
}

/* The j-th number of a fine row: 16 bits or, for AMX, halves of rows filled up to 64 bytes. */
static int whole_of(const struct bw_kernels *k, const unsigned char *rows, int width, int r, int j)
{
    int16_t whole;
    if (k == &bw_kernels_amx) {
        int filled = filled_to(width);
        rows += r * 2 * filled;
        for (int i = width; i < filled; i++)
            CHECK_OF(rows[i] == 0 && rows[filled + i] == 0, "%s: width %d", k->name, width);
        return (int8_t)rows[j] * 256 + (int8_t)rows[filled + j];
    }
    memcpy(&whole, rows + (r * width + j) * (int)sizeof whole, sizeof whole);
    return whole;
}

static const unsigned char *units_behind(const struct bw_kernels *k, const unsigned char *rows,
                                         int width, int count)
{
    return rows + 2 * count * (k == &bw_kernels_amx ? filled_to(width) : width);
}

/* What a row of `normed` is measured by: its norm or, for AMX, its largest number. */
static double size_of(const struct bw_kernels *k, const double *row, int width)
{
    double squares = 0, largest = 0;
    for (int i = 0; i < width; i++) {
        squares += row[i] * row[i];
        largest = fmax(largest, fabs(row[i]));
    }
    return k == &bw_kernels_amx ? largest : sqrt(squares);
}

/* Fine rows against `normed`. */
static void check_rows(const struct bw_kernels *k, const struct shape *s, const unsigned char *got)
{
    for (int r = 0; r < s->rows; r++) {
        double size = size_of(k, normed + r * s->inputs, s->inputs), wholes[MOST];
        float unit;
        memcpy(&unit, units_behind(k, got, s->inputs, s->rows) + (size_t)r * sizeof unit,
               sizeof unit);
        CHECK_OF(unit > size / WHOLE && unit < 1.01 * size / WHOLE, "%s: unit %g of %g", k->name,
                 unit, size);
        for (int j = 0; j < s->inputs; j++) {
            int whole = whole_of(k, got, s->inputs, r, j);
            double want = normed[r * s->inputs + j];
            wholes[j] = whole;
            CHECK_OF(fabs(whole * (double)unit - want) <= 0.5 * unit + 1e-6 * size,
                     "%s: width %d, [%d, %d] is %d of %g, not %g", k->name, s->inputs, r, j, whole,
                     unit, want);
        }
        CHECK_OF(size_of(k, wholes, s->inputs) <= WHOLE, "%s: larger than %d", k->name, WHOLE);
    }
}

static void check_norm(const struct bw_kernels *k)
{
    for (int i = 0; i < 40; i++) {
        struct shape s = {
            .rows = i % 19 + 1, .inputs = 32 * random_int(&seed, 1, 13), .outputs = 1};
        fill(&s);
        for (int r = 0; r < s.rows; r++)
            norm_twin(&s, r);
        check_rows(k, &s, run_norm(k, &s, 0, s.rows, i % 4));
    }
}

static void check_narrow(const struct bw_kernels *k)
{
    for (int i = 0; i < 40; i++) {
        struct shape s = {
            .rows = i % 19 + 1, .inputs = 32 * random_int(&seed, 1, 13), .outputs = 1};
        size_t count = (size_t)(s.rows * s.inputs), tail = (size_t)(i % 4);
        size_t bytes = bw_kernels_fine_bytes(s.rows, s.inputs);
        fill(&s);
        for (size_t j = 0; j < count; j++)
            normed[j] = x[j];
        void *out = area_take(&areas.a, bytes, 2 * tail, FENCE);
        k->fine->narrow(s.rows, s.inputs, area_floats(&areas.x, count, x, (int)tail), out);
        CHECK_OF(area_fenced(&areas.a, 1, bytes, 0), "%s: narrow %dx%d", k->name, s.rows, s.inputs);
        check_rows(k, &s, out);
    }
}

static double gelu(double v)
{
    return 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
}

/* One element against its twin. */
static void check_element(const struct bw_kernels *k, const struct shape *s, int r, int j,
                          double row_size)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < s->inputs; i++) {
        sum += normed[r * s->inputs + i] * w[j * s->inputs + i];
        squares += (double)w[j * s->inputs + i] * w[j * s->inputs + i];
    }
    // Either factor's numbers are off by 0.29 units (1 / WHOLE of its norm) each.
    double within = SPREAD * sqrt(2) * 0.29 / WHOLE * row_size * sqrt(squares) + 4e-7 * fabs(sum);
    double want = sum + (s->bias ? bias[j] : 0);
    if (s->gelu) {
        within = 1.13 * within + BF16_UNIT / 32 * fabs(want);
        want = gelu(want);
    }
    if (s->store == BW_STORE_GATED) {
        within = within * fabs(gate[j]) + 1e-6 * fabs(want * gate[j]);
        want = before[r * s->outputs + j] + want * gate[j];
    }
    within += 1e-6 * fabs(want);
    if (s->store == BW_STORE_ACTIVATION)
        within += activation_error(k, fabs(want) + within);
    float got = result[r * s->outputs + j];
    CHECK_OF(fabs(got - want) <= within, "%s: %dx%dx%d, store %d: [%d, %d] is %g, not %g within %g",
             k->name, s->rows, s->outputs, s->inputs, s->store, r, j, got, want, within);
}

static struct shape any_shape(void)
{
    static int turn;
    int way = turn++ % 12;
    return (struct shape){
        .rows = random_int(&seed, 1, 40),
        .outputs = random_int(&seed, 1, 70),
        .inputs = 32 * random_int(&seed, 1, 6),
        .store = (enum bw_sink)(way % 3),
        .gelu = way / 3 % 2,
        .bias = way / 6,
    };
}

static void check_product(const struct bw_kernels *k, const struct shape *s)
{
    double sizes[MOST_ROWS];
    fill(s);
    for (int r = 0; r < s->rows; r++)
        sizes[r] = norm_twin(s, r);
    run_product(k, s, 0, s->rows, random_int(&seed, 0, 9), result);
    for (int i = 0; i < s->rows * s->outputs; i++)
        check_element(k, s, i / s->outputs, i % s->outputs, sizes[i / s->outputs]);
    for (int r = 0; r<s->rows; r += s->rows> 2 ? s->rows / 2 : 1) {
        run_product(k, s, r, 1, 1, again);
        CHECK_OF(memcmp(again, result + r * s->outputs, sizeof *again * (size_t)s->outputs) == 0,
                 "%s: row %d of %dx%dx%d depends on more than itself", k->name, r, s->rows,
                 s->outputs, s->inputs);
    }
}

static void check_products(const struct bw_kernels *k)
{
    for (int i = 0; i < 96; i++) {
        struct shape s = any_shape();
        s.rows = i < 40 ? i + 1 : s.rows;
        check_product(k, &s);
    }
    for (int i = 0; i < 12; i++) { // whole panels have shorter ways to finish
        struct shape s = any_shape();
        s.rows = random_int(&seed, 33, 70);
        s.outputs = 64;
        check_product(k, &s);
    }
    struct shape s = {MOST_ROWS, MOST, MOST, true, true, BW_STORE_ACTIVATION};
    check_product(k, &s);
}

/* All of a row in one number, or all numbers alike: sums as large as they get. */
static void check_largest(const struct bw_kernels *k)
{
    for (int i = 0; i < 24; i++) {
        struct shape s = {.rows = 2, .outputs = 33, .inputs = 32 * (1 + i % 13)};
        float sign = i % 2 ? -1 : 1, size = ldexpf(1, random_int(&seed, -20, 20));
        memset(x, 0, sizeof x);
        memset(w, 0, sizeof w);
        memset(shift, 0, sizeof shift);
        for (int j = 0; j < s.inputs; j++)
            shift[j] = i % 3 && j != i ? 0 : size;
        for (int j = 0; j < s.outputs * s.inputs; j++)
            w[j] = sign * shift[j % s.inputs];
        double want = sign * pow(norm_twin(&s, 0), 2);
        run_product(k, &s, 0, s.rows, 0, result);
        for (int j = 0; j < s.rows * s.outputs; j++)
            CHECK_OF(fabs(result[j] - want) <= 1e-3 * fabs(want), "%s: %g, not %g", k->name,
                     result[j], want);
    }
}

static void check_nothing(const struct bw_kernels *k)
{
    struct shape s = {.rows = 3, .outputs = 17, .inputs = 64, .bias = true};
    for (int i = 0; i < 2; i++) {
        fill(&s);
        memset(i ? w : x, 0, i ? sizeof w : sizeof x);
        memset(shift, 0, i ? 0 : sizeof shift);
        run_product(k, &s, 0, s.rows, 0, result);
        for (int j = 0; j < s.rows * s.outputs; j++)
            CHECK_OF(result[j] == bias[j % s.outputs], "%s: %g, not %g", k->name, result[j],
                     bias[j % s.outputs]);
    }
}

/* Sets that are float throughout have none, the others do. */
static void check_there(const struct bw_kernels *k)
{
    CHECK_OF(!k->fine == !is_bf16(k) && (k->fine || !k->fine_is_free), "%s", k->name);
}

static void (*fine_check)(const struct bw_kernels *k);

static void check_if_fine(const struct bw_kernels *k)
{
    if (k->fine)
        fine_check(k);
}

#define FINE_TEST(name)            \
    static void name(void)         \
    {                              \
        fine_check = check_##name; \
        each_set(check_if_fine);   \
    }
FINE_TEST(norm)
FINE_TEST(narrow)
FINE_TEST(products)
FINE_TEST(largest)
FINE_TEST(nothing)

static void there(void)
{
    each_set(check_there);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(there), TEST(norm), TEST(narrow), TEST(products), TEST(largest), TEST(nothing),
    };
    return CHECK_RUN("kernels_fine", tests);
}
