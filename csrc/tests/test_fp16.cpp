// Every version of the conversions this CPU has, bit for bit against an independent reference.
#include "cpu/fp16.h"
#include "cpu/threads.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/check.h"

#ifndef FP16_MILLIONS  // of random floats; fewer where an emulated CPU runs this
#define FP16_MILLIONS 24
#endif

namespace {

using Half = uint16_t;

// The reference knows fp16 as a sorted list of numbers, and rounding as a search for the nearest of them.
constexpr Half kInfinity = 0x7c00, kQuiet = 0x0200;

// Magnitudes of the finite halves in order, then 2^16, the value whose midpoint with 65504 is where infinity begins.
const std::vector<double> &magnitudes() {
  static const std::vector<double> all = [] {
    std::vector<double> values;
    for (int bits = 0; bits <= kInfinity; ++bits) {
      const int exponent = bits >> 10, mantissa = bits & 0x3ff;
      values.push_back(exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
    }
    return values;
  }();
  return all;
}

Half reference_half(uint32_t bits) {
  const Half sign = static_cast<Half>(bits >> 31 << 15);
  const double magnitude = std::fabs(static_cast<double>(std::bit_cast<float>(bits)));
  if (std::isnan(magnitude)) return static_cast<Half>(sign | kInfinity | kQuiet | ((bits & 0x7fffff) >> 13));
  const std::vector<double> &all = magnitudes();
  const size_t above = static_cast<size_t>(std::upper_bound(all.begin(), all.end(), magnitude) - all.begin());
  if (above == all.size()) return sign | kInfinity;
  const double middle = (all[above - 1] + all[above]) / 2;  // exact in double, like every float
  const bool up = magnitude > middle || (magnitude == middle && above % 2 == 0);
  return static_cast<Half>(sign | (up ? above : above - 1));
}

uint32_t reference_float(Half half) {
  const uint32_t sign = static_cast<uint32_t>(half >> 15) << 31;
  const Half magnitude = half & 0x7fff;
  if (magnitude > kInfinity) return sign | 0x7fc00000 | static_cast<uint32_t>(magnitude & 0x3ff) << 13;
  if (magnitude == kInfinity) return sign | 0x7f800000;
  return sign | std::bit_cast<uint32_t>(static_cast<float>(magnitudes()[magnitude]));
}

// Runs `test` with every version this CPU has.
template <class Run>
void with_every_version(Run run) {
  const std::string before = anecpu_fp16_selected();
  for (const char *name : {"scalar", "f16c", "avx512", "neon"})
    if (anecpu_fp16_select(name)) run(name);
  CHECK(anecpu_fp16_select(before.c_str()));
}

std::vector<float> floats_of(const std::vector<uint32_t> &bits) {
  std::vector<float> values(bits.size());
  std::copy_n(reinterpret_cast<const char *>(bits.data()), bits.size() * 4, reinterpret_cast<char *>(values.data()));
  return values;
}

void check_halves(const char *version, const std::vector<uint32_t> &bits, const Half *found, const Half *expected) {
  if (std::equal(found, found + bits.size(), expected)) return;
  for (size_t i = 0; i < bits.size(); ++i)
    if (found[i] != expected[i])
      check::fail_equal(__FILE__, __LINE__, (version + (" of bits " + std::to_string(bits[i]))).c_str(), found[i],
                        expected[i]);
}

void check_against_reference(const std::vector<uint32_t> &bits) {
  std::vector<Half> expected(bits.size()), found(bits.size());
  std::transform(bits.begin(), bits.end(), expected.begin(), reference_half);
  const std::vector<float> values = floats_of(bits);
  with_every_version([&](const char *version) {
    std::fill(found.begin(), found.end(), 0xabcd);
    anecpu_halves_from_floats(values.data(), found.data(), values.size());
    check_halves(version, bits, found.data(), expected.data());
  });
}

}  // namespace

TEST(known_values) {
  CHECK_EQ(anecpu_half_from_float(1.0f), 0x3c00);
  CHECK_EQ(anecpu_half_from_float(-65504.0f), 0xfbff);
  CHECK_EQ(anecpu_half_from_float(65519.996f), 0x7bff);
  CHECK_EQ(anecpu_half_from_float(65520.0f), 0x7c00);
  CHECK_EQ(anecpu_half_from_float(2049.0f), 0x6800);  // a tie: to the even 2048
  CHECK_EQ(anecpu_half_from_float(2051.0f), 0x6802);  // a tie: to the even 2052
  CHECK_EQ(anecpu_half_from_float(0x1p-24f), 0x0001);
  CHECK_EQ(anecpu_half_from_float(0x1p-25f), 0x0000);
  CHECK_EQ(anecpu_half_from_float(0x1.000002p-25f), 0x0001);
  CHECK_EQ(anecpu_float_from_half(0x3555), 0x1.554p-2f);
}

TEST(versions_are_chosen_by_name) {
  CHECK(anecpu_fp16_select("scalar"));
  CHECK_EQ(std::string(anecpu_fp16_selected()), "scalar");
  CHECK(!anecpu_fp16_select("mmx"));
#if defined(__aarch64__)
  CHECK(anecpu_fp16_select("neon"));
#else
  CHECK(!anecpu_fp16_select("neon"));
  CHECK_EQ(anecpu_fp16_select("f16c"), __builtin_cpu_supports("avx2") ? 1 : 0);
  CHECK_EQ(anecpu_fp16_select("avx512"), __builtin_cpu_supports("avx512bw") ? 1 : 0);
#endif
}

TEST(every_half) {
  std::vector<Half> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<Half>(i);
  with_every_version([&](const char *version) {
    std::vector<float> found(halves.size());
    anecpu_floats_from_halves(halves.data(), found.data(), halves.size());
    for (const Half half : halves) {
      const uint32_t bits = std::bit_cast<uint32_t>(found[half]), expected = reference_float(half);
      if (bits != expected) check::fail_equal(__FILE__, __LINE__, version, bits, expected);
      CHECK_EQ(std::bit_cast<uint32_t>(anecpu_float_from_half(half)), expected);
    }
  });
}

// Every exponent, sign and set of kept mantissa bits, with the bits around each rounding decision.
TEST(floats_at_every_edge) {
  for (uint32_t sign_and_exponent = 0; sign_and_exponent < 512; ++sign_and_exponent) {
    std::vector<uint32_t> bits;
    for (uint32_t kept = 0; kept < 1024; ++kept)
      for (const uint32_t rest : {0x0000u, 0x0001u, 0x0800u, 0x0fffu, 0x1000u, 0x1001u, 0x1fffu})
        bits.push_back(sign_and_exponent << 23 | kept << 13 | rest);
    check_against_reference(bits);
  }
}

// Below 2^-14 the rounding decision moves through the mantissa: each shift, with the bits around its middle.
TEST(floats_that_become_subnormal) {
  std::vector<uint32_t> bits;
  for (uint32_t exponent = 100; exponent <= 114; ++exponent)
    for (uint32_t bit = 0; bit < 23; ++bit)
      for (uint32_t multiple = 0; multiple < (1u << (22 - bit)) && multiple < 4096; ++multiple)
        for (const uint32_t step : {0u, 1u, 2u}) {
          const uint32_t mantissa = (multiple << (bit + 1)) + (1u << bit) - 1 + step;  // around the middle
          bits.push_back(exponent << 23 | (mantissa & 0x7fffff));
        }
  check_against_reference(bits);
}

TEST(random_floats) {
  std::mt19937 random(20260101);
  for (int million = 0; million < FP16_MILLIONS; ++million) {
    std::vector<uint32_t> bits(1000000);
    for (uint32_t &value : bits) {
      value = static_cast<uint32_t>(random());
      // Half of them where fp16 has numbers: 2^-27 to 2^17.
      if (million % 2) value = (value & 0x807fffff) | (100 + (value >> 23 & 0xff) % 45) << 23;
    }
    check_against_reference(bits);
  }
}

TEST(single_values_equal_the_reference) {
  std::mt19937 random(7);
  for (int i = 0; i < 1000000; ++i) {
    const uint32_t bits = static_cast<uint32_t>(random());
    CHECK_EQ(anecpu_half_from_float(std::bit_cast<float>(bits)), reference_half(bits));
  }
}

// Every length and alignment of head and tail; nothing beyond the end is written.
TEST(lengths_and_alignments) {
  std::vector<float> values(200);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.37f - 30.0f;
  with_every_version([&](const char *) {
    for (size_t offset = 0; offset < 5; ++offset) {
      for (size_t count = 0; count < 140; ++count) {
        std::vector<Half> halves(200, 0xabcd);
        anecpu_halves_from_floats(values.data() + offset, halves.data() + offset, count);
        std::vector<float> back(200, -1.0f);
        anecpu_floats_from_halves(halves.data() + offset, back.data() + offset, count);
        for (size_t i = 0; i < halves.size(); ++i) {
          const bool inside = i >= offset && i < offset + count;
          CHECK_EQ(halves[i], inside ? anecpu_half_from_float(values[i]) : 0xabcd);
          CHECK_EQ(back[i], inside ? anecpu_float_from_half(halves[i]) : -1.0f);
        }
      }
    }
  });
}

// So large that several threads share it and the caches are written around.
TEST(large_arrays) {
  const size_t count = 9 * 1000 * 1000 + 13;
  std::vector<float> values(count + 1);
  for (size_t i = 0; i <= count; ++i) values[i] = static_cast<float>(i % 70001) - 35000.5f;
  for (const int threads : {1, 3}) {
    anecpu_set_threads(threads);
    with_every_version([&](const char *version) {
      std::vector<Half> halves(count + 2, 0xabcd);
      anecpu_halves_from_floats(values.data() + 1, halves.data() + 1, count);
      std::vector<float> back(count + 2, -1.0f);
      anecpu_floats_from_halves(halves.data() + 1, back.data() + 1, count);
      bool equal = halves[0] == 0xabcd && halves[count + 1] == 0xabcd && back[0] == -1.0f && back[count + 1] == -1.0f;
      for (size_t i = 1; i <= count; ++i)
        equal = equal && halves[i] == anecpu_half_from_float(values[i]) && back[i] == anecpu_float_from_half(halves[i]);
      CHECK_EQ(equal ? version : "different", version);
    });
  }
  anecpu_set_threads(0);
}

namespace {

// Where an element of a rows x columns matrix lies in its memory.
struct Layout {
  const char *name;
  ptrdiff_t row, column, first;
  size_t size;
  size_t at(size_t i, size_t j) const {
    return static_cast<size_t>(first + static_cast<ptrdiff_t>(i) * row + static_cast<ptrdiff_t>(j) * column);
  }
};

std::vector<Layout> layouts(ptrdiff_t rows, ptrdiff_t columns) {
  const auto size = [](ptrdiff_t count) { return static_cast<size_t>(count); };
  return {
      {"dense", columns, 1, 0, size(rows * columns)},
      {"cropped", columns + 5, 1, 3, size(rows * (columns + 5))},
      {"transposed", 1, rows, 0, size(rows * columns)},
      {"transposed and cropped", 1, rows + 3, 2, size(columns * (rows + 3))},
      {"every other column", 2 * columns, 2, 0, size(2 * rows * columns)},
      {"backwards", -columns, -1, rows * columns - 1, size(rows * columns)},
      {"rows backwards", -columns, 1, (rows - 1) * columns, size(rows * columns)},
  };
}

template <class Source, class Target, class Convert, class One>
void check_2d(size_t rows, size_t columns, const Layout &from, const Layout &to, Convert convert, One one,
              Target untouched) {
  std::vector<Source> source(from.size);
  for (size_t i = 0; i < source.size(); ++i)
    source[i] = static_cast<Source>(std::is_same_v<Source, float> ? (i * 37 % 4001) - 2000.25 : i * 37 % 0x7c00);
  std::vector<Target> expected(to.size, untouched), found(to.size, untouched);
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < columns; ++j) expected[to.at(i, j)] = one(source[from.at(i, j)]);
  convert(source.data() + from.first, from.row, from.column, found.data() + to.first, to.row, to.column, rows, columns);
  const std::string what = std::string(anecpu_fp16_selected()) + ": " + from.name + " to " + to.name + ", " +
                           std::to_string(rows) + "x" + std::to_string(columns);
  CHECK_EQ(found == expected ? what : what + " differs", what);
}

}  // namespace

