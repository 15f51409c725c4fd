// AdamW and the sum of squares over many tensors of odd sizes: with every set of kernels and any number of threads the
// bits of a plain loop, and nothing beyond the last element.
#include "cpu/adamw.h"

#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "tests/check.h"

namespace {

using Floats = std::vector<float>;

// None, one, less than a vector, a piece and one more, several pieces.
const std::vector<size_t> kSizes = {3, 0, 1, (1 << 15) + 1, 17, 40, 100'003, 0};

struct Tensors {
  std::vector<Floats> weight, gradient, mean, square;

  Tensors() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (std::vector<Floats> *all : {&weight, &gradient, &mean, &square}) {
      for (const size_t size : kSizes) {
        Floats values(size);
        for (float &value : values) value = all == &square ? std::fabs(normal(random)) : normal(random);
        all->push_back(values);
      }
    }
  }

  std::vector<AnecpuAdamWTensor> described() {
    std::vector<AnecpuAdamWTensor> all;
    for (size_t i = 0; i < kSizes.size(); ++i) {
      const double group = i % 2 ? 0.0 : 1.0;
      all.push_back({weight[i].data(), gradient[i].data(), mean[i].data(), square[i].data(), kSizes[i], 1.0 + group,
                     0.25 * group, nullptr, 0, nullptr});
    }
    return all;
  }
};

constexpr AnecpuAdamWStep kStep = {.lr = 0.01,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .eps = 1e-8,
                                   .mean_correction = 0.5,
                                   .square_correction = 0.25,
                                   .factor = 0.125,
                                   .clear = false};

bool same_bits(const std::vector<Floats> &a, const std::vector<Floats> &b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!a[i].empty() && std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float))) return false;
  return true;
}

bool near(float found, double expected) { return std::fabs(found - expected) <= 1e-6 * (1 + std::fabs(expected)); }

void compare_with_doubles(const Tensors &before, const Tensors &after) {
  for (size_t i = 0; i < kSizes.size(); ++i) {
    const double rate = i % 2 ? 0.01 : 0.02, decay = i % 2 ? 0.0 : 0.25;
    for (size_t j = 0; j < kSizes[i]; ++j) {
      const double g = 0.125 * before.gradient[i][j];
      const double mean = 0.9 * before.mean[i][j] + 0.1 * g, square = 0.99 * before.square[i][j] + 0.01 * g * g;
      CHECK(near(after.mean[i][j], mean) && near(after.square[i][j], square));
      CHECK(near(after.weight[i][j],
                 before.weight[i][j] * (1 - rate * decay) - rate * (mean / 0.5) / (std::sqrt(square / 0.25) + 1e-8)));
    }
  }
}

template <class Body>
void on_every_machine(Body body) {
  for (const char *kernels : {"base", "avx2", "avx512", "accelerate"}) {
    if (!ane::cpu::select_kernels(kernels)) continue;
    for (const int threads : {1, 2, 3}) {
      anecpu_set_threads(threads);
      body();
    }
  }
  anecpu_set_threads(0);
  CHECK(ane::cpu::select_kernels(nullptr));
}

}  // namespace

TEST(update) {
  const Tensors before;
  Tensors expected = before;
  CHECK(ane::cpu::select_kernels("base"));
  anecpu_set_threads(1);
  anecpu_adamw(expected.described().data(), kSizes.size(), &kStep);
  compare_with_doubles(before, expected);
  on_every_machine([&] {
    Tensors found = before;
    anecpu_adamw(found.described().data(), kSizes.size(), &kStep);
    CHECK(same_bits(found.weight, expected.weight) && same_bits(found.mean, expected.mean));
    CHECK(same_bits(found.square, expected.square) && same_bits(found.gradient, before.gradient));
  });
}

TEST(gradients_are_cleared_on_demand) {
  AnecpuAdamWStep step = kStep;
  step.clear = true;
  Tensors found;
  anecpu_adamw(found.described().data(), kSizes.size(), &step);
  for (const Floats &gradient : found.gradient)
    for (const float value : gradient) CHECK_EQ(value, 0.0f);
}

