// The one order in which values of a row are added: 16 accumulators, element i goes to number i mod 16, and these are
// folded 8 + 8, 4 + 4, 2 + 2, 1 + 1. A vector unit does this at full speed, scalar code can do it too, and both give
// the same bits. A row's elements are numbered in row-major order of the reduced axes.
#ifndef ANETRAIN_EMULATOR_ROWS_H
#define ANETRAIN_EMULATOR_ROWS_H

#include "../../cpu/vmath.h"
#include "ops.h"

namespace ane {

constexpr int kRowLanes = 16;

// A row of lanes: F = float for one row, a vector for as many rows side by side.
template <class F>
struct RowSum {
  F lanes[kRowLanes] = {};
  inline __attribute__((always_inline)) void add(int64_t index, F value) {
    lanes[index % kRowLanes] = lanes[index % kRowLanes] + value;
  }
  inline __attribute__((always_inline)) F total() const {
    F folded[kRowLanes];
    for (int i = 0; i < kRowLanes; ++i) folded[i] = lanes[i];
    for (int width = kRowLanes / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) folded[i] = folded[i] + folded[i + width];
    return folded[0];
  }
};

// 16 neighbours of a contiguous row, in the vectors this file is compiled for.
struct Sixteen {
  static constexpr int count = kRowLanes / kLanes<NativeFloats>;
  NativeFloats parts[count];
};

ANE_LANE Sixteen sixteen_of(float value) {
  Sixteen result;
  for (NativeFloats &part : result.parts) part = splat<NativeFloats>(value);
  return result;
}
ANE_LANE Sixteen load_sixteen(const float *from) {
  Sixteen result;
  std::memcpy(&result, from, sizeof result);
  return result;
}
ANE_LANE void store_sixteen(float *to, const Sixteen &from) { std::memcpy(to, &from, sizeof from); }

// The first `count` < 16 elements; the others are `fill`.
ANE_LANE Sixteen load_some(const float *from, int64_t count, float fill) {
  float lanes[kRowLanes];
  for (int i = 0; i < kRowLanes; ++i) lanes[i] = i < count ? from[i] : fill;
  return load_sixteen(lanes);
}

// result[i] = function(a[i], b[i]...)
template <class Function, class... Others>
ANE_LANE Sixteen each(Function function, const Sixteen &a, const Others &...b) {
  Sixteen result;
  for (int i = 0; i < Sixteen::count; ++i) result.parts[i] = function(a.parts[i], b.parts[i]...);
  return result;
}

ANE_LANE float fold_sum(const Sixteen &lanes) {
  RowSum<float> sum;
  store_sixteen(sum.lanes, lanes);
  return sum.total();
}

ANE_LANE float fold_max(const Sixteen &lanes) {
  float values[kRowLanes];
  store_sixteen(values, lanes);
  for (int width = kRowLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) values[i] = values[i] > values[i + width] ? values[i] : values[i + width];
  return values[0];
}

// Sum of map(x[i]) over a contiguous row; `map` takes and gives NativeFloats.
template <class Map>
ANE_LANE float row_sum(const float *x, int64_t count, Map map) {
  const auto add_mapped = [&](NativeFloats sum, NativeFloats v) __attribute__((always_inline)) { return sum + map(v); };
  Sixteen lanes = {};
  int64_t i = 0;
  for (; i + kRowLanes <= count; i += kRowLanes) lanes = each(add_mapped, lanes, load_sixteen(x + i));
  float mapped[kRowLanes];  // the rest of the row: map(0) need not be 0
  store_sixteen(mapped, each(map, load_some(x + i, count - i, 0.0f)));
  const auto add = [](NativeFloats sum, NativeFloats v) __attribute__((always_inline)) { return sum + v; };
  return fold_sum(each(add, lanes, load_some(mapped, count - i, 0.0f)));
}
ANE_LANE float row_sum(const float *x, int64_t count) {
  return row_sum(x, count, [](NativeFloats v) __attribute__((always_inline)) { return v; });
}

// The largest element; NaN is passed over.
ANE_LANE float row_max(const float *x, int64_t count) {
  const auto larger = [](NativeFloats kept, NativeFloats v)
                          __attribute__((always_inline)) { return select(v > kept, v, kept); };
  Sixteen lanes = sixteen_of(-vmath::kInfinity);
  int64_t i = 0;
  for (; i + kRowLanes <= count; i += kRowLanes) lanes = each(larger, lanes, load_sixteen(x + i));
  return fold_max(each(larger, lanes, load_some(x + i, count - i, -vmath::kInfinity)));
}

// y = softmax(x) over a contiguous row, not rounded: e^(x - max), times 1 / sum. x and y may be the same.
// A row of -inf only has no maximum to subtract: it becomes NaN, as elsewhere.
ANE_LANE void softmax_row(const float *x, float *y, int64_t count) {
  const float highest = row_max(x, count);
  const auto exponential = [=](NativeFloats v) __attribute__((always_inline)) { return vmath::exp(v - highest); };
  const auto add = [](NativeFloats sum, NativeFloats v) __attribute__((always_inline)) { return sum + v; };
  Sixteen lanes = {};
  int64_t i = 0;
  for (; i + kRowLanes <= count; i += kRowLanes) {
    const Sixteen e = each(exponential, load_sixteen(x + i));
    store_sixteen(y + i, e);
    lanes = each(add, lanes, e);
  }
  float rest[kRowLanes];
  store_sixteen(rest, each(exponential, load_some(x + i, count - i, -vmath::kInfinity)));
  lanes = each(add, lanes, load_some(rest, count - i, 0.0f));
  std::memcpy(y + i, rest, static_cast<size_t>(count - i) * sizeof(float));
  const float inverse_sum = 1.0f / fold_sum(lanes);
  for (int64_t j = 0; j < count; ++j) y[j] = y[j] * inverse_sum;
}

// The sums among reductions: what is added for an element, and what is made of the total.
template <OpKind Kind, class F>
ANE_LANE F reduce_term(F x) {
  if constexpr (Kind == OpKind::ReduceL1Norm) {
    return abs(x);
  } else if constexpr (Kind == OpKind::ReduceL2Norm || Kind == OpKind::ReduceSumSquare) {
    return x * x;
  } else {
    static_assert(Kind == OpKind::ReduceSum || Kind == OpKind::ReduceMean || Kind == OpKind::ReduceLogSum);
    return x;
  }
}
template <OpKind Kind, class F>
ANE_LANE F reduce_result(F total, int64_t count) {
  if constexpr (Kind == OpKind::ReduceMean) {
    return total / static_cast<float>(count);
  } else if constexpr (Kind == OpKind::ReduceL2Norm) {
    return sqrt(total);
  } else if constexpr (Kind == OpKind::ReduceLogSum) {
    return vmath::log(total);
  } else {
    return total;
  }
}

}  // namespace ane
#endif
