/* The update of parameters: AdamW over many tensors in one call, and the norm of their gradients. */
#ifndef ANETRAIN_ADAMW_H
#define ANETRAIN_ADAMW_H

#include <stdbool.h>
#include <stddef.h>

#include "fp16.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* Halves that are made of a weight as soon as it is updated. `*target` is looked up when they are made. */
typedef struct {
  AnecpuHalfMove move;
  uint16_t *const *target;
} AnecpuHalfCopy;

/* A stretch of a weight that one thread updates, and then copies while it is in the cache: up to the element `end`,
 * with the copies up to `copies_end`, which read nothing outside of it. Both begin where those of the stretch before
 * end. */
typedef struct {
  size_t end, copies_end;
} AnecpuCopiedStretch;

/* A parameter of `count` elements. `mean` and `square`: the running means of its gradient and of the gradient's square.
 * `lr_factor` and `decay` are those of its group. Without `stretches` nothing is copied; else they end at `count`. */
typedef struct {
  float *weight, *gradient, *mean, *square;
  size_t count;
  double lr_factor, decay;
  const AnecpuCopiedStretch *stretches;
  size_t stretch_count;
  const AnecpuHalfCopy *copies;
} AnecpuAdamWTensor;

typedef struct {
  double lr, beta1, beta2, eps;
  double mean_correction, square_correction; /* 1 - beta1^t and 1 - beta2^t in update t = 1, 2, ... */
  double factor;                             /* of the gradient: what it was divided and clipped by */
  bool clear;                                /* leave zeros in the gradient */
} AnecpuAdamWStep;

/* With rate = lr lr_factor and g = factor gradient:
 *   mean += (1 - beta1) (g - mean);  square += (1 - beta2) (g^2 - square)
 *   weight = weight (1 - rate decay)
 *            - rate / mean_correction mean / (sqrt(square / square_correction) + eps) */
void anecpu_adamw(const AnecpuAdamWTensor *tensors, size_t tensor_count, const AnecpuAdamWStep *step);

/* The sum, in double, over all elements of all arrays: infinite or NaN if and only if one of them is. False: no
 * memory for the partial sums. */
bool anecpu_sum_of_squares(const float *const *arrays, const size_t *counts, size_t array_count, double *sum);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
