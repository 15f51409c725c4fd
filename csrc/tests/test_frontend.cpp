// MIL text and blobs -> graph: what is accepted, what comes out, what is refused with which words.
#include <bit>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/check.h"
#include "cpu/fp16.h"
#include "device/emulator/errors.h"
#include "device/emulator/frontend.h"
#include "device/emulator/literal.h"
#include "device/emulator/rounding.h"
#include "tests/mil_samples.h"

using namespace ane;
using samples::Blob;
using samples::in_program;

namespace {

Graph compile(const std::string &text, const std::map<std::string, std::string> &files = {},
              FrontendOptions options = {}) {
  BlobFiles views;
  for (const auto &[path, bytes] : files) {
    views[path] = {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()};
  }
  Graph graph = compile_text(text.data(), text.size(), views, options);
  for (const ConstantPtr &constant : graph.blobs) constant->bytes();  // the files may go
  return graph;
}

// Refused as an invalid program, with all of `words` in the detail.
bool refused(const std::function<void()> &action, std::initializer_list<const char *> words) {
  try {
    action();
  } catch (const DeviceError &error) {
    bool good = error.status == ANE_COMPILE_FAILED && error.domain == "com.apple.appleneuralengine.compiler" &&
                error.code == 1 && error.text == "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)";
    for (const char *word : words) good = good && error.detail.find(word) != std::string::npos;
    if (!good) std::fprintf(stderr, "  text: %s\n  detail: %s\n", error.text.c_str(), error.detail.c_str());
    return good;
  }
  std::fprintf(stderr, "  was accepted\n");
  return false;
}

bool text_refused(const std::string &text, std::initializer_list<const char *> words) {
  return refused([&] { compile(text); }, words);
}

const Value &named(const Graph &graph, const std::string &name) {
  for (const Value &value : graph.values) {
    if (value.name == name) return value;
  }
  throw std::runtime_error("no value " + name);
}

// The constant that `mul(x = x, y = w)` of a sample reads.
std::vector<double> folded(const std::string &statements, const std::string &type,
                           const std::map<std::string, std::string> &files = {}, FrontendOptions options = {}) {
  const Graph graph =
      compile(in_program(type + " x", statements + type + " y = mul(x = x, y = w)[name = string(\"y\")];", "y"), files,
              options);
  const Constant &constant = *named(graph, "w").constant;
  std::vector<double> values;
  for (int64_t i = 0; i < constant.count(); i++) values.push_back(constant.number(i));
  return values;
}

}  // namespace

// ---------------------------------------------------------------- programs

TEST(reads_dialect_b) {
  const Graph graph = compile(samples::kDialectB, {{"@model_path/weights/w.bin", samples::conv_weight_file()}});
  CHECK(graph.program_version == "1.3" && graph.opset == "ios18" && graph.function == "main");
  CHECK(graph.inputs.size() == 1 && graph.outputs.size() == 1 && graph.nodes.size() == 2);
  CHECK(graph.blob_file_count == 1 && graph.blob_reference_count == 1);
  const NodeView conv(graph, graph.nodes[0]);
  CHECK(conv.kind() == OpKind::Conv && graph.nodes[0].label == "conv_1");
  CHECK((conv.integers("strides") == std::vector<int64_t>{1, 1}) && conv.text("pad_type") == "valid");
  CHECK(conv.value("weight").constant->number(3) == 3);
  CHECK(!conv.has("bias"));
}

TEST(reads_dialect_a) {
  const Graph graph = compile(samples::kDialectA);
  CHECK(graph.program_version == "1.0" && graph.opset == "ios16");
  const NodeView matmul(graph, graph.nodes[0]);
  CHECK(matmul.boolean("transpose_y") && !matmul.boolean("transpose_x"));
  CHECK(type_text(graph.values[static_cast<size_t>(graph.outputs[0])].type) == "tensor<fp16, [1, 1, 32, 32]>");
}