TEST(strided_transposed_cropped) {
  const std::pair<size_t, size_t> shapes[] = {{1, 1},   {1, 19},  {19, 1},    {8, 8},    {7, 9},
                                              {33, 65}, {64, 32}, {130, 270}, {2113, 70}};
  anecpu_set_threads(3);
  with_every_version([&](const char *) {
    for (const auto &[rows, columns] : shapes)
      for (const Layout &from : layouts(static_cast<ptrdiff_t>(rows), static_cast<ptrdiff_t>(columns)))
        for (const Layout &to : layouts(static_cast<ptrdiff_t>(rows), static_cast<ptrdiff_t>(columns))) {
          check_2d<float, Half>(rows, columns, from, to, anecpu_halves_from_floats_2d, anecpu_half_from_float,
                                Half{0xabcd});
          check_2d<Half, float>(rows, columns, from, to, anecpu_floats_from_halves_2d, anecpu_float_from_half, -1.0f);
        }
  });
  anecpu_set_threads(0);
}

TEST(one_value_for_all) {
  const float value = 1.5f;
  with_every_version([&](const char *) {
    std::vector<Half> found(40 * 50, 0xabcd);
    anecpu_halves_from_floats_2d(&value, 0, 0, found.data(), 50, 1, 40, 50);
    CHECK_EQ(std::count(found.begin(), found.end(), 0x3e00), 40 * 50);
  });
}

