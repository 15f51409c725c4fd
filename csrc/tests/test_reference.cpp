// The reference executor on small programs whose results are known without computing: sums, roundings, layouts, memory.
// What every operation means is tested from Python, against numpy (tests/test_op_numerics.py).
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "device/emulator/executor.h"
#include "device/emulator/frontend.h"
#include "cpu/lanes.h"
#include "tests/check.h"
#include "tests/mil_samples.h"

using namespace ane;

namespace {

using Halves = std::vector<uint16_t>;

Halves to_halves(const std::vector<float> &values) {
  Halves halves(values.size());
  anecpu_halves_from_floats(values.data(), halves.data(), values.size());
  return halves;
}

std::vector<float> to_floats(const Halves &halves) {
  std::vector<float> values(halves.size());
  anecpu_floats_from_halves(halves.data(), values.data(), halves.size());
  return values;
}

BoundSurface bound(Halves &halves) {
  BoundSurface surface;
  surface.base = reinterpret_cast<uint8_t *>(halves.data());
  surface.bytes = halves.size() * sizeof(uint16_t);
  surface.seed = 1;
  return surface;
}

std::shared_ptr<const Graph> compile(const std::string &inputs, const std::string &statements,
                                     const std::string &outputs) {
  const std::string text = samples::in_program(inputs, statements, outputs);
  return std::make_shared<const Graph>(compile_text(text.data(), text.size(), {}));
}

int64_t output_count(const Graph &graph) { return element_count(graph.values[graph.outputs[0]].type.shape); }

// The only output, of fp16 inputs.
std::vector<float> run(const std::string &inputs, const std::string &statements,
                       const std::vector<std::vector<float>> &arrays, const Profile &profile) {
  const auto graph = compile(inputs, statements, "y");
  const auto executor = make_reference_executor(graph, {&profile});
  std::vector<Halves> held;
  for (const auto &array : arrays) held.push_back(to_halves(array));
  std::vector<BoundSurface> surfaces;
  for (Halves &halves : held) surfaces.push_back(bound(halves));
  Halves result(static_cast<size_t>(output_count(*graph)));
  executor->run(surfaces, {bound(result)});
  return to_floats(result);
}

std::vector<float> run(const std::string &inputs, const std::string &statements,
                       const std::vector<std::vector<float>> &arrays) {
  return run(inputs, statements, arrays, Profile::load("exact"));
}

std::vector<float> counted(int count, float first = 0) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

// y = op(arguments) of a given type, named y.
std::string statement(const std::string &type, const std::string &call) {
  return "tensor<fp16, " + type + "> y = " + call + "[name = string(\"y\")];";
}

std::string ints(const std::string &values, int count) {
  return "tensor<int32, [" + std::to_string(count) + "]>(" + values + ")";
}

void check_equal(const std::vector<float> &found, const std::vector<float> &expected) {
  CHECK_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size() && i < expected.size(); ++i) CHECK_EQ(found[i], expected[i]);
}

const char *const kDot = "tensor<fp16, [1, 4]> a, tensor<fp16, [4, 1]> b";
const std::string kMatmul = "matmul(transpose_x = bool(false), transpose_y = bool(false), x = a, y = b)";

}  // namespace

TEST(sums_of_products_are_wide) {
  // 60000^2 + 1 - 60000^2: fp32 would lose the 1.
  check_equal(run(kDot, statement("[1, 1]", kMatmul), {{60000, 1, 60000, 0}, {60000, 1, -60000, 5}}), {1});
}

TEST(sums_are_rounded_once) {
  // 1 + 2^-11 is halfway between two fp16 values; what is 2^-32 above it goes up. Through fp32 it would go down.
  check_equal(run(kDot, statement("[1, 1]", kMatmul), {{1, 0x1p-11f, 0x1p-16f, 0}, {1, 1, 0x1p-16f, 0}}),
              {1 + 0x1p-10f});
  check_equal(run(kDot, statement("[1, 1]", kMatmul), {{1, 0x1p-11f, 0, 0}, {1, 1, 0, 0}}), {1});
}

TEST(overflow_is_infinite) {
  check_equal(run(kDot, statement("[1, 1]", kMatmul), {{60000, 1, 0, 0}, {2, 0, 0, 0}}), {__builtin_inff()});
}

TEST(matmul_broadcasts_and_transposes) {
  // x [2, 1, 3, 2] transposed to [2, 1, 2, 3], y [2, 3, 1] -> [2, 2, 2, 1]
  const std::string call = "matmul(transpose_x = bool(true), transpose_y = bool(false), x = a, y = b)";
  check_equal(run("tensor<fp16, [2, 1, 3, 2]> a, tensor<fp16, [2, 3, 1]> b", statement("[2, 2, 2, 1]", call),
                  {counted(12), {1, 0, 0, 0, 1, 1}}),
              {0, 1, 6, 8, 6, 7, 18, 20});
}

TEST(slices_backwards_and_squeezed) {
  const std::string call = "slice_by_index(x = a, begin = " + ints("[1, 3, 5]", 3) + ", end = " + ints("[2, 0, 0]", 3) +
                           ", stride = " + ints("[1, -2, -1]", 3) +
                           ", end_mask = tensor<bool, [3]>([false, false, true])" +
                           ", squeeze_mask = tensor<bool, [3]>([true, false, false]))";
  check_equal(run("tensor<fp16, [2, 4, 6]> a", statement("[2, 6]", call), {counted(48)}),
              {47, 46, 45, 44, 43, 42, 35, 34, 33, 32, 31, 30});
}

