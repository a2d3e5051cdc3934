/* Sums run over eight interleaved partial sums: that is what lets the compiler use vector registers
 * without being allowed to reorder floating-point arithmetic, and it fixes the order for every
 * instruction set. */
#include "engine/ops.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 8 };

/* exp(x) to about one unit in the last place, branch-free: 2^n * p(r), |r| <= ln(2)/2. Arguments
 * are clamped to where the result is a normal number. */
static inline float fast_exp(float x)
{
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float round = 0x1.8p23f; // adding it rounds to an integer
    float n = (x * 1.44269504f + round) - round;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; // ln 2 in two parts
    float p = 1.9875691500e-4f;                          // Cephes expf
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static float fold(const float lanes[LANES])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void bw_modulated_norm(int rows, int width, const float *x, const float *shift, const float *scale,
                       float *out)
{
    for (int row = 0; row < rows; row++, x += width, out += width) {
        float sums[LANES] = {0}, squares[LANES] = {0};
        for (int i = 0; i < width; i += LANES) // width is a multiple of 32
            for (int l = 0; l < LANES; l++)
                sums[l] += x[i + l];
        float mean = fold(sums) / (float)width;
        for (int i = 0; i < width; i += LANES)
            for (int l = 0; l < LANES; l++)
                squares[l] += (x[i + l] - mean) * (x[i + l] - mean);
        float inverse = 1 / sqrtf(fold(squares) / (float)width + 1e-6f);
        for (int i = 0; i < width; i++)
            out[i] = (x[i] - mean) * inverse * (1 + scale[i]) + shift[i];
    }
}

void bw_add_bias(int rows, int width, const float *bias, float *x)
{
    for (int row = 0; row < rows; row++, x += width)
        for (int i = 0; i < width; i++)
            x[i] += bias[i];
}

void bw_add_bias_gelu(int rows, int width, const float *bias, float *x)
{
    const float root = 0.7978845608f; // sqrt(2 / pi)
    for (int row = 0; row < rows; row++, x += width) {
        for (int i = 0; i < width; i++) {
            float v = x[i] + bias[i];
            float u = root * (v + 0.044715f * v * v * v);
            x[i] = v / (1 + fast_exp(-2 * u)); // (1 + tanh u) / 2 is the logistic of 2u
        }
    }
}

void bw_add_gated(int rows, int width, const float *y, const float *bias, const float *gate,
                  float *x)
{
    for (int row = 0; row < rows; row++, x += width, y += width)
        for (int i = 0; i < width; i++)
            x[i] += gate[i] * (y[i] + bias[i]);
}

void bw_softmax(int rows, int width, float *x)
{
    for (int row = 0; row < rows; row++, x += width) {
        float top = x[0], sums[LANES] = {0};
        for (int i = 1; i < width; i++)
            top = x[i] > top ? x[i] : top;
        for (int i = 0; i < width; i++)
            x[i] = fast_exp(x[i] - top);
        int i = 0;
        for (; i + LANES <= width; i += LANES)
            for (int l = 0; l < LANES; l++)
                sums[l] += x[i + l];
        for (; i < width; i++)
            sums[0] += x[i];
        float inverse = 1 / fold(sums);
        for (i = 0; i < width; i++)
            x[i] *= inverse;
    }
}

void bw_silu(int count, const float *x, float *out)
{
    for (int i = 0; i < count; i++)
        out[i] = x[i] / (1 + expf(-x[i]));
}

void bw_matvec(int count, int width, const float *w, const float *bias, const float *x, float *out)
{
    for (int row = 0; row < count; row++, w += width) {
        float sums[LANES] = {0};
        for (int i = 0; i < width; i += LANES)
            for (int l = 0; l < LANES; l++)
                sums[l] += w[i + l] * x[i + l];
        out[row] = bias[row] + fold(sums);
    }
}
