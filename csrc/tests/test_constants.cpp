// Constants on their way from blob files: what is not finite is found wherever it stands; contents that nobody read are
// gone afterwards; memory goes round and is bounded.
#include <cstring>
#include <stdexcept>

#include "cpu/fp16.h"
#include "device/emulator/fast/constants.h"
#include "device/emulator/payload.h"
#include "tests/check.h"

using namespace ane;
using ane::fast::FloatBlock;

namespace {

// Does it see `element` at every place among finite ones, the largest and a negative one among them?
template <class Bits>
bool found_everywhere(DType dtype, Bits finite, Bits largest, Bits element) {
  bool good = true;
  for (const size_t count : {1, 2, 31, 64, 100}) {
    for (const size_t shift : {0, 1}) {  // records need not be aligned
      std::vector<uint8_t> file(count * sizeof(Bits) + shift);
      const auto set = [&](size_t place, Bits bits) {
        std::memcpy(file.data() + shift + place * sizeof bits, &bits, sizeof bits);
      };
      for (size_t i = 0; i < count; i++) set(i, i % 2 ? finite : largest);
      const Payload payload{file.data() + shift, count * sizeof(Bits), dtype};
      good &= !has_non_finite(payload);
      for (size_t i = 0; i < count; i++) {
        set(i, element);
        good &= has_non_finite(payload);
        set(i, finite);
      }
    }
  }
  return good;
}

}  // namespace

TEST(what_is_not_finite_is_found_everywhere) {
  for (const uint16_t element : {0x7C00, 0xFC00, 0x7C01, 0xFFFF})
    CHECK(found_everywhere<uint16_t>(DType::Fp16, 0xBC00, 0x7BFF, element));
  for (const uint16_t element : {0x7F80, 0xFF80, 0x7F81, 0xFFFF})
    CHECK(found_everywhere<uint16_t>(DType::BFloat16, 0xBF80, 0x7F7F, element));
  for (const uint32_t element : {0x7F800000u, 0xFF800000u, 0x7F800001u, 0xFFFFFFFFu})
    CHECK(found_everywhere<uint32_t>(DType::Fp32, 0xBF800000u, 0x7F7FFFFFu, element));
  const uint8_t ones[] = {0xFF, 0xFF, 0xFF, 0xFF};
  CHECK(!has_non_finite({ones, 4, DType::Int8}));
}

TEST(what_is_not_finite_is_found_in_every_thread) {
  constexpr size_t kCount = size_t{1} << 19;
  std::vector<uint16_t> halves(kCount, 0x3C00);
  const Payload payload{reinterpret_cast<const uint8_t *>(halves.data()), kCount * 2, DType::Fp16};
  CHECK(!has_non_finite(payload));
  for (size_t place = 0; place < kCount; place += kCount / 8 - 1) {
    halves[place] = 0x7E00;
    CHECK(has_non_finite(payload));
    halves[place] = 0;
  }
}

TEST(contents_are_read_once_or_forgotten) {
  const uint16_t halves[] = {0x3C00, 0x4000};
  const Payload payload{reinterpret_cast<const uint8_t *>(halves), sizeof halves, DType::Fp16};
  const Constant constant({DType::Fp16, {2}}, payload, 0), wide({DType::Fp32, {2}}, payload, 1);
  CHECK(constant.unread() && constant.size_bytes() == 4);
  CHECK_EQ(constant.number(1), 2.0);
  CHECK(!constant.unread());
  constant.forget();
  CHECK_EQ(constant.number(0), 1.0);
  wide.forget();
  bool refused = false;
  try {
    wide.number(0);
  } catch (const std::logic_error &) {
    refused = true;
  }
  CHECK(refused);
  CHECK_EQ(Constant({DType::Fp32, {2}}, payload, 1).number(1), 2.0);
}

TEST(blocks_go_round) {
  constexpr size_t kCount = size_t{1} << 19;
  const float *first;
  {
    const FloatBlock block(kCount), other(kCount + 16);
    first = block.base();
    CHECK(reinterpret_cast<uintptr_t>(first) % 64 == 0 && first != other.base());
  }
  CHECK_EQ(FloatBlock::free_bytes(), (2 * kCount + 16) * sizeof(float));
  const FloatBlock again(kCount), fresh(kCount);
  CHECK(again.base() == first && fresh.base() != first);
  CHECK_EQ(FloatBlock::free_bytes(), (kCount + 16) * sizeof(float));
  CHECK(FloatBlock(0).base() == nullptr);
}

TEST(free_blocks_are_bounded) {
  constexpr size_t kCount = FloatBlock::kFreeBytes / sizeof(float) / 4;
  {
    const FloatBlock oldest(kCount + 64), a(kCount), b(kCount), c(kCount), d(kCount);
  }
  CHECK(FloatBlock::free_bytes() <= FloatBlock::kFreeBytes);
  CHECK_EQ(FloatBlock::free_bytes(), (3 * kCount + 64) * sizeof(float));
  {
    const FloatBlock huge(4 * kCount + 16);  // larger than all that is kept
  }
  CHECK_EQ(FloatBlock::free_bytes(), (3 * kCount + 64) * sizeof(float));
}
