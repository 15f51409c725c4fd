#include "elements.h"

#include <cstring>

#include "../../cpu/fp16.h"
#include "errors.h"

namespace ane {

namespace {

template <class T>
void widen(const uint8_t *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    T element;
    std::memcpy(&element, from + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    to[i] = static_cast<float>(element);
  }
}

template <class T>
void narrow(const float *from, uint8_t *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T element = static_cast<T>(from[i]);
    std::memcpy(to + static_cast<size_t>(i) * sizeof(T), &element, sizeof(T));
  }
}

}  // namespace

void floats_from_elements(DType type, const uint8_t *from, float *to, int64_t count) {
  switch (type) {
    case DType::Fp16:
      return anecpu_floats_from_halves(reinterpret_cast<const uint16_t *>(from), to, static_cast<size_t>(count));
    case DType::Fp32: std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::Bool:
    case DType::UInt8: return widen<uint8_t>(from, to, count);
    case DType::Int8: return widen<int8_t>(from, to, count);
    case DType::Int16: return widen<int16_t>(from, to, count);
    case DType::UInt16: return widen<uint16_t>(from, to, count);
    case DType::Int32: return widen<int32_t>(from, to, count);
    default:
      throw engine_error(kLoweringError, {}, format("an executor reads no elements of type %s", dtype_name(type)));
  }
}

void elements_from_floats(DType type, const float *from, uint8_t *to, int64_t count) {
  switch (type) {
    case DType::Fp16:
      return anecpu_halves_from_floats(from, reinterpret_cast<uint16_t *>(to), static_cast<size_t>(count));
    case DType::Fp32: std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::Bool:
    case DType::UInt8: return narrow<uint8_t>(from, to, count);
    case DType::Int8: return narrow<int8_t>(from, to, count);
    case DType::Int16: return narrow<int16_t>(from, to, count);
    case DType::UInt16: return narrow<uint16_t>(from, to, count);
    case DType::Int32: return narrow<int32_t>(from, to, count);
    default:
      throw engine_error(kLoweringError, {}, format("an executor writes no elements of type %s", dtype_name(type)));
  }
}

std::vector<float> floats_of(const Constant &constant) {
  std::vector<float> values(static_cast<size_t>(constant.count()));
  if (constant.type.dtype == DType::Fp16) {  // the large ones
    floats_from_elements(DType::Fp16, constant.bytes().data(), values.data(), constant.count());
  } else {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(constant.number(static_cast<int64_t>(i)));
  }
  return values;
}

}  // namespace ane