TEST(several_outputs_and_a_tuple) {
  const Graph graph = compile(
      in_program("tensor<fp16, [1, 4, 1, 32]> x",
                 "tensor<fp16, [1, 2, 1, 32]> a, tensor<fp16, [1, 2, 1, 32]> b = split(x = x, num_splits = int32(2), "
                 "axis = int32(1));"
                 "tensor<fp16, [1, 4, 1, 32]> y = concat(values = (b, a), axis = int32(1), interleave = bool(false));",
                 "y"));
  CHECK(graph.nodes.size() == 2 && graph.nodes[0].outputs.size() == 2);
  const NodeView concat(graph, graph.nodes[1]);
  CHECK(concat.ids("values").size() == 2 && graph.values[static_cast<size_t>(concat.ids("values")[0])].name == "b");
}

TEST(several_functions_are_refused) {
  const std::string body =
      "<ios18>(tensor<fp16, [1, 8, 1, 32]> x) { tensor<fp16, [1, 8, 1, 32]> y = relu(x = x); } -> (y);";
  CHECK(compile(samples::kHeader + std::string("{ func one") + body + " }").function == "one");
  try {
    compile(samples::kHeader + std::string("{ func one") + body + " func two" + body + " }");
    CHECK(!"refused");
  } catch (const DeviceError &error) {
    CHECK(error.status == ANE_COMPILE_FAILED && error.domain.empty() && error.pos.line > 0);
    CHECK(error.detail.find("several functions") != std::string::npos);
  }
}

TEST(dead_nodes_and_their_constants_go) {
  const Graph graph = compile(in_program("tensor<fp16, [1, 8, 1, 32]> x, tensor<fp16, [1, 8, 1, 32]> unused",
                                         "tensor<fp16, [1, 8, 1, 32]> dead = mul(x = x, y = fp16(3));"
                                         "tensor<fp16, [1, 8, 1, 32]> deader = relu(x = dead);"
                                         "tensor<fp16, [1, 8, 1, 32]> y = mul(x = x, y = fp16(2));",
                                         "y"));
  CHECK(graph.nodes.size() == 1 && graph.inputs.size() == 2 && graph.values.size() == 4);
  CHECK(graph.values[static_cast<size_t>(graph.outputs[0])].producer == 0);
}

TEST(defaults_take_the_type_of_the_operation) {
  const Graph graph =
      compile(in_program("tensor<fp16, [1, 8, 1, 32]> x", "tensor<fp16, [1, 8, 1, 32]> y = softmax(x = x);", "y"));
  CHECK(NodeView(graph, graph.nodes[0]).integer("axis") == -1);
}

TEST(defaults_may_be_many_wherever_the_list_of_values_grows) {
  std::string before;
  for (int i = 0; i < 40; i++) {
    const Graph normalised = compile(
        in_program("tensor<fp16, [1, 4, 1, 32]> x",
                   before + "tensor<fp16, [1, 4, 1, 32]> y = local_response_norm(x = x, size = int32(3));", "y"));
    CHECK(NodeView(normalised, normalised.nodes[0]).type("k").dtype == DType::Fp16);
    before += "int32 c" + std::to_string(i) + " = const()[val = int32(1)];";
  }
}

TEST(fp32_mode_retypes_everything) {
  FrontendOptions options;
  options.fp32 = true;
  const Graph graph = compile(in_program("tensor<fp16, [1, 4, 1, 32]> x",
                                         "tensor<fp16, [1, 4, 1, 1]> w = const()[val = tensor<fp16, [1, 4, 1, "
                                         "1]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];"
                                         "tensor<fp16, [1, 4, 1, 32]> m = mul(x = x, y = w);"
                                         "tensor<fp16, [1, 4, 1, 32]> n = mul(x = m, y = fp16(0.1));"
                                         "tensor<fp16, [1, 4, 1, 32]> y = cast(x = n, dtype = string(\"fp16\"));",
                                         "y"),
                              {{"w", samples::file({Blob::halves({1, 2, 3, 4})})}}, options);
  for (const Value &value : graph.values) CHECK(value.type.dtype == DType::Fp32 || value.type.dtype == DType::String);
  CHECK(named(graph, "w").constant->number(2) == 3);
  CHECK(named(graph, "n.y").constant->number(0) == 0.1f);
}

