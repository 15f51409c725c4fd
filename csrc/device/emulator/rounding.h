// double -> fp16 with one rounding.
#ifndef ANETRAIN_EMULATOR_ROUNDING_H
#define ANETRAIN_EMULATOR_ROUNDING_H

#include <bit>
#include <cmath>
#include <cstdint>

namespace ane {

// To fp32, towards zero but with the last bit set when anything was lost: rounding the result to fp16 (13 bits fewer)
// then gives what rounding the double once would have given, ties included. Beyond fp32 the value is far beyond fp16.
inline float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(nearest)) return nearest;
  const bool away_from_zero = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  const uint32_t bits = std::bit_cast<uint32_t>(nearest) - (away_from_zero ? 1u : 0u);
  return std::bit_cast<float>(bits | 1u);
}

}  // namespace ane
#endif
