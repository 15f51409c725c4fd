// Norms: the output by strips of tokens, gradients of gains and biases by channels.
#include "norms.h"

#include <algorithm>

#include "kernels.h"
#include "pieces.h"
#include "threads.h"

using namespace ane::cpu;

namespace {

using Backward = void (*)(const NormBackward &norm, size_t begin, size_t end);
using ChannelSum = double (*)(const NormBackward &norm, size_t channel);

// body(begin, end) over strips of tokens.
template <class Body>
void for_strips(size_t channels, size_t tokens, Body body) {
  parallel_for((tokens + kStrip - 1) / kStrip, grain_of(channels * kStrip), [&](size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) body(i * kStrip, std::min((i + 1) * kStrip, tokens));
  });
}

void add_channel_sums(const NormBackward &norm, ChannelSum sum, float alpha, float *sums) {
  parallel_for(norm.channels, grain_of(norm.tokens), [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c) sums[c] += static_cast<float>(alpha * sum(norm, c));
  });
}

// The gradient of the gain first: dx may be written over dy or x.
void backward(const NormBackward &norm, Backward dx, ChannelSum sum, float *dgain, float alpha) {
  if (dgain) add_channel_sums(norm, sum, alpha, dgain);
  if (norm.dx) for_strips(norm.channels, norm.tokens, [&](size_t begin, size_t end) { dx(norm, begin, end); });
}

}  // namespace

void anecpu_rms_norm(size_t channels, size_t tokens, const float *x, size_t x_step, const float *gain, float eps,
                     float *y, size_t y_step, float *rrms) {
  const Norm norm{channels, x, x_step, gain, nullptr, eps, y, y_step, nullptr, rrms};
  const auto run = kernels().rms_norm;
  for_strips(channels, tokens, [&](size_t begin, size_t end) { run(norm, begin, end); });
}

void anecpu_rms_norm_backward(size_t channels, size_t tokens, const float *dy, size_t dy_step, const float *x,
                              size_t x_step, const float *gain, const float *rrms, float *dx, size_t dx_step,
                              float *dgain, float alpha) {
  const NormBackward norm{channels, tokens, dy, dy_step, x, x_step, gain, nullptr, rrms, dx, dx_step};
  backward(norm, kernels().rms_norm_dx, kernels().rms_norm_dgain, dgain, alpha);
}

void anecpu_layer_norm(size_t channels, size_t tokens, const float *x, size_t x_step, const float *gain,
                       const float *bias, float eps, float *y, size_t y_step, float *mean, float *rstd) {
  const Norm norm{channels, x, x_step, gain, bias, eps, y, y_step, mean, rstd};
  const auto run = kernels().layer_norm;
  for_strips(channels, tokens, [&](size_t begin, size_t end) { run(norm, begin, end); });
}

void anecpu_layer_norm_backward(size_t channels, size_t tokens, const float *dy, size_t dy_step, const float *x,
                                size_t x_step, const float *gain, const float *mean, const float *rstd, float *dx,
                                size_t dx_step, float *dgain, float *dbias, float alpha) {
  const NormBackward norm{channels, tokens, dy, dy_step, x, x_step, gain, mean, rstd, dx, dx_step};
  if (dbias) {
    const ChannelSum sum_of_dy = [](const NormBackward &n, size_t channel) {
      return kernels().sum(n.dy + channel * n.dy_step, n.tokens);
    };
    add_channel_sums(norm, sum_of_dy, alpha, dbias);
  }
  backward(norm, kernels().layer_norm_dx, kernels().layer_norm_dgain, dgain, alpha);
}
