// Element types, shapes and constants of MIL, as the emulator sees them.
#ifndef ANETRAIN_EMULATOR_TYPES_H
#define ANETRAIN_EMULATOR_TYPES_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ane {

enum class DType : uint8_t {
  Fp16,
  Fp32,
  Fp64,
  BFloat16,
  Bool,
  Int4,
  Int8,
  Int16,
  Int32,
  Int64,
  UInt1,
  UInt2,
  UInt3,
  UInt4,
  UInt6,
  UInt8,
  UInt16,
  UInt32,
  UInt64,
  String,
};

const char *dtype_name(DType type);  // "fp16", "uint4", "bool", "string"
bool dtype_from_name(const std::string &name, DType *type);
size_t dtype_bits(DType type);   // in a blob: 16, 4, 1 ...; Bool 8; String 0
size_t dtype_bytes(DType type);  // in memory: sub-byte types take one byte an element

using Shape = std::vector<int64_t>;         // [] is a scalar
int64_t element_count(const Shape &shape);  // throws DeviceError on overflow past 2^40
std::vector<int64_t> row_major_strides(const Shape &shape);
std::string shape_text(const Shape &shape);  // "[1, 768, 1, 256]"

struct Type {
  DType dtype = DType::Fp16;
  Shape shape;
  bool operator==(const Type &other) const { return dtype == other.dtype && shape == other.shape; }
  bool operator!=(const Type &other) const { return !(*this == other); }
};
std::string type_text(const Type &type);  // "tensor<fp16, [1, 768, 1, 256]>"

struct SourcePos {
  int line = 0, column = 0;  // 1-based; 0: made by the emulator, not written in the text
};

// Elements as a blob file holds them.
struct Payload {
  const uint8_t *data = nullptr;
  size_t bytes = 0;
  DType dtype = DType::Fp16;
};

// A value known before anything runs. Dense, row-major, native byte order; sub-byte types one byte an element.
//
// What lies in a blob file is copied from there only when somebody asks for its bytes, so that a file that nobody looks
// into decides nothing: what was made of the text alone serves other files too. The file must live until then, or until
// `forget`; after that, asking is a bug of the emulator and throws std::logic_error.
class Constant {
 public:
  Constant() = default;
  Constant(Type of, const Payload &payload, int number) : type(std::move(of)), blob(number), payload_(payload) {}

  Type type;
  std::string text;  // String only
  int blob = -1;     // its number among Graph::blobs; -1: it is of the text, or folded

  const std::vector<uint8_t> &bytes() const;
  std::vector<uint8_t> &writable() { return bytes_; }
  template <class T>
  const T *as() const {
    return reinterpret_cast<const T *>(bytes().data());
  }
  int64_t count() const { return element_count(type.shape); }
  size_t size_bytes() const { return static_cast<size_t>(count()) * dtype_bytes(type.dtype); }  // of bytes()
  double number(int64_t index) const;                                                           // converted
  int64_t integer(int64_t index) const;  // integer and bool types

  const Payload *unread() const { return payload_.data ? &payload_ : nullptr; }  // null: its bytes are here
  void forget() const { payload_ = {}; }

 private:
  // Not for several threads: of one that compiles.
  mutable std::vector<uint8_t> bytes_;
  mutable Payload payload_;
};
using ConstantPtr = std::shared_ptr<const Constant>;

}  // namespace ane
#endif
