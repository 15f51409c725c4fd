// Everything that is matrix products: matmul, linear, einsum, convolutions, attention.
#include <algorithm>
#include <cmath>
#include <limits>

#include "lower.h"

namespace ane::fast {

namespace {

// Rows can be walked by BLAS: one of the last two axes is contiguous and the other steps over whole rows of it.
bool has_unit_stride(const View &view) {
  const size_t rank = view.rank();
  const int64_t rows = view.sizes[rank - 2], columns = view.sizes[rank - 1];
  const int64_t row_step = view.strides[rank - 2], column_step = view.strides[rank - 1];
  if (rows == 1 && columns == 1) return true;
  if (rows == 1) return column_step >= 1;
  if (columns == 1) return row_step >= 1;
  return (column_step == 1 && row_step >= columns) || (row_step == 1 && column_step >= rows);
}

View transposed(const View &view, bool really) {
  if (!really) return view;
  View result = view;
  const size_t rank = view.rank();
  std::swap(result.sizes[rank - 1], result.sizes[rank - 2]);
  std::swap(result.strides[rank - 1], result.strides[rank - 2]);
  return result;
}

View with_batch(const View &matrix, const Shape &result) {
  Shape sizes(result.begin(), result.end() - 2);
  sizes.push_back(matrix.sizes[matrix.rank() - 2]);
  sizes.push_back(matrix.sizes[matrix.rank() - 1]);
  return broadcast(matrix, sizes);
}

// One spatial axis of a convolution.
ConvAxis conv_axis(const NodeView &node, size_t axis, int64_t input, int64_t kernel, int64_t output) {
  ConvAxis result{kernel, 1, 1, 0};
  if (node.has("strides")) result.stride = node.integers("strides")[axis];
  if (node.has("dilations")) result.dilation = node.integers("dilations")[axis];
  const std::string kind = node.has("pad_type") ? node.text("pad_type") : "valid";
  if (kind == "custom") {
    result.pad_before = node.integers("pad")[2 * axis];
  } else if (kind != "valid") {
    const int64_t reach = (output - 1) * result.stride + (kernel - 1) * result.dilation + 1;
    const int64_t total = std::max<int64_t>(0, reach - input);
    result.pad_before = kind == "same_lower" ? (total + 1) / 2 : total / 2;
  }
  return result;
}

}  // namespace

View Lowering::floats(View view) {
  const Buffer &surface = draft_.buffers[static_cast<size_t>(view.buffer)];
  if (!surface.half) return view;
  const int64_t count = surface.count;
  const int port = surface.port;
  int &image = images_[static_cast<size_t>(port)];
  if (image < 0) image = draft_.add_buffer({Storage::InputImage, false, false, count, port, {}, {}});
  view.buffer = image;
  return view;
}

View Lowering::as_matrix(const View &view) { return has_unit_stride(view) ? floats(view) : copied(view); }

View Lowering::new_product(int id, const Shape &sizes) {
  const View made = new_buffer(sizes);
  draft_.buffers[static_cast<size_t>(made.buffer)].raw = is_half(id);
  return made;
}

// If every consumer transposes the product in the same way, it is made in that order at once.
View Lowering::product_for_consumers(int id, const Shape &sizes) {
  std::vector<int64_t> order;
  const bool is_output = std::count(graph_.outputs.begin(), graph_.outputs.end(), id) != 0;
  for (int consumer : consumers_[id]) {
    const NodeView node(graph_, graph_.nodes[consumer]);
    std::vector<int64_t> wanted;
    if (node.kind() == OpKind::Transpose && !is_output) wanted = node.integers("perm");
    if (wanted.size() != sizes.size() || (!order.empty() && wanted != order)) {
      order.clear();
      break;
    }
    order = wanted;
  }
  const int64_t rank = static_cast<int64_t>(sizes.size());
  for (int64_t &axis : order) axis = axis < 0 ? axis + rank : axis;
  if (order.empty() || order.back() < rank - 2) {
    order.resize(sizes.size());
    for (int64_t i = 0; i < rank; ++i) order[i] = i;
  }
  Shape physical;
  std::vector<int64_t> inverse(sizes.size());
  for (int64_t i = 0; i < rank; ++i) {
    physical.push_back(sizes[order[i]]);
    inverse[order[i]] = i;
  }
  return permuted(new_product(id, physical), inverse);
}

void Lowering::add_gemm(const View &a, const View &b, const View &c) {
  auto unit = std::make_unique<GemmUnit>();
  unit->a = a;
  unit->b = b;
  unit->c = c;
  draft_.units.push_back(std::move(unit));
}

// The value is the sums plus something that stands along them, added before the one rounding.
void Lowering::add_bias(int id, const View &sums, const View &bias) {
  LaneInput unrounded = lane_input(sums);
  unrounded.rounds = false;
  LaneNode add;
  add.op.lane = LaneOp::Add;
  add.op.output = value(id).type.dtype;
  finish_lanes(id, add_lane_unit(sums.sizes, {unrounded, lane_input(broadcast(bias, sums.sizes))}), add);
}

bool Lowering::lower_products(const NodeView &node) {
  switch (node.kind()) {
    case OpKind::MatMul: return lower_matmul(node);
    case OpKind::Linear: return lower_linear(node);
    case OpKind::Einsum: return lower_einsum(node);
    case OpKind::Conv: return lower_conv(node);
    case OpKind::ScaledDotProductAttention: return lower_attention(node);
    default: return false;
  }
}

bool Lowering::lower_matmul(const NodeView &node) {
  if (node.shape("x").size() < 2 || node.shape("y").size() < 2) return false;
  const int result = node.output();
  const View c = product_for_consumers(result, node.output_type().shape);
  const View a = transposed(matrix(node.id("x")), node.boolean("transpose_x"));
  const View b = transposed(matrix(node.id("y")), node.boolean("transpose_y"));
  add_gemm(with_batch(a, c.sizes), with_batch(b, c.sizes), c);
  set_place(result, c);
  return true;
}

// x[..., k], weight[n, k], bias[n] -> [..., n]
bool Lowering::lower_linear(const NodeView &node) {
  const int result = node.output();
  const Shape &shape = node.output_type().shape;
  View x = matrix(node.id("x"));
  Shape rows = x.sizes, product = shape;
  if (x.rank() < 2) {
    rows.insert(rows.begin(), 1);
    product.insert(product.begin(), 1);
  }
  x = broadcast(x, rows);
  const View c = new_product(result, product);
  add_gemm(x, with_batch(transposed(matrix(node.id("weight")), true), product), c);
  const View sums = *reshaped(c, shape);
  if (node.has("bias")) {
    add_bias(result, sums, read_rounded(node.id("bias")));
  } else {
    set_place(result, sums);
  }
  return true;
}

// nchw,nwhu->nchu: for every n and h a product [c, w] [w, u].
bool Lowering::lower_einsum(const NodeView &node) {
  std::string equation = node.text("equation");
  std::erase(equation, ' ');
  if (equation != "nchw,nwhu->nchu") return false;
  const int result = node.output();
  const std::vector<int64_t> rows_first{0, 2, 1, 3};  // nchw -> nhcw
  const View c = new_product(result, node.output_type().shape);
  const View a = permuted(read_rounded(node.ids("values")[0]), rows_first);
  const View b = permuted(read_rounded(node.ids("values")[1]), {0, 2, 1, 3});  // nwhu -> nhwu
  add_gemm(as_matrix(a), as_matrix(b), permuted(c, rows_first));
  set_place(result, c);
  return true;
}

// softmax(query key^T / sqrt(e) + mask) value; between its steps a single operation keeps fp32.
bool Lowering::lower_attention(const NodeView &node) {
  const int result = node.output();
  const Shape &query = node.shape("query"), &key = node.shape("key");
  if (query.size() < 2 || key[key.size() - 2] == 1) return false;  // a row of one is no row for a lane unit
  Shape shape = query;
  shape.back() = key[key.size() - 2];
  const View scores = new_buffer(shape), probabilities = new_buffer(shape);
  add_gemm(matrix(node.id("query")), with_batch(transposed(matrix(node.id("key")), true), shape), scores);

  const float infinity = std::numeric_limits<float>::infinity();
  const float scale = 1.0f / std::sqrt(static_cast<float>(query.back()));
  const bool masked = node.has("attn_mask") && !profile_.on("sdpa-mask-ignored");
  std::vector<LaneInput> inputs = {lane_input(scores), {{}, scale, false}};
  if (masked) inputs.push_back(lane_input(node.id("attn_mask"), shape));
  if (masked) inputs.push_back({{}, -infinity, false});
  LaneUnit *unit = add_lane_unit(shape, inputs);
  unit->reduced_first = shape.size() - 1;
  unit->reduced_last = shape.size();
  const auto add = [&](LaneOp lane, std::vector<int> operands) {
    LaneNode step;
    step.op.lane = lane;
    step.op.output = DType::Fp32;
    step.inputs = std::move(operands);
    return add_lane_node(unit, std::move(step));
  };
  const int mask = 2, minus_infinity = 3;
  int logits = add(LaneOp::Mul, {0, 1});
  if (masked && node.type("attn_mask").dtype == DType::Bool) {  // true: attend
    logits = add(LaneOp::Select, {mask, logits, minus_infinity});
  } else if (masked) {
    logits = add(LaneOp::Add, {logits, mask});
  }
  LaneNode softmax;
  softmax.reduction = OpKind::Softmax;
  softmax.op.output = DType::Fp32;
  softmax.inputs = {logits};
  store(unit, add_lane_node(unit, std::move(softmax)), probabilities);

  const View c = product_for_consumers(result, node.output_type().shape);
  add_gemm(probabilities, with_batch(matrix(node.id("value")), c.sizes), c);
  set_place(result, c);
  return true;
}

bool Lowering::lower_conv(const NodeView &node) {
  const Shape &in = node.shape("x"), &kernel = node.shape("weight"), &out = node.output_type().shape;
  if (in.size() != 4) return false;
  const int result = node.output();
  const int64_t groups = node.has("groups") ? node.integer("groups") : 1;
  const ConvAxis rows = conv_axis(node, 0, in[2], kernel[2], out[2]),
                 columns = conv_axis(node, 1, in[3], kernel[3], out[3]);
  const View y = new_product(result, out);
  const bool pointwise =
      kernel[2] == 1 && kernel[3] == 1 && rows.stride == 1 && columns.stride == 1 && in[2] == out[2] && in[3] == out[3];
  if (pointwise) {
    const int64_t pixels = in[2] * in[3];
    const Shape product{in[0], groups, out[1] / groups, pixels};
    const View weight = reshaped_or_copied(read_rounded(node.id("weight")), {groups, out[1] / groups, kernel[1]});
    const View x = reshaped_or_copied(read_rounded(node.id("x")), {in[0], groups, kernel[1], pixels});
    add_gemm(with_batch(as_matrix(weight), product), as_matrix(x), *reshaped(y, product));
  } else {
    auto unit = std::make_unique<ConvUnit>();
    unit->x = floats(read_rounded(node.id("x")));
    unit->weight = as_matrix(reshaped_or_copied(read_rounded(node.id("weight")),
                                                {groups, out[1] / groups, kernel[1] * kernel[2] * kernel[3]}));
    unit->y = y;
    unit->groups = groups;
    unit->rows = rows;
    unit->columns = columns;
    draft_.units.push_back(std::move(unit));
  }
  if (node.has("bias")) {
    add_bias(result, y, *reshaped(read_rounded(node.id("bias")), {out[1], 1, 1}));
  } else {
    set_place(result, y);
  }
  return true;
}

}  // namespace ane::fast
