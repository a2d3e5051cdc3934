/* Products and vectors of every set this CPU can run, against sums in double precision, and what
 * their contract says about bits.
 *
 * Tolerances: partial sums of random terms grow like a random walk, so that the roundings of a sum
 * of any length come to about one float unit of the terms' sizes together; eight are allowed. */
#include "tests/unit/kernels.h"

enum { MOST_ROWS = 129, MOST = 416, SPREAD = 8 };

struct shape {
    int rows, outputs, inputs;
    int a_gap, y_gap; // elements between rows beyond what a row takes
    bool bias, gelu;
    enum bw_sink store;
};

static float a[MOST_ROWS * MOST];      // [rows, inputs]
static float w[MOST * MOST];           // [outputs, inputs]
static float bias[MOST], gate[MOST];   // [outputs]
static float before[MOST_ROWS * MOST]; // [rows, outputs] what BW_STORE_GATED adds to
static float result[MOST_ROWS * MOST], again[MOST_ROWS * MOST]; // [rows, outputs]
static uint64_t seed = 11;

static struct {
    struct area a, w, packed, bias, gate, y, scratch;
} areas;

static void fill_values(const struct bw_kernels *k, int rows, int outputs, int inputs)
{
    fill_activations(k, &seed, 1, rows * inputs, a);
    random_fill(&seed, 1, (size_t)(outputs * inputs), w);
    random_fill(&seed, 1, (size_t)outputs, bias);
    random_fill(&seed, 2, (size_t)outputs, gate);
    random_fill(&seed, 2, (size_t)(rows * outputs), before);
}

static void *pack(const struct bw_kernels *k, int outputs, int inputs, int tail)
{
    size_t bytes = k->packed_bytes(outputs, inputs);
    float *plain = area_floats(&areas.w, (size_t)(outputs * inputs), w, tail);
    void *packed = area_take(&areas.packed, bytes, (size_t)(tail * k->activation_bytes), FENCE);
    k->pack(outputs, inputs, plain, packed);
    CHECK_OF(area_fenced(&areas.packed, 1, bytes, bytes), "%s: pack %dx%d", k->name, outputs,
             inputs);
    return packed;
}

/* The product for rows first..first + rows - 1, with `tail` elements after each buffer; the rows of
 * out[rows, outputs] are what was stored. */
static void run_product(const struct bw_kernels *k, const struct shape *s, int first, int rows,
                        int tail, float *out)
{
    int padded = bw_kernels_stride(s->inputs), n = s->outputs, y_stride = n + s->y_gap;
    bool narrow = s->store == BW_STORE_ACTIVATION, gated = s->store == BW_STORE_GATED;
    size_t bytes = narrow ? (size_t)k->activation_bytes : sizeof(float);
    size_t row_bytes = bytes * (size_t)n, stride_bytes = bytes * (size_t)y_stride;
    size_t scratch_bytes = sizeof(float) * (size_t)(rows * n);
    struct bw_product p = {
        .rows = rows,
        .outputs = n,
        .inputs = s->inputs,
        .a = area_activations(&areas.a, k, rows, s->inputs, padded, padded + s->a_gap,
                              a + first * s->inputs, tail),
        .a_stride = padded + s->a_gap,
        .w = pack(k, n, s->inputs, tail),
        .bias = s->bias ? area_floats(&areas.bias, (size_t)n, bias, tail) : NULL,
        .gate = gated ? area_floats(&areas.gate, (size_t)n, gate, tail) : NULL,
        .gelu = s->gelu,
        .store = s->store,
        .y = area_take(&areas.y, (size_t)(rows - 1) * stride_bytes + row_bytes,
                       (size_t)tail * bytes, FENCE),
        .y_stride = y_stride,
        .scratch = area_take(&areas.scratch, scratch_bytes, sizeof(float) * (size_t)tail, FENCE),
    };
    for (int r = 0; r < rows; r++) {
        unsigned char *row = (unsigned char *)p.y + (size_t)r * stride_bytes;
        if (gated)
            memcpy(row, before + (first + r) * n, row_bytes);
        else
            memset(row, NOTHING, row_bytes); // to be overwritten, not added to
    }
    k->product(&p);
    CHECK_OF(area_fenced(&areas.y, rows, row_bytes, stride_bytes) &&
                 area_fenced(&areas.scratch, 1, scratch_bytes, 0),
             "%s: %dx%dx%d, store %d", k->name, rows, n, s->inputs, s->store);
    for (int i = 0; i < rows * n; i++) {
        size_t at = (size_t)(i / n) * (size_t)y_stride + (size_t)(i % n);
        out[i] = narrow ? get_activation(k, p.y, at) : ((float *)p.y)[at];
    }
}

