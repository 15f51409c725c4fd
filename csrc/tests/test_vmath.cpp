// Elementary functions (vmath.h): over every fp16 argument against long double, with a stated bound; the same bits in a
// float and in every lane of a vector; what they give for infinities, NaN and zeros of both signs. Rows (rows.h) too.
#include "cpu/vmath.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "cpu/fp16.h"
#include "device/emulator/elementwise.h"
#include "device/emulator/rows.h"
#include "tests/check.h"

using namespace ane;

namespace {

using Real = long double;

// All fp16 values, in the order of their bits.
const std::vector<float> &all_halves() {
  static const std::vector<float> values = [] {
    std::vector<float> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = anecpu_float_from_half(static_cast<uint16_t>(i));
    return all;
  }();
  return values;
}

bool same_bits(float a, float b) { return bit_cast<uint32_t>(a) == bit_cast<uint32_t>(b) || (a != a && b != b); }

// function(x) as vectors of F over all fp16 values gives the bits it gives for single floats.
template <class F, class Function>
void check_lanes(const char *name, Function function) {
  const std::vector<float> &x = all_halves();
  int differing = 0;
  for (size_t i = 0; i < x.size(); i += kLanes<F>) {
    float lanes[kLanes<F>];
    store(lanes, function(load<F>(&x[i])));
    for (int lane = 0; lane < kLanes<F>; ++lane) differing += !same_bits(lanes[lane], function(x[i + lane]));
  }
  if (differing) std::fprintf(stderr, "  %s, %zu-byte vectors\n", name, sizeof(F));
  CHECK_EQ(differing, 0);
}

// Results smaller than this may be 0, and need no relative accuracy.
constexpr Real kTiny = 1e-35L;

// Largest relative error over the finite fp16 values where the exact result is an ordinary float.
template <class Function>
double largest_error(Function function, const std::function<Real(Real)> &exact) {
  double largest = 0;
  for (float x : all_halves()) {
    if (!std::isfinite(x)) continue;
    const Real expected = exact(x);
    const float found = function(x);
    if (std::isnan(expected)) {
      CHECK(found != found);
    } else if (!std::isfinite(static_cast<float>(expected))) {
      CHECK_EQ(found, static_cast<float>(expected));
    } else if (fabsl(expected) < kTiny) {
      CHECK(std::fabs(found) <= kTiny);
    } else {
      const double error = static_cast<double>(fabsl((found - expected) / expected));
      largest = error > largest ? error : largest;
    }
  }
  return largest;
}

#define CHECK_FUNCTION(name, bound, exact)                                                                       \
  do {                                                                                                           \
    const auto function = [](auto x) __attribute__((always_inline)) { return vmath::name(x); };                  \
    const double error = largest_error(function, [](Real x) -> Real { return exact; });                          \
    if (error > (bound)) std::fprintf(stderr, "  %s: relative error %.3g, at most %.3g\n", #name, error, bound); \
    CHECK(error <= (bound));                                                                                     \
    check_lanes<Float4>(#name, function);                                                                        \
    check_lanes<Float8>(#name, function);                                                                        \
    check_lanes<Float16>(#name, function);                                                                       \
  } while (0)

constexpr float kInf = vmath::kInfinity, kNaN = vmath::kNaN;

}  // namespace

TEST(exponentials) {
  CHECK_FUNCTION(exp, 8e-8, expl(x));
  CHECK_FUNCTION(exp2, 8e-8, exp2l(x));
  CHECK_FUNCTION(expm1, 1.2e-7, expm1l(x));
  CHECK_FUNCTION(sigmoid, 1.5e-7, 1 / (1 + expl(-x)));
  CHECK_FUNCTION(silu, 1.5e-7, x / (1 + expl(-x)));
  CHECK_FUNCTION(tanh, 1.8e-7, tanhl(x));
  CHECK_FUNCTION(softplus, 1.8e-7, x > 100 ? x : log1pl(expl(x)));
}

TEST(logarithms) { CHECK_FUNCTION(log, 1e-7, logl(x)); }

TEST(circular_functions) {
  CHECK_FUNCTION(sin, 1.3e-7, sinl(x));
  CHECK_FUNCTION(cos, 1.3e-7, cosl(x));
  CHECK_FUNCTION(atan, 1.6e-7, atanl(x));
}

TEST(error_functions) {
  CHECK_FUNCTION(erf, 1.8e-7, erfl(x));
  CHECK_FUNCTION(gelu, 8e-7, x * 0.5L * erfcl(-x * sqrtl(0.5L)));  // e^(-x^2 / 2) is ill-conditioned near -13
  // Conditioned by their inner polynomial: only where they matter.
  const auto inner = [](Real x) { return 2 * sqrtl(2 / 3.14159265358979323846L) * (x + 0.044715L * x * x * x); };
  for (float x : all_halves()) {
    if (!(std::fabs(x) < 6)) continue;
    const Real by_tanh = x / (1 + expl(-inner(x))), by_sigmoid = x / (1 + expl(-1.702L * x));
    CHECK(fabsl(vmath::gelu_tanh(x) - by_tanh) <= 3e-6L * fabsl(by_tanh));
    CHECK(fabsl(vmath::gelu_sigmoid(x) - by_sigmoid) <= 2e-6L * fabsl(by_sigmoid));
  }
}

TEST(powers) {
  for (const float y : {-2.7f, -1.0f, -0.5f, 0.3f, 0.5f, 2.0f, 3.0f, 7.0f}) {
    const auto function = [=](auto x) __attribute__((always_inline)) { return vmath::pow(x, splat<decltype(x)>(y)); };
    CHECK(largest_error(function, [=](Real x) { return powl(x, y); }) <= 7e-8);
    check_lanes<Float16>("pow", function);
    check_lanes<Float8>("pow", function);
    check_lanes<Float4>("pow", function);
  }
  CHECK_EQ(vmath::pow(0.0f, 0.0f), 1.0f);
  CHECK_EQ(vmath::pow(kNaN, 0.0f), 1.0f);
  CHECK_EQ(vmath::pow(1.0f, kNaN), 1.0f);
  CHECK_EQ(vmath::pow(-2.0f, 3.0f), -8.0f);
  CHECK_EQ(vmath::pow(2.0f, kInf), kInf);
  CHECK_EQ(vmath::pow(0.5f, kInf), 0.0f);
  CHECK_EQ(vmath::pow(0.0f, -1.0f), kInf);
  CHECK_EQ(vmath::pow(kInf, -1.0f), 0.0f);
  CHECK(std::isnan(vmath::pow(-2.0f, 0.5f)));
  CHECK(std::isnan(vmath::pow(kNaN, 2.0f)));
}

TEST(special_values) {
  CHECK_EQ(vmath::exp(kInf), kInf);
  CHECK_EQ(vmath::exp(-kInf), 0.0f);
  CHECK_EQ(vmath::exp(89.0f), kInf);
  CHECK_EQ(vmath::exp(-200.0f), 0.0f);
  CHECK_EQ(vmath::exp2(128.0f), kInf);
  CHECK_EQ(vmath::log(0.0f), -kInf);
  CHECK_EQ(vmath::log(kInf), kInf);
  CHECK(std::isnan(vmath::log(-1.0f)));
  CHECK_EQ(vmath::sigmoid(-kInf), 0.0f);
  CHECK_EQ(vmath::silu(-kInf), 0.0f);
  CHECK_EQ(vmath::gelu(-kInf), 0.0f);
  CHECK_EQ(vmath::gelu(kInf), kInf);
  CHECK_EQ(vmath::tanh(-kInf), -1.0f);
  CHECK_EQ(vmath::erf(kInf), 1.0f);
  CHECK_EQ(vmath::softplus(kInf), kInf);
  CHECK(std::isnan(vmath::sin(kInf)));
  CHECK(std::isnan(vmath::exp(kNaN)) && std::isnan(vmath::tanh(kNaN)) && std::isnan(vmath::gelu(kNaN)));
  CHECK(std::signbit(vmath::tanh(-0.0f)) && std::signbit(vmath::sin(-0.0f)) && std::signbit(vmath::erf(-0.0f)));
}

TEST(exp_and_log_over_all_floats) {
  double exp_error = 0, log_error = 0;
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 7919) {
    const float x = bit_cast<float>(bits);
    for (const float argument : {x, -x}) {
      const Real expected = expl(argument);
      if (!(expected > 1.2e-38L && expected < 3.4e38L)) continue;
      exp_error = std::fmax(exp_error, static_cast<double>(fabsl((vmath::exp(argument) - expected) / expected)));
    }
    const Real expected = logl(x);
    if (bits && expected != 0)
      log_error = std::fmax(log_error, static_cast<double>(fabsl((vmath::log(x) - expected) / expected)));
  }
  CHECK(exp_error <= 8e-8);
  CHECK(log_error <= 1e-7);
}

TEST(rounding) {
  int wrong_fp16 = 0, wrong_portable = 0, wrong_lane = 0, wrong_whole = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4099) {
    const float x = bit_cast<float>(static_cast<uint32_t>(bits));
    const float expected = anecpu_float_from_half(anecpu_half_from_float(x));
    wrong_fp16 += bit_cast<uint32_t>(round_to_fp16(x)) != bit_cast<uint32_t>(expected);
    wrong_portable += bit_cast<uint32_t>(detail::round_to_fp16_portably(x)) != bit_cast<uint32_t>(expected);
    const Float16 lanes = round_to_fp16(splat<Float16>(x));
    wrong_lane += !same_bits(lanes[5], expected);
    wrong_whole += !same_bits(rint(x), std::rint(x)) || !same_bits(floor(x), std::floor(x)) ||
                   !same_bits(ceil(x), std::ceil(x)) || !same_bits(trunc(x), std::trunc(x));
  }
  CHECK_EQ(wrong_fp16, 0);
  CHECK_EQ(wrong_portable, 0);
  CHECK_EQ(wrong_lane, 0);
  CHECK_EQ(wrong_whole, 0);
}

// Every operation of elementwise.h, over all fp16 values, in vectors of every size.
TEST(elementwise_lanes) {
  ElementwiseOp op;
  op.alpha = 0.75f, op.beta = 3.5f;
  for (const Table *table : {&sigmoid_table(), &tanh_table(), &gelu_table(), &silu_table()}) {
    op.table = table;
    for (int lane = 0; lane < static_cast<int>(LaneOp::Count); ++lane) {
      const bool uses_table = static_cast<LaneOp>(lane) == LaneOp::TableLookup;
      if (!uses_table && table != &tanh_table()) continue;
      visit_lane_op(static_cast<LaneOp>(lane), [&](auto name) {
        const auto function = [&](auto x) __attribute__((always_inline)) {
          return apply_lane<name()>(op, x, 1.25f - x * 0.5f, x * x);
        };
        const std::string text = "operation " + std::to_string(lane);
        check_lanes<Float4>(text.c_str(), function);
        check_lanes<Float8>(text.c_str(), function);
        check_lanes<Float16>(text.c_str(), function);
      });
    }
  }
}

TEST(table_lanes_are_table_value) {
  for (const Table *table : {&sigmoid_table(), &tanh_table(), &gelu_table(), &silu_table()}) {
    int differing = 0;
    for (float x : all_halves()) differing += !same_bits(detail::table_lane(*table, x), table_value(*table, x));
    CHECK_EQ(differing, 0);
  }
}

TEST(rows_are_summed_in_sixteen_lanes) {
  std::vector<float> x(100);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(std::sin(static_cast<double>(i) * 12.9898) * 43758.5453);
  for (int64_t count = 1; count <= static_cast<int64_t>(x.size()); ++count) {
    float lanes[16] = {}, highest = -kInf;
    for (int64_t i = 0; i < count; ++i) {
      lanes[i % 16] += x[i];
      highest = std::fmax(highest, x[i]);
    }
    for (int width : {8, 4, 2, 1})
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    CHECK_EQ(row_sum(x.data(), count), lanes[0]);
    CHECK_EQ(row_max(x.data(), count), highest);
    RowSum<float> sum;
    for (int64_t i = 0; i < count; ++i) sum.add(i, x[i]);
    CHECK_EQ(sum.total(), lanes[0]);
  }
}

TEST(softmax_rows) {
  for (const int64_t count : {1, 15, 16, 17, 64, 257}) {
    std::vector<float> x(static_cast<size_t>(count)), y(x.size());
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = round_to_fp16(static_cast<float>(8 * std::sin(static_cast<double>(i) * 12.9898)));
    softmax_row(x.data(), y.data(), count);
    Real sum = 0;
    for (float value : x) sum += expl(value);
    for (size_t i = 0; i < x.size(); ++i) CHECK(fabsl(y[i] - expl(x[i]) / sum) <= 3e-7L * expl(x[i]) / sum);
  }
  const float masked[3] = {1.0f, -kInf, 1.0f};
  float y[3];
  softmax_row(masked, y, 3);
  CHECK_EQ(y[0], 0.5f);
  CHECK_EQ(y[1], 0.0f);
}
