// Operations that move elements: join, cut, reshape, reorder, repeat, pad.
#include <algorithm>

#include "../limits.h"
#include "shape_rules.h"

namespace ane {

namespace {

long long text(int64_t value) { return static_cast<long long>(value); }

// ---------------------------------------------------------------- join and cut

const Type &operand(const NodeView &node, size_t index) { return node.graph().values[node.ids("values")[index]].type; }

[[noreturn]] void operands_differ(const NodeView &node, size_t index, const std::string &expected) {
  wrong_argument(node, "values",
                 format("number 1 is %s, number %zu is %s; expected %s", type_text(operand(node, 0)).c_str(), index + 1,
                        type_text(operand(node, index)).c_str(), expected.c_str()));
}

std::vector<Type> infer_concat(const NodeView &node) {
  Type result = operand(node, 0);
  const int rank = static_cast<int>(result.shape.size());
  const int64_t axis = node.axis("axis", rank);
  const bool interleave = node.boolean("interleave");
  for (size_t i = 1; i < node.ids("values").size(); ++i) {
    const Type &other = operand(node, i);
    Shape same_length = other.shape;
    if (!interleave && static_cast<int>(same_length.size()) == rank) same_length[axis] = operand(node, 0).shape[axis];
    if (other.dtype != result.dtype || same_length != operand(node, 0).shape)
      operands_differ(node, i,
                      interleave ? "equal types to interleave"
                                 : format("one element type and equal sizes outside axis %lld", text(axis)));
    result.shape[axis] += other.shape[axis];
  }
  return {result};
}

std::vector<Type> infer_stack(const NodeView &node) {
  Type result = operand(node, 0);
  for (size_t i = 1; i < node.ids("values").size(); ++i)
    if (operand(node, i) != result) operands_differ(node, i, "equal types");
  const int64_t axis = node.axis("axis", static_cast<int>(result.shape.size()) + 1);
  result.shape.insert(result.shape.begin() + axis, static_cast<int64_t>(node.ids("values").size()));
  return {result};
}

std::vector<int64_t> split_sizes(const NodeView &node, int64_t length) {
  if (!node.has("split_sizes")) {
    if (!node.has("num_splits")) wrong_argument(node, "num_splits", "is missing; expected num_splits or split_sizes");
    const int64_t count = node.integer("num_splits");
    if (count < 1 || length % count != 0 || count > static_cast<int64_t>(limits::kOperands))
      wrong_argument(node, "num_splits",
                     format("is %lld; expected a divisor of %lld, and at most %zu parts", text(count), text(length),
                            limits::kOperands));
    return std::vector<int64_t>(static_cast<size_t>(count), length / count);
  }
  const std::vector<int64_t> sizes = node.integers("split_sizes");
  int64_t total = 0;
  for (int64_t size : sizes) total = size < 1 ? -1 : total < 0 ? -1 : total + size;
  if (total != length)
    wrong_argument(
        node, "split_sizes",
        format("is %s; expected positive sizes that add up to %lld", list_text(sizes).c_str(), text(length)));
  if (node.has("num_splits") && node.integer("num_splits") != static_cast<int64_t>(sizes.size()))
    wrong_argument(
        node, "num_splits",
        format("is %lld; expected %zu, the length of split_sizes", text(node.integer("num_splits")), sizes.size()));
  return sizes;
}

std::vector<Type> infer_split(const NodeView &node) {
  const Type &x = node.type("x");
  const int64_t axis = node.axis("axis", static_cast<int>(x.shape.size()));
  std::vector<Type> parts;
  for (int64_t size : split_sizes(node, x.shape[axis])) {
    parts.push_back(x);
    parts.back().shape[axis] = size;
  }
  return parts;
}

// A size of -1 reaches to the end.
std::vector<Type> infer_slice_by_size(const NodeView &node) {
  Type result = node.type("x");
  const Shape x = result.shape;
  const std::vector<int64_t> begin = list_of(node, "begin", x.size()), size = list_of(node, "size", x.size(), -1);
  for (size_t i = 0; i < x.size(); ++i) {
    result.shape[i] = size[i] == -1 ? x[i] - begin[i] : size[i];
    if (begin[i] < 0 || result.shape[i] < 1 || begin[i] + result.shape[i] > x[i])
      wrong_argument(node, "begin",
                     format("%s with size %s leaves %s on axis %zu; expected a part of it, not empty",
                            list_text(begin).c_str(), list_text(size).c_str(), shape_text(x).c_str(), i));
  }
  return {result};
}

std::vector<bool> mask_of(const NodeView &node, const char *argument, size_t rank) {
  std::vector<bool> mask(rank, false);
  if (!node.has(argument)) return mask;
  const std::vector<int64_t> given = list_of(node, argument, rank);
  std::copy(given.begin(), given.end(), mask.begin());
  return mask;
}

// How many elements begin:end:stride takes of `length`, as numpy counts them; a masked side is open.
int64_t slice_length(int64_t length, int64_t begin, int64_t end, int64_t stride, bool open_begin, bool open_end) {
  const int64_t lowest = stride < 0 ? -1 : 0, highest = stride < 0 ? length - 1 : length;
  const auto bounded = [&](int64_t index) { return std::clamp(index < 0 ? index + length : index, lowest, highest); };
  const int64_t first = open_begin ? (stride < 0 ? highest : lowest) : bounded(begin);
  const int64_t last = open_end ? (stride < 0 ? lowest : highest) : bounded(end);
  const int64_t span = stride < 0 ? first - last : last - first, step = stride < 0 ? -stride : stride;
  return span <= 0 ? 0 : (span + step - 1) / step;
}

std::vector<Type> infer_slice_by_index(const NodeView &node) {
  const Type &x = node.type("x");
  const size_t rank = x.shape.size();
  const std::vector<int64_t> begin = list_of(node, "begin", rank), end = list_of(node, "end", rank);
  const std::vector<int64_t> stride =
      node.has("stride") ? list_of(node, "stride", rank) : std::vector<int64_t>(rank, 1);
  const std::vector<bool> begin_mask = mask_of(node, "begin_mask", rank), end_mask = mask_of(node, "end_mask", rank),
                          squeeze_mask = mask_of(node, "squeeze_mask", rank);
  Type result{x.dtype, {}};
  for (size_t i = 0; i < rank; ++i) {
    if (stride[i] == 0) wrong_argument(node, "stride", "is " + list_text(stride) + "; expected no 0");
    if (squeeze_mask[i]) {
      if (!begin_mask[i] && (begin[i] < -x.shape[i] || begin[i] >= x.shape[i]))
        wrong_argument(node, "begin",
                       format("holds %lld for axis %zu; expected %lld to %lld", text(begin[i]), i, text(-x.shape[i]),
                              text(x.shape[i] - 1)));
      continue;
    }
    result.shape.push_back(slice_length(x.shape[i], begin[i], end[i], stride[i], begin_mask[i], end_mask[i]));
    if (result.shape.back() == 0)
      wrong_argument(node, "end",
                     format("takes nothing of axis %zu: %lld:%lld:%lld of %lld elements; expected at least "
                            "one",
                            i, text(begin[i]), text(end[i]), text(stride[i]), text(x.shape[i])));
  }
  return {result};
}

// ---------------------------------------------------------------- shape

std::vector<Type> infer_reshape(const NodeView &node) {
  const Type &x = node.type("x");
  Shape shape = node.integers("shape");
  const int64_t count = element_product(x.shape, 0, x.shape.size());
  int64_t known = 1;
  for (int64_t size : shape) known = size == -1 ? known : product(known, std::max<int64_t>(size, 0));
  const auto unknown = std::count(shape.begin(), shape.end(), -1);
  const bool fits = unknown <= 1 && known > 0 && (unknown ? count % known == 0 : count == known) &&
                    std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size >= 1 || size == -1; });
  if (!fits)
    wrong_argument(node, "shape",
                   format("is %s; expected positive sizes, at most one -1, for the %lld elements of %s",
                          list_text(shape).c_str(), text(count), shape_text(x.shape).c_str()));
  for (int64_t &size : shape) size = size == -1 ? count / known : size;
  return {{x.dtype, shape}};
}

