// Elementary functions on lanes (lanes.h): no branches, no libm, the same bits for a float and for each lane of a
// vector.
//
// Relative errors are a few units of fp32 (csrc/tests/test_vmath.cpp states the bound of each over all fp16 arguments).
// Overflow gives infinity, results below the smallest normal float may be 0, NaN stays NaN. Polynomials are minimax
// fits of the named expression over the named range, for relative error.
#ifndef ANETRAIN_VMATH_H
#define ANETRAIN_VMATH_H

#include "lanes.h"

namespace ane::vmath {

inline constexpr float kInfinity = __builtin_inff();
inline constexpr float kNaN = __builtin_nanf("");
inline constexpr float kSmallestNormal = 0x1p-126f;

// Adding this to |x| < 2^22 rounds x to an integer (ties to even), which then stands in the low bits of the sum.
inline constexpr float kRounder = 0x1.8p23f;

// coefficients[0] + coefficients[1] x + ...
template <class F, size_t N>
ANE_LANE F polynomial(F x, const float (&coefficients)[N]) {
  F sum = splat<F>(coefficients[N - 1]);
  for (size_t i = N - 1; i-- > 0;) sum = fma(sum, x, splat<F>(coefficients[i]));
  return sum;
}

// ---------------------------------------------------------------- exponentials

// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2
inline constexpr float kExpTail[] = {0.49999994f, 0.166665211f, 0.041668389f, 0.00836874545f, 0.00138145371f};
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // n * high is exact for |n| < 2^9

template <class F>
struct Reduced {
  F remainder;           // x - n ln 2
  IntLanes<F> exponent;  // n, in the place of a float's exponent
};

template <class F>
ANE_LANE Reduced<F> reduce_by_ln2(F x) {
  const F shifted = fma(x, kLog2E, splat<F>(kRounder));
  const F n = shifted - kRounder;
  const F remainder = fma(n, splat<F>(-kLn2Low), fma(n, splat<F>(-kLn2High), x));
  return {remainder, bit_cast<IntLanes<F>>(shifted) << 23};
}

// What exp gives outside of [lowest, highest], and NaN.
template <class F>
ANE_LANE F limit_exp(F x, F inside, float lowest, float highest) {
  const F limited = select(x <= highest, inside, x + kInfinity);
  return select(x < lowest, 0.0f, limited);
}

template <class F>
ANE_LANE F exp(F x) {
  const auto [r, exponent] = reduce_by_ln2(x);
  const F mantissa = fma(fma(polynomial(r, kExpTail), r, splat<F>(1.0f)), r, splat<F>(1.0f));
  const F result = bit_cast<F>(add_bits(bit_cast<IntLanes<F>>(mantissa), exponent));
  return limit_exp(x, result, -0x1.5d589ep+6f, 0x1.62e42ep+6f);  // -126 ln 2, 128 ln 2
}

template <class F>
ANE_LANE F exp2(F x) {
  using I = IntLanes<F>;
  const F shifted = x + kRounder;
  const F r = (x - (shifted - kRounder)) * 0x1.62e43p-1f;
  const F mantissa = fma(fma(polynomial(r, kExpTail), r, splat<F>(1.0f)), r, splat<F>(1.0f));
  const F result = bit_cast<F>(add_bits(bit_cast<I>(mantissa), bit_cast<I>(shifted) << 23));
  return limit_exp(x, result, -126.0f, 0x1.fffffep+6f);
}

// e^x - 1 without cancellation near 0.
template <class F>
ANE_LANE F expm1(F x) {
  const F clamped = select(x < -20.0f, -20.0f, select(x > 88.0f, 88.0f, x));
  const auto [r, exponent] = reduce_by_ln2(clamped);
  const F small = fma(polynomial(r, kExpTail), r * r, r);  // e^r - 1
  const F scale = bit_cast<F>(add_bits(exponent, 0x3f800000));
  const F result = fma(scale, small, scale - 1.0f);
  return select(x > 88.0f, exp(x), select(x == 0.0f, x, result));  // -0 stays -0
}

template <class F>
ANE_LANE F sigmoid(F x) {
  return 1.0f / (1.0f + exp(-x));
}

template <class F>
ANE_LANE F silu(F x) {
  // x * 0 for x = -inf would be NaN; the limit is 0.
  return select(x == -kInfinity, splat<F>(-0.0f), x / (1.0f + exp(-x)));
}

template <class F>
ANE_LANE F tanh(F x) {
  // (e^2|x| - 1) / (e^2|x| + 1); past 9.1 it is 1 in fp32.
  const F magnitude = abs(x);
  const F doubled = select(magnitude > 10.0f, 20.0f, magnitude + magnitude);
  const auto [r, exponent] = reduce_by_ln2(doubled);
  const F small = fma(polynomial(r, kExpTail), r * r, r);
  const F scale = bit_cast<F>(add_bits(exponent, 0x3f800000));
  const F grown = fma(scale, small, scale - 1.0f);
  return copysign(grown / (grown + 2.0f), x);
}

// ---------------------------------------------------------------- logarithms

// (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f in [sqrt(1/2), sqrt(2)]
inline constexpr float kLogTail[] = {0.333333313f, -0.250008196f, 0.200012267f, -0.166233569f,
                                     0.142017588f, -0.131601825f, 0.12761575f,  -0.076344952f};
inline constexpr int32_t kSqrtHalfBits = 0x3f3504f3;

template <class F>
struct Split {
  F fraction;            // in [sqrt(1/2), sqrt(2))
  IntLanes<F> exponent;  // x = fraction * 2^exponent
};

// Of a positive, finite x.
template <class F>
ANE_LANE Split<F> split(F x) {
  using I = IntLanes<F>;
  const auto tiny = x < kSmallestNormal;
  const I bits = add_bits(bit_cast<I>(select(tiny, x * 0x1p23f, x)), -kSqrtHalfBits);
  const I exponent = (bits >> 23) - bit_cast<I>(select_constants<F>(tiny, bit_cast<float>(23), 0.0f));
  return {bit_cast<F>((bits & 0x007fffff) + kSqrtHalfBits), exponent};
}

// What a logarithm gives for 0, negative numbers, infinity and NaN.
template <class F>
ANE_LANE F limit_log(F x, F inside) {
  const F positive = select(x < kInfinity, inside, x);
  return select(x > 0.0f, positive, select(x == 0.0f, splat<F>(-kInfinity), splat<F>(kNaN)));
}

// log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)], in two parts: f, which is exact, and the rest.
template <class F>
ANE_LANE F log_beyond_first_term(F f) {
  const F square = f * f;
  return fma(square * f, polynomial(f, kLogTail), square * -0.5f);
}

template <class F>
ANE_LANE F log(F x) {
  const auto [fraction, exponent] = split(x);
  const F f = fraction - 1.0f, n = from_int<F>(exponent);
  const F rest = fma(n, splat<F>(kLn2Low), log_beyond_first_term(f));
  const F result = fma(n, splat<F>(kLn2High), f + rest);
  return limit_log(x, result);
}

// log(1 + x) for x >= 0, exact to the last bits near 0.
template <class F>
ANE_LANE F log1p(F x) {
  const F sum = 1.0f + x;
  const F lost = x - (sum - 1.0f);  // what rounding took from x
  return select(x < kInfinity, log(sum) + lost / sum, x);
}

// log(1 + e^x)
template <class F>
ANE_LANE F softplus(F x) {
  const F positive = select(x < 0.0f, 0.0f, x);
  return positive + log1p(exp(-abs(x)));
}

// ---------------------------------------------------------------- powers

// log2 of a positive, finite float, good to 1e-10.
template <class F>
ANE_LANE DoubleLanes<F> log2_wide(F x) {
  using D = DoubleLanes<F>;
  const auto [fraction, exponent] = split(x);
  const D m = widen(fraction);
  const D s = (m - 1.0) / (m + 1.0), q = s * s;  // log(m) = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.172
  const D series = 1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11)))));
  return widen(from_int<F>(exponent)) + (2.8853900817779268 * s) * series;  // 2 / ln 2
}

