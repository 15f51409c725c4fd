// Element types, shapes and constants of MIL, as the emulator sees them.
#ifndef ANETRAIN_EMULATOR_TYPES_H
#define ANETRAIN_EMULATOR_TYPES_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pool.h"

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

// A value known before anything runs. Dense, row-major, native byte order; sub-byte types one byte an element.
struct Constant {
  Type type;
  PooledVector<uint8_t> bytes;
  std::string text;  // String only

  template <class T>
  const T *as() const {
    return reinterpret_cast<const T *>(bytes.data());
  }
  int64_t count() const { return element_count(type.shape); }
  double number(int64_t index) const;    // any numeric or bool type, converted
  int64_t integer(int64_t index) const;  // integer and bool types
};
using ConstantPtr = std::shared_ptr<const Constant>;

}  // namespace ane
#endif
