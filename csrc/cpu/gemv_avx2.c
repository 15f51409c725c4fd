// gemv's inner loop with F16C and FMA.
#include "gemv_versions.h"

#include <immintrin.h>

enum {
  kRows = 2,  // at once: their sums take half of the registers
  kVectors = kGemvLanes / 8,
};

void anecpu_gemv_f16c(const uint16_t *const w[kGemvRows], const float *x, size_t steps,
                      float sums[kGemvRows][kGemvLanes]) {
  for (int first = 0; first < kGemvRows; first += kRows) {
    __m256 sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_loadu_ps(sums[first + r] + 8 * v);
    for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) {
      for (int v = 0; v < kVectors; ++v) {
        const __m256 factor = _mm256_loadu_ps(x + k + 8 * v);
        for (int r = 0; r < kRows; ++r) {
          const __m128i halves = _mm_loadu_si128((const __m128i *)(w[first + r] + k + 8 * v));
          sum[r][v] = _mm256_fmadd_ps(_mm256_cvtph_ps(halves), factor, sum[r][v]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(sums[first + r] + 8 * v, sum[r][v]);
  }
}
