/* Norms over the channels of each token. Arrays are channel-first: channel c of token t is at [c * step + t].
 * y may be x; dx may be dy or x. Otherwise outputs must not overlap inputs. */
#ifndef ANETRAIN_NORMS_H
#define ANETRAIN_NORMS_H

#include <stddef.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* rrms[t] = 1 / sqrt(mean_c x[c,t]^2 + eps), y[c,t] = x[c,t] rrms[t] gain[c]; rrms may be null. */
void anecpu_rms_norm(size_t channels, size_t tokens, const float *x, size_t x_step, const float *gain, float eps,
                     float *y, size_t y_step, float *rrms);

/* dx = rrms (gain dy - x rrms^2 mean_c(dy gain x)), dgain += alpha sum_t dy x rrms; dx and dgain may be null. */
void anecpu_rms_norm_backward(size_t channels, size_t tokens, const float *dy, size_t dy_step, const float *x,
                              size_t x_step, const float *gain, const float *rrms, float *dx, size_t dx_step,
                              float *dgain, float alpha);

/* rstd[t] = 1 / sqrt(variance_c x[c,t] + eps), y = (x - mean) rstd gain + bias; mean and rstd may be null. */
void anecpu_layer_norm(size_t channels, size_t tokens, const float *x, size_t x_step, const float *gain,
                       const float *bias, float eps, float *y, size_t y_step, float *mean, float *rstd);

/* With z = (x - mean) rstd: dx = rstd (gain dy - mean_c(gain dy) - z mean_c(gain dy z)), dgain += alpha sum_t dy z,
 * dbias += alpha sum_t dy; each of the three may be null. */
void anecpu_layer_norm_backward(size_t channels, size_t tokens, const float *dy, size_t dy_step, const float *x,
                                size_t x_step, const float *gain, const float *mean, const float *rstd, float *dx,
                                size_t dx_step, float *dgain, float *dbias, float alpha);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
