// One way to write arithmetic for a single float and for a SIMD vector of floats alike.
//
// F is `float` or a GCC/clang vector of float of 16, 32 or 64 bytes. Every function gives each lane the bits it gives a
// single float, whatever the instruction set: files built for AVX-512, for AVX2 and for no extension agree. All of it
// is `static` on purpose: a copy compiled with AVX-512 must never be merged with one that has to run without.
#ifndef ANETRAIN_LANES_H
#define ANETRAIN_LANES_H

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Always inlined: how a 64-byte vector is passed to a function depends on the instruction set.
#define ANE_LANE static inline __attribute__((always_inline))

namespace ane {

using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));

// The widest vector one instruction handles in this file.
#if defined(__AVX512F__)
using NativeFloats = Float16;
#elif defined(__AVX2__)
using NativeFloats = Float8;
#else
using NativeFloats = Float4;
#endif

namespace detail {
template <class F>
struct Lanes {  // a vector; `typedef`, because compilers drop the attribute from a dependent `using`
  static constexpr int count = sizeof(F) / sizeof(float);
  typedef int32_t Int __attribute__((vector_size(sizeof(F))));
  typedef double Double __attribute__((vector_size(2 * sizeof(F))));
  typedef int64_t Long __attribute__((vector_size(2 * sizeof(F))));
  typedef float Half __attribute__((vector_size(sizeof(F) / 2)));
};
template <>
struct Lanes<float> {
  static constexpr int count = 1;
  using Int = int32_t;
  using Double = double;
  using Long = int64_t;
};
}  // namespace detail

template <class F>
inline constexpr int kLanes = detail::Lanes<F>::count;
template <class F>
inline constexpr bool kIsVector = !std::is_same_v<F, float>;
template <class F>
using IntLanes = typename detail::Lanes<F>::Int;
template <class F>
using DoubleLanes = typename detail::Lanes<F>::Double;
template <class F>
using LongLanes = typename detail::Lanes<F>::Long;

// ---------------------------------------------------------------- moving bits

