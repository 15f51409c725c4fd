// Products of fp16 weights and a vector: against double, and the same bits from every version on any number of threads.
#include "cpu/fp16.h"
#include "cpu/gemv.h"
#include "cpu/threads.h"

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/check.h"

namespace {

constexpr size_t kPad = 5;

struct Problem {
  size_t rows, columns, stride;
  std::vector<uint16_t> w;
  std::vector<float> x;

  Problem(size_t rows, size_t columns) : rows(rows), columns(columns), stride(columns + kPad) {
    std::mt19937 random(static_cast<unsigned>(rows * 31 + columns));
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < rows * stride; ++i) w.push_back(anecpu_half_from_float(normal(random)));
    for (size_t i = 0; i < columns; ++i) x.push_back(normal(random));
  }
  std::vector<float> run() const {
    std::vector<float> out(rows);
    anecpu_gemv(w.data(), stride, x.data(), out.data(), rows, columns);
    return out;
  }
};

struct WithVersion {
  std::string before = anecpu_fp16_selected();
  ~WithVersion() { anecpu_fp16_select(before.c_str()); }
};

struct WithThreads {
  explicit WithThreads(int count) { anecpu_set_threads(count); }
  ~WithThreads() { anecpu_set_threads(0); }
};

}  // namespace

TEST(every_version) {
  const WithVersion keep;
  for (const auto &[rows, columns] : {std::pair<size_t, size_t>{1, 1}, {3, 31}, {4, 32}, {6, 77}, {301, 768}}) {
    const Problem p(rows, columns);
    CHECK(anecpu_fp16_select("scalar"));
    const std::vector<float> expected = p.run();
    for (size_t n = 0; n < rows; ++n) {
      double sum = 0, magnitude = 0;
      for (size_t k = 0; k < columns; ++k) {
        const double product = double{anecpu_float_from_half(p.w[n * p.stride + k])} * p.x[k];
        sum += product, magnitude += std::fabs(product);
      }
      CHECK(std::fabs(expected[n] - sum) <= 0x1p-24 * static_cast<double>(columns / 32 + 7) * magnitude);
    }
    for (const char *version : {"f16c", "avx512", "neon"}) {
      if (!anecpu_fp16_select(version)) continue;
      CHECK(p.run() == expected);
      const WithThreads with(3);
      CHECK(p.run() == expected);
    }
  }
}

TEST(empty_products) {
  CHECK(Problem(5, 0).run() == std::vector<float>(5, 0.0f));
  CHECK(Problem(0, 5).run().empty());
}
