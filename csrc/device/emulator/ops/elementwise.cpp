// Operations on each element: one, two or three operands.
#include "shape_rules.h"

namespace ane {

namespace {

std::vector<Type> infer_same(const NodeView &node) { return {node.type("x")}; }

std::vector<Type> infer_binary(const NodeView &node) {
  require_one_dtype(node, {"x", "y"});
  return {{node.type("x").dtype, broadcast(node, "y", node.shape("x"), node.shape("y"))}};
}

std::vector<Type> infer_comparison(const NodeView &node) {
  require_one_dtype(node, {"x", "y"});
  return {{DType::Bool, broadcast(node, "y", node.shape("x"), node.shape("y"))}};
}

std::vector<Type> infer_gelu(const NodeView &node) {
  require_text(node, "mode", {"EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"});
  return {node.type("x")};
}

// alpha [C], the channels of x
std::vector<Type> infer_prelu(const NodeView &node) {
  require_rank(node, "x", 3, 5);
  require_one_dtype(node, {"x", "alpha"});
  require_shape(node, "alpha", {node.shape("x")[1]}, "the channels of x");
  return {node.type("x")};
}

std::vector<Type> infer_cast(const NodeView &node) {
  require_text(node, "dtype", {"fp16", "fp32", "int8", "uint8", "int32", "bool"});
  Type result = node.type("x");
  dtype_from_name(node.text("dtype"), &result.dtype);
  return {result};
}

std::vector<Type> infer_select(const NodeView &node) {
  require_one_dtype(node, {"a", "b"});
  const Shape values = broadcast(node, "b", node.shape("a"), node.shape("b"));
  return {{node.type("a").dtype, broadcast(node, "cond", values, node.shape("cond"))}};
}

}  // namespace

std::vector<OpSpec> elementwise_ops() {
  const ArgSpec x = tensor("x"), y = tensor("y"), alpha = required("alpha", "fp"), beta = required("beta", "fp"),
                epsilon = required("epsilon", "fp");
  const Evidence direct = Evidence::Direct, e5rt = Evidence::E5rt, disputed = Evidence::Disputed;
  const char *common = "ANE_FACTS 3.3: direct MAD, ORI, ESP, LM", *af = "ANE_FACTS 3.3: e5rt AF",
             *several = "ANE_FACTS 3.3: direct several sources", *ori = "ANE_FACTS 3.3: direct ORI";
  return {
      // two operands
      {OpKind::Add, "add", {x, y}, direct, common, infer_binary},
      {OpKind::Sub, "sub", {x, y}, direct, common, infer_binary},
      {OpKind::Mul, "mul", {x, y}, direct, common, infer_binary},
      {OpKind::RealDiv, "real_div", {x, y}, direct, "ANE_FACTS 3.3: direct AT", infer_binary},
      {OpKind::FloorDiv, "floor_div", {x, y}, e5rt, af, infer_binary},
      {OpKind::Maximum, "maximum", {x, y}, e5rt, af, infer_binary},
      {OpKind::Minimum, "minimum", {x, y}, e5rt, af, infer_binary},
      {OpKind::Pow, "pow", {x, y}, direct, common, infer_binary},
      {OpKind::Equal, "equal", {x, y}, e5rt, af, infer_comparison},
      {OpKind::NotEqual, "not_equal", {x, y}, e5rt, af, infer_comparison},
      {OpKind::Less, "less", {x, y}, e5rt, af, infer_comparison},
      {OpKind::LessEqual, "less_equal", {x, y}, e5rt, af, infer_comparison},
      {OpKind::Greater, "greater", {x, y}, e5rt, af, infer_comparison},
      {OpKind::GreaterEqual, "greater_equal", {x, y}, e5rt, af, infer_comparison},
      // one operand
      {OpKind::Square, "square", {x}, e5rt, af, infer_same},
      {OpKind::Sqrt, "sqrt", {x}, direct, ori, infer_same},
      {OpKind::Rsqrt,
       "rsqrt",
       {x, epsilon},
       e5rt,
       "ANE_FACTS 3.3, C8: e5rt AF; direct reports omit epsilon",
       infer_same},
      {OpKind::Inverse, "inverse", {x, epsilon}, e5rt, af, infer_same},
      {OpKind::Abs, "abs", {x}, e5rt, af, infer_same},
      {OpKind::Sign, "sign", {x}, e5rt, af, infer_same},
      {OpKind::Exp, "exp", {x}, direct, ori, infer_same},
      {OpKind::Exp2, "exp2", {x}, e5rt, af, infer_same},
      {OpKind::Log, "log", {x, epsilon}, e5rt, af, infer_same},
      {OpKind::Floor, "floor", {x}, e5rt, af, infer_same},
      {OpKind::Ceil, "ceil", {x}, e5rt, af, infer_same},
      {OpKind::Round, "round", {x}, e5rt, af, infer_same},
      {OpKind::Sin, "sin", {x}, e5rt, af, infer_same},
      {OpKind::Cos, "cos", {x}, e5rt, af, infer_same},
      {OpKind::Atan, "atan", {x}, e5rt, af, infer_same},
      {OpKind::Erf, "erf", {x}, e5rt, af, infer_same},
      {OpKind::Relu, "relu", {x}, direct, several, infer_same},
      {OpKind::Relu6, "relu6", {x}, e5rt, af, infer_same},
      {OpKind::Sigmoid, "sigmoid", {x}, direct, several, infer_same},
      {OpKind::Tanh, "tanh", {x}, direct, several, infer_same},
      {OpKind::Softplus, "softplus", {x}, e5rt, af, infer_same},
      {OpKind::Softsign, "softsign", {x}, e5rt, af, infer_same},
      {OpKind::Silu, "silu", {x}, direct, "ANE_FACTS 3.3: direct OM, LM, FG", infer_same},
      {OpKind::Gelu,
       "gelu",
       {x, required("mode", "string")},
       e5rt,
       "ANE_FACTS 3.3, C7: e5rt AF; the direct report omits mode",
       infer_gelu},
      {OpKind::Elu, "elu", {x, alpha}, e5rt, af, infer_same},
      {OpKind::LeakyRelu, "leaky_relu", {x, alpha}, e5rt, af, infer_same},
      {OpKind::Threshold, "threshold", {x, alpha}, e5rt, af, infer_same},
      {OpKind::ThresholdedRelu, "thresholded_relu", {x, alpha}, e5rt, af, infer_same},
      {OpKind::SigmoidHard, "sigmoid_hard", {x, alpha, beta}, e5rt, af, infer_same},
      {OpKind::ScaledTanh, "scaled_tanh", {x, alpha, beta}, e5rt, af, infer_same},
      {OpKind::ClampedRelu, "clamped_relu", {x, alpha, beta}, e5rt, af, infer_same},
      {OpKind::LinearActivation, "linear_activation", {x, alpha, beta}, e5rt, af, infer_same},
      {OpKind::Clip, "clip", {x, alpha, beta}, e5rt, af, infer_same},
      {OpKind::Prelu, "prelu", {x, tensor("alpha", ArgTensor | ArgConst)}, e5rt, af, infer_prelu},
      {OpKind::LogicalNot, "logical_not", {tensor("x", ArgBoolTensor)}, e5rt, af, infer_same},
      {OpKind::Cast,
       "cast",
       {tensor("x", kAnyTensor), required("dtype", "string")},
       direct,
       "ANE_FACTS 3.3: direct M3 and newer",
       infer_cast},
      {OpKind::Identity,
       "identity",
       {x},
       disputed,
       "ANE_FACTS 3.3: ORI emits it as an alias; AF counts it as nothing",
       infer_same},
      // three operands
      {OpKind::Select, "select", {tensor("cond", ArgBoolTensor), tensor("a"), tensor("b")}, e5rt, af, infer_select},
  };
}

}  // namespace ane
