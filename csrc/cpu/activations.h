/* Activations and their derivatives, rows x columns; steps are distances of rows in floats.
 * y may be x; dx may be dy or x. Errors are a few units of fp32 (vmath.h); large
 * and infinite x give the limits, NaN stays. */
#ifndef ANETRAIN_ACTIVATIONS_H
#define ANETRAIN_ACTIVATIONS_H

#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

void anecpu_silu(size_t rows, size_t columns, const float *x, size_t x_step, float *y, size_t y_step);
void anecpu_silu_backward(size_t rows, size_t columns, const float *dy, size_t dy_step, const float *x, size_t x_step,
                          float *dx, size_t dx_step);

/* exact: x Phi(x), with the normal distribution Phi; else its approximation by tanh. */
void anecpu_gelu(bool exact, size_t rows, size_t columns, const float *x, size_t x_step, float *y, size_t y_step);
void anecpu_gelu_backward(bool exact, size_t rows, size_t columns, const float *dy, size_t dy_step, const float *x,
                          size_t x_step, float *dx, size_t dx_step);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
