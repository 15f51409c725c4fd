// Operations that move elements, by two means: a strided copy, or a list of places to read from along each axis.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "../../cpu/vmath.h"
#include "ops/shape_rules.h"
#include "reference.h"

namespace ane {

void copy_strided(const float *x, const std::vector<int64_t> &steps, const Shape &shape, float *out) {
  if (shape.empty()) {
    *out = *x;
    return;
  }
  const size_t last = shape.size() - 1;
  const int64_t rows = element_product(shape, 0, last);
  std::vector<int64_t> index(last, 0);
  for (int64_t row = 0; row < rows; ++row) {
    const float *from = x;
    for (size_t axis = 0; axis < last; ++axis) from += index[axis] * steps[axis];
    for (int64_t i = 0; i < shape[last]; ++i) *out++ = from[i * steps[last]];
    for (size_t axis = last; axis-- > 0 && ++index[axis] == shape[axis];) index[axis] = 0;
  }
}

namespace {

using Places = std::vector<int64_t>;  // along one axis: where each output place reads; -1: nowhere

// Every place of an axis, in order.
Places all_of(int64_t size) {
  Places places(static_cast<size_t>(size));
  std::iota(places.begin(), places.end(), 0);
  return places;
}

std::vector<Places> all_places(const Shape &shape) {
  std::vector<Places> places;
  for (int64_t size : shape) places.push_back(all_of(size));
  return places;
}

// out[i, j, ...] = x[places[0][i], places[1][j], ...], `fill` where any place is -1
void gather(const float *x, const Shape &shape, const std::vector<Places> &places, float fill, float *out) {
  const std::vector<int64_t> steps = row_major_strides(shape);
  Shape result;
  for (const Places &axis : places) result.push_back(static_cast<int64_t>(axis.size()));
  std::vector<int64_t> index(result.size(), 0);
  for (int64_t i = 0, count = element_count(result); i < count; ++i) {
    int64_t from = 0;
    bool inside = true;
    for (size_t axis = 0; axis < result.size(); ++axis) {
      const int64_t place = places[axis][static_cast<size_t>(index[axis])];
      inside = inside && place >= 0;
      from += place * steps[axis];
    }
    out[i] = inside ? x[from] : fill;
    for (size_t axis = result.size(); axis-- > 0 && ++index[axis] == result[axis];) index[axis] = 0;
  }
}

void saturate_width(const NodeRun &run) {
  const float limit = width_slice_limit(run, run.profile);
  float *out = run.out();
  for (int64_t i = 0, count = run.out_count(); i < count; ++i)
    if (std::fabs(out[i]) > limit) out[i] = std::copysign(vmath::kInfinity, out[i]);
}

// ---------------------------------------------------------------- join and cut

// Writes x into every `count`-th place of the output, from `first` on, along `axis`; x has `length` places there.
struct Part {
  const float *x;
  int64_t first, count, length;
};

void write_part(const NodeRun &run, int64_t axis, const Part &part) {
  const Shape &result = run.output_type().shape;
  const int64_t outer = element_product(result, 0, axis), inner = element_product(result, axis + 1, result.size());
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < part.length; ++i)
      std::copy_n(part.x + (o * part.length + i) * inner, inner,
                  run.out() + (o * result[axis] + part.first + i * part.count) * inner);
}

void run_concat(const NodeRun &run) {
  const std::vector<int> &operands = run.ids("values");
  const int64_t axis = run.axis("axis", static_cast<int>(run.output_type().shape.size()));
  const bool interleave = run.boolean("interleave");
  int64_t first = 0;
  for (int id : operands) {
    const int64_t length = run.graph().values[id].type.shape[axis];
    write_part(run, axis, {run.in_value(id), first, interleave ? static_cast<int64_t>(operands.size()) : 1, length});
    first += interleave ? 1 : length;
  }
}

void run_stack(const NodeRun &run) {
  const int64_t axis = run.axis("axis", static_cast<int>(run.output_type().shape.size()));
  int64_t first = 0;
  for (int id : run.ids("values")) write_part(run, axis, {run.in_value(id), first++, 1, 1});
}

void run_split(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const int64_t axis = run.axis("axis", static_cast<int>(x.size()));
  int64_t first = 0;
  for (size_t part = 0; part < run.node().outputs.size(); ++part) {
    std::vector<Places> places = all_places(run.output_type(part).shape);
    for (int64_t &place : places[axis]) place += first;
    first += static_cast<int64_t>(places[axis].size());
    gather(run.in("x"), x, places, 0, run.out(part));
  }
}

struct Slice {
  std::vector<int64_t> begin, step;  // of every axis of x
};

Slice slice_of(const NodeView &node) {
  const Shape &x = node.shape("x");
  Slice slice = {node.integers("begin"), std::vector<int64_t>(x.size(), 1)};
  if (node.kind() == OpKind::SliceBySize) return slice;
  if (node.has("stride")) slice.step = node.integers("stride");
  const auto masked = [&](const char *mask, size_t axis) { return node.has(mask) && node.integers(mask)[axis] != 0; };
  for (size_t axis = 0; axis < x.size(); ++axis) {
    int64_t &begin = slice.begin[axis];
    const bool backwards = slice.step[axis] < 0, squeezed = masked("squeeze_mask", axis);
    if (begin < 0) begin += x[axis];
    if (masked("begin_mask", axis)) begin = backwards && !squeezed ? x[axis] - 1 : 0;
    begin = std::clamp<int64_t>(begin, 0, x[axis] - 1);
    if (squeezed) slice.step[axis] = 1;
  }
  return slice;
}

void run_slice(const NodeRun &run) {
  const Shape &x = run.shape("x"), &result = run.output_type().shape;
  const Slice slice = slice_of(run);
  const bool can_squeeze = run.kind() == OpKind::SliceByIndex && run.has("squeeze_mask");
  const std::vector<int64_t> squeezed = can_squeeze ? run.integers("squeeze_mask") : std::vector<int64_t>(x.size(), 0);
  const std::vector<int64_t> dense = row_major_strides(x);
  const float *first = run.in("x");
  std::vector<int64_t> steps;
  for (size_t axis = 0; axis < x.size(); ++axis) {
    first += slice.begin[axis] * dense[axis];
    if (!squeezed[axis]) steps.push_back(slice.step[axis] * dense[axis]);
  }
  copy_strided(first, steps, result, run.out());
  saturate_width(run);
}

// ---------------------------------------------------------------- order and repetition

void run_transpose(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const std::vector<int64_t> dense = row_major_strides(x);
  std::vector<int64_t> steps;
  for (int64_t axis : axes_of(run, "perm", x.size())) steps.push_back(dense[axis]);
  copy_strided(run.in("x"), steps, run.output_type().shape, run.out());
}

void run_tile(const NodeRun &run) {
  std::vector<Places> places = all_places(run.output_type().shape);
  for (size_t axis = 0; axis < places.size(); ++axis)
    for (int64_t &place : places[axis]) place %= run.shape("x")[axis];
  gather(run.in("x"), run.shape("x"), places, 0, run.out());
}

void run_reverse(const NodeRun &run) {
  const Shape &x = run.shape("x");
  std::vector<Places> places = all_places(x);
  for (int64_t axis : axes_of(run, "axes", x.size())) std::reverse(places[axis].begin(), places[axis].end());
  gather(run.in("x"), x, places, 0, run.out());
}

int64_t padded_place(int64_t place, int64_t size, const std::string &mode) {
  if (place >= 0 && place < size) return place;
  if (mode == "replicate") return std::clamp<int64_t>(place, 0, size - 1);
  if (mode == "reflect") return place < 0 ? -place : 2 * (size - 1) - place;
  return -1;
}

void run_pad(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const std::vector<int64_t> pad = run.integers("pad");
  const size_t first_padded = x.size() - pad.size() / 2;
  std::vector<Places> places = all_places(run.output_type().shape);
  for (size_t axis = first_padded; axis < x.size(); ++axis)
    for (int64_t &place : places[axis])
      place = padded_place(place - pad[2 * (axis - first_padded)], x[axis], run.text("mode"));
  gather(run.in("x"), x, places, static_cast<float>(run.number("constant_val")), run.out());
}

void run_crop(const NodeRun &run) {
  const Shape &x = run.shape("x");
  std::vector<Places> places = all_places(run.output_type().shape);
  for (int64_t &place : places[x.size() - 2]) place += run.integers("crop_height")[0];
  for (int64_t &place : places[x.size() - 1]) place += run.integers("crop_width")[0];
  gather(run.in("x"), x, places, 0, run.out());
}

// ---------------------------------------------------------------- channels and pixels

// Between [N, C f^2, H, W] and [N, C, H f, W f]. `channel_first`: the deep channel is c f^2 + i f + j (pixel_shuffle),
// else (i f + j) C + c (depth_to_space); i and j are the place in the f x f block.
void move_blocks(const NodeRun &run, const char *factor_name, bool to_space, bool channel_first) {
  const Shape &deep = to_space ? run.shape("x") : run.output_type().shape;
  const int64_t f = run.integer(factor_name), height = deep[2], width = deep[3], channels = deep[1] / (f * f);
  const int64_t plane = height * width;
  const int64_t c_step = channel_first ? f * f * plane : plane, block_step = channel_first ? plane : channels * plane;
  // the deep side read in the order of the wide one: [N, C, H, i, W, j]
  const Shape wide_order = {deep[0], channels, height, f, width, f};
  const std::vector<int64_t> steps = {deep[1] * plane, c_step, width, f * block_step, 1, block_step};
  if (to_space) return copy_strided(run.in("x"), steps, wide_order, run.out());
  // the wide side read in the order of the deep one
  const int64_t row = width * f;
  const std::vector<int64_t> wide = row_major_strides({deep[0], channels, height, f, width, f});
  const auto [n, c, h, i, w, j] = std::tuple{wide[0], wide[1], f * row, row, f, int64_t{1}};
  if (channel_first)
    copy_strided(run.in("x"), {n, c, i, j, h, w}, {deep[0], channels, f, f, height, width}, run.out());
  else
    copy_strided(run.in("x"), {n, i, j, c, h, w}, {deep[0], f, f, channels, height, width}, run.out());
}

}  // namespace

