// gemv's inner loop with NEON.
#include "gemv_versions.h"

#include <arm_neon.h>

enum { kVectors = kGemvLanes / 4 };

static inline void add(const uint16_t *w, const float *x, float32x4_t sum[kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    const float16x4_t halves = vreinterpret_f16_u16(vld1_u16(w + 4 * v));
    sum[v] = vfmaq_f32(sum[v], vcvt_f32_f16(halves), vld1q_f32(x + 4 * v));
  }
}

float anecpu_gemv_neon(const uint16_t *w, const float *x, size_t steps, const GemvRest *rest) {
  float32x4_t sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = vdupq_n_f32(0.0f);
  for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) {
    gemv_fetch(w + k);
    add(w + k, x + k, sum);
  }
  if (rest) add(rest->w, rest->x, sum);
  float lanes[kGemvLanes];
  for (int v = 0; v < kVectors; ++v) vst1q_f32(lanes + 4 * v, sum[v]);
  return gemv_total(lanes);
}
