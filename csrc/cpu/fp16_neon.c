// The conversions with NEON.
#include "fp16.h"
#include "fp16_versions.h"

#include <arm_neon.h>

static inline uint16x8_t eight_halves(const float *source) {
  const float16x4_t low = vcvt_f16_f32(vld1q_f32(source));
  return vreinterpretq_u16_f16(vcvt_high_f16_f32(low, vld1q_f32(source + 4)));
}

static inline void store_floats(float *target, uint16x8_t halves) {
  const float16x8_t values = vreinterpretq_f16_u16(halves);
  vst1q_f32(target, vcvt_f32_f16(vget_low_f16(values)));
  vst1q_f32(target + 4, vcvt_high_f32_f16(values));
}

// Whole cache lines written in order need no hint on arm64, so `stream` changes nothing here.
static void halves_from_floats(const float *source, uint16_t *target, size_t count, bool stream) {
  (void)stream;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) vst1q_u16(target + i, eight_halves(source + i));
  for (; i < count; ++i) target[i] = anecpu_half_from_float(source[i]);
}

static void floats_from_halves(const uint16_t *source, float *target, size_t count, bool stream) {
  (void)stream;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) store_floats(target + i, vld1q_u16(source + i));
  for (; i < count; ++i) target[i] = anecpu_float_from_half(source[i]);
}

const Fp16Version anecpu_fp16_neon = {"neon", halves_from_floats, floats_from_halves, anecpu_gemv_neon};
