/* Every operation against its plain double-precision meaning, with guards around the output. */
#include "engine/ops.h"

#include "engine/gemm.h"
#include "tests/unit/check.h"
#include "tests/unit/random.h"

enum { MOST = 4096, GUARD = 16 };

static float x[MOST], y[MOST], a[MOST], b[MOST], memory[MOST + 2 * GUARD];
static float *const out = memory + GUARD;
static uint64_t seed = 3;

/* New inputs, and a result full of guards. */
static void begin(float scale)
{
    random_fill(&seed, scale, MOST, x);
    random_fill(&seed, 1, MOST, y);
    random_fill(&seed, 1, MOST, a);
    random_fill(&seed, 1, MOST, b);
    for (int i = 0; i < MOST + 2 * GUARD; i++)
        memory[i] = 777;
}

static void check_guards(int count)
{
    for (int i = 0; i < GUARD; i++)
        CHECK(memory[i] == 777 && out[count + i] == 777);
}

static const int shapes[][2] = {{1, 32}, {3, 32}, {7, 64}, {5, 96}, {2, 384}, {1, 1152}, {0, 32}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void modulated_norm(void)
{
    for (int s = 0; s < SHAPES; s++) {
        int rows = shapes[s][0], width = shapes[s][1];
        begin(3);
        bw_modulated_norm(rows, width, x, a, b, out);
        for (int r = 0; r < rows; r++) {
            double mean = 0, square = 0;
            for (int i = 0; i < width; i++)
                mean += (double)x[r * width + i] / width;
            for (int i = 0; i < width; i++)
                square += pow(x[r * width + i] - mean, 2) / width;
            for (int i = 0; i < width; i++)
                CHECK_NEAR(out[r * width + i],
                           (x[r * width + i] - mean) / sqrt(square + 1e-6) * (1 + b[i]) + a[i],
                           2e-5);
        }
        check_guards(rows * width);
    }
}

static void norm_of_a_constant_row(void)
{
    begin(1);
    for (int i = 0; i < 32; i++)
        x[i] = 5;
    bw_modulated_norm(1, 32, x, a, b, out);
    for (int i = 0; i < 32; i++)
        CHECK_NEAR(out[i], a[i], 1e-6);
}

static double gelu(double v)
{
    return 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
}

static void biases(void)
{
    for (int s = 0; s < SHAPES; s++) {
        int rows = shapes[s][0], width = shapes[s][1] - s; // odd widths too
        begin(6);
        memcpy(out, x, sizeof *out * (size_t)(rows * width));
        bw_add_bias(rows, width, a, out);
        for (int i = 0; i < rows * width; i++)
            CHECK(out[i] == x[i] + a[i % width]);
        memcpy(out, x, sizeof *out * (size_t)(rows * width));
        bw_add_bias_gelu(rows, width, a, out);
        for (int i = 0; i < rows * width; i++)
            CHECK_NEAR(out[i], gelu((double)x[i] + a[i % width]), 2e-6);
        memcpy(out, x, sizeof *out * (size_t)(rows * width));
        bw_add_gated(rows, width, y, a, b, out);
        for (int i = 0; i < rows * width; i++)
            CHECK_NEAR(out[i], x[i] + (double)b[i % width] * ((double)y[i] + a[i % width]), 2e-6);
        check_guards(rows * width);
    }
}

static void gelu_far_out(void)
{
    const float values[] = {-1e20f, -1000, -90, -20, 0, 20, 90, 1000, 1e10f};
    const float none[9] = {0};
    float v[9];
    memcpy(v, values, sizeof v);
    bw_add_bias_gelu(1, 9, none, v);
    for (int i = 0; i < 9; i++)
        CHECK_NEAR(v[i], values[i] > 0 ? values[i] : 0, fabs(values[i]) * 1e-6);
}

static void softmax(void)
{
    static const int widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 64, 256, 1023};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        int width = widths[w], rows = 3;
        begin(30);
        memcpy(out, x, sizeof *out * (size_t)(rows * width));
        bw_softmax(rows, width, out);
        for (int r = 0; r < rows; r++) {
            double top = -HUGE_VAL, sum = 0;
            for (int i = 0; i < width; i++)
                top = fmax(top, x[r * width + i]);
            for (int i = 0; i < width; i++)
                sum += exp(x[r * width + i] - top);
            for (int i = 0; i < width; i++)
                CHECK_NEAR(out[r * width + i], exp(x[r * width + i] - top) / sum, 1e-6);
        }
        check_guards(rows * width);
    }
    float far[4] = {-3e38f, 3e38f, 0, 3e38f};
    bw_softmax(1, 4, far);
    CHECK_NEAR(far[0], 0, 1e-30);
    CHECK_NEAR(far[1], 0.5, 1e-6);
}

