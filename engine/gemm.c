#include "engine/gemm.h"

#include <cblas.h>

void bw_gemm_setup(void)
{
    openblas_set_num_threads(1);
}

void bw_gemm_nt(int rows, int n, int k, float scale, const float *a, int lda, const float *b,
                int ldb, float *y, int ldy)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, scale, a, lda, b, ldb, 0, y,
                ldy);
}

void bw_gemm_nn(int rows, int n, int k, const float *a, int lda, const float *b, int ldb, float *y,
                int ldy)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, n, k, 1, a, lda, b, ldb, 0, y,
                ldy);
}