// 2^x as a float, for any x that is not NaN.
template <class F>
ANE_LANE F exp2_narrow(DoubleLanes<F> x) {
  using D = DoubleLanes<F>;
  using L = LongLanes<F>;
  D clamped = x < 300.0 ? x : D{} + 300.0;
  clamped = clamped > -300.0 ? clamped : D{} - 300.0;
  const double rounder = 0x1.8p52;
  const D shifted = clamped + rounder;
  const D r = (clamped - (shifted - rounder)) * 0.6931471805599453;
  D series = D{} + 1.0 / 3628800;  // Taylor to r^10 is good to 1e-13 for |r| < 0.35
  const double inverse_factorials[] = {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                                       1.0 / 24,     1.0 / 6,     1.0 / 2,    1.0,       1.0};
  for (double coefficient : inverse_factorials) series = series * r + coefficient;
  return narrow<F>(bit_cast<D>(bit_cast<L>(series) + (bit_cast<L>(shifted) << 52)));
}

// x^y as C's pow, good to one unit of fp32.
template <class F>
ANE_LANE F pow(F x, F y) {
  const F magnitude = abs(x);
  const F usable = select(magnitude > 0.0f, select(magnitude < kInfinity, magnitude, 1.0f), 1.0f);
  F result = exp2_narrow<F>(log2_wide(usable) * widen(select(y == y, y, 0.0f)));
  // 0 and infinity raised to y are 0, 1 or infinity.
  const F from_zero = select(y > 0.0f, splat<F>(0.0f), splat<F>(kInfinity));
  const F from_infinity = select(y > 0.0f, splat<F>(kInfinity), splat<F>(0.0f));
  result = select(magnitude == 0.0f, from_zero, select(magnitude == kInfinity, from_infinity, result));
  // A negative base: the sign for odd y, NaN for a y that is not whole.
  const F half = y * 0.5f;
  const F odd = select(rint(y) == y, select(rint(half) == half, splat<F>(1.0f), splat<F>(-1.0f)), splat<F>(1.0f));
  const F nan_when_fractional = select(rint(y) == y, result, select(magnitude == 0.0f, result, splat<F>(kNaN)));
  const F negative = select(magnitude == kInfinity, result, nan_when_fractional) * odd;
  result = select(bit_cast<IntLanes<F>>(x) < 0, negative, result);
  const F nan = x + y;
  result = select(nan == nan, result, select(abs(y) == kInfinity, result, nan));
  result = select(x == x, result, x);
  return select(y == 0.0f, 1.0f, select(x == 1.0f, 1.0f, result));
}

