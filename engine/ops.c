/* Sums run over eight interleaved partial sums: that lets the compiler use vector registers without
 * being allowed to reorder arithmetic. */
#include "engine/ops.h"

#include <math.h>

enum { LANES = 8 };

static float fold(const float lanes[LANES])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
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