// Of 1 MB and more, which goes around the caches: side by side and one below the other, dense, with rows apart,
// transposed.
TEST(many_blocks) {
  const size_t width = 1100, rows = 700;
  std::vector<float> values(rows * width);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 70001) - 35000.5f;
  const ptrdiff_t w = width;
  for (const size_t first : {0, 1, 8}) {  // on the target: whole vectors, and not
    const AnecpuHalfMove moves[] = {
        {values.data(), w, 1, first, width, 200, width},
        {values.data() + 200 * width, 2 * w, 1, first + 200 * width, width, 100, 770},
        {values.data() + 201 * width, 1, w, first + 200 * width + 770, width, 100, 330},
        {values.data() + 3, 1, w, first + 300 * width, width, 1090, 641},
        {values.data() + 5, 3, w, first + 300 * width + 641, width, 300, 300},
    };
    std::vector<Half> expected(first + 1390 * width, 0xabcd), found = expected;
    for (const AnecpuHalfMove &move : moves)
      for (size_t i = 0; i < move.rows; ++i)
        for (size_t j = 0; j < move.columns; ++j)
          expected[move.target_begin + i * move.target_row_stride + j] =
              anecpu_half_from_float(move.source[static_cast<ptrdiff_t>(i) * move.source_row_stride +
                                                 static_cast<ptrdiff_t>(j) * move.source_column_stride]);
    for (const int threads : {1, 3}) {
      anecpu_set_threads(threads);
      with_every_version([&](const char *version) {
        std::fill(found.begin(), found.end(), 0xabcd);
        anecpu_halves_from_floats_many(moves, std::size(moves), found.data());
        CHECK_EQ(found == expected ? version : "different", version);
      });
    }
  }
  anecpu_set_threads(0);
}
