// gemv's inner loop with AVX-512.
#include "gemv_versions.h"

#include <immintrin.h>

enum { kVectors = kGemvLanes / 16 };

static inline void add(const uint16_t *w, const float *x, __m512 sum[kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    const __m256i halves = _mm256_loadu_si256((const __m256i *)(w + 16 * v));
    sum[v] = _mm512_fmadd_ps(_mm512_cvtph_ps(halves), _mm512_loadu_ps(x + 16 * v), sum[v]);
  }
}

float anecpu_gemv_avx512(const uint16_t *w, const float *x, size_t steps, const GemvRest *rest) {
  __m512 sum[kVectors] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) {
    gemv_fetch(w + k);
    add(w + k, x + k, sum);
  }
  if (rest) add(rest->w, rest->x, sum);
  float lanes[kGemvLanes];
  for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(lanes + 16 * v, sum[v]);
  return gemv_total(lanes);
}