// ---------------------------------------------------------------- circular functions

// (sin r - r) / r^3 and (cos r - 1 + r^2 / 2) / r^4 in r^2, for |r| <= pi / 4
inline constexpr float kSinTail[] = {-0.166666552f, 0.00833215564f, -0.00019514632f};
inline constexpr float kCosTail[] = {0.0416666456f, -0.00138873095f, 2.44324128e-05f};

// sin(x + quarter_turns * pi / 2). Good for |x| up to 1e5 (all of fp16); past 2^22 the angle is no longer resolved, and
// the result is only known to lie in [-1, 1].
template <class F>
ANE_LANE F sine_of_turned(F x, int32_t quarter_turns) {
  using I = IntLanes<F>;
  const F shifted = fma(x, 0x1.45f306p-1f, splat<F>(kRounder));  // 2 / pi
  const F n = shifted - kRounder;
  F r = fma(n, splat<F>(-0x1.921fb6p+0f), x);  // pi / 2 in three parts
  r = fma(n, splat<F>(0x1.777a5cp-25f), r);
  r = fma(n, splat<F>(0x1.ee59dap-50f), r);
  r = select(r > 0.8f, 0.8f, select(r < -0.8f, -0.8f, r));
  const F square = r * r;
  const F sine = fma(square * r, polynomial(square, kSinTail), r);
  const F cosine = fma(square * square, polynomial(square, kCosTail), fma(square, splat<F>(-0.5f), splat<F>(1.0f)));
  const I quadrant = add_bits(bit_cast<I>(shifted), quarter_turns);
  const F value = select((quadrant & 1) != 0, cosine, sine);
  const F turned = bit_cast<F>(bit_cast<I>(value) ^ ((quadrant & 2) << 30));
  return select(abs(x) < kInfinity, turned, splat<F>(kNaN));
}