/* A number and how far from it a set may be. */
struct expected {
    double value, within;
};

static struct expected dot(const struct bw_kernels *k, const float *x, const float *line,
                           int inputs)
{
    double sum = 0, sizes = 0;
    for (int i = 0; i < inputs; i++) {
        double term = (double)x[i] * as_activation(k, line[i]);
        sum += term;
        sizes += fabs(term);
    }
    return (struct expected){sum, SPREAD * FLOAT_UNIT * sizes};
}

static double gelu(double v)
{
    return 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
}

/* What is stored in row r, column j. */
static struct expected expect(const struct bw_kernels *k, const struct shape *s, int r, int j)
{
    struct expected e = dot(k, a + r * s->inputs, w + j * s->inputs, s->inputs);
    if (s->bias) {
        e.value += bias[j];
        e.within += FLOAT_UNIT * fabs(e.value);
    }
    if (s->gelu) { // its slope is at most 1.13; some of the last digits for the exponential
        double exponential = is_bf16(k) ? BF16_UNIT / 32 : 16 * FLOAT_UNIT;
        e.within = 1.13 * e.within + exponential * fabs(e.value);
        e.value = gelu(e.value);
    }
    if (s->store == BW_STORE_GATED) {
        double add = e.value * gate[j], old = before[r * s->outputs + j];
        e.within = e.within * fabs(gate[j]) + 2 * FLOAT_UNIT * (fabs(add) + fabs(old));
        e.value = old + add;
    }
    if (s->store == BW_STORE_ACTIVATION)
        e.within += activation_error(k, fabs(e.value) + e.within);
    return e;
}

static void check_product(const struct bw_kernels *k, const struct shape *s)
{
    fill_values(k, s->rows, s->outputs, s->inputs);
    run_product(k, s, 0, s->rows, random_int(&seed, 0, 17), result);
    for (int i = 0; i < s->rows * s->outputs; i++) {
        struct expected e = expect(k, s, i / s->outputs, i % s->outputs);
        CHECK_OF(fabs(result[i] - e.value) <= e.within,
                 "%s: %dx%dx%d, store %d, gelu %d, bias %d: [%d, %d] is %.9g, not %.9g within %g",
                 k->name, s->rows, s->outputs, s->inputs, s->store, s->gelu, s->bias,
                 i / s->outputs, i % s->outputs, result[i], e.value, e.within);
    }
}

/* Small, odd as often as not; each call has the next of the twelve ways to finish. */
static struct shape any_shape(void)
{
    static int turn;
    int way = turn++ % 12;
    return (struct shape){
        .rows = random_int(&seed, 1, 40),
        .outputs = random_int(&seed, 1, 70),
        .inputs = random_int(&seed, 0, 1) ? random_int(&seed, 1, 70) : 32 * random_int(&seed, 1, 4),
        .a_gap = random_int(&seed, 0, 3),
        .y_gap = random_int(&seed, 0, 3),
        .store = (enum bw_sink)(way % 3),
        .gelu = way / 3 % 2,
        .bias = way / 6,
    };
}

/* Tiles of tile registers are a case of their own. */
static void check_rows(const struct bw_kernels *k, int rows, int inputs)
{
    struct shape s = any_shape();
    s.rows = rows;
    s.inputs = inputs;
    check_product(k, &s);
}

