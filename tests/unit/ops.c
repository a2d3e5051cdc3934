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

int main(void)
{
    static const struct check_test tests[] = {
        TEST(silu),
        TEST(matvec),
        TEST(products),
    };
    return CHECK_RUN("ops", tests);
}
