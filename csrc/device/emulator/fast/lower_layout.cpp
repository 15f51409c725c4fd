// Layout operations: views, or parts written in place.
#include <limits>

#include "../reference.h"
#include "lower.h"

namespace ane::fast {

namespace {

// slice_by_index with its masks, as a view whose squeezed axes still have size one.
View slice_by_index(const NodeView &node, View view) {
  const auto flags = [&](const char *argument) {
    std::vector<bool> result(view.rank(), false);
    if (!node.has(argument)) return result;
    const std::vector<int64_t> values = node.integers(argument);
    for (size_t i = 0; i < values.size(); ++i) result[i] = values[i] != 0;
    return result;
  };
  const std::vector<bool> from_start = flags("begin_mask"), squeezed = flags("squeeze_mask");
  const std::vector<int64_t> begin = node.integers("begin");
  const std::vector<int64_t> steps =
      node.has("stride") ? node.integers("stride") : std::vector<int64_t>(view.rank(), 1);
  const Shape &result = node.output_type().shape;
  size_t kept = 0;
  for (size_t axis = 0; axis < view.rank(); ++axis) {
    const int64_t length = view.sizes[axis];
    const int64_t step = steps[axis];
    int64_t first = begin[axis] < 0 ? begin[axis] + length : begin[axis];
    if (from_start[axis]) first = step > 0 || squeezed[axis] ? 0 : length - 1;
    if (first >= length && step < 0) first = length - 1;
    view = sliced(view, axis, first, squeezed[axis] ? 1 : result[kept++], step);
  }
  return view;
}

View reversed(const NodeView &node, View view) {
  std::vector<bool> chosen(view.rank(), !node.has("axes"));
  if (node.has("axes")) {
    for (int64_t axis : node.integers("axes"))
      chosen[axis < 0 ? axis + static_cast<int64_t>(view.rank()) : axis] = true;
  }
  for (size_t axis = 0; axis < view.rank(); ++axis) {
    if (chosen[axis]) view = sliced(view, axis, view.sizes[axis] - 1, view.sizes[axis], -1);
  }
  return view;
}

View cropped(const NodeView &node, View view) {
  const char *arguments[2] = {"crop_height", "crop_width"};
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<int64_t> amount = node.integers(arguments[i]);
    const size_t axis = view.rank() - 2 + i;
    view = sliced(view, axis, amount[0], view.sizes[axis] - amount[0] - amount[1]);
  }
  return view;
}

}  // namespace

bool Lowering::lower_layout(const NodeView &node) {
  switch (node.kind()) {
    case OpKind::Identity:
    case OpKind::Reshape:
    case OpKind::Squeeze:
    case OpKind::ExpandDims:
    case OpKind::Flatten2d: lower_reshape(node.id("x"), node.output()); return true;
    case OpKind::Transpose: lower_transpose(node); return true;
    case OpKind::SliceBySize:
    case OpKind::SliceByIndex: lower_slice(node); return true;
    case OpKind::Split: lower_split(node); return true;
    case OpKind::Reverse: set_place(node.output(), reversed(node, read(node.id("x")))); return true;
    case OpKind::Crop: set_place(node.output(), cropped(node, read(node.id("x")))); return true;
    case OpKind::Stack: lower_concat(node); return true;
    case OpKind::Concat:
      if (node.has("interleave") && node.boolean("interleave")) return false;
      lower_concat(node);
      return true;
    default: return false;
  }
}

void Lowering::lower_reshape(int from, int to) {
  Origin origin;
  origin.kind = Origin::Kind::Reshape;
  origin.parents = {from};
  const View view = reshaped_or_copied(read(from), value(to).type.shape);
  set_alias(to, view, origin);
}

void Lowering::lower_transpose(const NodeView &node) {
  Origin origin;
  origin.kind = Origin::Kind::Permute;
  origin.parents = {node.id("x")};
  const int64_t rank = static_cast<int64_t>(node.output_type().shape.size());
  for (int64_t axis : node.integers("perm")) origin.permutation.push_back(axis < 0 ? axis + rank : axis);
  set_alias(node.output(), permuted(read(node.id("x")), origin.permutation), origin);
}

void Lowering::lower_slice(const NodeView &node) {
  const int result = node.output();
  const Shape &shape = node.output_type().shape;
  View view = read(node.id("x"));
  if (node.kind() == OpKind::SliceBySize) {
    const std::vector<int64_t> begin = node.integers("begin");
    for (size_t axis = 0; axis < view.rank(); ++axis) view = sliced(view, axis, begin[axis], shape[axis]);
  } else {
    view = *reshaped(slice_by_index(node, view), shape);
  }
  const float limit = width_slice_limit(node, profile_);
  if (limit == std::numeric_limits<float>::infinity()) return set_place(result, view);
  saturate(result, view, limit);
}

void Lowering::lower_split(const NodeView &node) {
  const View whole = read(node.id("x"));
  const size_t axis = static_cast<size_t>(node.axis("axis", static_cast<int>(whole.rank())));
  int64_t begin = 0;
  for (int part : node.node().outputs) {
    const int64_t size = value(part).type.shape[axis];
    set_place(part, sliced(whole, axis, begin, size));
    begin += size;
  }
}

void Lowering::lower_concat(const NodeView &node) {
  const int result = node.output();
  Origin origin;
  origin.kind = Origin::Kind::Concat;
  origin.parents = node.ids("values");
  origin.axis = static_cast<size_t>(node.axis("axis", static_cast<int>(node.output_type().shape.size())));
  const View whole = new_buffer(node.output_type().shape);
  set_alias(result, whole, origin);
  add_home(result, whole);
}

}  // namespace ane::fast
