// The knots. The engine's own are not published; ranges and knots here are chosen so that the largest errors and the
// values at 0 are the published ones (ANE_FACTS 6: sigmoid 3.4e-3, tanh 1.7e-3, gelu 5.9e-3; gelu(0), silu(0)).
#include "tables.h"

namespace ane {

namespace {

constexpr int kSegments = kTableKnots - 1;
constexpr float kGeluOfZero = -0.000543f;
constexpr float kSiluOfZero = -0.001259f;

template <class Function>
Table make_table(double low, double high, Function function) {
  Table table{};
  table.low = static_cast<float>(low);
  table.high = static_cast<float>(high);
  table.step_inverse = static_cast<float>(kSegments / (high - low));
  for (int i = 0; i < kTableKnots; ++i)
    table.knots[i] = static_cast<float>(function(low + (high - low) * i / kSegments));
  return table;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

const Table &sigmoid_table() {
  static const Table table = [] {
    Table sigmoids = make_table(-8, 8, sigmoid);
    sigmoids.right = 1;
    return sigmoids;
  }();
  return table;
}

const Table &tanh_table() {
  static const Table table = [] {
    Table tanhs = make_table(0, 4, [](double x) { return std::tanh(x); });
    tanhs.right = 1;
    tanhs.odd = true;
    return tanhs;
  }();
  return table;
}

const Table &gelu_table() {
  static const Table table = [] {
    Table gelus = make_table(-4, 4, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); });
    gelus.knots[kSegments / 2] = kGeluOfZero;
    gelus.right_is_input = true;
    return gelus;
  }();
  return table;
}

const Table &silu_table() {
  static const Table table = [] {
    Table silus = make_table(-6.5, 6.5, [](double x) { return x * sigmoid(x); });
    silus.knots[kSegments / 2] = kSiluOfZero;
    silus.right_is_input = true;
    return silus;
  }();
  return table;
}

}  // namespace ane
