// The fast executor's inner loops, the same bits on every instruction set; views; when surfaces are converted.
#include <cmath>
#include <cstring>
#include <random>

#include "tests/check.h"
#include "cpu/fp16.h"
#include "device/emulator/executor.h"
#include "device/emulator/fast/kernels.h"
#include "device/emulator/fast/precedence.h"
#include "device/emulator/fast/view.h"
#include "device/emulator/frontend.h"
#include "tests/mil_samples.h"

using namespace ane;
using namespace ane::fast;

namespace {

const char *const kVersions[] = {"avx512", "avx2", "base"};

// fp16 values of every kind, as floats.
std::vector<float> sample_floats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float &value : values) {
    const uint32_t bits = random();
    value = bits % 4 == 0
                ? anecpu_float_from_half(static_cast<uint16_t>(bits >> 16))
                : anecpu_float_from_half(anecpu_half_from_float(static_cast<float>(bits >> 8) * 0x1p-21f - 4));
  }
  return values;
}

bool same_bits(float a, float b) { return (a != a && b != b) || std::memcmp(&a, &b, sizeof a) == 0; }

template <class Check>
void for_each_version(Check check) {
  const std::string usual = kernels().name;
  for (const char *version : kVersions) {
    if (select_kernels(version)) check(version);
  }
  select_kernels(usual.c_str());
}

}  // namespace

TEST(lane_kernels_agree_with_one_lane) {
  constexpr size_t kRows = 3, kColumns = 45;
  const std::vector<float> x = sample_floats(kRows * kColumns, 1), y = sample_floats(kRows * kColumns, 2),
                           z = sample_floats(kRows, 3);
  for_each_version([&](const char *version) {
    for (int index = 0; index < static_cast<int>(LaneOp::Count); ++index) {
      ElementwiseOp op;
      op.lane = static_cast<LaneOp>(index);
      op.alpha = 0.5f, op.beta = 1.25f;
      op.table = &silu_table();
      op.output = index % 2 == 0 ? DType::Fp16 : DType::Fp32;
      std::vector<float> found(kRows * kColumns);
      LaneArgs args{found.data(), kColumns, {{x.data(), kColumns, false}, {y.data(), 0, false}, {z.data(), 1, true}},
                    kRows,        kColumns, &op};
      kernels().lane(op.lane, op.output == DType::Fp16)(args);
      visit_lane_op(op.lane, [&](auto constant) {
        for (size_t i = 0; i < found.size(); ++i) {
          const float expected = apply_lane<decltype(constant)::value>(op, x[i], y[i % kColumns], z[i / kColumns]);
          if (!same_bits(found[i], expected)) {
            check::fail(__FILE__, __LINE__,
                        std::string(version) + ": operation " + std::to_string(index) + " of " + std::to_string(x[i]) +
                            ": found " + std::to_string(found[i]) + ", expected " + std::to_string(expected));
          }
        }
      });
    }
  });
}

TEST(reductions_agree_along_rows_and_columns) {
  constexpr size_t kRows = 37, kColumns = 53;
  std::vector<float> x = sample_floats(kRows * kColumns, 4), turned(x.size());
  for (float &value : x) value = std::isfinite(value) ? std::fmod(value, 8.0f) : 1.0f;
  for (size_t i = 0; i < x.size(); ++i) turned[i % kColumns * kRows + i / kColumns] = x[i];
  for (OpKind kind :
       {OpKind::ReduceSum, OpKind::ReduceMean, OpKind::ReduceMax, OpKind::ReduceL2Norm, OpKind::Softmax}) {
    const bool softmax = kind == OpKind::Softmax;
    std::vector<float> expected;
    for_each_version([&](const char *) {
      std::vector<float> rows(softmax ? x.size() : kRows), columns(rows.size());
      const ptrdiff_t across = kColumns, down = kRows;
      kernels().reduce(kind, false)({rows.data(), softmax ? across : 1, x.data(), across, kRows, kColumns, true});
      kernels().reduce(kind, true)({columns.data(), softmax ? down : 0, turned.data(), down, kColumns, kRows, true});
      if (expected.empty()) expected = rows;
      for (size_t i = 0; i < rows.size(); ++i) {
        CHECK(same_bits(rows[i], expected[i]));
        CHECK(same_bits(columns[softmax ? i % kColumns * kRows + i / kColumns : i], expected[i]));
      }
    });
  }
}

TEST(moves_convert_and_turn_blocks) {
  constexpr size_t kRows = 23, kColumns = 41;
  const std::vector<float> x = sample_floats(kRows * kColumns, 5);
  std::vector<uint16_t> halves(x.size());
  anecpu_halves_from_floats(x.data(), halves.data(), x.size());
  for_each_version([&](const char *) {
    const auto move = [](Move kind) { return kernels().move[static_cast<int>(kind)]; };
    std::vector<float> widened(x.size()), turned(x.size());
    std::vector<uint16_t> narrowed(x.size()), every_other(2 * x.size(), 7);
    const ptrdiff_t across = kColumns, down = kRows;
    move(Move::Widen)({halves.data(), across, 1, widened.data(), across, 1, kRows, kColumns});
    move(Move::Widen)({halves.data(), across, 1, turned.data(), 1, down, kRows, kColumns});
    move(Move::Narrow)({x.data(), across, 1, narrowed.data(), across, 1, kRows, kColumns});
    move(Move::CopyHalves)({halves.data(), across, 1, every_other.data(), 2 * across, 2, kRows, kColumns});
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK(same_bits(widened[i], x[i]));
      CHECK(same_bits(turned[i % kColumns * kRows + i / kColumns], x[i]));
      CHECK_EQ(narrowed[i], halves[i]);
      CHECK(same_bits(anecpu_float_from_half(every_other[2 * i]), x[i]));
      CHECK_EQ(every_other[2 * i + 1], 7);
    }
  });
}