template <class To, class From>
ANE_LANE To bit_cast(const From &from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class F>
ANE_LANE F load(const float *from) {
  F lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
template <class F>
ANE_LANE void store(float *to, F lanes) {
  std::memcpy(to, &lanes, sizeof lanes);
}

template <class F>
ANE_LANE F splat(float value) {
  if constexpr (kIsVector<F>) {
    return value - F{};  // -0 - 0 is -0, where -0 + 0 would lose the sign
  } else {
    return value;
  }
}

// Mask ? a : b. Masks are what comparisons of F give.
template <class Mask, class F>
ANE_LANE F select(Mask mask, F a, F b) {
  return mask ? a : b;
}
template <class Mask, class F, std::enable_if_t<kIsVector<F>, int> = 0>
ANE_LANE F select(Mask mask, F a, float b) {
  return mask ? a : splat<F>(b);
}
template <class Mask, class F, std::enable_if_t<kIsVector<F>, int> = 0>
ANE_LANE F select(Mask mask, float a, F b) {
  return mask ? splat<F>(a) : b;
}
template <class F, class Mask>
ANE_LANE F select_constants(Mask mask, float a, float b) {
  return mask ? splat<F>(a) : splat<F>(b);
}

// a + b of bit patterns, where overflow means nothing.
template <class I>
ANE_LANE I add_bits(I a, I b) {
  if constexpr (std::is_same_v<I, int32_t>) {
    return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
  } else {
    typedef uint32_t Bits __attribute__((vector_size(sizeof(I))));
    return bit_cast<I>(bit_cast<Bits>(a) + bit_cast<Bits>(b));
  }
}
template <class I>
ANE_LANE I add_bits(I a, std::type_identity_t<int32_t> b)
  requires(!std::is_same_v<I, int32_t>)
{
  return add_bits(a, I{} + b);
}

// ---------------------------------------------------------------- arithmetic the language has no operator for

#if defined(__AVX512F__)
// GCC 12 warns of the unmasked intrinsics' "undefined" operand; with a constant mask they are the same instructions.
inline constexpr __mmask16 kAllLanes = 0xffff;
#endif

// Applies `f` to both halves of a vector that has no instruction of its own.
template <class F, class Function, class... Rest>
ANE_LANE F by_halves(Function f, F first, Rest... rest) {
  using Half = typename detail::Lanes<F>::Half;
  struct Pair {
    Half low, high;
  };
  Pair result = {f(bit_cast<Pair>(first).low, bit_cast<Pair>(rest).low...),
                 f(bit_cast<Pair>(first).high, bit_cast<Pair>(rest).high...)};
  return bit_cast<F>(result);
}

template <class F, class Function, class... Rest>
ANE_LANE F by_lanes(Function f, F first, Rest... rest) {
  F result;
  for (int i = 0; i < kLanes<F>; ++i) result[i] = f(first[i], rest[i]...);
  return result;
}

// a * b + c, rounded once.
template <class F>
ANE_LANE F fma(F a, F b, F c) {
  if constexpr (!kIsVector<F>) {
    return __builtin_fmaf(a, b, c);
#if defined(__AVX512F__)
  } else if constexpr (sizeof(F) == 64) {
    return bit_cast<F>(_mm512_fmadd_ps(bit_cast<__m512>(a), bit_cast<__m512>(b), bit_cast<__m512>(c)));
#endif
#if defined(__FMA__)
  } else if constexpr (sizeof(F) == 32) {
    return bit_cast<F>(_mm256_fmadd_ps(bit_cast<__m256>(a), bit_cast<__m256>(b), bit_cast<__m256>(c)));
  } else if constexpr (sizeof(F) == 16) {
    return bit_cast<F>(_mm_fmadd_ps(bit_cast<__m128>(a), bit_cast<__m128>(b), bit_cast<__m128>(c)));
#elif defined(__aarch64__)
  } else if constexpr (sizeof(F) == 16) {
    return bit_cast<F>(vfmaq_f32(bit_cast<float32x4_t>(c), bit_cast<float32x4_t>(a), bit_cast<float32x4_t>(b)));
#endif
  } else if constexpr (sizeof(F) > 16) {
    return by_halves([](auto x, auto y, auto z) __attribute__((always_inline)) { return fma(x, y, z); }, a, b, c);
  } else {
    return by_lanes([](float x, float y, float z) { return __builtin_fmaf(x, y, z); }, a, b, c);
  }
}
template <class F>
ANE_LANE F fma(F a, F b, std::type_identity_t<float> c)
  requires kIsVector<F>
{
  return fma(a, b, splat<F>(c));
}
template <class F>
ANE_LANE F fma(F a, std::type_identity_t<float> b, F c)
  requires kIsVector<F>
{
  return fma(a, splat<F>(b), c);
}
template <class F>
ANE_LANE F fma(F a, std::type_identity_t<float> b, std::type_identity_t<float> c)
  requires kIsVector<F>
{
  return fma(a, splat<F>(b), splat<F>(c));
}

template <class F>
ANE_LANE F sqrt(F x) {
  if constexpr (!kIsVector<F>) {
    return __builtin_sqrtf(x);
#if defined(__AVX512F__)
  } else if constexpr (sizeof(F) == 64) {
    return bit_cast<F>(_mm512_maskz_sqrt_ps(kAllLanes, bit_cast<__m512>(x)));
#endif
#if defined(__AVX__)
  } else if constexpr (sizeof(F) == 32) {
    return bit_cast<F>(_mm256_sqrt_ps(bit_cast<__m256>(x)));
#endif
#if defined(__x86_64__)
  } else if constexpr (sizeof(F) == 16) {
    return bit_cast<F>(_mm_sqrt_ps(bit_cast<__m128>(x)));
#elif defined(__aarch64__)
  } else if constexpr (sizeof(F) == 16) {
    return bit_cast<F>(vsqrtq_f32(bit_cast<float32x4_t>(x)));
#endif
  } else {
    return by_halves([](auto half) __attribute__((always_inline)) { return sqrt(half); }, x);
  }
}

template <class F>
ANE_LANE F abs(F x) {
  return bit_cast<F>(bit_cast<IntLanes<F>>(x) & 0x7fffffff);
}
// |magnitude| with the sign of `sign`.
template <class F>
ANE_LANE F copysign(F magnitude, F sign) {
  using I = IntLanes<F>;
  return bit_cast<F>((bit_cast<I>(magnitude) & 0x7fffffff) | (bit_cast<I>(sign) & INT32_MIN));
}

// To an integer, ties to even. From 2^23 on every float is one.
template <class F>
ANE_LANE F rint(F x) {
  const float two23 = 8388608.0f;
  const F magnitude = abs(x);
  const F rounded = copysign((magnitude + two23) - two23, x);
  return select(magnitude < two23, rounded, x);
}
template <class F>
ANE_LANE F floor(F x) {
  const F nearest = rint(x);
  return copysign(nearest - select_constants<F>(nearest > x, 1.0f, 0.0f), x);
}
template <class F>
ANE_LANE F ceil(F x) {
  return -floor(-x);
}
template <class F>
ANE_LANE F trunc(F x) {
  return copysign(floor(abs(x)), x);
}

// To doubles and back (rounded once, subnormal results included).
template <class F>
ANE_LANE DoubleLanes<F> widen(F x) {
  if constexpr (!kIsVector<F>) {
    return x;
#if defined(__AVX512F__)
  } else if constexpr (sizeof(F) == 32) {  // GCC would convert halves
    return bit_cast<DoubleLanes<F>>(_mm512_maskz_cvtps_pd(0xff, bit_cast<__m256>(x)));
#endif
  } else {
    return __builtin_convertvector(x, DoubleLanes<F>);
  }
}
template <class F>
ANE_LANE F narrow(DoubleLanes<F> x) {
  if constexpr (kIsVector<F>) {
    return __builtin_convertvector(x, F);
  } else {
    return static_cast<float>(x);
  }
}
template <class F>
ANE_LANE F from_int(IntLanes<F> x) {
  if constexpr (kIsVector<F>) {
    return __builtin_convertvector(x, F);
  } else {
    return static_cast<float>(x);
  }
}
// Of values that int32 holds.
template <class F>
ANE_LANE IntLanes<F> to_int(F x) {
  if constexpr (kIsVector<F>) {
    return __builtin_convertvector(x, IntLanes<F>);
  } else {
    return static_cast<int32_t>(x);
  }
}

// table[index] in each lane, of a table of 32.
template <class F>
ANE_LANE F lookup32(const float *table, IntLanes<F> index) {
  if constexpr (!kIsVector<F>) {
    return table[index];
#if defined(__AVX512F__)
  } else if constexpr (sizeof(F) == 64) {
    return bit_cast<F>(
        _mm512_permutex2var_ps(_mm512_loadu_ps(table), bit_cast<__m512i>(index), _mm512_loadu_ps(table + 16)));
#endif
#if defined(__AVX2__)
  } else if constexpr (sizeof(F) == 32) {
    return bit_cast<F>(_mm256_i32gather_ps(table, bit_cast<__m256i>(index), 4));
#endif
  } else {
    F values;
    for (int i = 0; i < kLanes<F>; ++i) values[i] = table[index[i]];
    return values;
  }
}

// ---------------------------------------------------------------- fp16

namespace detail {
// Without conversion instructions. NaN keeps the payload bits fp16 has room for, quieted.
template <class F>
ANE_LANE F round_to_fp16_portably(F x) {
  using I = IntLanes<F>;
  const F magnitude = abs(x);
  const I bits = bit_cast<I>(magnitude);
  const F normal = bit_cast<F>(add_bits<I>(bits, 0xfff + ((bits >> 13) & 1)) & ~0x1fff);
  const F subnormal = (magnitude + 0.5f) - 0.5f;  // floats in [0.5, 1) are 2^-24 apart, as fp16 subnormals are
  F rounded = select(magnitude < 0x1p-14f, subnormal, normal);
  rounded = select(magnitude >= 65520.0f, __builtin_inff(), rounded);
  const F quiet_nan = bit_cast<F>((bits & ~0x1fff) | 0x00400000);
  return copysign(select(x == x, rounded, quiet_nan), x);
}
}  // namespace detail

// The nearest fp16 value (ties to even, overflow to infinity) as a float.
template <class F>
ANE_LANE F round_to_fp16(F x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(F) == 64) {
    const __m256i half = _mm512_maskz_cvtps_ph(kAllLanes, bit_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT);
    return bit_cast<F>(_mm512_maskz_cvtph_ps(kAllLanes, half));
  } else
#endif
#if defined(__F16C__)
      if constexpr (sizeof(F) == 4) {
    return _cvtsh_ss(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
  } else if constexpr (sizeof(F) == 16) {
    return bit_cast<F>(_mm_cvtph_ps(_mm_cvtps_ph(bit_cast<__m128>(x), _MM_FROUND_TO_NEAREST_INT)));
  } else if constexpr (sizeof(F) == 32) {
    return bit_cast<F>(_mm256_cvtph_ps(_mm256_cvtps_ph(bit_cast<__m256>(x), _MM_FROUND_TO_NEAREST_INT)));
  } else {
    return by_halves([](auto half) __attribute__((always_inline)) { return round_to_fp16(half); }, x);
  }
#elif defined(__aarch64__)
  if constexpr (sizeof(F) == 4) {
    return static_cast<float>(static_cast<__fp16>(x));
  } else if constexpr (sizeof(F) == 16) {
    return bit_cast<F>(vcvt_f32_f16(vcvt_f16_f32(bit_cast<float32x4_t>(x))));
  } else {
    return by_halves([](auto half) __attribute__((always_inline)) { return round_to_fp16(half); }, x);
  }
#else
  return detail::round_to_fp16_portably(x);
#endif
}

}  // namespace ane
#endif
