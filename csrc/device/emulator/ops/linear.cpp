// conv, conv_transpose, matmul, linear, einsum.
#include "shape_rules.h"

namespace ane {

namespace {

constexpr const char *kEinsumEquation = "nchw,nwhu->nchu";

long long text(int64_t value) { return static_cast<long long>(value); }

int64_t checked_groups(const NodeView &node) {
  const int64_t groups = node.integer("groups"), channels = node.shape("x")[1];
  if (groups < 1 || channels % groups != 0)
    wrong_argument(node, "groups",
                   format("is %lld; expected a divisor of the %lld channels of x", text(groups), text(channels)));
  return groups;
}

void check_convolution_operands(const NodeView &node) {
  require_rank(node, "x", 4, 4);
  require_rank(node, "weight", 4, 4);
  require_one_dtype(node, {"x", "weight", "bias"});
}

// x [N, Ci, H, W], weight [Co, Ci / groups, kH, kW], bias [Co] -> [N, Co, H', W']
std::vector<Type> infer_conv(const NodeView &node) {
  check_convolution_operands(node);
  const int64_t groups = checked_groups(node);
  const Shape &x = node.shape("x"), &weight = node.shape("weight");
  if (product(weight[1], groups) != x[1])
    wrong_argument(
        node, "weight",
        format("is %s: %lld input channels for each of %lld groups; expected %lld, since x is %s",
               shape_text(weight).c_str(), text(weight[1]), text(groups), text(x[1] / groups), shape_text(x).c_str()));
  if (weight[0] % groups != 0)
    wrong_argument(node, "groups",
                   format("is %lld; expected a divisor of the %lld output channels", text(groups), text(weight[0])));
  require_shape(node, "bias", {weight[0]}, "the output channels");
  const Window window = window_of(node, &x[2], {weight[2], weight[3]});
  const std::vector<int64_t> size = window_positions(node, &x[2], window, false);
  return {{node.type("x").dtype, {x[0], weight[0], size[0], size[1]}}};
}

// x [N, Ci, H, W], weight [Ci, Co / groups, kH, kW] -> [N, Co, H', W']
std::vector<Type> infer_conv_transpose(const NodeView &node) {
  check_convolution_operands(node);
  const int64_t groups = checked_groups(node);
  const Shape &x = node.shape("x"), &weight = node.shape("weight");
  if (weight[0] != x[1])
    wrong_argument(node, "weight",
                   format("has %lld input channels; expected %lld, those of x", text(weight[0]), text(x[1])));
  const int64_t channels = product(weight[1], groups);
  require_shape(node, "bias", {channels}, "the output channels");
  const Window window = window_of(node, &x[2], {weight[2], weight[3]});
  const bool same = node.text("pad_type").starts_with("same");
  Shape result = {x[0], channels};
  for (int i = 0; i < 2; ++i) {
    const auto [before, after] = window.pad[i];
    const int64_t full = product(x[2 + i] - 1, window.stride[i]) + window.span[i];
    const int64_t length = same ? product(x[2 + i], window.stride[i]) : full - before - after;
    if (length < 1)
      wrong_argument(
          node, "pad",
          format("cuts %lld + %lld from %lld elements; expected to leave one", text(before), text(after), text(full)));
    result.push_back(length);
  }
  if (node.has("output_shape") && node.integers("output_shape") != result)
    wrong_argument(node, "output_shape",
                   "is " + list_text(node.integers("output_shape")) + "; expected what the other arguments make, " +
                       shape_text(result));
  return {{node.type("x").dtype, result}};
}

// x [..., M, K], y [..., K, N] -> [..., M, N]; a transpose flag swaps the last two axes of its operand.
std::vector<Type> infer_matmul(const NodeView &node) {
  require_rank(node, "x", 2, 5);
  require_rank(node, "y", 2, 5);
  require_one_dtype(node, {"x", "y"});
  const Shape &x = node.shape("x"), &y = node.shape("y");
  const size_t swap_x = node.boolean("transpose_x"), swap_y = node.boolean("transpose_y");
  const int64_t rows = x[x.size() - 2 + swap_x], inner = x[x.size() - 1 - swap_x];
  const int64_t inner_y = y[y.size() - 2 + swap_y], columns = y[y.size() - 1 - swap_y];
  if (inner != inner_y)
    wrong_argument(
        node, "y",
        format("is %s with transpose_y = %s and x is %s with transpose_x = %s: %lld against %lld to contract; "
               "expected equal numbers",
               shape_text(y).c_str(), swap_y ? "true" : "false", shape_text(x).c_str(), swap_x ? "true" : "false",
               text(inner_y), text(inner)));
  Shape result = broadcast(node, "y", Shape(x.begin(), x.end() - 2), Shape(y.begin(), y.end() - 2));
  result.insert(result.end(), {rows, columns});
  return {{node.type("x").dtype, result}};
}

// x [..., I] of rank 1 to 3, weight [O, I], bias [O] -> [..., O]
std::vector<Type> infer_linear(const NodeView &node) {
  require_rank(node, "x", 1, 3);
  require_rank(node, "weight", 2, 2);
  require_one_dtype(node, {"x", "weight", "bias"});
  Type result = node.type("x");
  const Shape &weight = node.shape("weight");
  if (weight[1] != result.shape.back())
    wrong_argument(
        node, "weight",
        format("takes %lld features; expected %lld, the last axis of x", text(weight[1]), text(result.shape.back())));
  require_shape(node, "bias", {weight[0]}, "the output features");
  result.shape.back() = weight[0];
  return {result};
}

// a [N, C, H, W], b [N, W, H, U] -> [N, C, H, U]
std::vector<Type> infer_einsum(const NodeView &node) {
  std::string equation = node.text("equation");
  std::erase(equation, ' ');
  if (equation != kEinsumEquation)
    wrong_argument(node, "equation",
                   format("is \"%s\"; expected \"%s\", the only one known to reach the engine", equation.c_str(),
                          kEinsumEquation));
  const std::vector<int> &values = node.ids("values");
  if (values.size() != 2) wrong_argument(node, "values", format("has %zu operands; expected 2", values.size()));
  const Type &a = node.graph().values[values[0]].type, &b = node.graph().values[values[1]].type;
  const bool fits = a.shape.size() == 4 && b.shape.size() == 4 && a.dtype == b.dtype && b.shape[0] == a.shape[0] &&
                    b.shape[1] == a.shape[3] && b.shape[2] == a.shape[2];
  if (!fits)
    wrong_argument(node, "values",
                   format("are %s and %s; expected [N, C, H, W] and [N, W, H, U] of one element type",
                          type_text(a).c_str(), type_text(b).c_str()));
  return {{a.dtype, {a.shape[0], a.shape[1], a.shape[2], b.shape[3]}}};
}

}  // namespace

std::vector<OpSpec> linear_ops() {
  const ArgSpec x = tensor("x"), weight = tensor("weight"), bias = tensor("bias", ArgTensor, false);
  const ArgSpec strides = optional("strides", "int32[]", "[1,1]"), pad_type = optional("pad_type", "string", "valid"),
                pad = optional("pad", "int32[]", "[0,0,0,0]"), dilations = optional("dilations", "int32[]", "[1,1]"),
                groups = optional("groups", "int32", "1");
  return {
      {OpKind::Conv,
       "conv",
       {x, weight, bias, strides, pad_type, pad, dilations, groups},
       Evidence::Direct,
       "ANE_FACTS 3.3: direct all sources",
       infer_conv},
      {OpKind::ConvTranspose,
       "conv_transpose",
       {x, weight, bias, pad, optional("output_shape", "int32[]"), pad_type, strides, dilations, groups},
       Evidence::E5rt,
       "ANE_FACTS 3.3: e5rt AF",
       infer_conv_transpose},
      {OpKind::MatMul,
       "matmul",
       {x, tensor("y"), optional("transpose_x", "bool", "false"), optional("transpose_y", "bool", "false")},
       Evidence::Direct,
       "ANE_FACTS 3.3: direct MAD, M0, ORI, ESP, AT, H3, OM",
       infer_matmul},
      {OpKind::Linear,
       "linear",
       {x, tensor("weight", ArgTensor | ArgConst), tensor("bias", ArgTensor | ArgConst, false)},
       Evidence::E5rt,
       "ANE_FACTS 3.3: P40 through the MLE5 engine (M4 Max)",
       infer_linear},
      {OpKind::Einsum,
       "einsum",
       {tensor("values", ArgTensor | ArgVariadic), required("equation", "string")},
       Evidence::E5rt,
       "ANE_FACTS 3.3: e5rt AF",
       infer_einsum},
  };
}

}  // namespace ane
