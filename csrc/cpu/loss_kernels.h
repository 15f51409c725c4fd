// The two passes of loss.cpp over logits, compiled once per instruction set (loss_kernels.inc). All give the same bits.
#ifndef ANETRAIN_LOSS_KERNELS_H
#define ANETRAIN_LOSS_KERNELS_H

#include <cstddef>

struct LossKernels {
  // Takes rows into what is known of each column: its largest value and the sum of exp(value - largest). Before the
  // first row these are kNoLogit and 0.
  void (*fold)(const float *logits, size_t stride, size_t rows, size_t columns, float *largest, float *sum);
  // gradient = factor * exp(logits - largest), and exactly 0 in columns whose factor is 0.
  void (*gradient)(const float *logits, size_t logits_stride, float *gradient, size_t gradient_stride, size_t rows,
                   size_t columns, const float *largest, const float *factor);
};

// Finite, so that a logit of -infinity differs from it by -infinity.
inline constexpr float kNoLogit = -0x1.fffffep+127f;

extern const LossKernels kLossKernelsBase;
#if defined(__x86_64__)
extern const LossKernels kLossKernelsAvx2, kLossKernelsAvx512;
#endif

#endif