std::vector<Type> infer_transpose(const NodeView &node) {
  const Type &x = node.type("x");
  list_of(node, "perm", x.shape.size());
  Type result{x.dtype, {}};
  for (int64_t axis : axes_of(node, "perm", x.shape.size())) result.shape.push_back(x.shape[axis]);
  return {result};
}

// Without axes: every axis of size 1.
std::vector<Type> infer_squeeze(const NodeView &node) {
  const Type &x = node.type("x");
  const std::vector<int64_t> axes = axes_of(node, "axes", x.shape.size());
  Type result{x.dtype, {}};
  for (size_t i = 0; i < x.shape.size(); ++i) {
    const bool named = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    if (named && node.has("axes") && x.shape[i] != 1)
      wrong_argument(node, "axes",
                     format("names axis %zu of %s; expected axes of size 1", i, shape_text(x.shape).c_str()));
    if (!named || x.shape[i] != 1) result.shape.push_back(x.shape[i]);
  }
  return {result};
}

// Axes are places in the result.
std::vector<Type> infer_expand_dims(const NodeView &node) {
  const Type &x = node.type("x");
  const size_t rank = x.shape.size() + node.integers("axes").size();
  const std::vector<int64_t> axes = axes_of(node, "axes", rank);
  Type result{x.dtype, {}};
  size_t next = 0;
  for (size_t i = 0; i < rank; ++i) {
    const bool added = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    result.shape.push_back(added ? 1 : x.shape[next++]);
  }
  return {result};
}

