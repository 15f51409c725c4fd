// Operations along axes: softmax, reductions, normalisations.
#include <algorithm>

#include "shape_rules.h"

namespace ane {

namespace {

Shape reduced(const Shape &shape, const std::vector<int64_t> &axes, bool keep_dims) {
  Shape result;
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool gone = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    if (!gone || keep_dims) result.push_back(gone ? 1 : shape[i]);
  }
  return result;
}

int64_t axis_of_x(const NodeView &node) { return node.axis("axis", static_cast<int>(node.shape("x").size())); }

std::vector<Type> infer_softmax(const NodeView &node) {
  axis_of_x(node);
  return {node.type("x")};
}

std::vector<Type> infer_reduction(const NodeView &node) {
  const Shape &x = node.shape("x");
  return {{node.type("x").dtype, reduced(x, axes_of(node, "axes", x.size()), node.boolean("keep_dims"))}};
}

std::vector<Type> infer_argmax(const NodeView &node) {
  return {{DType::Int32, reduced(node.shape("x"), {axis_of_x(node)}, node.boolean("keep_dims"))}};
}

// Values and their indices.
std::vector<Type> infer_topk(const NodeView &node) {
  Type values = node.type("x");
  int64_t &length = values.shape[axis_of_x(node)];
  const int64_t k = node.integer("k");
  if (k < 1 || k > length)
    wrong_argument(node, "k",
                   format("is %lld; expected 1 to %lld, the length of the axis", static_cast<long long>(k),
                          static_cast<long long>(length)));
  length = k;
  return {values, {DType::Int32, values.shape}};
}

std::vector<Type> infer_layer_norm(const NodeView &node) {
  require_one_dtype(node, {"x", "gamma", "beta"});
  const Shape &x = node.shape("x");
  std::vector<int64_t> axes = axes_of(node, "axes", x.size());
  std::sort(axes.begin(), axes.end());
  Shape normalised;
  for (int64_t axis : axes) normalised.push_back(x[axis]);
  for (const char *argument : {"gamma", "beta"}) require_shape(node, argument, normalised, "the normalised axes of x");
  return {node.type("x")};
}

std::vector<Type> infer_channel_norm(const NodeView &node) {
  require_rank(node, "x", 3, node.kind() == OpKind::BatchNorm ? 5 : 4);
  require_one_dtype(node, {"x", "mean", "variance", "gamma", "beta"});
  for (const char *argument : {"mean", "variance", "gamma", "beta"})
    require_shape(node, argument, {node.shape("x")[1]}, "the channels of x");
  return {node.type("x")};
}

std::vector<Type> infer_l2_norm(const NodeView &node) {
  require_rank(node, "x", 3, 5);
  return {node.type("x")};
}

std::vector<Type> infer_local_response_norm(const NodeView &node) {
  require_rank(node, "x", 3, 4);
  if (node.integer("size") < 1)
    wrong_argument(node, "size", format("is %lld; expected 1 or more", static_cast<long long>(node.integer("size"))));
  return {node.type("x")};
}

}  // namespace

std::vector<OpSpec> row_ops() {
  const ArgSpec x = tensor("x"), axis = optional("axis", "int32", "-1"), axes = optional("axes", "int32[]"),
                keep_dims = optional("keep_dims", "bool", "false");
  const ArgSpec gamma = tensor("gamma", ArgTensor | ArgConst, false),
                beta = tensor("beta", ArgTensor | ArgConst, false), mean = tensor("mean", ArgTensor | ArgConst),
                variance = tensor("variance", ArgTensor | ArgConst), epsilon = optional("epsilon", "fp", "1e-5");
  const Evidence direct = Evidence::Direct, e5rt = Evidence::E5rt;
  const char *af = "ANE_FACTS 3.3: e5rt AF", *partial = "ANE_FACTS 3.3: AF, partial";
  const std::vector<ArgSpec> reduction = {x, axes, keep_dims};
  return {
      {OpKind::Softmax, "softmax", {x, axis}, direct, "ANE_FACTS 3.3: direct MAD, ORI, ESP, M0", infer_softmax},
      {OpKind::ReduceSum, "reduce_sum", reduction, direct, "ANE_FACTS 3.3: direct MAD, ORI, FG, ESP", infer_reduction},
      {OpKind::ReduceMean, "reduce_mean", reduction, direct,
       "ANE_FACTS 3.3, C9: direct ORI; ESP and M0 say it is missing", infer_reduction},
      {OpKind::ReduceMax, "reduce_max", reduction, direct, "ANE_FACTS 3.3: direct ESP", infer_reduction},
      {OpKind::ReduceMin, "reduce_min", reduction, e5rt, af, infer_reduction},
      {OpKind::ReduceL1Norm, "reduce_l1_norm", reduction, e5rt, af, infer_reduction},
      {OpKind::ReduceL2Norm, "reduce_l2_norm", reduction, e5rt, af, infer_reduction},
      {OpKind::ReduceLogSum, "reduce_log_sum", reduction, e5rt, af, infer_reduction},
      {OpKind::ReduceSumSquare, "reduce_sum_square", reduction, e5rt, af, infer_reduction},
      {OpKind::ReduceLogSumExp, "reduce_log_sum_exp", reduction, e5rt, af, infer_reduction},
      {OpKind::ReduceArgmax, "reduce_argmax", {x, axis, keep_dims}, e5rt, partial, infer_argmax},
      {OpKind::TopK,
       "topk",
       {x, optional("k", "int32", "1"), axis, optional("ascending", "bool", "false")},
       e5rt,
       partial,
       infer_topk},
      {OpKind::LayerNorm,
       "layer_norm",
       {x, axes, gamma, beta, epsilon},
       e5rt,
       "ANE_FACTS 3.3: P40 through the MLE5 engine (M4 Max)",
       infer_layer_norm},
      {OpKind::BatchNorm, "batch_norm", {x, mean, variance, gamma, beta, epsilon}, e5rt, af, infer_channel_norm},
      {OpKind::InstanceNorm, "instance_norm", {x, gamma, beta, epsilon}, e5rt, af, infer_channel_norm},
      {OpKind::L2Norm, "l2_norm", {x, optional("epsilon", "fp", "1e-6")}, e5rt, af, infer_l2_norm},
      {OpKind::LocalResponseNorm,
       "local_response_norm",
       {x, required("size", "int32"), optional("alpha", "fp", "1e-4"), optional("beta", "fp", "0.75"),
        optional("k", "fp", "1.0")},
       e5rt,
       af,
       infer_local_response_norm},
  };
}

}  // namespace ane