// ---------------------------------------------------------------- literals

TEST(literals_round_once) {
  const auto half = [](const char *text) { return constant_from_text(DType::Fp16, false, text)->number(0); };
  CHECK(half("0.1") == 0.0999755859375 && half("0x1p-24") == 0x1p-24 && half("1e-05") == 0x1.5p-17 &&
        half("-65504") == -65504);
  // Just above the tie between 1 and 1 + 2^-10: through fp32 it would round to the tie and then down.
  CHECK(half("1.0004882812500003") == 1.0009765625);
  CHECK(half("0x1.002000001p+0") == 1.0009765625);
  CHECK(half("0x1.002p+0") == 1.0);
  CHECK(constant_from_text(DType::Int8, true, "[-128, 127]")->integer(0) == -128);
  CHECK(constant_from_text(DType::UInt64, false, "18446744073709551615")->as<uint64_t>()[0] == UINT64_MAX);
  CHECK(constant_from_text(DType::Int64, false, "-9223372036854775808")->integer(0) == INT64_MIN);
}

TEST(literals_out_of_range_are_refused) {
  const auto bad = [](DType dtype, const char *text, const char *word) {
    return refused([&] { constant_from_text(dtype, false, text); }, {word});
  };
  CHECK(bad(DType::Fp16, "65520", "65504") && bad(DType::Fp16, "-1e5", "65504") && bad(DType::Fp32, "1e39", "3.4e38"));
  CHECK(bad(DType::Fp16, "-inf", "finite") && bad(DType::Fp16, "nan", "number") && bad(DType::Fp16, "1e999", "finite"));
  CHECK(bad(DType::Int8, "128", "-128 to 127") && bad(DType::UInt4, "16", "0 to 15") &&
        bad(DType::UInt8, "-1", "0 to 255"));
  CHECK(bad(DType::Int32, "1.5", "whole") && bad(DType::Int64, "9223372036854775808", "9223372036854775807"));
  CHECK(bad(DType::Fp16, "1.2.3", "finite") && bad(DType::Bool, "1", "true or false"));
}

TEST(round_to_odd_gives_the_half_that_one_rounding_gives) {
  // Exhaustive over halves: the midpoint to the next one, and a hair to either side.
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x7BFF; bits++) {
    const double low = anecpu_float_from_half(static_cast<uint16_t>(bits));
    const double high = anecpu_float_from_half(static_cast<uint16_t>(bits + 1));
    const double middle = (low + high) / 2;
    const uint32_t even = bits + (bits & 1);
    wrong += anecpu_half_from_float(round_to_odd(middle)) != even;
    wrong += anecpu_half_from_float(round_to_odd(middle * (1 - 0x1p-50))) != bits;
    wrong += anecpu_half_from_float(round_to_odd(middle * (1 + 0x1p-50))) != bits + 1;
  }
  CHECK(wrong == 0);
}

// ---------------------------------------------------------------- constants that are folded

TEST(affine_dequantize_in_both_spellings) {
  const std::vector<double> expected{-1.25, 0, 31.5, 32};
  CHECK(folded("tensor<fp16, [2, 2]> w = constexpr_affine_dequantize()[axis = int32(0), name = string(\"w\"), "
               "quantized_data = tensor<int8, [2, 2]>([[-3, 2], [126, 127]]), scale = tensor<fp16, [2]>([0.25, 0.5]), "
               "zero_point = tensor<int8, [2]>([2, 63])];",
               "tensor<fp16, [2, 2]>") == expected);
  CHECK(folded("tensor<int8, [2, 2]> q = const()[val = tensor<int8, [2, 2]>([[-3, 2], [126, 127]])];"
               "tensor<fp16, [2]> s = const()[val = tensor<fp16, [2]>([0.25, 0.5])];"
               "tensor<int8, [2]> z = const()[val = tensor<int8, [2]>([2, 63])]; int32 a = const()[val = int32(-2)];"
               "tensor<fp16, [2, 2]> w = constexpr_affine_dequantize(axis = a, quantized_data = q, scale = s, "
               "zero_point = z)"
               "[name = string(\"w\")];",
               "tensor<fp16, [2, 2]>") == expected);
  CHECK(folded("tensor<fp16, [1, 2]> w = constexpr_affine_dequantize()[axis = int32(1), quantized_data = "
               "tensor<int8, [1, 2]>([[-128, 127]]), scale = fp16(0x1p-3), zero_point = int8(0)];",
               "tensor<fp16, [1, 2]>") == (std::vector<double>{-16, 15.875}));
}

