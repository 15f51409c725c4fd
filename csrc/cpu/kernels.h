// The inner loops of the host numerics, as one instruction set or Accelerate brings them; norms.cpp, rope.cpp,
// activations.cpp and rows.cpp cut the work over threads and call them.
//
// Arrays are channel-first: channel c of token t is at [c * step + t]. What a value is never depends on how the work
// was cut, and the instruction sets agree to the last bit.
#ifndef ANETRAIN_KERNELS_H
#define ANETRAIN_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace ane::cpu {

constexpr size_t kStrip = 64;       // a norm's kernels take at most so many tokens at once
constexpr size_t kSumBlock = 1024;  // a row's sum is the sum, in double, of the sums of such blocks

struct Norm {
  size_t channels;
  const float *x;
  size_t x_step;
  const float *gain, *bias;  // RMSNorm: no bias
  float eps;
  float *y;
  size_t y_step;
  float *mean, *scale;  // of each token, either may be null; scale: 1 / root mean square, or 1 / standard deviation
};

struct NormBackward {
  size_t channels, tokens;
  const float *dy;
  size_t dy_step;
  const float *x;
  size_t x_step;
  const float *gain, *mean, *scale;  // RMSNorm: no mean
  float *dx;
  size_t dx_step;
};

// One update of AdamW, the same for all its tensors; adamw.h has the formulas.
struct AdamW {
  float factor;  // of the gradient
  float mean_share, beta2, square_share;
  float root_scale;  // of the root of the running mean of squares
  float eps;
  bool clear;  // leave zeros in the gradient
};

struct Kernels {
  const char *name;

  // Tokens [begin, end), at most kStrip.
  void (*rms_norm)(const Norm &norm, size_t begin, size_t end);
  void (*rms_norm_dx)(const NormBackward &norm, size_t begin, size_t end);
  void (*layer_norm)(const Norm &norm, size_t begin, size_t end);
  void (*layer_norm_dx)(const NormBackward &norm, size_t begin, size_t end);
  // Of one channel, over all tokens.
  double (*rms_norm_dgain)(const NormBackward &norm, size_t channel);
  double (*layer_norm_dgain)(const NormBackward &norm, size_t channel);

  // y0 = x0 cos - x1 sin, y1 = x1 cos + x0 sin; backwards: with -sin. y0 may be x0, and y1 x1.
  void (*rotate)(const float *x0, const float *x1, const float *cos, const float *sin, bool backwards, float *y0,
                 float *y1, size_t count);

  // Results may be written over an operand.
  void (*exp)(const float *x, float less, float *y, size_t count);  // of x - less
  void (*silu)(const float *x, float *y, size_t count);
  void (*silu_backward)(const float *dy, const float *x, float *dx, size_t count);
  void (*gelu_tanh)(const float *x, float *y, size_t count);
  void (*gelu_tanh_backward)(const float *dy, const float *x, float *dx, size_t count);
  void (*gelu_exact)(const float *x, float *y, size_t count);
  void (*gelu_exact_backward)(const float *dy, const float *x, float *dx, size_t count);
  void (*add)(const float *x, const float *y, float alpha, float *sum, size_t count);  // x + alpha y
  void (*scale)(const float *x, float alpha, float *y, size_t count);

  // y[j] = the sum of factors[i] rows[i * step + j] over i in [0, count); j in [0, columns).
  void (*weighted_rows)(const float *factors, const float *rows, size_t step, size_t count, float *y, size_t columns);

  double (*sum)(const float *x, size_t count);
  double (*dot)(const float *x, const float *y, size_t count);
  double (*sum_of_squares)(const float *x, size_t count);
  int32_t (*largest_bits)(const float *x, size_t count);  // of the largest magnitude; a NaN is larger than infinity

  // weight = keep weight - rate mean / (root + eps)
  void (*adamw)(const AdamW &constants, float rate, float keep, float *weight, float *gradient, float *mean,
                float *square, size_t count);
};

const Kernels &kernels();  // the best for this machine

// For tests: "base", "avx2", "avx512", "accelerate", or null for the best. False when this machine cannot.
bool select_kernels(const char *name);

}  // namespace ane::cpu
#endif
