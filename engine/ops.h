/* Operations on rows of tokens between the matrix products, in plain C the compiler vectorises.
 *
 * Peebles & Xie, arXiv 2212.09748 (DiT block, adaLN-Zero). All arrays are float, row-major, without
 * padding; rows are independent of each other, so any split of them gives the same bits. Any
 * thread.
 */
#ifndef BW_ENGINE_OPS_H
#define BW_ENGINE_OPS_H

/* out[rows, width] = layer_norm(x) * (1 + scale[width]) + shift[width]; eps 1e-6, no affine part.
 */
void bw_modulated_norm(int rows, int width, const float *x, const float *shift, const float *scale,
                       float *out);

/* x[rows, width] += bias[width] */
void bw_add_bias(int rows, int width, const float *bias, float *x);

/* x[rows, width] = gelu(x + bias), the tanh form. */
void bw_add_bias_gelu(int rows, int width, const float *bias, float *x);

/* x[rows, width] += gate[width] * (y + bias[width]) */
void bw_add_gated(int rows, int width, const float *y, const float *bias, const float *gate,
                  float *x);

/* Each row of x[rows, width] becomes its softmax. */
void bw_softmax(int rows, int width, float *x);

/* out[i] = x[i] / (1 + exp(-x[i])) */
void bw_silu(int count, const float *x, float *out);

/* out[i] = bias[i] + dot(w[i, width], x[width]): one row through a linear layer, at memory speed.
 */
void bw_matvec(int count, int width, const float *w, const float *bias, const float *x, float *out);

#endif
