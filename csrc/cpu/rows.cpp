// Sums of arrays and of their rows, and largest values.
#include "rows.h"

#include <atomic>
#include <bit>
#include <cstdint>

#include "kernels.h"
#include "pieces.h"
#include "threads.h"

using namespace ane::cpu;

namespace {

// out[i] += alpha * the sum of value(r) over the rows r = i, i + count, ...
template <class Value>
void add_by_row(size_t rows, size_t columns, float alpha, float *out, size_t count, Value value) {
  if (count == 0) return;
  parallel_for(count, grain_of(rows / count * columns), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      double sum = 0;
      for (size_t row = i; row < rows; row += count) sum += value(row);
      out[i] += static_cast<float>(alpha * sum);
    }
  });
}

}  // namespace

void anecpu_add(size_t rows, size_t columns, const float *x, size_t x_step, const float *y, size_t y_step, float alpha,
                float *sum, size_t sum_step) {
  const auto add = kernels().add;
  for_pieces(rows, columns, [&](size_t row, size_t first, size_t count) {
    add(x + row * x_step + first, y + row * y_step + first, alpha, sum + row * sum_step + first, count);
  });
}

void anecpu_scale(size_t rows, size_t columns, const float *x, size_t x_step, float alpha, float *y, size_t y_step) {
  const auto scale = kernels().scale;
  for_pieces(rows, columns, [&](size_t row, size_t first, size_t count) {
    scale(x + row * x_step + first, alpha, y + row * y_step + first, count);
  });
}

void anecpu_row_sum(size_t rows, size_t columns, const float *x, size_t x_step, float alpha, float *out, size_t count) {
  const auto sum = kernels().sum;
  add_by_row(rows, columns, alpha, out, count, [&](size_t row) { return sum(x + row * x_step, columns); });
}

void anecpu_row_dot(size_t rows, size_t columns, const float *x, size_t x_step, const float *y, size_t y_step,
                    float alpha, float *out, size_t count) {
  const auto dot = kernels().dot;
  add_by_row(rows, columns, alpha, out, count,
             [&](size_t row) { return dot(x + row * x_step, y + row * y_step, columns); });
}

float anecpu_largest(size_t count, const float *x) {
  const auto largest_bits = kernels().largest_bits;
  std::atomic<int32_t> largest{0};
  parallel_for(count, kElementsPerThread, [&](size_t begin, size_t end) {
    const int32_t found = largest_bits(x + begin, end - begin);
    int32_t known = largest.load(std::memory_order_relaxed);
    while (known < found && !largest.compare_exchange_weak(known, found, std::memory_order_relaxed)) {
    }
  });
  return std::bit_cast<float>(largest.load(std::memory_order_relaxed));
}
