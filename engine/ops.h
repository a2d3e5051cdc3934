/* Operations of the conditioning network: a few rows of floats, once per picture and step. Any
 * thread. */
#ifndef BW_ENGINE_OPS_H
#define BW_ENGINE_OPS_H

/* out[i] = x[i] / (1 + exp(-x[i])) */
void bw_silu(int count, const float *x, float *out);

/* out[i] = bias[i] + dot(w[i, width], x[width]); width is a multiple of 8. */
void bw_matvec(int count, int width, const float *w, const float *bias, const float *x, float *out);

#endif