std::vector<Type> infer_flatten2d(const NodeView &node) {
  const Type &x = node.type("x");
  const int64_t rank = static_cast<int64_t>(x.shape.size()), written = node.integer("axis");
  if (written < -rank || written > rank)
    wrong_argument(node, "axis", format("is %lld; expected %lld to %lld", text(written), text(-rank), text(rank)));
  const size_t axis = static_cast<size_t>(written < 0 ? written + rank : written);
  return {{x.dtype, {element_product(x.shape, 0, axis), element_product(x.shape, axis, x.shape.size())}}};
}

// ---------------------------------------------------------------- repetition, order, borders

std::vector<Type> infer_tile(const NodeView &node) {
  Type result = node.type("x");
  const std::vector<int64_t> reps = list_of(node, "reps", result.shape.size(), 1);
  for (size_t i = 0; i < reps.size(); ++i) result.shape[i] = product(result.shape[i], reps[i]);
  return {result};
}

std::vector<Type> infer_reverse(const NodeView &node) {
  axes_of(node, "axes", node.shape("x").size());
  return {node.type("x")};
}

// pad holds (before, after) of each of the last axes.
std::vector<Type> infer_pad(const NodeView &node) {
  require_text(node, "mode", {"constant", "reflect", "replicate"});
  Type result = node.type("x");
  const std::vector<int64_t> pad = node.integers("pad");
  const size_t rank = result.shape.size(), padded = pad.size() / 2;
  if (pad.empty() || pad.size() % 2 != 0 || padded > rank)
    wrong_argument(node, "pad", format("has %zu elements; expected an even number up to %zu", pad.size(), 2 * rank));
  for (size_t i = 0; i < padded; ++i) {
    int64_t &size = result.shape[rank - padded + i];
    const int64_t before = pad[2 * i], after = pad[2 * i + 1];
    const bool reflects_too_far = node.text("mode") == "reflect" && std::max(before, after) > size - 1;
    if (std::min(before, after) < 0 || reflects_too_far)
      wrong_argument(node, "pad",
                     format("is %s; expected no negative number, and in mode reflect less than the %lld "
                            "elements of axis %zu",
                            list_text(pad).c_str(), text(size), rank - padded + i));
    size += before + after;
  }
  return {result};
}

std::vector<Type> infer_crop(const NodeView &node) {
  require_rank(node, "x", 3, 5);
  Type result = node.type("x");
  const size_t rank = result.shape.size();
  const std::pair<const char *, size_t> sides[] = {{"crop_height", rank - 2}, {"crop_width", rank - 1}};
  for (const auto &[argument, axis] : sides) {
    const std::vector<int64_t> cut = list_of(node, argument, 2, 0);
    result.shape[axis] -= cut[0] + cut[1];
    if (result.shape[axis] < 1)
      wrong_argument(node, argument,
                     format("is %s; expected to leave some of %lld elements", list_text(cut).c_str(),
                            text(node.shape("x")[axis])));
  }
  return {result};
}

// ---------------------------------------------------------------- channels and pixels

// [N, C f^2, H, W] -> [N, C, H f, W f]
std::vector<Type> to_space(const NodeView &node, const char *argument) {
  require_rank(node, "x", 4, 4);
  Type result = node.type("x");
  const int64_t factor = node.integer(argument), square = factor < 1 ? 0 : product(factor, factor);
  if (square == 0 || result.shape[1] % square != 0)
    wrong_argument(node, argument,
                   format("is %lld; expected a positive number whose square divides the %lld channels", text(factor),
                          text(result.shape[1])));
  result.shape = {result.shape[0], result.shape[1] / square, product(result.shape[2], factor),
                  product(result.shape[3], factor)};
  return {result};
}

