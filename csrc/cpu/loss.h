/* Cross-entropy from logits, with its gradient. */
#ifndef ANETRAIN_LOSS_H
#define ANETRAIN_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* Consecutive rows of the logits, a column per token, and where their gradient goes: NULL (nowhere), the logits
 * themselves, or memory that overlaps none of them. Strides are distances of rows, in floats. */
typedef struct {
  const float *logits;
  size_t logits_stride;
  float *gradient;
  size_t gradient_stride;
  size_t rows;
} AnecpuLogits;

/* *loss = mean over the counted columns of log(sum over rows of exp(logits)) - logits[target], and
 * gradient = scale * (softmax - onehot) / *counted. A column whose target is `ignored` has a gradient of 0 and is not
 * counted; other targets must be rows. Without a counted column the loss is 0. False: out of memory, and nothing is
 * written. The same bits on any number of threads. */
bool anecpu_cross_entropy(const AnecpuLogits *chunks, size_t chunk_count, size_t columns, const int32_t *targets,
                          int32_t ignored, float scale, double *loss, size_t *counted);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
