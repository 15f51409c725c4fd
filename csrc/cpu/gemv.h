/* A fp16 matrix times a fp32 vector, for generation: the weights are read once, as they are staged for the device. */
#ifndef ANETRAIN_GEMV_H
#define ANETRAIN_GEMV_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* out[n] = sum over k of w[n, k] * x[k], the sum in fp32; w_stride: from row to row of w, in elements. The same bits on
 * every machine and any number of threads. */
void anecpu_gemv(const uint16_t *w, size_t w_stride, const float *x, float *out, size_t rows, size_t columns);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