TEST(blockwise_shift_scale) {
  CHECK(folded("tensor<fp16, [2, 4]> w = constexpr_blockwise_shift_scale(data = tensor<int8, [2, 4]>([[1, 2, 3, 4], "
               "[5, 6, 7, 8]]),"
               "scale = tensor<fp16, [2, 2]>([[1, 10], [0.5, 2]]), offset = tensor<int8, [2, 2]>([[1, 0], [0, 8]]));",
               "tensor<fp16, [2, 4]>") == (std::vector<double>{0, 1, 30, 40, 2.5, 3, -2, 0}));
  CHECK(text_refused(
      in_program("tensor<fp16, [1, 3]> x",
                 "tensor<fp16, [1, 3]> w = constexpr_blockwise_shift_scale(data = tensor<int8, [1, 3]>([[1, 2, 3]]),"
                 "scale = tensor<fp16, [1, 2]>([[1, 10]]));",
                 "w"),
      {"whole blocks", "[1, 2]", "[1, 3]"}));
}

TEST(lookup_tables) {
  // Two tables along the first dimension.
  CHECK(
      folded(
          "tensor<fp16, [6, 2]> w = constexpr_lut_to_dense(indices = tensor<uint2, [6, 2]>([[2, 3], [3, 0], [1, 0], "
          "[3, 0],"
          "[2, 1], [0, 3]]), lut = tensor<fp16, [2, 1, 4, 1]>([[[[1], [5], [9], [13]]], [[[2], [10], [18], [26]]]]));",
          "tensor<fp16, [6, 2]>") == (std::vector<double>{9, 13, 13, 1, 5, 1, 26, 2, 18, 10, 2, 26}));
  // Vectors of two laid along the first axis, then along the second.
  const std::string vectors =
      "indices = tensor<uint1, [1, 2]>([[0, 1]]), lut = tensor<fp16, [1, 1, 2, 2]>([[[[1, 2], [3, 4]]]])";
  CHECK(folded("tensor<fp16, [2, 2]> w = constexpr_lut_to_dense(" + vectors + ", vector_axis = int32(0));",
               "tensor<fp16, [2, 2]>") == (std::vector<double>{1, 3, 2, 4}));
  CHECK(folded("tensor<fp16, [1, 4]> w = constexpr_lut_to_dense(" + vectors + ", vector_axis = int32(-1));",
               "tensor<fp16, [1, 4]>") == (std::vector<double>{1, 2, 3, 4}));
}

TEST(rules_see_what_a_weight_was_made_of) {
  const Graph graph =
      compile(in_program("tensor<fp16, [1, 2]> x",
                         "tensor<fp16, [1, 2]> w = constexpr_affine_dequantize()[axis = int32(1), quantized_data = "
                         "tensor<int8, [1, 2]>([[1, 2]]), "
                         "scale = fp16(2), zero_point = int8(0)]; tensor<fp16, [1, 2]> y = mul(x = x, y = w);",
                         "y"));
  const Value &weight = named(graph, "w");
  CHECK(weight.made_by == OpKind::ConstexprAffineDequantize && weight.stored_as == DType::Int8);
  CHECK(graph.values.size() == 3);  // the compressed form is not kept
}