// [N, C, H f, W f] -> [N, C f^2, H, W]
std::vector<Type> to_depth(const NodeView &node, const char *argument) {
  require_rank(node, "x", 4, 4);
  Type result = node.type("x");
  const int64_t factor = node.integer(argument);
  if (factor < 1 || result.shape[2] % factor != 0 || result.shape[3] % factor != 0)
    wrong_argument(node, argument,
                   format("is %lld; expected a divisor of height %lld and width %lld", text(factor),
                          text(result.shape[2]), text(result.shape[3])));
  result.shape = {result.shape[0], product(result.shape[1], product(factor, factor)), result.shape[2] / factor,
                  result.shape[3] / factor};
  return {result};
}

std::vector<Type> infer_pixel_shuffle(const NodeView &node) { return to_space(node, "upscale_factor"); }
std::vector<Type> infer_pixel_unshuffle(const NodeView &node) { return to_depth(node, "downscale_factor"); }
std::vector<Type> infer_space_to_depth(const NodeView &node) { return to_depth(node, "block_size"); }
std::vector<Type> infer_depth_to_space(const NodeView &node) { return to_space(node, "block_size"); }

}  // namespace

std::vector<OpSpec> layout_ops() {
  const ArgSpec any = tensor("x", kAnyTensor), x = tensor("x"), values = tensor("values", ArgTensor | ArgVariadic),
                axis = required("axis", "int32"), axes = optional("axes", "int32[]");
  const Evidence direct = Evidence::Direct, e5rt = Evidence::E5rt, disputed = Evidence::Disputed;
  const char *af = "ANE_FACTS 3.3: e5rt AF", *all = "ANE_FACTS 3.3: direct all sources";
  return {
      {OpKind::Concat,
       "concat",
       {values, axis, required("interleave", "bool")},
       direct,
       "ANE_FACTS 3.3, C1: direct MAD, ESP, LM, M0; ORI and AT report rejection",
       infer_concat},
      {OpKind::Stack, "stack", {values, axis}, e5rt, af, infer_stack},
      {OpKind::Split,
       "split",
       {any, optional("num_splits", "int32"), optional("split_sizes", "int32[]"), axis},
       e5rt,
       af,
       infer_split},
      {OpKind::SliceBySize,
       "slice_by_size",
       {any, required("begin", "int32[]"), required("size", "int32[]")},
       direct,
       "ANE_FACTS 3.3: direct MAD, FG, M0",
       infer_slice_by_size},
      {OpKind::SliceByIndex,
       "slice_by_index",
       {any, required("begin", "int32[]"), required("end", "int32[]"), optional("stride", "int32[]"),
        optional("begin_mask", "bool[]"), optional("end_mask", "bool[]"), optional("squeeze_mask", "bool[]")},
       direct,
       "ANE_FACTS 3.3: direct LM, ORI",
       infer_slice_by_index},
      {OpKind::Reshape, "reshape", {any, required("shape", "int32[]")}, direct, all, infer_reshape},
      {OpKind::Transpose, "transpose", {any, required("perm", "int32[]")}, direct, all, infer_transpose},
      {OpKind::Squeeze, "squeeze", {any, axes}, e5rt, af, infer_squeeze},
      {OpKind::ExpandDims, "expand_dims", {any, required("axes", "int32[]")}, e5rt, af, infer_expand_dims},
      {OpKind::Flatten2d, "flatten2d", {any, optional("axis", "int32", "1")}, e5rt, af, infer_flatten2d},
      {OpKind::Tile,
       "tile",
       {any, required("reps", "int32[]")},
       disputed,
       "ANE_FACTS 3.3, C51: e5rt AF; FG: it poisons the process",
       infer_tile},
      {OpKind::Reverse, "reverse", {any, axes}, e5rt, af, infer_reverse},
      {OpKind::Pad,
       "pad",
       {x, required("pad", "int32[]"), optional("mode", "string", "constant"), optional("constant_val", "fp", "0.0")},
       e5rt,
       "ANE_FACTS 3.3: e5rt AF, through concat and conv in places",
       infer_pad},
      {OpKind::Crop,
       "crop",
       {x, required("crop_height", "int32[]"), required("crop_width", "int32[]")},
       e5rt,
       af,
       infer_crop},
      {OpKind::PixelShuffle, "pixel_shuffle", {x, required("upscale_factor", "int32")}, e5rt, af, infer_pixel_shuffle},
      {OpKind::PixelUnshuffle,
       "pixel_unshuffle",
       {x, required("downscale_factor", "uint32")},
       e5rt,
       af,
       infer_pixel_unshuffle,
       16},
      {OpKind::SpaceToDepth, "space_to_depth", {x, required("block_size", "int32")}, e5rt, af, infer_space_to_depth},
      {OpKind::DepthToSpace, "depth_to_space", {x, required("block_size", "int32")}, e5rt, af, infer_depth_to_space},
  };
}

}  // namespace ane
