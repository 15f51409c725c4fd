// The conversions with F16C.
#include "fp16.h"
#include "fp16_versions.h"

#include <immintrin.h>

static inline __m128i eight_halves(const float *source) {
  return _mm256_cvtps_ph(_mm256_loadu_ps(source), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline __m128i load_halves(const uint16_t *source) { return _mm_loadu_si128((const __m128i *)source); }

static void halves_from_floats(const float *source, uint16_t *target, size_t count, bool stream) {
  size_t i = 0;
  if (stream) {
    for (; i < count && (uintptr_t)(target + i) % 16; ++i) target[i] = anecpu_half_from_float(source[i]);
    for (; i + 8 <= count; i += 8) _mm_stream_si128((__m128i *)(target + i), eight_halves(source + i));
  }
  for (; i + 8 <= count; i += 8) _mm_storeu_si128((__m128i *)(target + i), eight_halves(source + i));
  for (; i < count; ++i) target[i] = anecpu_half_from_float(source[i]);
}

static void floats_from_halves(const uint16_t *source, float *target, size_t count, bool stream) {
  size_t i = 0;
  if (stream) {
    for (; i < count && (uintptr_t)(target + i) % 32; ++i) target[i] = anecpu_float_from_half(source[i]);
    for (; i + 8 <= count; i += 8) _mm256_stream_ps(target + i, _mm256_cvtph_ps(load_halves(source + i)));
  }
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(target + i, _mm256_cvtph_ps(load_halves(source + i)));
  for (; i < count; ++i) target[i] = anecpu_float_from_half(source[i]);
}

const Fp16Version anecpu_fp16_f16c = {"f16c", halves_from_floats, floats_from_halves, anecpu_gemv_f16c};
