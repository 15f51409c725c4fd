// Pools, resampling and affine transforms over [..., H, W].
#include <cmath>

#include "shape_rules.h"

namespace ane {

namespace {

// Every window has elements of x: it has no largest one and no average otherwise.
void require_windows_inside(const NodeView &node, const Window &window, int axis, int64_t size, int64_t positions) {
  const auto [before, after] = window.pad[axis];
  const int64_t last = (positions - 1) * window.stride[axis] - before;
  if (before < window.span[axis] && last < size) return;
  wrong_argument(
      node, "kernel_sizes",
      format("has windows of %lld that lie wholly outside of the %lld elements of x (padding %lld + %lld, "
             "steps of %lld); expected padding smaller than the window and every window to meet x",
             static_cast<long long>(window.span[axis]), static_cast<long long>(size), static_cast<long long>(before),
             static_cast<long long>(after), static_cast<long long>(window.stride[axis])));
}

// x [N, C, H, W] -> [N, C, H', W']
std::vector<Type> infer_pool(const NodeView &node) {
  require_rank(node, "x", 4, 4);
  const Shape &x = node.shape("x");
  const Window window = window_of(node, &x[2], list_of(node, "kernel_sizes", 2, 1));
  const bool ceil_mode = node.boolean("ceil_mode");
  for (const auto &[before, after] : window.pad)
    if (ceil_mode && (before != after || node.text("pad_type").starts_with("same")))
      wrong_argument(node, "ceil_mode", "is true with unequal or same padding; expected equal pads on both sides");
  const std::vector<int64_t> size = window_positions(node, &x[2], window, ceil_mode);
  for (int axis = 0; axis < 2; ++axis) require_windows_inside(node, window, axis, x[2 + axis], size[axis]);
  return {{node.type("x").dtype, {x[0], x[1], size[0], size[1]}}};
}

Type resized(const NodeView &node, int64_t height, int64_t width) {
  Type result = node.type("x");
  result.shape[result.shape.size() - 2] = height;
  result.shape[result.shape.size() - 1] = width;
  return result;
}

int64_t scaled_size(const NodeView &node, const char *argument, size_t axis_from_end) {
  const Shape &x = node.shape("x");
  const double factor = node.number(argument),
               size = std::floor(static_cast<double>(x[x.size() - axis_from_end]) * factor);
  if (!(size >= 1) || size > 1e12)
    wrong_argument(node, argument,
                   format("is %g; expected a positive factor that makes at least one of %lld pixels", factor,
                          static_cast<long long>(x[x.size() - axis_from_end])));
  return static_cast<int64_t>(size);
}

std::vector<Type> infer_upsample(const NodeView &node) {
  require_rank(node, "x", 3, 5);
  return {resized(node, scaled_size(node, "scale_factor_height", 2), scaled_size(node, "scale_factor_width", 1))};
}

int64_t positive(const NodeView &node, const char *argument) {
  const int64_t value = node.integer(argument);
  if (value < 1) wrong_argument(node, argument, format("is %lld; expected 1 or more", static_cast<long long>(value)));
  return value;
}

std::vector<Type> infer_resize(const NodeView &node) {
  require_rank(node, "x", 3, 5);
  if (node.has("sampling_mode"))
    require_text(node, "sampling_mode",
                 {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"});
  return {resized(node, positive(node, "target_size_height"), positive(node, "target_size_width"))};
}

// x [N, C, H, W], transform_matrix [N or 1, 6] -> [N, C, output_height, output_width]
std::vector<Type> infer_affine(const NodeView &node) {
  require_rank(node, "x", 4, 4);
  require_one_dtype(node, {"x", "transform_matrix"});
  const Shape &matrix = node.shape("transform_matrix");
  if (matrix.size() != 2 || (matrix[0] != 1 && matrix[0] != node.shape("x")[0]) || matrix[1] != 6)
    wrong_argument(node, "transform_matrix", "has shape " + shape_text(matrix) + "; expected [N, 6] or [1, 6]");
  require_text(node, "sampling_mode", {"bilinear"});
  require_text(node, "padding_mode", {"constant"});
  require_text(node, "coordinates_mode", {"normalized_minus_one_to_one"});
  if (node.number("padding_value") != 0) wrong_argument(node, "padding_value", "is not 0; expected 0, the only one");
  if (!node.boolean("align_corners")) wrong_argument(node, "align_corners", "is false; expected true, the only one");
  return {resized(node, positive(node, "output_height"), positive(node, "output_width"))};
}

}  // namespace

std::vector<OpSpec> image_ops() {
  const ArgSpec x = tensor("x");
  const std::vector<ArgSpec> pool = {x,
                                     required("kernel_sizes", "int32[]"),
                                     optional("strides", "int32[]", "[1,1]"),
                                     required("pad_type", "string"),
                                     optional("pad", "int32[]", "[0,0,0,0]"),
                                     optional("ceil_mode", "bool", "false")};
  std::vector<ArgSpec> average_pool = pool;
  average_pool.push_back(optional("exclude_padding_from_average", "bool", "false"));
  const ArgSpec scale_height = optional("scale_factor_height", "scale", "1"),
                scale_width = optional("scale_factor_width", "scale", "1");
  const Evidence e5rt = Evidence::E5rt;
  const char *af = "ANE_FACTS 3.3: e5rt AF";
  return {
      {OpKind::MaxPool, "max_pool", pool, e5rt, af, infer_pool},
      {OpKind::AvgPool, "avg_pool", average_pool, e5rt, af, infer_pool},
      {OpKind::UpsampleNearestNeighbor,
       "upsample_nearest_neighbor",
       {x, scale_height, scale_width},
       Evidence::Direct,
       "ANE_FACTS 3.3: direct AT (UNet)",
       infer_upsample},
      {OpKind::UpsampleBilinear,
       "upsample_bilinear",
       {x, scale_height, scale_width, optional("align_corners", "bool", "true")},
       e5rt,
       af,
       infer_upsample},
      {OpKind::ResizeNearestNeighbor,
       "resize_nearest_neighbor",
       {x, required("target_size_height", "int32"), required("target_size_width", "int32")},
       e5rt,
       af,
       infer_resize},
      {OpKind::ResizeBilinear,
       "resize_bilinear",
       {x, optional("target_size_height", "int32", "1"), optional("target_size_width", "int32", "1"),
        optional("sampling_mode", "string", "DEFAULT")},
       e5rt,
       af,
       infer_resize},
      {OpKind::Affine,
       "affine",
       {x, tensor("transform_matrix"), required("output_height", "int32"), required("output_width", "int32"),
        required("sampling_mode", "string"), required("padding_mode", "string"), required("padding_value", "fp"),
        required("coordinates_mode", "string"), required("align_corners", "bool")},
       e5rt,
       af,
       infer_affine},
  };
}

}  // namespace ane