template <class F>
ANE_LANE F sin(F x) {
  return select(x == 0.0f, x, sine_of_turned(x, 0));  // -0 stays -0
}

template <class F>
ANE_LANE F cos(F x) {
  return sine_of_turned(x, 1);
}

// (atan(r) / r - 1) / r^2 in r^2, for |r| <= tan(pi / 8)
inline constexpr float kAtanTail[] = {-0.333333164f, 0.199984834f, -0.142437384f, 0.105951391f, -0.0608115494f};

template <class F>
ANE_LANE F atan(F x) {
  // atan(t) = pi/2 - atan(1/t) = pi/4 + atan((t - 1) / (t + 1)), by the size of t = |x|.
  const F t = abs(x);
  const auto large = t > 2.41421356f, medium = t > 0.414213562f;
  const F numerator = select(large, splat<F>(-1.0f), select(medium, t - 1.0f, t));
  const F denominator = select(large, t, select(medium, t + 1.0f, splat<F>(1.0f)));
  const F offset = select(large, splat<F>(1.57079633f), select_constants<F>(medium, 0.785398163f, 0.0f));
  const F r = numerator / denominator, square = r * r;
  return copysign(offset + fma(square * r, polynomial(square, kAtanTail), r), x);
}

// ---------------------------------------------------------------- error function

// erf(x) / x in x^2 for |x| <= 0.85
inline constexpr float kErfSmall[] = {1.12837923f,    -0.376126379f,    0.112837479f,   -0.0268625133f,
                                      0.00520937098f, -0.000824508548f, 8.83961693e-05f};
// (1 + 2 z) e^(z^2) erfc(z) in (z - 2) / (z + 2) for z >= 0
inline constexpr float kErfcx[] = {1.27697837f,     -0.0927630812f,   -0.166031525f,  0.164035827f,
                                   -0.0542082563f,  -0.00794266816f,  0.00867822953f, 0.00104307919f,
                                   -0.00138272985f, -0.000183627562f, 0.000155461792f};

// 1 - erf(z) for z >= 0, to a small relative error however small it is. z^2 comes as `square` + `lost`, since its
// rounding error would be that of the result.
template <class F>
ANE_LANE F erfc_positive(F z, F square, F lost) {
  const F bounded = select(z > 12.0f, 12.0f, z);  // the exponential is 0 in fp32 from 9.4 on
  const F scaled =
      polynomial((bounded - 2.0f) / (bounded + 2.0f), kErfcx) / fma(bounded, splat<F>(2.0f), splat<F>(1.0f));
  const F correction = select(z > 12.0f, 0.0f, lost);
  return exp(-square) * (scaled - scaled * correction);
}

template <class F>
ANE_LANE F erf(F x) {
  const F magnitude = abs(x);
  const F square = x * x;
  const F small = magnitude * polynomial(square, kErfSmall);
  const F large = 1.0f - erfc_positive(magnitude, square, fma(x, x, -square));
  return copysign(select(magnitude < 0.85f, small, large), x);
}

// ---------------------------------------------------------------- gelu

// x Phi(x) = x erfc(-x / sqrt 2) / 2, without cancellation for negative x.
template <class F>
ANE_LANE F gelu(F x) {
  const F square = x * x, lost = fma(x, x, -square);
  const F tail = 0.5f * erfc_positive(abs(x) * 0x1.6a09e6p-1f, square * 0.5f, lost * 0.5f);  // Phi(-|x|)
  const F result = x * select(x < 0.0f, tail, 1.0f - tail);
  return select(x == -kInfinity, splat<F>(-0.0f), result);
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))
template <class F>
ANE_LANE F gelu_tanh(F x) {
  const F inner = fma(x * x, splat<F>(0.044715f), splat<F>(1.0f)) * x;
  const F result = x * sigmoid(inner * 1.59576912f);
  return select(x == -kInfinity, splat<F>(-0.0f), result);
}

// x sigmoid(1.702 x)
template <class F>
ANE_LANE F gelu_sigmoid(F x) {
  return select(x == -kInfinity, splat<F>(-0.0f), x * sigmoid(x * 1.702f));
}

}  // namespace ane::vmath
#endif
