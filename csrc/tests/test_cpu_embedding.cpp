// The embedding and its gradient between padded rows of any size; conversions that move rows.
#include "cpu/embedding.h"
#include "cpu/fp16.h"
#include "cpu/threads.h"

#include <random>
#include <utility>
#include <vector>

#include "tests/check.h"

namespace {

constexpr size_t kVocabulary = 9, kPad = 3;

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float &value : values) value = normal(random);
  return values;
}

std::vector<int32_t> random_ids(size_t count) {
  std::mt19937 random(static_cast<unsigned>(count));
  std::vector<int32_t> ids(count);
  for (int32_t &id : ids) id = static_cast<int32_t>(random() % kVocabulary);
  return ids;
}

struct WithThreads {
  explicit WithThreads(int count) { anecpu_set_threads(count); }
  ~WithThreads() { anecpu_set_threads(0); }
};

const std::pair<size_t, size_t> kShapes[] = {{1, 1}, {3, 20}, {16, 16}, {33, 65}, {171, 400}};  // channels, tokens

}  // namespace

TEST(gather_and_scatter) {
  for (const int threads : {1, 3}) {
    const WithThreads with(threads);
    for (const auto &[channels, tokens] : kShapes) {
      const size_t table_stride = channels + kPad, stride = tokens + kPad;
      const std::vector<float> table = random_floats(kVocabulary * table_stride, 1);
      const std::vector<int32_t> ids = random_ids(tokens);
      std::vector<float> out(channels * stride, 7.0f);
      anecpu_embedding(table.data(), table_stride, ids.data(), out.data(), stride, channels, tokens);
      for (size_t c = 0; c < channels; ++c)
        for (size_t t = 0; t < stride; ++t)
          CHECK_EQ(out[c * stride + t], t < tokens ? table[static_cast<size_t>(ids[t]) * table_stride + c] : 7.0f);

      std::vector<float> gradient(kVocabulary * table_stride, 2.0f), expected = gradient;
      anecpu_embedding_scatter(ids.data(), 0.5f, out.data(), stride, gradient.data(), table_stride, channels, tokens);
      for (size_t t = 0; t < tokens; ++t)
        for (size_t c = 0; c < channels; ++c)
          expected[static_cast<size_t>(ids[t]) * table_stride + c] += 0.5f * out[c * stride + t];
      CHECK(gradient == expected);
    }
  }
}

TEST(ids_outside) {
  const int32_t ids[] = {0, 8, -1, 9, -5}, ignored = -1;
  CHECK_EQ(anecpu_first_outside(ids, 5, 9, nullptr), 2u);
  CHECK_EQ(anecpu_first_outside(ids, 5, 9, &ignored), 3u);
  CHECK_EQ(anecpu_first_outside(ids, 2, 9, nullptr), 2u);
  CHECK_EQ(anecpu_first_outside(ids + 4, 1, 9, &ignored), 0u);
}

TEST(conversions_move_rows) {
  constexpr size_t kRows = 50, kColumns = 37, kStride = kColumns + kPad;
  std::vector<int32_t> order(kRows);
  for (size_t r = 0; r < kRows; ++r) order[r] = static_cast<int32_t>(r * 7 % kRows);  // 7 and 50 have no common factor
  const std::vector<float> values = random_floats(kRows * kStride, 2);
  std::vector<uint16_t> halves(kRows * kColumns);
  anecpu_halves_from_floats_rows(values.data(), kStride, halves.data(), kColumns, order.data(), kRows, kColumns);
  std::vector<float> back(kRows * kStride, 7.0f);
  anecpu_floats_from_halves_rows(halves.data(), kColumns, back.data(), kStride, order.data(), kRows, kColumns);
  for (size_t r = 0; r < kRows; ++r) {
    const size_t once = static_cast<size_t>(order[r]), twice = static_cast<size_t>(order[once]);
    for (size_t c = 0; c < kStride; ++c) {
      const uint16_t half = anecpu_half_from_float(values[r * kStride + c]);
      if (c < kColumns) CHECK_EQ(halves[once * kColumns + c], half);
      CHECK_EQ(back[twice * kStride + c], c < kColumns ? anecpu_float_from_half(half) : 7.0f);
    }
  }
}
