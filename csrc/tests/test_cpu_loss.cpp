// Cross-entropy against double, from padded rows in several chunks, on several numbers of threads; and the same bits
// from every instruction set.
#include "cpu/cpu_features.h"
#include "cpu/loss.h"
#include "cpu/loss_kernels.h"
#include "cpu/threads.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/check.h"

namespace {

constexpr int32_t kIgnored = -1;
constexpr float kScale = 3.0f, kPadding = 7.0f;

struct Problem {
  size_t rows, columns, stride;
  std::vector<float> logits;     // [rows, stride]
  std::vector<int32_t> targets;  // every third ignored, but not the first

  Problem(size_t rows, size_t columns, size_t padding) : rows(rows), columns(columns), stride(columns + padding) {
    std::mt19937 random(static_cast<unsigned>(rows * 31 + columns));
    std::normal_distribution<float> normal(0.0f, 4.0f);
    for (size_t i = 0; i < rows * stride; ++i) logits.push_back(i % stride < columns ? normal(random) : kPadding);
    for (size_t t = 0; t < columns; ++t)
      targets.push_back(t % 3 == 1 ? kIgnored : static_cast<int32_t>(random() % rows));
  }

  double log_sum(size_t t) const {
    double sum = 0;
    for (size_t v = 0; v < rows; ++v) sum += std::exp(double{logits[v * stride + t]});
    return std::log(sum);
  }
  size_t counted() const { return columns - static_cast<size_t>(std::count(targets.begin(), targets.end(), kIgnored)); }
  double loss() const {
    double sum = 0;
    for (size_t t = 0; t < columns; ++t)
      if (targets[t] != kIgnored) sum += log_sum(t) - logits[static_cast<size_t>(targets[t]) * stride + t];
    return sum / static_cast<double>(counted());
  }
  double gradient(size_t v, size_t t, double log_sum) const {
    if (targets[t] == kIgnored) return 0;
    const double hit = static_cast<size_t>(targets[t]) == v ? 1 : 0;
    return kScale * (std::exp(logits[v * stride + t] - log_sum) - hit) / static_cast<double>(counted());
  }
};

// The loss, with the gradient over a copy of the logits, which come in chunks of `chunk_rows`.
double run(const Problem &p, size_t chunk_rows, std::vector<float> &gradient) {
  gradient = p.logits;
  std::vector<AnecpuLogits> chunks;
  for (size_t row = 0; row < p.rows; row += chunk_rows) {
    float *at = gradient.data() + row * p.stride;
    chunks.push_back({at, p.stride, at, p.stride, std::min(chunk_rows, p.rows - row)});
  }
  double loss = -1;
  size_t counted = 99;
  CHECK(anecpu_cross_entropy(chunks.data(), chunks.size(), p.columns, p.targets.data(), kIgnored, kScale, &loss,
                             &counted));
  CHECK_EQ(counted, p.counted());
  return loss;
}

struct WithThreads {
  explicit WithThreads(int count) { anecpu_set_threads(count); }
  ~WithThreads() { anecpu_set_threads(0); }
};

}  // namespace

TEST(loss_and_gradient) {
  for (const int threads : {1, 3}) {
    const WithThreads with(threads);
    for (const auto &[rows, columns] : {std::pair<size_t, size_t>{1, 1}, {17, 5}, {300, 33}, {600, 21}, {513, 530}}) {
      for (const size_t chunk_rows : {rows, size_t{100}}) {
        const Problem p(rows, columns, 3);
        std::vector<float> gradient;
        CHECK(std::fabs(run(p, chunk_rows, gradient) - p.loss()) < 1e-6 * (1 + p.loss()));
        for (size_t t = 0; t < p.stride; ++t) {
          const double log_sum = t < columns ? p.log_sum(t) : 0;
          for (size_t v = 0; v < rows; ++v) {
            const double expected = t < columns ? p.gradient(v, t, log_sum) : kPadding;
            CHECK(std::fabs(gradient[v * p.stride + t] - expected) <= 3e-6 * std::fabs(expected) + 1e-6 / p.counted());
          }
        }
      }
    }
  }
}

TEST(the_number_of_threads_changes_no_bit) {
  const Problem p(2000, 45, 0);
  std::vector<float> once, again;
  anecpu_set_threads(1);
  const double loss = run(p, 700, once);
  const WithThreads with(4);
  CHECK_EQ(run(p, 700, again), loss);
  CHECK(once == again);
}

TEST(every_instruction_set_gives_the_same_bits) {
  const Problem p(100, 541, 0);  // more columns than a block, and a rest of each width
  const auto run = [&](const LossKernels &kernels) {
    std::vector<float> results(p.columns * 2 + p.logits.size(), 0.0f);
    float *largest = results.data(), *sum = largest + p.columns;
    std::fill_n(largest, p.columns, kNoLogit);
    for (const auto &[first, rows] : {std::pair<size_t, size_t>{0, 37}, {37, 63}})
      kernels.fold(p.logits.data() + first * p.stride, p.stride, rows, p.columns, largest, sum);
    std::vector<float> factor(p.columns, 0.5f);
    factor[3] = 0;
    kernels.gradient(p.logits.data(), p.stride, sum + p.columns, p.columns, p.rows, p.columns, largest, factor.data());
    return results;
  };
  const std::vector<float> base = run(kLossKernelsBase);
  CHECK(base[0] >= p.logits[0]);
#if defined(__x86_64__)
  if (anecpu_has_avx2()) CHECK(run(kLossKernelsAvx2) == base);
  if (anecpu_has_avx512()) CHECK(run(kLossKernelsAvx512) == base);
#endif
}

TEST(nothing_counted) {
  Problem p(20, 6, 1);
  std::fill(p.targets.begin(), p.targets.end(), kIgnored);
  std::vector<float> gradient;
  CHECK_EQ(run(p, 20, gradient), 0.0);
  for (size_t i = 0; i < gradient.size(); ++i) CHECK_EQ(gradient[i], i % p.stride < p.columns ? 0.0f : kPadding);
}