/* Whole panels have shorter ways to finish, and many inputs are summed in stretches. */
static void check_panels(const struct bw_kernels *k)
{
    static const int inputs[] = {32, 384, 416};
    for (int i = 0; i < 12 * 3; i++) {
        struct shape s = any_shape();
        s.rows = random_int(&seed, 1, 2) * 32 + random_int(&seed, 0, 31);
        s.outputs = 32 * random_int(&seed, 1, 3);
        s.inputs = inputs[i / 12];
        check_product(k, &s);
    }
}

static void check_products(const struct bw_kernels *k)
{
    static const int wide[][3] = {{129, 384, 384}, {128, 192, 320}, {127, 70, 96}, {1, 384, 384}};
    for (int rows = 1; rows <= 40; rows++) {
        check_rows(k, rows, random_int(&seed, 1, 70));
        check_rows(k, rows, 32 * random_int(&seed, 1, 3));
    }
    for (int n = 1; n <= 70; n++) {
        struct shape s = any_shape();
        s.outputs = n;
        check_product(k, &s);
        s.inputs = n;
        s.rows = n % 7 + 1;
        check_product(k, &s);
    }
    for (int i = 0; i < 60; i++) {
        struct shape s = any_shape();
        check_product(k, &s);
    }
    check_panels(k);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        struct shape s = any_shape();
        s.rows = wide[i][0], s.outputs = wide[i][1], s.inputs = wide[i][2];
        check_product(k, &s);
    }
}

static void products(void)
{
    each_set(check_products);
}

/* result and again agree in row r of the one and row q of the other. */
static void check_same_row(const struct bw_kernels *k, const struct shape *s, int r, int q,
                           const char *whatever)
{
    CHECK_OF(memcmp(result + r * s->outputs, again + q * s->outputs,
                    sizeof *result * (size_t)s->outputs) == 0,
             "%s: %dx%dx%d, store %d: row %d depends on %s", k->name, s->rows, s->outputs,
             s->inputs, s->store, r, whatever);
}

static void check_bits(const struct bw_kernels *k, const struct shape *s)
{
    static float kept[MOST];
    fill_values(k, s->rows, s->outputs, s->inputs);
    run_product(k, s, 0, s->rows, 0, result);
    run_product(k, s, 0, s->rows, 1 + random_int(&seed, 0, 16), again);
    for (int r = 0; r < s->rows; r++)
        check_same_row(k, s, r, r, "where memory lies");
    if (is_own(k)) {
        int first = random_int(&seed, 0, s->rows - 1);
        int rows = random_int(&seed, 1, s->rows - first);
        run_product(k, s, first, rows, 3, again);
        for (int r = 0; r < rows; r++)
            check_same_row(k, s, first + r, r, "the number of rows");
    }
    int row = random_int(&seed, 0, s->rows - 1);
    memcpy(kept, a + row * s->inputs, sizeof *a * (size_t)s->inputs);
    fill_activations(k, &seed, 50, s->rows * s->inputs, a);
    memcpy(a + row * s->inputs, kept, sizeof *a * (size_t)s->inputs);
    run_product(k, s, 0, s->rows, 2, again);
    check_same_row(k, s, row, row, "the values of other rows");
}

static void check_bits_of_products(const struct bw_kernels *k)
{
    for (int i = 0; i < 48; i++) {
        struct shape s = any_shape();
        check_bits(k, &s);
    }
    for (int rows = 95; rows <= 129; rows += 17) {
        struct shape s = any_shape();
        s.rows = rows, s.outputs = 192, s.inputs = 96;
        check_bits(k, &s);
    }
}

static void bits_of_products(void)
{
    each_set(check_bits_of_products);
}

