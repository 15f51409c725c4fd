// Every machine gives the same bits: what elementwise operations and softmax make of all fp16 values, as one number,
// for each instruction set this machine has (test_bits_*.cpp are the same code, compiled for each).
#include <cstdint>
#include <vector>

#include "cpu/cpu_features.h"
#include "cpu/fp16.h"
#include "tests/check.h"

uint64_t bits_digest_base(const float *halves);
uint64_t bits_digest_avx2(const float *halves);
uint64_t bits_digest_avx512(const float *halves);

namespace {

// Changes with every change of an operation's results, and only then.
constexpr uint64_t kDigest = 774166904940810437u;

std::vector<float> all_halves() {
  std::vector<float> values(65536);
  for (size_t i = 0; i < values.size(); ++i) values[i] = anecpu_float_from_half(static_cast<uint16_t>(i));
  return values;
}

}  // namespace

TEST(base) { CHECK_EQ(bits_digest_base(all_halves().data()), kDigest); }

#if defined(__x86_64__)
TEST(avx2) {
  if (anecpu_has_avx2()) CHECK_EQ(bits_digest_avx2(all_halves().data()), kDigest);
}

TEST(avx512) {
  if (anecpu_has_avx512()) CHECK_EQ(bits_digest_avx512(all_halves().data()), kDigest);
}
#endif
