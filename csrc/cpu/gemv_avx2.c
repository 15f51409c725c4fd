// gemv's inner loop with F16C and FMA.
#include "gemv_versions.h"

#include <immintrin.h>

enum { kVectors = kGemvLanes / 8 };

static inline void add(const uint16_t *w, const float *x, __m256 sum[kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    const __m128i halves = _mm_loadu_si128((const __m128i *)(w + 8 * v));
    sum[v] = _mm256_fmadd_ps(_mm256_cvtph_ps(halves), _mm256_loadu_ps(x + 8 * v), sum[v]);
  }
}

float anecpu_gemv_f16c(const uint16_t *w, const float *x, size_t steps, const GemvRest *rest) {
  __m256 sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = _mm256_setzero_ps();
  for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) {
    gemv_fetch(w + k);
    add(w + k, x + k, sum);
  }
  if (rest) add(rest->w, rest->x, sum);
  float lanes[kGemvLanes];
  for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(lanes + 8 * v, sum[v]);
  return gemv_total(lanes);
}
