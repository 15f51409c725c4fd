// gemv's inner loop with AVX-512.
#include "gemv_versions.h"

#include <immintrin.h>

void anecpu_gemv_avx512(const uint16_t *const w[kGemvRows], const float *x, size_t steps,
                        float sums[kGemvRows][kGemvLanes]) {
  __m512 low[kGemvRows], high[kGemvRows];
  for (int r = 0; r < kGemvRows; ++r) low[r] = _mm512_loadu_ps(sums[r]), high[r] = _mm512_loadu_ps(sums[r] + 16);
  for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) {
    const __m512 x_low = _mm512_loadu_ps(x + k), x_high = _mm512_loadu_ps(x + k + 16);
    for (int r = 0; r < kGemvRows; ++r) {
      const __m512i halves = _mm512_loadu_si512(w[r] + k);
      low[r] = _mm512_fmadd_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), x_low, low[r]);
      high[r] = _mm512_fmadd_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)), x_high, high[r]);
    }
  }
  for (int r = 0; r < kGemvRows; ++r) _mm512_storeu_ps(sums[r], low[r]), _mm512_storeu_ps(sums[r] + 16, high[r]);
}
