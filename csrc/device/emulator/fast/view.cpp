#include "view.h"

#include <algorithm>

namespace ane::fast {

namespace {

// Strides of axes that have one element say nothing; zero keeps equal views equal.
void normalise(View *view) {
  for (size_t axis = 0; axis < view->rank(); ++axis) {
    if (view->sizes[axis] == 1) view->strides[axis] = 0;
  }
}

struct Axis {
  int64_t size, stride;
};

// Axes of more than one element, adjacent ones that step alike made one.
std::vector<Axis> merged_axes(const View &view) {
  std::vector<Axis> axes;
  for (size_t i = 0; i < view.rank(); ++i) {
    const Axis axis{view.sizes[i], view.strides[i]};
    if (axis.size == 1) continue;
    if (!axes.empty() && axes.back().stride == axis.size * axis.stride) {
      axes.back() = {axes.back().size * axis.size, axis.stride};
    } else {
      axes.push_back(axis);
    }
  }
  return axes;
}

}  // namespace

int64_t View::count() const {
  int64_t count = 1;
  for (int64_t size : sizes) count *= size;
  return count;
}

View dense_view(int buffer, const Shape &sizes) {
  View view{buffer, 0, sizes, row_major_strides(sizes)};
  normalise(&view);
  return view;
}

bool is_dense(const View &view) {
  const std::vector<Axis> axes = merged_axes(view);
  return axes.empty() || (axes.size() == 1 && axes[0].stride == 1);
}

bool is_one_to_one(const View &view) {
  std::vector<Axis> axes = merged_axes(view);
  std::sort(axes.begin(), axes.end(), [](const Axis &a, const Axis &b) { return a.stride < b.stride; });
  int64_t reach = 0;
  for (const Axis &axis : axes) {
    if (axis.stride <= reach) return false;
    reach += (axis.size - 1) * axis.stride;
  }
  return true;
}

View permuted(const View &view, const std::vector<int64_t> &permutation) {
  View result{view.buffer, view.offset, {}, {}};
  for (int64_t axis : permutation) {
    result.sizes.push_back(view.sizes[axis]);
    result.strides.push_back(view.strides[axis]);
  }
  return result;
}

View sliced(const View &view, size_t axis, int64_t begin, int64_t size, int64_t step) {
  View result = view;
  result.offset += begin * view.strides[axis];
  result.sizes[axis] = size;
  result.strides[axis] *= step;
  normalise(&result);
  return result;
}

View broadcast(const View &view, const Shape &sizes) {
  View result{view.buffer, view.offset, sizes, Shape(sizes.size(), 0)};
  const size_t added = sizes.size() - view.rank();
  for (size_t axis = 0; axis < view.rank(); ++axis) {
    if (view.sizes[axis] != 1) result.strides[added + axis] = view.strides[axis];
  }
  return result;
}

std::optional<View> reshaped(const View &view, const Shape &sizes) {
  View result{view.buffer, view.offset, sizes, Shape(sizes.size(), 0)};
  const std::vector<Axis> axes = merged_axes(view);
  size_t from = axes.size();
  int64_t left = 1, stride = 1;  // of the old axis being cut, from its end
  for (size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] == 1) continue;
    if (left == 1) {
      if (from == 0) return std::nullopt;
      --from;
      left = axes[from].size;
      stride = axes[from].stride;
    }
    if (left % sizes[i] != 0) return std::nullopt;
    result.strides[i] = stride;
    stride *= sizes[i];
    left /= sizes[i];
  }
  if (from != 0 || left != 1) return std::nullopt;
  return result;
}

std::optional<Shape> common_refinement(const Shape &a, const Shape &b) {
  Shape result;
  size_t i = a.size(), j = b.size();
  int64_t left_a = 1, left_b = 1;
  while (true) {
    while (left_a == 1 && i > 0) left_a = a[--i];
    while (left_b == 1 && j > 0) left_b = b[--j];
    if (left_a == 1 && left_b == 1) break;
    const int64_t step = std::min(left_a, left_b);
    if (step == 1 || left_a % step != 0 || left_b % step != 0) return std::nullopt;
    result.insert(result.begin(), step);
    left_a /= step;
    left_b /= step;
  }
  return result;
}

Footprint footprint(const View &view) {
  Footprint result{view.offset, view.offset};
  for (size_t axis = 0; axis < view.rank(); ++axis) {
    const int64_t reach = (view.sizes[axis] - 1) * view.strides[axis];
    (reach < 0 ? result.first : result.last) += reach;
  }
  return result;
}

}  // namespace ane::fast
