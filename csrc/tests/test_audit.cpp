// The audit's inner loop: the same bits and counts from every instruction set, and from a scalar account of the rules.
// What it makes of programs is tested from Python, against measurements (tests/test_audit.py).
#include "device/emulator/audit_kernels.h"

#include <cmath>
#include <random>
#include <tuple>
#include <vector>

#include "cpu/cpu_features.h"
#include "cpu/fp16.h"
#include "tests/check.h"

using namespace ane;

namespace {

constexpr float kInf = __builtin_inff();

float round16(float x) { return anecpu_float_from_half(anecpu_half_from_float(x)); }

// What the rules say of one result, term by term.
float expected_result(const AuditRules &rules, const AuditBlock &block, int64_t row, int64_t column,
                      AuditCounters *counters) {
  float sum = 0, largest = 0, tile = 0;
  for (int64_t i = 0; i < block.k; ++i) {
    float p = block.a[row * block.a_step + i] * block.panel[i * kPanelColumns + column];
    if (rules.round_products) p = round16(p);
    if (p != p && rules.invalid_gives_zero) p = 0;
    if (p != 0 && std::fabs(p) < rules.flush_below) ++counters->flushed, p = 0;
    const bool first_of_tile = rules.tile <= 1 || i % rules.tile == 0;
    tile = first_of_tile ? p : round16(tile + p);
    const bool last_of_tile = rules.tile <= 1 || i % rules.tile == rules.tile - 1 || i == block.k - 1;
    if (!last_of_tile) continue;
    sum += tile;
    largest = std::fabs(sum) > largest ? std::fabs(sum) : largest;
  }
  if (block.row_bias) sum += block.row_bias[row];
  if (block.column_bias) sum += block.column_bias[column];
  if (sum != sum && rules.invalid_gives_zero) return 0;
  const float result = round16(sum);  // cases have no ties
  if (std::fabs(result) >= rules.overflow_from) return ++counters->overflowed, std::copysign(kInf, sum);
  if (largest >= rules.interior_from) {
    ++counters->interior;
    return rules.interior_gives_zero ? 0 : std::copysign(kInf, sum);
  }
  return result;
}

struct Case {
  std::vector<float> a, panel, row_bias, column_bias;
  AuditBlock block;
};

// Values over many magnitudes, some infinite.
Case make_case(int64_t rows, int64_t columns, int64_t k, bool finite, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> mantissa(-2, 2);
  std::uniform_int_distribution<int> exponent(-12, 8), rare(0, 40);
  const auto value = [&] {
    if (!finite && rare(random) == 0) return rare(random) % 2 ? kInf : -kInf;
    return rare(random) < 4 ? 0.0f : round16(std::ldexp(mantissa(random), exponent(random)));
  };
  Case c;
  for (int64_t i = 0; i < rows * k; ++i) c.a.push_back(value());
  c.panel.resize(static_cast<size_t>(k * kPanelColumns));
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < columns; ++j) c.panel[i * kPanelColumns + j] = value();
  for (int64_t i = 0; i < rows; ++i) c.row_bias.push_back(mantissa(random));
  for (int64_t i = 0; i < columns; ++i) c.column_bias.push_back(mantissa(random));
  c.block = {c.a.data(), k, c.panel.data(), rows, columns, k, c.row_bias.data(), nullptr, nullptr, columns, finite};
  return c;
}

std::vector<AuditRules> rule_sets() {
  const AuditRules none = {false, false, false, 0, 0, kInf, kInf, false};
  AuditRules chip = {true, false, true, 0, 0x1p-14f, 0x1p15f, kInf, false};
  std::vector<AuditRules> sets = {none, chip};
  chip.tile = 4;
  sets.push_back(chip);
  chip.tile = 0, chip.interior_from = 0x1p15f, chip.interior_gives_zero = true;
  sets.push_back(chip);
  chip.interior_gives_zero = false, chip.invalid_gives_zero = false, chip.tile = 3;
  sets.push_back(chip);
  return sets;
}

void check_kernel(AuditKernel kernel, const AuditRules &rules, const Case &c) {
  std::vector<float> found(static_cast<size_t>(c.block.rows * c.block.columns));
  AuditBlock block = c.block;
  block.c = found.data();
  AuditCounters counters, expected_counters;
  kernel(rules, block, &counters);
  for (int64_t row = 0; row < block.rows; ++row) {
    for (int64_t column = 0; column < block.columns; ++column) {
      const float expected = expected_result(rules, block, row, column, &expected_counters);
      const float result = found[static_cast<size_t>(row * block.columns + column)];
      if (!(expected != expected && result != result)) CHECK_EQ(result, expected);
    }
  }
  CHECK_EQ(counters.flushed, expected_counters.flushed);
  CHECK_EQ(counters.overflowed, expected_counters.overflowed);
  CHECK_EQ(counters.interior, expected_counters.interior);
}

void check_kernel(AuditKernel kernel) {
  unsigned seed = 1;
  for (const AuditRules &rules : rule_sets())
    for (const bool finite : {true, false})
      for (const auto &[rows, columns, k] : {std::tuple{3, 64, 70}, {2, 17, 5}, {1, 1, 1}, {2, 33, 257}}) {
        Case c = make_case(rows, columns, k, finite, seed++);
        if (seed % 2) c.block.row_bias = nullptr, c.block.column_bias = c.column_bias.data();
        check_kernel(kernel, rules, c);
      }
}

}  // namespace

TEST(kernel_base) { check_kernel(audit_block_base); }

#if defined(__x86_64__)
TEST(kernel_avx2) {
  if (anecpu_has_avx2()) check_kernel(audit_block_avx2);
}

TEST(kernel_avx512) {
  if (anecpu_has_avx512()) check_kernel(audit_block_avx512);
}
#endif

TEST(ties_go_up_by_rule) {
  AuditRules rules = {true, true, true, 0, 0, kInf, kInf, false};
  struct Sum {
    float a, b, even, up;
  };
  for (const Sum &sum : {Sum{2048, 1, 2048, 2050},
                         {2050, 1, 2052, 2052},
                         {-2048, -1, -2048, -2050},
                         {1, 0x1p-11f, 1, 1 + 0x1p-10f},
                         {2048, 0.5f, 2048, 2048},
                         {0x1p-24f, 0x1p-25f, 0x1p-23f, 0x1p-23f},
                         {0, 0x1p-25f, 0, 0x1p-24f},
                         {65504, 15, 65504, 65504},
                         {65504, 16, kInf, kInf}}) {
    const float a[2] = {sum.a, sum.b};
    std::vector<float> panel(2 * kPanelColumns, 0.0f);
    panel[0] = panel[kPanelColumns] = 1;
    rules.round_products = false;  // 2^-25 is no fp16
    for (const bool up : {false, true}) {
      rules.round_ties_up = up;
      float result;
      AuditCounters counters;
      audit_kernel()(rules, {a, 2, panel.data(), 1, 1, 2, nullptr, nullptr, &result, 1, true}, &counters);
      CHECK_EQ(result, up ? sum.up : sum.even);
    }
  }
}
