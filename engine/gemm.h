/* Matrix product: the one place that calls OpenBLAS.
 *
 * OpenBLAS is pinned to one thread; the team splits the work itself. A result may depend on the
 * number of rows in the call, so callers split rows the same way whatever the batch and team: that
 * is what makes pictures bit-identical. Any thread, several at once.
 */
#ifndef BW_ENGINE_GEMM_H
#define BW_ENGINE_GEMM_H

/* Pin OpenBLAS to one thread per call. Once, before the first product. */
void bw_gemm_setup(void);

/* y[rows, n] = scale * a[rows, k] * b[n, k]^T, with row strides lda, ldb, ldy in floats. */
void bw_gemm_nt(int rows, int n, int k, float scale, const float *a, int lda, const float *b,
                int ldb, float *y, int ldy);

/* y[rows, n] = a[rows, k] * b[k, n]. */
void bw_gemm_nn(int rows, int n, int k, const float *a, int lda, const float *b, int ldb, float *y,
                int ldy);

#endif
