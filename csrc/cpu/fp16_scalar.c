// The conversions in integers: for one value, for tails, and for CPUs without conversion instructions.
#include "fp16.h"
#include "fp16_versions.h"

#include <string.h>

uint16_t anecpu_half_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return sign | 0x7e00 | (uint16_t)(magnitude >> 13 & 0x3ff);  // NaN: quiet, top payload bits
  if (magnitude >= 0x477ff000) return sign | 0x7c00;             // from 65520 on: infinity
  if (magnitude <= 0x33000000) return sign;                      // up to 2^-25: zero
  if (magnitude < 0x38800000) {
    // Below 2^-14: a multiple of 2^-24. The float is mantissa * 2^(exponent - 150).
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000, shift = 126 - (magnitude >> 23);
    return sign | (uint16_t)((mantissa + (1u << (shift - 1)) - 1 + (mantissa >> shift & 1)) >> shift);
  }
  // Exponent bias 127 -> 15; a carry out of the mantissa correctly enters the exponent.
  const uint32_t rebiased = magnitude - (112u << 23);
  return sign | (uint16_t)((rebiased + 0xfff + (rebiased >> 13 & 1)) >> 13);
}

float anecpu_float_from_half(uint16_t value) {
  const uint32_t sign = (uint32_t)(value & 0x8000) << 16, exponent = value >> 10 & 0x1f;
  uint32_t mantissa = value & 0x3ff, bits;
  if (exponent == 0x1f) {
    bits = 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0);
  } else if (exponent) {
    bits = (exponent + 112) << 23 | mantissa << 13;
  } else if (mantissa) {
    const uint32_t shift = (uint32_t)__builtin_clz(mantissa) - 21;  // brings the top bit to bit 10, where it is implied
    bits = (113 - shift) << 23 | (mantissa << shift & 0x3ff) << 13;
  } else {
    bits = 0;
  }
  bits |= sign;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

static void halves_from_floats(const float *source, uint16_t *target, size_t count, bool stream) {
  (void)stream;
  for (size_t i = 0; i < count; ++i) target[i] = anecpu_half_from_float(source[i]);
}

static void floats_from_halves(const uint16_t *source, float *target, size_t count, bool stream) {
  (void)stream;
  for (size_t i = 0; i < count; ++i) target[i] = anecpu_float_from_half(source[i]);
}

const Fp16Version anecpu_fp16_scalar = {"scalar", halves_from_floats, floats_from_halves, anecpu_gemv_scalar};