TEST(sparse_and_cast) {
  CHECK(folded("tensor<fp16, [2, 3]> w = constexpr_sparse_to_dense(nonzero_data = tensor<fp16, [2]>([7, -8]),"
               "mask = tensor<uint1, [2, 3]>([[0, 1, 0], [0, 0, 1]]));",
               "tensor<fp16, [2, 3]>") == (std::vector<double>{0, 7, 0, 0, 0, -8}));
  CHECK(text_refused(
      in_program("tensor<fp16, [1, 2]> x",
                 "tensor<fp16, [1, 2]> w = constexpr_sparse_to_dense(nonzero_data = tensor<fp16, [1]>([7]),"
                 "mask = tensor<uint1, [1, 2]>([[1, 1]]));",
                 "w"),
      {"2 ones", "1 values"}));
  CHECK(folded("tensor<fp32, [1]> w = constexpr_cast(source_val = tensor<fp16, [1]>([0.1]), output_dtype = "
               "string(\"fp32\"));",
               "tensor<fp32, [1]>")[0] == 0.0999755859375);
}

// ---------------------------------------------------------------- blobs

TEST(blobs_of_every_packing) {
  const auto read = [](const char *dtype, uint32_t code, std::vector<uint8_t> payload, int count) {
    const std::string type = std::string("tensor<") + dtype + ", [1, " + std::to_string(count) + "]>";
    const std::string scaled = "tensor<fp16, [1, " + std::to_string(count) + "]>";
    return folded(type + " q = const()[val = " + type + "(BLOBFILE(path = string(\"b\"), offset = uint64(64)))];" +
                      scaled + " w = constexpr_blockwise_shift_scale(data = q, scale = tensor<fp16, [1, 1]>([[2]]));",
                  scaled, {{"b", samples::file({Blob(code, payload)})}});
  };
  CHECK(read("int8", 4, {0x80, 0x7F, 0xFF}, 3) == (std::vector<double>{-256, 254, -2}));
  CHECK(read("uint8", 3, {0x80, 0x00, 0xFF}, 3) == (std::vector<double>{256, 0, 510}));
  CHECK(read("int4", 8, {0x8F, 0x07}, 3) == (std::vector<double>{-2, -16, 14}));
  CHECK(read("uint4", 11, {0x8F, 0x07}, 3) == (std::vector<double>{30, 16, 14}));
}

TEST(three_bit_elements_cross_bytes) {
  // 0 to 7, low bits first: 000 001 010 011 100 101 110 111 -> 88 C6 FA
  CHECK(
      folded("tensor<fp16, [1, 8]> w = constexpr_lut_to_dense(indices = tensor<uint3, [1, 8]>(BLOBFILE(path = "
             "string(\"b\"), "
             "offset = uint64(64))), lut = tensor<fp16, [1, 1, 8, 1]>([[[[0], [1], [2], [3], [4], [5], [6], [7]]]]));",
             "tensor<fp16, [1, 8]>",
             {{"b", samples::file({Blob(12, {0x88, 0xC6, 0xFA})})}}) == (std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7}));
}

namespace {

std::string reading(const std::string &offset, const char *type = "tensor<fp16, [1, 4]>") {
  return in_program("tensor<fp16, [1, 4]> x",
                    std::string(type) + " w = const()[val = " + type +
                        "(BLOBFILE(path = string(\"b\"), offset = uint64(" + offset +
                        ")))];"
                        "tensor<fp16, [1, 4]> y = mul(x = x, y = w);",
                    "y");
}

bool blob_refused(const std::string &file, std::initializer_list<const char *> words, const std::string &offset = "64",
                  const char *type = "tensor<fp16, [1, 4]>") {
  return refused([&] { compile(reading(offset, type), {{"b", file}}); }, words);
}

std::string patched(std::string file, size_t offset, std::vector<uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); i++) file[offset + i] = static_cast<char>(bytes[i]);
  return file;
}

}  // namespace