float width_slice_limit(const NodeView &node, const Profile &profile) {
  const bool cuts = node.kind() == OpKind::SliceBySize || node.kind() == OpKind::SliceByIndex;
  if (!cuts || node.shape("x").empty() || !profile.on("width-slice-saturation")) return vmath::kInfinity;
  if (node.output_type().dtype != DType::Fp16 || slice_of(node).begin.back() == 0) return vmath::kInfinity;
  return static_cast<float>(profile.value("width-slice-saturation"));
}

void run_layout(const NodeRun &run) {
  switch (run.kind()) {
    case OpKind::Concat: return run_concat(run);
    case OpKind::Stack: return run_stack(run);
    case OpKind::Split: return run_split(run);
    case OpKind::SliceBySize:
    case OpKind::SliceByIndex: return run_slice(run);
    case OpKind::Transpose: return run_transpose(run);
    case OpKind::Tile: return run_tile(run);
    case OpKind::Reverse: return run_reverse(run);
    case OpKind::Pad: return run_pad(run);
    case OpKind::Crop: return run_crop(run);
    case OpKind::PixelShuffle: return move_blocks(run, "upscale_factor", true, true);
    case OpKind::PixelUnshuffle: return move_blocks(run, "downscale_factor", false, true);
    case OpKind::SpaceToDepth: return move_blocks(run, "block_size", false, false);
    case OpKind::DepthToSpace: return move_blocks(run, "block_size", true, false);
    default:  // reshape, squeeze, expand_dims, flatten2d: the same elements in the same order
      std::copy_n(run.in("x"), run.out_count(), run.out());
  }
}

}  // namespace ane
