// The engine's tables for sigmoid, tanh, gelu and silu: 33 knots at equal steps, straight lines between them.
#ifndef ANETRAIN_EMULATOR_TABLES_H
#define ANETRAIN_EMULATOR_TABLES_H

#include <cmath>

namespace ane {

constexpr int kTableKnots = 33;

// Plain data, so that scalar and vector code compute the same bits from it.
struct Table {
  float low, high;     // knots[0] stands at low, knots[32] at high
  float step_inverse;  // 32 / (high - low)
  float knots[kTableKnots];
  float left, right;    // the value below low, and from high on
  bool right_is_input;  // from high on the value is the input itself (gelu, silu) and not `right`
  bool odd;             // the table holds |x|; the result takes the sign of x
};

const Table &sigmoid_table();
const Table &tanh_table();
const Table &gelu_table();
const Table &silu_table();

// Not rounded to fp16. NaN stays NaN.
inline float table_value(const Table &table, float x) {
  if (x != x) return x;
  const float a = table.odd ? std::fabs(x) : x;
  float y;
  if (a < table.low) {
    y = table.left;
  } else if (a >= table.high) {
    y = table.right_is_input ? a : table.right;
  } else {
    const float position = (a - table.low) * table.step_inverse;
    const float index = std::fmin(std::floor(position), static_cast<float>(kTableKnots - 2));
    const float *knot = table.knots + static_cast<int>(index);
    y = std::fma(position - index, knot[1] - knot[0], knot[0]);
  }
  return table.odd ? std::copysign(y, x) : y;
}

}  // namespace ane
#endif
