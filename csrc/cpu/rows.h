/* Sums of arrays and of their rows, rows x columns, and largest values; steps are distances of rows in floats. */
#ifndef ANETRAIN_ROWS_H
#define ANETRAIN_ROWS_H

#include <stddef.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* sum = x + alpha y; sum may be x or y. */
void anecpu_add(size_t rows, size_t columns, const float *x, size_t x_step, const float *y, size_t y_step, float alpha,
                float *sum, size_t sum_step);

/* y = alpha x; y may be x. */
void anecpu_scale(size_t rows, size_t columns, const float *x, size_t x_step, float alpha, float *y, size_t y_step);

/* out[r % count] += alpha * the sum of row r, for all rows; `rows` is a multiple of `count`. */
void anecpu_row_sum(size_t rows, size_t columns, const float *x, size_t x_step, float alpha, float *out, size_t count);

/* The same of the products of two arrays. */
void anecpu_row_dot(size_t rows, size_t columns, const float *x, size_t x_step, const float *y, size_t y_step,
                    float alpha, float *out, size_t count);

/* The largest magnitude, 0 of no elements; a NaN when there is one, else infinity when there is one. */
float anecpu_largest(size_t count, const float *x);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