/* Results that were chosen, by way of the bias; inputs of both kinds of product. */
static void check_far_out(const struct bw_kernels *k)
{
    static const float values[] = {-1e20f, -1e4f, -1000, -90, -20, 0, 20, 90, 1000, 1e4f, 1e20f};
    enum { COUNT = sizeof values / sizeof *values };
    for (int inputs = 31; inputs <= 32; inputs++) {
        memset(a, 0, sizeof a);
        memset(w, 0, sizeof w);
        memcpy(bias, values, sizeof values);
        for (int store = BW_STORE_FLOAT; store <= BW_STORE_ACTIVATION; store++) {
            struct shape s = {.rows = 3,
                              .outputs = COUNT,
                              .inputs = inputs,
                              .bias = true,
                              .gelu = true,
                              .store = (enum bw_sink)store};
            run_product(k, &s, 0, 3, 0, result);
            for (int i = 0; i < 3 * COUNT; i++) {
                double v = values[i % COUNT], want = v > 0 ? v : 0;
                double unit = store == BW_STORE_FLOAT ? FLOAT_UNIT : BF16_UNIT;
                double within = v == 0 ? 0 : v > 0 ? 2 * unit * v : fabs(v) * 1e-30;
                CHECK_OF(fabs(result[i] - want) <= within, "%s: gelu(%g) is %.9g", k->name, v,
                         result[i]);
            }
        }
    }
}

static void gelu_far_out(void)
{
    each_set(check_far_out);
}

/* y[rows, count] of outputs first..first + count - 1 of a matrix. */
static void run_vectors(const struct bw_kernels *k, const struct shape *s, const int range[2],
                        int row, int rows, int tail, float *out)
{
    int first = range[0], count = range[1], stride = count + s->y_gap;
    const void *x = area_activations(&areas.a, k, rows, s->inputs, s->inputs, s->inputs,
                                     a + row * s->inputs, tail);
    const void *packed = pack(k, s->outputs, s->inputs, tail);
    const float *b = area_floats(&areas.bias, (size_t)s->outputs, bias, tail);
    float *y = area_take(&areas.y, sizeof *y * (size_t)((rows - 1) * stride + count),
                         sizeof *y * (size_t)tail, FENCE);
    k->vectors(rows, first, count, s->inputs, x, packed, b, y, (size_t)stride);
    CHECK_OF(area_fenced(&areas.y, rows, sizeof *y * (size_t)count, sizeof *y * (size_t)stride),
             "%s: %d rows, %d of %d outputs from %d on", k->name, rows, count, s->outputs, first);
    for (int i = 0; i < rows * count; i++)
        out[i] = y[i / count * stride + i % count];
}

static void check_one_vectors(const struct bw_kernels *k, const struct shape *s, int first,
                              int count)
{
    fill_values(k, s->rows, s->outputs, s->inputs);
    run_vectors(k, s, (int[]){first, count}, 0, s->rows, 0, result);
    for (int i = 0; i < s->rows * count; i++) {
        int j = first + i % count;
        struct expected e = dot(k, a + i / count * s->inputs, w + j * s->inputs, s->inputs);
        e.value += bias[j];
        e.within += FLOAT_UNIT * fabs(e.value);
        CHECK_OF(fabs(result[i] - e.value) <= e.within,
                 "%s: %d inputs, [%d, %d] is %.9g, not %.9g within %g", k->name, s->inputs,
                 i / count, j, result[i], e.value, e.within);
    }
    for (int r = 0; r < s->rows; r++) { // alone, elsewhere, and to the last output of the matrix
        int whole = s->outputs - first;
        run_vectors(k, s, (int[]){first, whole}, r, 1, 1 + r, again);
        CHECK_OF(memcmp(again, result + r * count, sizeof *again * (size_t)count) == 0,
                 "%s: %d inputs, row %d of %d, %d outputs", k->name, s->inputs, r, s->rows, count);
    }
}

static void check_vectors(const struct bw_kernels *k)
{
    static const int widths[] = {32, 64, 96, 320, 384};
    for (int i = 0; i < 60; i++) {
        struct shape s = any_shape();
        s.rows = i % 20 + 1;
        s.inputs = widths[i % 5];
        s.outputs = i % 12 ? random_int(&seed, 1, 200) : MOST;
        int first = 64 * random_int(&seed, 0, (s.outputs - 1) / 64);
        check_one_vectors(k, &s, first, random_int(&seed, 1, s.outputs - first));
    }
}

static void vectors(void)
{
    each_set(check_vectors);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(products),
        TEST(bits_of_products),
        TEST(gelu_far_out),
        TEST(vectors),
    };
    return CHECK_RUN("kernels_products", tests);
}