TEST(every_check_of_a_blob) {
  const std::string good = samples::file({Blob::halves({1, 2, 3, 4})});
  CHECK(compile(reading("64"), {{"b", good}}).nodes.size() == 1);
  CHECK(text_refused(reading("64"), {"line ", "blob 'b'", "offset 64", "no such blob"}));
  CHECK(blob_refused("", {"empty"}));
  CHECK(blob_refused(good.substr(0, 127), {"127 bytes"}));
  CHECK(blob_refused(good, {"offset 128", "past the end"}, "128"));
  CHECK(blob_refused(good, {"past the end"}, "18446744073709551615"));
  CHECK(blob_refused(good, {"0xDEADBEEF", "first is at 64"}, "0"));
  CHECK(blob_refused(patched(good, 4, {1}), {"version 1", "expected 2"}));
  CHECK(blob_refused(patched(good, 0, {2}), {"counts 2", "1 record"}));
  CHECK(blob_refused(patched(good, 64, {0}), {"0xDEADBE00", "0xDEADBEEF"}));
  CHECK(blob_refused(patched(good, 68, {2}), {"fp32 (code 2)", "declares fp16"}));
  CHECK(blob_refused(patched(good, 68, {16}), {"fp8e4m3fn"}) && blob_refused(patched(good, 68, {99}), {"code 99"}));
  CHECK(blob_refused(patched(good, 72, {6}), {"6 bytes", "expected 8"}));
  CHECK(blob_refused(patched(good, 72, {255, 255, 255, 255, 255, 255, 255, 255}), {"expected 8"}));
  CHECK(blob_refused(patched(good, 80, {192}), {"192", "expected 128"}));
  CHECK(blob_refused(patched(good, 128, {0, 0x7E}), {"NaN"}) &&
        blob_refused(patched(good, 134, {0, 0xFC}), {"infinity"}));
  CHECK(blob_refused(good.substr(0, 135), {"past the end", "135"}));
  CHECK(blob_refused(good, {"declares bool"}, "64", "tensor<bool, [1, 4]>"));
}

TEST(records_after_the_first) {
  const std::string two = samples::file({Blob::halves({9, 9, 9}), Blob::halves({1, 2, 3, 4})});
  CHECK(named(compile(reading("192"), {{"b", two}}), "w").constant->number(3) == 4);
  CHECK(blob_refused(patched(two, 0, {1}), {"counts 1", "2 record"}, "192"));
}

TEST(legacy_headers_pass_when_not_strict) {
  FrontendOptions loose;
  loose.strict_blobs = false;
  const std::string good = samples::file({Blob::halves({1, 2, 3, 4})});
  const auto value = [&](const std::string &file, const char *offset = "64") {
    return named(compile(reading(offset), {{"b", file}}, loose), "w").constant->number(3);
  };
  CHECK(value(patched(good, 72, {0, 0, 8, 0})) == 4);  // size 524,288
  CHECK(value(patched(good, 0, {7})) == 4);            // count
  CHECK(value(patched(good, 80, {0})) == 0);           // payload offset 0: the file's header is read
  CHECK(value(good.substr(0, 64) + "\1\2" + good.substr(64, 16) + std::string("\x82\0", 2) + good.substr(82), "66") ==
        4);
  CHECK(refused([&] { value(patched(good, 80, {129})); }, {"past the end"}));
  CHECK(refused([&] { value(patched(good, 64, {0})); }, {"0xDEADBEEF"}));
}

// ---------------------------------------------------------------- what is refused