TEST(precedence_knows_ways_through_others_as_nodes_merge) {
  Precedence nodes;  // 0 -> 1 -> 3, 0 -> 2 -> 3, 0 -> 4
  for (const std::set<int> &before : {std::set<int>{}, {0}, {0}, {1, 2}, {0}}) nodes.add(before);
  CHECK(nodes.indirect(0, 3));
  CHECK(!nodes.indirect(0, 1));
  CHECK(!nodes.indirect(1, 2));
  nodes.merge(1, 4);
  CHECK(!nodes.indirect(4, 3));
  CHECK(nodes.indirect(0, 3));  // through 2, and through 4
  nodes.merge(2, 3);
  CHECK(nodes.indirect(0, 3));  // through 4 alone
  CHECK((nodes.order() == std::vector<int>{0, 4, 3}));
}

TEST(views_reshape_without_moving_where_they_can) {
  const View dense = dense_view(0, {4, 6, 5});
  CHECK(reshaped(dense, {24, 5}).has_value());
  const View turned = permuted(dense, {1, 0, 2});
  CHECK(!reshaped(turned, {24, 5}).has_value());
  CHECK((reshaped(turned, {3, 2, 4, 5})->strides == Shape{10, 5, 30, 1}));
  const View part = sliced(dense, 1, 2, 3);
  CHECK_EQ(part.offset, 10);
  CHECK(!is_dense(part));
  CHECK(is_one_to_one(part));
  CHECK(!is_one_to_one(broadcast(dense, {2, 4, 6, 5})));
  CHECK((common_refinement({6, 4}, {2, 12}) == Shape{2, 3, 4}));
  CHECK(!common_refinement({6, 4}, {4, 6}).has_value());
}

TEST(surfaces_are_converted_when_they_change) {
  const std::string text = samples::in_program("tensor<fp16, [1, 1, 32, 32]> x, tensor<fp16, [1, 1, 32, 32]> w",
                                               "bool no = const()[name = string(\"no\"), val = bool(false)];"
                                               "tensor<fp16, [1, 1, 32, 32]> y = matmul(transpose_x = no, transpose_y "
                                               "= no, x = w, y = x)[name = string(\"y\")];",
                                               "y");
  const Profile profile = Profile::load("exact");
  auto graph = std::make_shared<Graph>(compile_text(text.data(), text.size(), {}));
  const auto executor = make_fast_executor(make_fast_plan(graph, {&profile}), {});
  std::vector<uint16_t> x(1024, anecpu_half_from_float(1)), w(1024, anecpu_half_from_float(2)), y(1024);
  SurfaceImage x_image, w_image;
  const auto run = [&](uint64_t x_seed, uint64_t w_seed) {
    const auto bytes = [](std::vector<uint16_t> &v) { return reinterpret_cast<uint8_t *>(v.data()); };
    executor->run({{bytes(x), 2048, x_seed, &x_image}, {bytes(w), 2048, w_seed, &w_image}},
                  {{bytes(y), 2048, 0, nullptr}});
    return executor->counters_json();
  };
  const auto is_kept = [](const SurfaceImage &surface) { return !surface.image.values.empty(); };
  CHECK_EQ(run(1, 1), "{\"image_conversions\": 2}");
  CHECK(is_kept(x_image) && is_kept(w_image));
  CHECK_EQ(run(2, 1), "{\"image_conversions\": 3}");  // what x held was read only once
  CHECK(!is_kept(x_image) && is_kept(w_image));
  CHECK_EQ(run(2, 1), "{\"image_conversions\": 4}");
  CHECK(is_kept(x_image));
  CHECK_EQ(run(2, 1), "{\"image_conversions\": 4}");
  x.assign(1024, anecpu_half_from_float(5));
  CHECK_EQ(run(3, 1), "{\"image_conversions\": 5}");
  CHECK(is_kept(x_image));
  CHECK_EQ(anecpu_float_from_half(y[5]), 320.0f);
  x.assign(1024, anecpu_half_from_float(7));
  CHECK_EQ(run(4, 1), "{\"image_conversions\": 6}");
  CHECK(!is_kept(x_image));
  CHECK_EQ(anecpu_float_from_half(y[5]), 448.0f);
  x.assign(1024, anecpu_half_from_float(1));
  CHECK_EQ(run(5, 1), "{\"image_conversions\": 7}");
  CHECK_EQ(anecpu_float_from_half(y[5]), 64.0f);
  w.assign(1024, anecpu_half_from_float(3));
  CHECK_EQ(run(5, 2), "{\"image_conversions\": 9}");
  CHECK_EQ(anecpu_float_from_half(y[5]), 96.0f);
}
