// The emulator's operation table: names, arguments, evidence, shape rules. One file per family in ops/.
#ifndef ANETRAIN_EMULATOR_OPS_H
#define ANETRAIN_EMULATOR_OPS_H

#include <string>
#include <vector>

#include "types.h"

namespace ane {

class NodeView;

enum class OpKind : uint16_t {
  // linear algebra
  Conv,
  ConvTranspose,
  MatMul,
  Linear,
  Einsum,
  // elementwise, two operands
  Add,
  Sub,
  Mul,
  RealDiv,
  FloorDiv,
  Maximum,
  Minimum,
  Pow,
  Equal,
  NotEqual,
  Less,
  LessEqual,
  Greater,
  GreaterEqual,
  // elementwise, one operand
  Square,
  Sqrt,
  Rsqrt,
  Inverse,
  Abs,
  Sign,
  Exp,
  Exp2,
  Log,
  Floor,
  Ceil,
  Round,
  Sin,
  Cos,
  Atan,
  Erf,
  Relu,
  Relu6,
  Sigmoid,
  Tanh,
  Softplus,
  Softsign,
  Silu,
  Gelu,
  Elu,
  LeakyRelu,
  Threshold,
  ThresholdedRelu,
  SigmoidHard,
  ScaledTanh,
  ClampedRelu,
  LinearActivation,
  Clip,
  Prelu,
  LogicalNot,
  Cast,
  Identity,
  // elementwise, three operands
  Select,
  // rows
  Softmax,
  ReduceSum,
  ReduceMean,
  ReduceMax,
  ReduceMin,
  ReduceL1Norm,
  ReduceL2Norm,
  ReduceLogSum,
  ReduceSumSquare,
  ReduceLogSumExp,
  ReduceArgmax,
  TopK,
  LayerNorm,
  BatchNorm,
  InstanceNorm,
  L2Norm,
  LocalResponseNorm,
  // layout
  Concat,
  Stack,
  Split,
  SliceBySize,
  SliceByIndex,
  Reshape,
  Transpose,
  Squeeze,
  ExpandDims,
  Flatten2d,
  Tile,
  Reverse,
  Pad,
  Crop,
  PixelShuffle,
  PixelUnshuffle,
  SpaceToDepth,
  DepthToSpace,
  // images
  MaxPool,
  AvgPool,
  UpsampleNearestNeighbor,
  UpsampleBilinear,
  ResizeNearestNeighbor,
  ResizeBilinear,
  Affine,
  // attention
  ScaledDotProductAttention,
  // quantisation
  Quantize,
  Dequantize,
  // constants, folded by the checker: never a Node
  Const,
  ConstexprAffineDequantize,
  ConstexprBlockwiseShiftScale,
  ConstexprLutToDense,
  ConstexprSparseToDense,
  ConstexprCast,
  Count,
};

enum class Evidence : uint8_t { Direct, E5rt, Disputed };

// What an argument may be; a bit set.
enum ArgKind : unsigned {
  ArgTensor = 1,  // a run-time or constant tensor of floating point (fp16, fp32)
  ArgBoolTensor = 2,
  ArgIntTensor = 4,  // int8, uint8, int32 ... as data
  ArgConst = 8,      // must be known at compile time (a parameter, or weights of `linear`)
  ArgVariadic = 16,  // values = (a, b, ...)
};

struct ArgSpec {
  const char *name;
  unsigned kinds;
  // ArgConst parameters: a dtype such as "bool", "int32", "string"; "fp": fp16 or fp32, whichever the operation
  // computes in; "scale": int32 or fp32. With "[]", a 1-D list. "" for tensors.
  const char *parameter = "";
  bool required = true;
  const char *default_text = "";  // optional parameters: "false", "1", "[1,1]", "0x1p-24"; "" = stays absent
};

struct OpSpec {
  OpKind kind;
  const char *name;  // "reduce_sum"
  std::vector<ArgSpec> arguments;
  Evidence evidence;
  const char *evidence_source;  // "ANE_FACTS 3.3: direct MAD, ORI"
  // Types of the outputs; reports mistakes with invalid_program. Null for operations that the checker folds.
  std::vector<Type> (*infer)(const NodeView &node);
  int since_ios = 15;  // the first opset that has it
};

const OpSpec *find_op(const std::string &name);  // null: unknown
const OpSpec &spec_of(OpKind kind);
const std::vector<OpSpec> &all_ops();  // every OpKind but Count, once

}  // namespace ane
#endif