TEST(syntax_errors_have_a_place) {
  CHECK(text_refused("", {"line 1, column 1", "'program'", "the end of the text"}));
  CHECK(text_refused("program(1.1)", {"line 1, column 9", "'1.1'", "1.0 and 1.3"}));
  CHECK(text_refused("program(1.3)\n{}", {"line 2, column 1", "buildInfo"}));
  CHECK(text_refused(std::string("program(1.3)\n // \xFF"), {"line 2, column 5", "0xff", "UTF-8"}));
  CHECK(text_refused("program\f(1.3)", {"byte 0x0c"}));
  CHECK(text_refused("program(1.3)[buildInfo = dict<string, int32>({})]", {"int32"}));
  CHECK(text_refused(samples::kHeader + std::string("{ func main<ios99>() {} -> (); }"), {"'ios99'", "ios18"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, 8]> x", "tensor<fp16, [1, 8]> y = relu(x = 3);", "y"),
                     {"int32(1)", "'3'"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, ?]> x", "", "x"), {"unknown sizes"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, 0]> x", "", "x"), {"at least 1"}));
  CHECK(text_refused(in_program("tensor<fp16, [99999999999]> x", "", "x"), {"99999999999"}));
  CHECK(text_refused(in_program("tensor<fp16, [4294967296, 4294967296]> x", "", "x"), {"elements"}));
  CHECK(text_refused(in_program("tensor<fp16, [1,1,1,1,1,1,1,1,1]> x", "", "x"), {"8 dimensions"}));
  CHECK(text_refused(in_program("tensor<fp8e4m3fn, [1]> x", "", "x"), {"8-bit floating point"}));
  CHECK(text_refused(in_program("list<fp16> x", "", "x"), {"'list' is not a type"}));
  CHECK(
      text_refused(in_program("tensor<fp16, [1]> x", "string s = const()[val = string(\"a\\q\")];", "x"), {"escape"}));
  CHECK(text_refused(in_program("tensor<fp16, [1]> x", "string s = const()[val = string(\"a\n\")];", "x"),
                     {"closing quote"}));
}

TEST(lists_have_their_shape) {
  const auto constant = [](const std::string &value) {
    return in_program("tensor<fp16, [1]> x", "tensor<int32, [2, 2]> c = const()[val = " + value + "];", "x");
  };
  CHECK(text_refused(constant("tensor<int32, [2, 2]>([[1, 2], [3]])"), {"1 items", "expected 2"}));
  CHECK(text_refused(constant("tensor<int32, [2, 2]>([[1, 2], [3, 4], [5, 6]])"), {"more than 2"}));
  CHECK(text_refused(constant("tensor<int32, [2, 2]>([1, 2, 3, 4])"), {"'['", "'1'"}));
  CHECK(text_refused(constant("tensor<int32, [2, 2]>([[[1]]])"), {"'['", "not a int32 value"}));
  CHECK(text_refused(constant("tensor<int32, [2, 2]>(5)"), {"'['", "'5'"}));
  CHECK(text_refused(constant("tensor<int32, [2, 2]>([[1, 2] [3, 4]])"), {"','"}));
  CHECK(text_refused(constant("tensor<int32, [2]>([1, 2])"), {"declared tensor<int32, [2, 2]>", "tensor<int32, [2]>"}));
  CHECK(text_refused(constant("tensor<int32, [2, 2]>(" + std::string(100000, '[')), {"not a int32 value"}));
  std::string nested = "string(";
  for (int i = 0; i < 100000; i++) nested += "BLOBFILE(path = string(";
  CHECK(text_refused(constant(nested), {"BLOBFILE"}));
}

TEST(names) {
  const std::string x = "tensor<fp16, [1, 8]> x", relu = "tensor<fp16, [1, 8]> y = relu(x = x);";
  CHECK(text_refused(in_program(x, relu + relu, "y"), {"'y' is already defined at line 4"}));
  CHECK(text_refused(in_program(x + ", " + x, relu, "y"), {"'x' is already defined"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, 8]> hidden", "tensor<fp16, [1, 8]> y = relu(x = hiden);", "y"),
                     {"'hiden'", "mean 'hidden'"}));
  CHECK(text_refused(in_program(x, "tensor<fp16, [1, 8]> y = relu(x = y);", "y"),
                     {"unknown name 'y'", "before it is used"}));
  CHECK(text_refused(in_program(x, relu, "z"), {"unknown name 'z'"}));
  CHECK(text_refused(in_program(x, relu, "y, y"), {"returned twice"}));
  CHECK(text_refused(in_program(x, relu, ""), {"returns at least one"}));
  CHECK(text_refused(in_program(x, relu, "x"), {"directly an input"}));
  CHECK(text_refused(in_program(x, "tensor<fp16, [1]> c = const()[val = tensor<fp16, [1]>([1])];", "c"),
                     {"depends on no input"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, 8]> " + std::string(128, 'n'), "", "x"), {"127 bytes"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, 8]> " + std::string(600, 'n'), "", "x"), {"512 bytes"}));
  CHECK(text_refused(in_program("tensor<fp64, [1, 8]> x", relu, "y"), {"border"}));
  CHECK(text_refused(in_program("tensor<fp16, [1, 1, 1, 1, 1, 8]> x", relu, "y"), {"6 dimensions", "at most 5"}));
}

