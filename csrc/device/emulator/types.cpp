#include "types.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "../../cpu/fp16.h"
#include "errors.h"
#include "payload.h"

namespace ane {
namespace {

struct DTypeFacts {
  DType type;
  const char *name;
  uint8_t bits;   // in a blob
  uint8_t bytes;  // in memory
};

// In the order of the enumeration.
constexpr DTypeFacts kDTypes[] = {
    {DType::Fp16, "fp16", 16, 2},     {DType::Fp32, "fp32", 32, 4},     {DType::Fp64, "fp64", 64, 8},
    {DType::BFloat16, "bf16", 16, 2}, {DType::Bool, "bool", 8, 1},      {DType::Int4, "int4", 4, 1},
    {DType::Int8, "int8", 8, 1},      {DType::Int16, "int16", 16, 2},   {DType::Int32, "int32", 32, 4},
    {DType::Int64, "int64", 64, 8},   {DType::UInt1, "uint1", 1, 1},    {DType::UInt2, "uint2", 2, 1},
    {DType::UInt3, "uint3", 3, 1},    {DType::UInt4, "uint4", 4, 1},    {DType::UInt6, "uint6", 6, 1},
    {DType::UInt8, "uint8", 8, 1},    {DType::UInt16, "uint16", 16, 2}, {DType::UInt32, "uint32", 32, 4},
    {DType::UInt64, "uint64", 64, 8}, {DType::String, "string", 0, 0},
};

const DTypeFacts &facts(DType type) { return kDTypes[static_cast<size_t>(type)]; }

constexpr int64_t kCountLimit = int64_t{1} << 40;

template <class T>
T element(const Constant &constant, int64_t index) {
  if (index < 0 || static_cast<size_t>(index + 1) * sizeof(T) > constant.bytes().size()) {
    throw std::out_of_range("constant of " + type_text(constant.type) + " has no element " + std::to_string(index));
  }
  T value;
  std::memcpy(&value, constant.bytes().data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

const char *dtype_name(DType type) { return facts(type).name; }
size_t dtype_bits(DType type) { return facts(type).bits; }
size_t dtype_bytes(DType type) { return facts(type).bytes; }

bool dtype_from_name(const std::string &name, DType *type) {
  for (const DTypeFacts &candidate : kDTypes) {
    if (name == candidate.name) {
      *type = candidate.type;
      return true;
    }
  }
  return false;
}

int64_t element_count(const Shape &shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    if (size < 0 || size > kCountLimit || (size > 0 && count > kCountLimit / size)) {
      invalid_program({},
                      format("the shape %s has more than 2^40 elements or a negative size", shape_text(shape).c_str()));
    }
    count *= size;
  }
  return count;
}

std::vector<int64_t> row_major_strides(const Shape &shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

std::string shape_text(const Shape &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string type_text(const Type &type) {
  return std::string("tensor<") + dtype_name(type.dtype) + ", " + shape_text(type.shape) + ">";
}

int64_t Constant::integer(int64_t index) const {
  switch (type.dtype) {
    case DType::Bool:
    case DType::UInt1:
    case DType::UInt2:
    case DType::UInt3:
    case DType::UInt4:
    case DType::UInt6:
    case DType::UInt8: return element<uint8_t>(*this, index);
    case DType::Int4:
    case DType::Int8: return element<int8_t>(*this, index);
    case DType::Int16: return element<int16_t>(*this, index);
    case DType::UInt16: return element<uint16_t>(*this, index);
    case DType::Int32: return element<int32_t>(*this, index);
    case DType::UInt32: return element<uint32_t>(*this, index);
    case DType::Int64: return element<int64_t>(*this, index);
    case DType::UInt64: return static_cast<int64_t>(element<uint64_t>(*this, index));
    case DType::Fp16:
    case DType::Fp32:
    case DType::Fp64:
    case DType::BFloat16:
    case DType::String: break;
  }
  throw std::logic_error(type_text(type) + " read as an integer");
}

const std::vector<uint8_t> &Constant::bytes() const {
  if (payload_.data) {
    bytes_ = unpacked(payload_, type);
    payload_ = {};
  }
  if (blob >= 0 && bytes_.empty())
    throw std::logic_error(type_text(type) + " of a blob is read after its program was made");
  return bytes_;
}

double Constant::number(int64_t index) const {
  switch (type.dtype) {
    case DType::Fp16: return anecpu_float_from_half(element<uint16_t>(*this, index));
    case DType::Fp32: return element<float>(*this, index);
    case DType::Fp64: return element<double>(*this, index);
    case DType::BFloat16: {
      const uint32_t bits = static_cast<uint32_t>(element<uint16_t>(*this, index)) << 16;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      return value;
    }
    case DType::UInt64: return static_cast<double>(element<uint64_t>(*this, index));
    default: return static_cast<double>(integer(index));
  }
}

}  // namespace ane
