// The kernels through Accelerate: vDSP and vForce. Activations stay those of the lanes: in one pass, and with the same
// limits for infinite values as everywhere.
#if defined(ANETRAIN_ACCELERATE)
#include <Accelerate/Accelerate.h>

#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace ane::cpu {
namespace {

constexpr size_t kBlockChannels = 32;  // so many are added up before they join the sum of all

// sums[t] = the sum over all channels of what add(c, block) adds to block[t].
template <class Add>
void sum_channels(size_t channels, size_t tokens, float *sums, Add add) {
  float block[kStrip];
  vDSP_vclr(sums, 1, tokens);
  for (size_t first = 0; first < channels; first += kBlockChannels) {
    vDSP_vclr(block, 1, tokens);
    for (size_t c = first; c < std::min(first + kBlockChannels, channels); ++c) add(c, block);
    vDSP_vadd(sums, 1, block, 1, sums, 1, tokens);
  }
}

// sums -> 1 / sqrt(sums / channels + eps)
void invert_root_mean(size_t channels, size_t tokens, float eps, float *sums) {
  const float share = 1.0f / static_cast<float>(channels);
  const int count = static_cast<int>(tokens);
  vDSP_vsmsa(sums, 1, &share, &eps, sums, 1, tokens);
  vvrsqrtf(sums, sums, &count);
}

void fill(const float *values, size_t tokens, float *target) {
  if (target) std::memcpy(target, values, tokens * sizeof *values);
}

// body(first, count) over blocks of a row; the sum of what it returns.
template <class Body>
double sum_blocks(size_t count, Body body) {
  double sum = 0;
  for (size_t first = 0; first < count; first += kSumBlock) sum += body(first, std::min(kSumBlock, count - first));
  return sum;
}

// ---------------------------------------------------------------- norms

void rms_norm(const Norm &n, size_t begin, size_t end) {
  const size_t tokens = end - begin;
  const float *x = n.x + begin;
  float rrms[kStrip];
  sum_channels(n.channels, tokens, rrms, [&](size_t c, float *block) {
    vDSP_vma(x + c * n.x_step, 1, x + c * n.x_step, 1, block, 1, block, 1, tokens);
  });
  invert_root_mean(n.channels, tokens, n.eps, rrms);
  if (n.scale) fill(rrms, tokens, n.scale + begin);
  for (size_t c = 0; c < n.channels; ++c) {
    float *y = n.y + begin + c * n.y_step;
    vDSP_vmul(x + c * n.x_step, 1, rrms, 1, y, 1, tokens);
    vDSP_vsmul(y, 1, n.gain + c, y, 1, tokens);
  }
}

void rms_norm_dx(const NormBackward &n, size_t begin, size_t end) {
  const size_t tokens = end - begin;
  const float *dy = n.dy + begin, *x = n.x + begin, *rrms = n.scale + begin;
  const float share = 1.0f / static_cast<float>(n.channels);
  float correction[kStrip], row[kStrip];
  sum_channels(n.channels, tokens, correction, [&](size_t c, float *block) {
    vDSP_vmul(dy + c * n.dy_step, 1, x + c * n.x_step, 1, row, 1, tokens);
    vDSP_vsma(row, 1, n.gain + c, block, 1, block, 1, tokens);
  });
  vDSP_vsmul(correction, 1, &share, correction, 1, tokens);
  for (int i = 0; i < 2; ++i) vDSP_vmul(correction, 1, rrms, 1, correction, 1, tokens);
  for (size_t c = 0; c < n.channels; ++c) {
    vDSP_vmul(x + c * n.x_step, 1, correction, 1, row, 1, tokens);
    vDSP_vsmsb(dy + c * n.dy_step, 1, n.gain + c, row, 1, row, 1, tokens);  // gain dy - row
    vDSP_vmul(row, 1, rrms, 1, n.dx + begin + c * n.dx_step, 1, tokens);
  }
}

double rms_norm_dgain(const NormBackward &n, size_t channel) {
  const float *dy = n.dy + channel * n.dy_step, *x = n.x + channel * n.x_step;
  return sum_blocks(n.tokens, [&](size_t first, size_t count) {
    float normed[kSumBlock], sum;
    vDSP_vmul(x + first, 1, n.scale + first, 1, normed, 1, count);
    vDSP_dotpr(dy + first, 1, normed, 1, &sum, count);
    return sum;
  });
}

void layer_norm(const Norm &n, size_t begin, size_t end) {
  const size_t tokens = end - begin;
  const float *x = n.x + begin;
  const float share = 1.0f / static_cast<float>(n.channels);
  float mean[kStrip], rstd[kStrip], centred[kStrip];
  sum_channels(n.channels, tokens, mean,
               [&](size_t c, float *block) { vDSP_vadd(x + c * n.x_step, 1, block, 1, block, 1, tokens); });
  vDSP_vsmul(mean, 1, &share, mean, 1, tokens);
  sum_channels(n.channels, tokens, rstd, [&](size_t c, float *block) {
    vDSP_vsub(mean, 1, x + c * n.x_step, 1, centred, 1, tokens);  // x - mean
    vDSP_vma(centred, 1, centred, 1, block, 1, block, 1, tokens);
  });
  invert_root_mean(n.channels, tokens, n.eps, rstd);
  if (n.mean) fill(mean, tokens, n.mean + begin);
  if (n.scale) fill(rstd, tokens, n.scale + begin);
  for (size_t c = 0; c < n.channels; ++c) {
    vDSP_vsub(mean, 1, x + c * n.x_step, 1, centred, 1, tokens);
    vDSP_vmul(centred, 1, rstd, 1, centred, 1, tokens);
    vDSP_vsmsa(centred, 1, n.gain + c, n.bias + c, n.y + begin + c * n.y_step, 1, tokens);
  }
}

void layer_norm_dx(const NormBackward &n, size_t begin, size_t end) {
  const size_t tokens = end - begin;
  const float *dy = n.dy + begin, *x = n.x + begin, *mean = n.mean + begin, *rstd = n.scale + begin;
  const float share = 1.0f / static_cast<float>(n.channels);
  float offset[kStrip], slope[kStrip], row[kStrip];
  sum_channels(n.channels, tokens, offset, [&](size_t c, float *block) {
    vDSP_vsma(dy + c * n.dy_step, 1, n.gain + c, block, 1, block, 1, tokens);
  });
  sum_channels(n.channels, tokens, slope, [&](size_t c, float *block) {
    vDSP_vsub(mean, 1, x + c * n.x_step, 1, row, 1, tokens);
    vDSP_vmul(row, 1, dy + c * n.dy_step, 1, row, 1, tokens);
    vDSP_vsma(row, 1, n.gain + c, block, 1, block, 1, tokens);
  });
  vDSP_vsmul(offset, 1, &share, offset, 1, tokens);
  vDSP_vsmul(slope, 1, &share, slope, 1, tokens);
  for (int i = 0; i < 2; ++i) vDSP_vmul(slope, 1, rstd, 1, slope, 1, tokens);
  for (size_t c = 0; c < n.channels; ++c) {
    vDSP_vsub(mean, 1, x + c * n.x_step, 1, row, 1, tokens);
    vDSP_vma(row, 1, slope, 1, offset, 1, row, 1, tokens);
    vDSP_vsmsb(dy + c * n.dy_step, 1, n.gain + c, row, 1, row, 1, tokens);  // gain dy - row
    vDSP_vmul(row, 1, rstd, 1, n.dx + begin + c * n.dx_step, 1, tokens);
  }
}

double layer_norm_dgain(const NormBackward &n, size_t channel) {
  const float *dy = n.dy + channel * n.dy_step, *x = n.x + channel * n.x_step;
  return sum_blocks(n.tokens, [&](size_t first, size_t count) {
    float normed[kSumBlock], sum;
    vDSP_vsub(n.mean + first, 1, x + first, 1, normed, 1, count);
    vDSP_vmul(normed, 1, n.scale + first, 1, normed, 1, count);
    vDSP_dotpr(dy + first, 1, normed, 1, &sum, count);
    return sum;
  });
}

// ---------------------------------------------------------------- rows

void rotate(const float *x0, const float *x1, const float *cos, const float *sin, bool backwards, float *y0, float *y1,
            size_t count) {
  const auto first = backwards ? vDSP_vmma : vDSP_vmmsb;  // a b + c d, a b - c d
  const auto second = backwards ? vDSP_vmmsb : vDSP_vmma;
  constexpr size_t kPiece = 1024;
  for (size_t i = 0; i < count; i += kPiece) {
    float turned[kPiece];  // y0 may be x0, which y1 still needs
    const size_t length = std::min(kPiece, count - i);
    first(x0 + i, 1, cos + i, 1, x1 + i, 1, sin + i, 1, turned, 1, length);
    second(x1 + i, 1, cos + i, 1, x0 + i, 1, sin + i, 1, y1 + i, 1, length);
    std::memcpy(y0 + i, turned, length * sizeof *turned);
  }
}

void add(const float *x, const float *y, float alpha, float *sum, size_t count) {
  if (alpha == 1.0f) {
    vDSP_vadd(x, 1, y, 1, sum, 1, count);
  } else {
    vDSP_vsma(y, 1, &alpha, x, 1, sum, 1, count);
  }
}

void scale(const float *x, float alpha, float *y, size_t count) { vDSP_vsmul(x, 1, &alpha, y, 1, count); }

double sum(const float *x, size_t count) {
  return sum_blocks(count, [&](size_t first, size_t length) {
    float sum;
    vDSP_sve(x + first, 1, &sum, length);
    return sum;
  });
}

double dot(const float *x, const float *y, size_t count) {
  return sum_blocks(count, [&](size_t first, size_t length) {
    float sum;
    vDSP_dotpr(x + first, 1, y + first, 1, &sum, length);
    return sum;
  });
}

}  // namespace

Kernels accelerated(const Kernels &others) {
  Kernels kernels = others;
  kernels.name = "accelerate";
  kernels.rms_norm = rms_norm;
  kernels.rms_norm_dx = rms_norm_dx;
  kernels.layer_norm = layer_norm;
  kernels.layer_norm_dx = layer_norm_dx;
  kernels.rms_norm_dgain = rms_norm_dgain;
  kernels.layer_norm_dgain = layer_norm_dgain;
  kernels.rotate = rotate;
  kernels.add = add;
  kernels.scale = scale;
  kernels.sum = sum;
  kernels.dot = dot;
  return kernels;
}

}  // namespace ane::cpu
#endif
