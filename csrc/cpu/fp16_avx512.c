// The conversions with AVX-512.
#include "fp16.h"
#include "fp16_versions.h"

#include <immintrin.h>

static inline __m256i sixteen_halves(__m512 values) {
  return _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline __m512 load_halves(const uint16_t *source) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)source));
}

static void halves_from_floats(const float *source, uint16_t *target, size_t count, bool stream) {
  size_t i = 0;
  if (stream) {
    for (; i < count && (uintptr_t)(target + i) % 64; ++i) target[i] = anecpu_half_from_float(source[i]);
    for (; i + 32 <= count; i += 32) {
      const __m512i low = _mm512_castsi256_si512(sixteen_halves(_mm512_loadu_ps(source + i)));
      _mm512_stream_si512((void *)(target + i),
                          _mm512_inserti64x4(low, sixteen_halves(_mm512_loadu_ps(source + i + 16)), 1));
    }
  }
  for (; i + 16 <= count; i += 16)
    _mm256_storeu_si256((__m256i *)(target + i), sixteen_halves(_mm512_loadu_ps(source + i)));
  if (i < count) {
    const __mmask16 rest = (__mmask16)((1u << (count - i)) - 1);
    _mm256_mask_storeu_epi16(target + i, rest, sixteen_halves(_mm512_maskz_loadu_ps(rest, source + i)));
  }
}

static void floats_from_halves(const uint16_t *source, float *target, size_t count, bool stream) {
  size_t i = 0;
  if (stream) {
    for (; i < count && (uintptr_t)(target + i) % 64; ++i) target[i] = anecpu_float_from_half(source[i]);
    for (; i + 16 <= count; i += 16) _mm512_stream_ps(target + i, load_halves(source + i));
  }
  for (; i + 16 <= count; i += 16) _mm512_storeu_ps(target + i, load_halves(source + i));
  if (i < count) {
    const __mmask16 rest = (__mmask16)((1u << (count - i)) - 1);
    _mm512_mask_storeu_ps(target + i, rest, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(rest, source + i)));
  }
}

const Fp16Version anecpu_fp16_avx512 = {"avx512", halves_from_floats, floats_from_halves, anecpu_gemv_avx512};