TEST(operations_and_arguments) {
  const auto refuse = [](const std::string &call, std::initializer_list<const char *> words) {
    return text_refused(
        in_program("tensor<fp16, [1, 8, 1, 32]> x", "tensor<fp16, [1, 8, 1, 32]> y = " + call + ";", "y"), words);
  };
  CHECK(refuse("sofmax(x = x)", {"line 4", "'sofmax'", "mean 'softmax'"}));
  CHECK(refuse("gather(x = x)", {"the engine has no operation 'gather'", "CPU"}));
  CHECK(refuse("cumsum(x = x)", {"no operation 'cumsum'", "matmul"}));
  CHECK(refuse("softmax(x = x, axes = int32(1))", {"'axes'", "mean 'axis'"}));
  CHECK(refuse("softmax(x = x, x = x)", {"'x' is given twice"}));
  CHECK(refuse("rsqrt(x = x)", {"required argument 'epsilon' is missing", "fp16"}));
  CHECK(refuse("gelu(x = x)", {"required argument 'mode'", "string"}));
  CHECK(refuse("concat(values = (x, x), axis = int32(1))", {"required argument 'interleave'", "bool"}));
  CHECK(refuse("concat(values = x, axis = int32(1), interleave = bool(false))", {"tuple", "(a, b)"}));
  CHECK(refuse("concat(values = (), axis = int32(1), interleave = bool(false))", {"tuple"}));
  CHECK(refuse("concat(values = (x, x), axis = tensor<int32, [1]>([1]), interleave = bool(false))",
               {"'axis' is tensor<int32, [1]>", "constant scalar int32"}));
  CHECK(refuse("relu(x = (x, x))", {"one value"}));
  CHECK(refuse("relu(x = int32(1))", {"tensor<int32, []>", "floating point"}));
  CHECK(refuse("rsqrt(x = x, epsilon = x)", {"'epsilon'", "'x' is computed at run time"}));
  CHECK(refuse("rsqrt(x = x, epsilon = fp32(0.1))", {"'epsilon' is fp32", "computes in fp16"}));
  CHECK(refuse("relu(x = x)[nam = string(\"y\")]", {"unknown attribute 'nam'"}));
  CHECK(refuse("relu(x = x)[name = int32(1)]", {"'name' is a string"}));
  CHECK(refuse("const(val = fp16(1))", {"no arguments"}));
  CHECK(refuse("const()[name = string(\"y\")]", {"needs the attribute 'val'"}));
  CHECK(refuse("reshape(x = x, shape = tensor<int32, [2]>([8, 32]))",
               {"'y' is declared tensor<fp16, [1, 8, 1, 32]>", "'reshape' is tensor<fp16, [8, 32]>"}));
  CHECK(refuse("split(x = x, num_splits = int32(2), axis = int32(1))", {"makes 2 value(s), but 1"}));
  CHECK(refuse("split(x = x, num_splits = int32(2), axis = int32(4))", {"axis"}));
}

TEST(every_cut_of_a_program_is_refused_with_a_place) {
  const std::string text = samples::kDialectB;
  const std::string weights = samples::conv_weight_file();
  const size_t end = text.find_last_of('}');
  int wrong = 0;
  for (size_t length = 0; length <= end; length++) {
    try {
      compile(text.substr(0, length), {{"@model_path/weights/w.bin", weights}});
      wrong++;
    } catch (const DeviceError &error) {
      wrong += error.pos.line < 1 || error.pos.column < 1;
    }
  }
  CHECK(wrong == 0);
}