static void silu(void)
{
    for (int count = 0; count < 70; count++) {
        begin(20);
        bw_silu(count, x, out);
        for (int i = 0; i < count; i++)
            CHECK_NEAR(out[i], x[i] / (1 + exp(-(double)x[i])), 2e-6);
        check_guards(count);
    }
    float v[3] = {-200, 200, -INFINITY};
    bw_silu(2, v, v);
    CHECK_NEAR(v[0], 0, 1e-30);
    CHECK_NEAR(v[1], 200, 0);
}

static void matvec(void)
{
    static const int dims[][2] = {{1, 32}, {3, 64}, {64, 32}, {7, 256}, {10, 384}};
    for (size_t s = 0; s < sizeof dims / sizeof *dims; s++) {
        int count = dims[s][0], width = dims[s][1];
        begin(1);
        bw_matvec(count, width, x, a, b, out);
        for (int r = 0; r < count; r++) {
            double sum = a[r];
            for (int i = 0; i < width; i++)
                sum += (double)x[r * width + i] * b[i];
            CHECK_NEAR(out[r], sum, 2e-5);
        }
        check_guards(count);
    }
}

static void products(void)
{
    bw_gemm_setup();
    for (int s = 0; s < 40; s++) {
        int rows = random_int(&seed, 1, 20), n = random_int(&seed, 1, 30);
        int k = random_int(&seed, 1, 30), lda = k + s % 3, ldy = n + s % 2;
        begin(1);
        bw_gemm_nt(rows, n, k, 0.5f, x, lda, y, lda, out, ldy);
        for (int i = 0; i < rows * ldy - s % 2; i++) {
            double sum = 0;
            for (int j = 0; j < k; j++)
                sum += 0.5 * x[i / ldy * lda + j] * y[i % ldy * lda + j];
            CHECK_NEAR(out[i], i % ldy < n ? sum : 777, 1e-5);
        }
        begin(1);
        bw_gemm_nn(rows, n, k, x, lda, y, n + 3, out, ldy);
        for (int i = 0; i < rows * ldy - s % 2; i++) {
            double sum = 0;
            for (int j = 0; j < k; j++)
                sum += (double)x[i / ldy * lda + j] * y[j * (n + 3) + i % ldy];
            CHECK_NEAR(out[i], i % ldy < n ? sum : 777, 1e-5);
        }
        check_guards(rows * ldy - s % 2);
    }
}

/* Rows are independent: together or alone, the same bits. */
static void rows_are_independent(void)
{
    begin(2);
    float alone[96];
    bw_modulated_norm(5, 96, x, a, b, out);
    for (int r = 0; r < 5; r++) {
        bw_modulated_norm(1, 96, x + r * 96, a, b, alone);
        CHECK(memcmp(alone, out + r * 96, sizeof alone) == 0);
    }
    bw_softmax(5, 96, out);
    bw_modulated_norm(1, 96, x + 4 * 96, a, b, alone);
    bw_softmax(1, 96, alone);
    CHECK(memcmp(alone, out + 4 * 96, sizeof alone) == 0);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(modulated_norm),
                                              TEST(norm_of_a_constant_row),
                                              TEST(biases),
                                              TEST(gelu_far_out),
                                              TEST(softmax),
                                              TEST(silu),
                                              TEST(matvec),
                                              TEST(products),
                                              TEST(rows_are_independent)};
    return CHECK_RUN("ops", tests);
}