TEST(pads) {
  const auto pad = [](const std::string &mode) {
    return "pad(x = a, pad = " + ints("[2, 1]", 2) + ", mode = string(\"" + mode + "\"), constant_val = fp16(9))";
  };
  const std::string input = "tensor<fp16, [1, 3]> a";
  check_equal(run(input, statement("[1, 6]", pad("constant")), {{1, 2, 3}}), {9, 9, 1, 2, 3, 9});
  check_equal(run(input, statement("[1, 6]", pad("reflect")), {{1, 2, 3}}), {3, 2, 1, 2, 3, 2});
  check_equal(run(input, statement("[1, 6]", pad("replicate")), {{1, 2, 3}}), {1, 1, 1, 2, 3, 3});
}

TEST(blocks_move_there_and_back) {
  const std::string input = "tensor<fp16, [1, 8, 3, 2]> a", deep = "[1, 8, 3, 2]", wide = "[1, 2, 6, 4]";
  const auto there_and_back = [&](const std::string &there, const std::string &back) {
    return "tensor<fp16, " + wide + "> w = " + there + "[name = string(\"w\")];" + statement(deep, back);
  };
  check_equal(run(input,
                  there_and_back("pixel_shuffle(x = a, upscale_factor = int32(2))",
                                 "pixel_unshuffle(x = w, downscale_factor = uint32(2))"),
                  {counted(48)}),
              counted(48));
  check_equal(run(input,
                  there_and_back("depth_to_space(x = a, block_size = int32(2))",
                                 "space_to_depth(x = w, block_size = int32(2))"),
                  {counted(48)}),
              counted(48));
  // The two differ in which channel holds a place of the block.
  const auto shuffled = run(input, statement(wide, "pixel_shuffle(x = a, upscale_factor = int32(2))"), {counted(48)});
  const auto spread = run(input, statement(wide, "depth_to_space(x = a, block_size = int32(2))"), {counted(48)});
  check_equal({shuffled[0], shuffled[1]}, {0, 6});
  check_equal({spread[0], spread[1]}, {0, 12});
}

TEST(topk_keeps_the_order_of_equals) {
  const std::string statements =
      "tensor<fp16, [1, 3]> v, tensor<int32, [1, 3]> i = topk(x = a, k = int32(3), axis = int32(-1), ascending = "
      "bool(false))[name = string(\"t\")];" +
      statement("[1, 3]", "cast(x = i, dtype = string(\"fp16\"))");
  check_equal(run("tensor<fp16, [1, 5]> a", statements, {{3, 7, 5, 7, 5}}), {1, 3, 2});
}

TEST(width_slices_saturate_by_rule) {
  Profile profile = Profile::load("exact");
  const std::string input = "tensor<fp16, [1, 4]> a";
  const auto slice = [](const char *begin) {
    return statement("[1, 2]",
                     "slice_by_size(x = a, begin = " + ints(begin, 2) + ", size = " + ints("[1, 2]", 2) + ")");
  };
  const std::vector<std::vector<float>> values = {{5000, -5000, 4094, -5000}};
  check_equal(run(input, slice("[0, 1]"), values, profile), {-5000, 4094});
  profile.apply_switches("width-slice-saturation=4094");
  check_equal(run(input, slice("[0, 1]"), values, profile), {-__builtin_inff(), 4094});
  check_equal(run(input, slice("[0, 0]"), values, profile), {5000, -5000});  // not at an offset
}

TEST(an_output_may_be_an_input) {
  const auto graph =
      compile("tensor<fp16, [1, 4]> a, tensor<fp16, [1, 4]> b", statement("[1, 4]", "sub(x = a, y = b)"), "y");
  const Profile profile = Profile::load("exact");
  const auto executor = make_reference_executor(graph, {&profile});
  Halves a = to_halves({10, 20, 30, 40}), b = to_halves({1, 2, 3, 4});
  for (int i = 0; i < 2; ++i) executor->run({bound(a), bound(b)}, {bound(b)});
  check_equal(to_floats(b), {1, 2, 3, 4});  // 10 - (10 - 1)
}

TEST(values_are_freed_after_their_last_use) {
  std::string statements;
  std::string previous = "a";
  for (int i = 0; i < 8; ++i) {
    const std::string name = i == 7 ? "y" : "t" + std::to_string(i);
    statements += "tensor<fp16, [64, 64]> " + name + " = add(x = " + previous + ", y = fp16(1))[name = string(\"" +
                  name + "\")];\n";
    previous = name;
  }
  const auto graph = compile("tensor<fp16, [64, 64]> a", statements, "y");
  const Profile profile = Profile::load("exact");
  const auto executor = make_reference_executor(graph, {&profile});
  Halves input(64 * 64), output(64 * 64);
  executor->run({bound(input)}, {bound(output)});
  check_equal(to_floats(output), std::vector<float>(64 * 64, 8));
  CHECK(executor->resident_bytes() < 2 * 64 * 64 * sizeof(float));  // the output and a constant
}
