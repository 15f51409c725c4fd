// softmax, reductions, argmax, topk: each row is copied out, worked on as a contiguous row (rows.h), written back.
#include <algorithm>
#include <numeric>

#include "../../cpu/threads.h"
#include "ops/shape_rules.h"
#include "reference.h"
#include "rows.h"

namespace ane {

Rows::Rows(const Shape &shape, std::vector<int64_t> axes) {
  const std::vector<int64_t> steps = row_major_strides(shape);
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    const bool along = std::find(axes.begin(), axes.end(), static_cast<int64_t>(axis)) != axes.end();
    (along ? inner_ : outer_).push_back(shape[axis]);
    (along ? inner_steps_ : outer_steps_).push_back(steps[axis]);
  }
}

int64_t Rows::offset(int64_t row) const {
  int64_t offset = 0;
  for (size_t axis = outer_.size(); axis-- > 0; row /= outer_[axis]) offset += row % outer_[axis] * outer_steps_[axis];
  return offset;
}

void Rows::read(const float *x, int64_t row, float *to) const {
  copy_strided(x + offset(row), inner_steps_, inner_, to);
}

void Rows::write(const float *from, int64_t row, float *y) const {
  float *to = y + offset(row);
  std::vector<int64_t> index(inner_.size(), 0);
  for (int64_t i = 0, count = length(); i < count; ++i) {
    int64_t place = 0, rest = i;
    for (size_t axis = inner_.size(); axis-- > 0; rest /= inner_[axis])
      place += rest % inner_[axis] * inner_steps_[axis];
    to[place] = from[i];
  }
}

namespace {

constexpr size_t kRowsWorthAThread = 16;

// body(row, values of the row) for each row of x, over the thread pool.
template <class Body>
void for_rows(const Rows &rows, const float *x, Body body) {
  parallel_for(static_cast<size_t>(rows.count()), kRowsWorthAThread, [&](size_t begin, size_t end) {
    std::vector<float> values(static_cast<size_t>(rows.length()));
    for (size_t row = begin; row < end; ++row) {
      rows.read(x, static_cast<int64_t>(row), values.data());
      body(static_cast<int64_t>(row), values.data());
    }
  });
}

float log_sum_exp(const float *x, int64_t count) {
  const float highest = row_max(x, count);
  if (std::abs(highest) == vmath::kInfinity) return highest;
  const auto exponential = [=](NativeFloats v) __attribute__((always_inline)) { return vmath::exp(v - highest); };
  return highest + vmath::log(row_sum(x, count, exponential));
}

float row_min(float *x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = -x[i];
  return -row_max(x, count);
}

template <OpKind Kind>
float reduce_by_sum(const float *x, int64_t count) {
  const auto term = [](NativeFloats v) __attribute__((always_inline)) { return reduce_term<Kind>(v); };
  return reduce_result<Kind>(row_sum(x, count, term), count);
}

float reduce(const NodeRun &run, float *x, int64_t count) {
  switch (run.kind()) {
    case OpKind::ReduceSum: return run.arithmetic.sum(run.output_type().dtype, x, count);
    case OpKind::ReduceMean:
      return reduce_result<OpKind::ReduceMean>(run.arithmetic.sum(run.output_type().dtype, x, count), count);
    case OpKind::ReduceMax: return row_max(x, count);
    case OpKind::ReduceMin: return row_min(x, count);
    case OpKind::ReduceL1Norm: return reduce_by_sum<OpKind::ReduceL1Norm>(x, count);
    case OpKind::ReduceL2Norm: return reduce_by_sum<OpKind::ReduceL2Norm>(x, count);
    case OpKind::ReduceLogSum: return reduce_by_sum<OpKind::ReduceLogSum>(x, count);
    case OpKind::ReduceSumSquare: return reduce_by_sum<OpKind::ReduceSumSquare>(x, count);
    default: return log_sum_exp(x, count);
  }
}

Rows rows_along_axis(const NodeRun &run) {
  const Shape &x = run.shape("x");
  return Rows(x, {run.axis("axis", static_cast<int>(x.size()))});
}

}  // namespace

void run_softmax(const NodeRun &run) {
  const Rows rows = rows_along_axis(run);
  for_rows(rows, run.in("x"), [&](int64_t row, float *values) {
    softmax_row(values, values, rows.length());
    rows.write(values, row, run.out());
  });
}

void run_reduction(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const Rows rows(x, axes_of(run, "axes", x.size()));
  for_rows(rows, run.in("x"), [&](int64_t row, float *values) { run.out()[row] = reduce(run, values, rows.length()); });
}

// The first of the largest.
void run_argmax(const NodeRun &run) {
  const Rows rows = rows_along_axis(run);
  for_rows(rows, run.in("x"), [&](int64_t row, float *values) {
    run.out()[row] = static_cast<float>(std::max_element(values, values + rows.length()) - values);
  });
}

// NaN is larger than any number.
static bool larger(float a, float b) { return a != a ? b == b : a > b; }

// The k largest, largest first (smallest, smallest first, when ascending); equal ones in the order of their places.
void run_topk(const NodeRun &run) {
  const Rows rows = rows_along_axis(run);
  const Rows results(run.output_type().shape, {run.axis("axis", static_cast<int>(run.shape("x").size()))});
  const bool ascending = run.boolean("ascending");
  const int64_t k = run.integer("k");
  for_rows(rows, run.in("x"), [&](int64_t row, float *values) {
    std::vector<int64_t> order(static_cast<size_t>(rows.length()));
    std::iota(order.begin(), order.end(), 0);
    const auto before = [&](int64_t a, int64_t b) {
      const float first = values[ascending ? b : a], second = values[ascending ? a : b];
      if (larger(first, second) || larger(second, first)) return larger(first, second);
      return a < b;
    };
    std::sort(order.begin(), order.end(), before);
    std::vector<float> best(static_cast<size_t>(k)), places(static_cast<size_t>(k));
    for (int64_t i = 0; i < k; ++i) {
      best[i] = values[order[i]];
      places[i] = static_cast<float>(order[i]);
    }
    results.write(best.data(), row, run.out(0));
    results.write(places.data(), row, run.out(1));
  });
}

}  // namespace ane
