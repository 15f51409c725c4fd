// Quantised activations, constants, and the compressed weights that the checker folds.
#include "shape_rules.h"

namespace ane {

namespace {

// A scale or zero point: one number, or one for each place of `axis`.
void check_per_channel(const NodeView &node, const char *argument) {
  if (!node.has(argument) || node.shape(argument).empty()) return;
  if (!node.has("axis"))
    wrong_argument(node, "axis", format("is missing; expected one, since '%s' is a vector", argument));
  const Shape &input = node.shape("input");
  require_shape(node, argument, {input[node.axis("axis", static_cast<int>(input.size()))]}, "the axis of input");
}

void check_zero_point(const NodeView &node, DType quantized) {
  if (node.has("zero_point") && node.type("zero_point").dtype != quantized)
    wrong_argument(node, "zero_point",
                   format("is %s; expected %s", dtype_name(node.type("zero_point").dtype), dtype_name(quantized)));
}

// clip(round(input / scale) + zero_point)
std::vector<Type> infer_quantize(const NodeView &node) {
  require_text(node, "output_dtype", {"int8", "uint8"});
  require_one_dtype(node, {"input", "scale"});
  Type result = node.type("input");
  dtype_from_name(node.text("output_dtype"), &result.dtype);
  check_zero_point(node, result.dtype);
  check_per_channel(node, "scale");
  check_per_channel(node, "zero_point");
  return {result};
}

// (input - zero_point) * scale, in the type of scale
std::vector<Type> infer_dequantize(const NodeView &node) {
  const Type &input = node.type("input");
  if (input.dtype != DType::Int8 && input.dtype != DType::UInt8)
    wrong_argument(node, "input", "is " + type_text(input) + "; expected int8 or uint8");
  check_zero_point(node, input.dtype);
  check_per_channel(node, "scale");
  check_per_channel(node, "zero_point");
  return {{node.type("scale").dtype, input.shape}};
}

}  // namespace

std::vector<OpSpec> quantization_ops() {
  constexpr unsigned kConstTensor = ArgTensor | ArgConst, kConstInt = ArgIntTensor | ArgConst;
  const ArgSpec scale = tensor("scale", kConstTensor), zero_point = tensor("zero_point", kConstInt, false),
                axis = optional("axis", "int32");
  return {
      {OpKind::Quantize,
       "quantize",
       {tensor("input"), zero_point, scale, axis, required("output_dtype", "string")},
       Evidence::Direct,
       "ANE_FACTS 3.3, C35: direct MAD (M4, M5 Max); M0 (M5) says unsupported",
       infer_quantize,
       17},
      {OpKind::Dequantize,
       "dequantize",
       {tensor("input", ArgIntTensor), zero_point, scale, axis},
       Evidence::Direct,
       "ANE_FACTS 3.3: direct MAD (M4)",
       infer_dequantize,
       17},
      {OpKind::Const,
       "const",
       {tensor("val", kAnyTensor | ArgConst)},
       Evidence::Direct,
       "ANE_FACTS 3.3: direct all sources",
       nullptr},
      {OpKind::ConstexprAffineDequantize,
       "constexpr_affine_dequantize",
       {tensor("quantized_data", kConstInt), tensor("zero_point", kConstInt), scale, required("axis", "int32")},
       Evidence::Direct,
       "ANE_FACTS 3.3, C34: direct MAD (M4)",
       nullptr,
       16},
      {OpKind::ConstexprBlockwiseShiftScale,
       "constexpr_blockwise_shift_scale",
       {tensor("data", kConstInt), scale, tensor("offset", kConstInt, false)},
       Evidence::Direct,
       "ANE_FACTS 3.3: direct OM (production)",
       nullptr,
       18},
      {OpKind::ConstexprLutToDense,
       "constexpr_lut_to_dense",
       {tensor("indices", kConstInt), tensor("lut", kConstTensor), optional("vector_axis", "int32")},
       Evidence::E5rt,
       "ANE_FACTS 3.3: e5rt AF (M1 to M6)",
       nullptr,
       18},
      {OpKind::ConstexprSparseToDense,
       "constexpr_sparse_to_dense",
       {tensor("nonzero_data", kConstTensor), tensor("mask", kConstInt)},
       Evidence::E5rt,
       "ANE_FACTS 3.3: e5rt AF",
       nullptr,
       18},
      {OpKind::ConstexprCast,
       "constexpr_cast",
       {tensor("source_val", kConstTensor), required("output_dtype", "string")},
       Evidence::Disputed,
       "ANE_FACTS 3.3: not used by any source",
       nullptr,
       16},
  };
}

}  // namespace ane
