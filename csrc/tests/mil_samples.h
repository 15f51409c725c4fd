// Programs and blob files for native tests and fuzzers.
#ifndef ANETRAIN_TESTS_MIL_SAMPLES_H
#define ANETRAIN_TESTS_MIL_SAMPLES_H

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/fp16.h"

namespace samples {

inline const char *const kHeader =
    "program(1.3)\n[buildInfo = dict<string, string>({{\"coremlc-version\", \"3505.4.1\"}})]\n";

// A main function with these inputs, statements (on line 4) and outputs.
inline std::string in_program(const std::string &inputs, const std::string &statements, const std::string &outputs) {
  return kHeader + ("{ func main<ios18>(" + inputs + ") {\n" + statements + "\n} -> (" + outputs + ");\n}\n");
}

inline const char *const kDialectB = R"(program(1.3)
[buildInfo = dict<string, string>({{"coremlc-component-MIL", "3510.2.1"}, {"coremlc-version", "3505.4.1"}, {"coremltools-component-milinternal", ""}, {"coremltools-version", "9.0"}})]
{
    // a comment
    func main<ios18>(tensor<fp16, [1, 4, 1, 32]> x) {
        string pt = const()[name = string("pt"), val = string("valid")];
        tensor<int32, [2]> st = const()[name = string("st"), val = tensor<int32, [2]>([1, 1])];
        tensor<int32, [4]> pd = const()[name = string("pd"), val = tensor<int32, [4]>([0, 0, 0, 0])];
        int32 gr = const()[name = string("gr"), val = int32(1)];
        tensor<fp16, [4, 4, 1, 1]> W = const()[name = string("W"), val = tensor<fp16, [4, 4, 1, 1]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
        tensor<fp16, [1, 4, 1, 32]> c = conv(dilations = st, groups = gr, pad = pd, pad_type = pt, strides = st, weight = W, x = x)[name = string("conv_1")];
        tensor<fp16, [1, 4, 1, 32]> y = mul(x = c, y = fp16(0x1p-1))[name = string("y")];
    } -> (y);
}
)";

inline const char *const kDialectA = R"(program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-version", "3505.4.1"}})]
{
    func main<ios16>(tensor<fp16, [1, 1, 32, 64]> a, tensor<fp16, [1, 1, 32, 64]> b) {
        tensor<bool, []> no = const()[name = tensor<string, []>("no"), val = tensor<bool, []>(false)];
        tensor<bool, []> yes = const()[name = tensor<string, []>("yes"), val = tensor<bool, []>(true)];
        tensor<fp16, [1, 1, 32, 32]> y = matmul(transpose_x = no, transpose_y = yes, x = a, y = b)[name = tensor<string, []>("y")];
    } -> (y);
}
)";

struct Blob {
  uint32_t code;
  std::vector<uint8_t> payload;
  uint64_t padding_bits;

  Blob(uint32_t code, std::vector<uint8_t> payload, uint64_t padding_bits = 0)
      : code(code), payload(std::move(payload)), padding_bits(padding_bits) {}

  static Blob halves(const std::vector<float> &values) {
    std::vector<uint8_t> bytes;
    for (float value : values) {
      const uint16_t half = anecpu_half_from_float(value);
      bytes.push_back(static_cast<uint8_t>(half));
      bytes.push_back(static_cast<uint8_t>(half >> 8));
    }
    return {1, bytes};
  }
};

// MILBlob version 2: header, then for each blob a record and its payload, all at multiples of 64.
inline std::string file(const std::vector<Blob> &blobs) {
  const auto put = [](std::string &out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) out += static_cast<char>(value >> (8 * i));
  };
  std::string out;
  put(out, blobs.size(), 4);
  put(out, 2, 4);
  for (const Blob &blob : blobs) {
    out.resize((out.size() + 63) / 64 * 64);
    const uint64_t payload_offset = out.size() + 64;
    put(out, 0xDEADBEEF, 4);
    put(out, blob.code, 4);
    put(out, blob.payload.size(), 8);
    put(out, payload_offset, 8);
    put(out, blob.padding_bits, 8);
    out.resize(payload_offset);
    out.append(blob.payload.begin(), blob.payload.end());
  }
  return out;
}

// [4, 4, 1, 1] fp16: 0, 1, 2, ... 15
inline std::string conv_weight_file() {
  std::vector<float> values;
  for (int i = 0; i < 16; i++) values.push_back(static_cast<float>(i));
  return file({Blob::halves(values)});
}

}  // namespace samples

#endif