// A matrix of 250 x 400 in stretches of odd lengths: rows as they are, every other row, transposed, to two buffers.
TEST(copies_are_made_of_new_weights) {
  const Tensors before;
  Tensors expected = before;
  anecpu_adamw(expected.described().data(), kSizes.size(), &kStep);
  const size_t columns = 400, matrix = 6;
  uint16_t *targets[2] = {};
  on_every_machine([&] {
    Tensors found = before;
    const float *weight = found.weight[matrix].data();
    const AnecpuHalfCopy copies[] = {
        {{weight, 800, 1, 7, 800, 20, 400}, targets},
        {{weight + 400, 800, 1, 407, 800, 20, 400}, targets},
        {{weight + 40 * columns, 1, 400, 3, 250, 400, 64}, targets + 1},
        {{weight + 104 * columns, 1, 400, 67, 250, 400, 130}, targets + 1},
        {{weight + 104 * columns, 400, 1, 16'007, 450, 130, 400}, targets},
    };
    const AnecpuCopiedStretch stretches[] = {
        {40 * columns, 2}, {104 * columns, 3}, {234 * columns, 5}, {kSizes[matrix], 5}};
    std::vector<uint16_t> rows(100'000, 0xabcd), transposed(100'003, 0xabcd);
    std::vector<uint16_t> expected_rows = rows, expected_transposed = transposed;
    for (size_t i = 0; i < 234; ++i) {
      for (size_t j = 0; j < columns; ++j) {
        const uint16_t half = anecpu_half_from_float(expected.weight[matrix][i * columns + j]);
        if (i < 40) expected_rows[7 + i * columns + j] = half;
        if (i >= 40) expected_transposed[3 + j * 250 + i - 40] = half;
        if (i >= 104) expected_rows[16'007 + (i - 104) * 450 + j] = half;
      }
    }
    std::vector<AnecpuAdamWTensor> described = found.described();
    described[matrix].stretches = stretches;
    described[matrix].stretch_count = std::size(stretches);
    described[matrix].copies = copies;
    targets[0] = rows.data(), targets[1] = transposed.data();
    anecpu_adamw(described.data(), described.size(), &kStep);
    CHECK(same_bits(found.weight, expected.weight) && same_bits(found.mean, expected.mean));
    CHECK(same_bits(found.square, expected.square));
    CHECK(rows == expected_rows);
    CHECK(transposed == expected_transposed);
  });
}

TEST(sum_of_squares) {
  Tensors tensors;
  tensors.gradient[3][5] = 1e30f;  // its square is no float
  std::vector<const float *> arrays;
  long double exact = 0;
  for (const Floats &gradient : tensors.gradient) {
    arrays.push_back(gradient.data());
    for (const float value : gradient) exact += static_cast<long double>(value) * value;
  }
  double first = 0;
  CHECK(anecpu_sum_of_squares(arrays.data(), kSizes.data(), arrays.size(), &first));
  CHECK(std::fabs(first - static_cast<double>(exact)) <= 1e-14 * first);
  on_every_machine([&] {
    double sum = 0;
    CHECK(anecpu_sum_of_squares(arrays.data(), kSizes.data(), arrays.size(), &sum));
    CHECK_EQ(sum, first);
  });
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t place : {size_t{0}, size_t{99'999}, size_t{100'002}}) {
      const float kept = tensors.gradient[6][place];
      tensors.gradient[6][place] = bad;
      double sum = 0;
      CHECK(anecpu_sum_of_squares(arrays.data(), kSizes.data(), arrays.size(), &sum));
      CHECK(!std::isfinite(sum));
      tensors.gradient[6][place] = kept;
    }
  }
}

TEST(no_tensors) {
  double sum = 1;
  anecpu_adamw(nullptr, 0, &kStep);
  CHECK(anecpu_sum_of_squares(nullptr, nullptr, 0, &sum));
  CHECK_EQ(sum, 0.0);
}
