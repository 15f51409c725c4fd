#include "payload.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "../../cpu/fp16.h"
#include "../../cpu/threads.h"

namespace ane {

namespace {

// Packed elements of 1, 2, 3, 4 or 6 bits, low bits first -> one byte each, sign extended for int4.
void unpack(const uint8_t *packed, unsigned bits, bool is_signed, size_t count, uint8_t *target) {
  const unsigned mask = (1u << bits) - 1, sign = is_signed ? 1u << (bits - 1) : 0u;
  unsigned buffer = 0, available = 0;
  for (size_t i = 0; i < count; i++) {
    if (available < bits) {
      buffer |= static_cast<unsigned>(*packed++) << available;
      available += 8;
    }
    target[i] = static_cast<uint8_t>(((buffer & mask) ^ sign) - sign);
    buffer >>= bits;
    available -= bits;
  }
}

// The largest exponent, as it stands in the bits. `Bits` is signed, for which more CPUs have a maximum; no exponent
// reaches the sign.
template <class Bits>
Bits largest_exponent(const uint8_t *elements, size_t count, Bits exponent_mask) {
  Bits largest = 0;
  for (size_t i = 0; i < count; i++) {
    Bits bits;
    std::memcpy(&bits, elements + i * sizeof bits, sizeof bits);
    largest = std::max(largest, static_cast<Bits>(bits & exponent_mask));
  }
  return largest;
}

template <class Bits>
bool has_non_finite(const Payload &payload, Bits exponent_mask) {
  constexpr size_t kGrain = size_t{1} << 16;
  std::atomic<bool> found{false};
  parallel_for(payload.bytes / sizeof(Bits), kGrain, [&](size_t begin, size_t end) {
    if (largest_exponent<Bits>(payload.data + begin * sizeof(Bits), end - begin, exponent_mask) == exponent_mask)
      found = true;
  });
  return found;
}

}  // namespace

uint64_t payload_bytes(DType dtype, uint64_t count) { return (count * dtype_bits(dtype) + 7) / 8; }

std::vector<uint8_t> unpacked(const Payload &payload, const Type &type) {
  const auto count = static_cast<size_t>(element_count(type.shape));
  if (payload.dtype != type.dtype) {
    std::vector<uint8_t> floats(count * sizeof(float));
    floats_from_payload(payload, reinterpret_cast<float *>(floats.data()), count);
    return floats;
  }
  if (dtype_bits(payload.dtype) >= 8) return {payload.data, payload.data + payload.bytes};
  std::vector<uint8_t> elements(count);
  unpack(payload.data, static_cast<unsigned>(dtype_bits(payload.dtype)), payload.dtype == DType::Int4, count,
         elements.data());
  return elements;
}

void floats_from_payload(const Payload &payload, float *to, size_t count) {
  if (payload.dtype == DType::Fp32) {
    std::memcpy(to, payload.data, count * sizeof(float));
  } else if (reinterpret_cast<uintptr_t>(payload.data) % alignof(uint16_t) == 0) {
    anecpu_floats_from_halves(reinterpret_cast<const uint16_t *>(payload.data), to, count);
  } else {  // records need not be aligned
    std::vector<uint16_t> aligned(count);
    std::memcpy(aligned.data(), payload.data, count * sizeof(uint16_t));
    anecpu_floats_from_halves(aligned.data(), to, count);
  }
}

bool has_non_finite(const Payload &payload) {
  switch (payload.dtype) {
    case DType::Fp16: return has_non_finite<int16_t>(payload, 0x7C00);
    case DType::BFloat16: return has_non_finite<int16_t>(payload, 0x7F80);
    case DType::Fp32: return has_non_finite<int32_t>(payload, 0x7F800000);
    default: return false;
  }
}

}  // namespace ane
