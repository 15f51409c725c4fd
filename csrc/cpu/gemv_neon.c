// gemv's inner loop with NEON.
#include "gemv_versions.h"

#include <arm_neon.h>

enum {
  kRows = 2,  // at once: their sums take half of the registers
  kVectors = kGemvLanes / 4,
};

void anecpu_gemv_neon(const uint16_t *const w[kGemvRows], const float *x, size_t steps,
                      float sums[kGemvRows][kGemvLanes]) {
  for (int first = 0; first < kGemvRows; first += kRows) {
    float32x4_t sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = vld1q_f32(sums[first + r] + 4 * v);
    for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) {
      for (int v = 0; v < kVectors; ++v) {
        const float32x4_t factor = vld1q_f32(x + k + 4 * v);
        for (int r = 0; r < kRows; ++r) {
          const float16x4_t halves = vreinterpret_f16_u16(vld1_u16(w[first + r] + k + 4 * v));
          sum[r][v] = vfmaq_f32(sum[r][v], vcvt_f32_f16(halves), factor);
        }
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) vst1q_f32(sums[first + r] + 4 * v, sum[r][v]);
  }
}
