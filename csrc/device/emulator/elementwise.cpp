#include "elementwise.h"

#include <map>
#include <stdexcept>

namespace ane {

namespace {

// Operations with one mode and no parameters but alpha and beta.
const std::map<OpKind, LaneOp> &plain_operations() {
  static const std::map<OpKind, LaneOp> operations = {
      {OpKind::Add, LaneOp::Add},
      {OpKind::Sub, LaneOp::Sub},
      {OpKind::Mul, LaneOp::Mul},
      {OpKind::RealDiv, LaneOp::RealDiv},
      {OpKind::FloorDiv, LaneOp::FloorDiv},
      {OpKind::Maximum, LaneOp::Maximum},
      {OpKind::Minimum, LaneOp::Minimum},
      {OpKind::Pow, LaneOp::Pow},
      {OpKind::Equal, LaneOp::Equal},
      {OpKind::NotEqual, LaneOp::NotEqual},
      {OpKind::Less, LaneOp::Less},
      {OpKind::LessEqual, LaneOp::LessEqual},
      {OpKind::Greater, LaneOp::Greater},
      {OpKind::GreaterEqual, LaneOp::GreaterEqual},
      {OpKind::Square, LaneOp::Square},
      {OpKind::Sqrt, LaneOp::Sqrt},
      {OpKind::Rsqrt, LaneOp::Rsqrt},
      {OpKind::Inverse, LaneOp::Inverse},
      {OpKind::Abs, LaneOp::Abs},
      {OpKind::Sign, LaneOp::Sign},
      {OpKind::Exp, LaneOp::Exp},
      {OpKind::Exp2, LaneOp::Exp2},
      {OpKind::Log, LaneOp::Log},
      {OpKind::Floor, LaneOp::Floor},
      {OpKind::Ceil, LaneOp::Ceil},
      {OpKind::Round, LaneOp::Round},
      {OpKind::Sin, LaneOp::Sin},
      {OpKind::Cos, LaneOp::Cos},
      {OpKind::Atan, LaneOp::Atan},
      {OpKind::Erf, LaneOp::Erf},
      {OpKind::Relu, LaneOp::Relu},
      {OpKind::Relu6, LaneOp::Relu6},
      {OpKind::Sigmoid, LaneOp::Sigmoid},
      {OpKind::Tanh, LaneOp::Tanh},
      {OpKind::Softplus, LaneOp::Softplus},
      {OpKind::Softsign, LaneOp::Softsign},
      {OpKind::Silu, LaneOp::Silu},
      {OpKind::Gelu, LaneOp::GeluExact},
      {OpKind::Elu, LaneOp::Elu},
      {OpKind::LeakyRelu, LaneOp::LeakyRelu},
      {OpKind::Threshold, LaneOp::Threshold},
      {OpKind::ThresholdedRelu, LaneOp::ThresholdedRelu},
      {OpKind::SigmoidHard, LaneOp::SigmoidHard},
      {OpKind::ScaledTanh, LaneOp::ScaledTanh},
      {OpKind::ClampedRelu, LaneOp::ClampedRelu},
      {OpKind::LinearActivation, LaneOp::LinearActivation},
      {OpKind::Clip, LaneOp::Clip},
      {OpKind::Prelu, LaneOp::Prelu},
      {OpKind::LogicalNot, LaneOp::LogicalNot},
      {OpKind::Cast, LaneOp::Identity},
      {OpKind::Identity, LaneOp::Identity},
      {OpKind::Select, LaneOp::Select},
  };
  return operations;
}

void name_operands(const NodeView &node, ElementwiseOp *op) {
  if (op->lane == LaneOp::Select) {
    op->operand_count = 3;
    op->operands[0] = "cond", op->operands[1] = "a", op->operands[2] = "b";
  } else if (op->lane == LaneOp::Prelu) {
    op->operand_count = 2;
    op->operands[1] = "alpha";
  } else if (node.has("y")) {
    op->operand_count = 2;
  }
}

void read_parameters(const NodeView &node, ElementwiseOp *op) {
  if (node.has("epsilon")) op->alpha = static_cast<float>(node.number("epsilon"));
  if (op->lane == LaneOp::Prelu) return;  // its alpha is an operand
  if (node.has("alpha")) op->alpha = static_cast<float>(node.number("alpha"));
  if (node.has("beta")) op->beta = static_cast<float>(node.number("beta"));
}

// Exponents for which plain arithmetic is exact to the last bit.
void simplify_power(const NodeView &node, ElementwiseOp *op) {
  const ConstantPtr &exponents = node.value("y").constant;
  if (!exponents || exponents->count() == 0) return;
  const double exponent = exponents->number(0);
  for (int64_t i = 1; i < exponents->count(); ++i)
    if (exponents->number(i) != exponent) return;
  static const std::map<double, LaneOp> simple = {{-1, LaneOp::Inverse}, {-0.5, LaneOp::Rsqrt}, {0.5, LaneOp::Sqrt},
                                                  {1, LaneOp::Identity}, {2, LaneOp::Square},   {3, LaneOp::Cube}};
  const auto found = simple.find(exponent);
  if (found == simple.end()) return;
  op->lane = found->second;
  op->operand_count = 1;
}

void choose_gelu(const NodeView &node, ElementwiseOp *op) {
  const std::string &mode = node.text("mode");
  if (mode == "TANH_APPROXIMATION") op->lane = LaneOp::GeluTanh;
  if (mode == "SIGMOID_APPROXIMATION") op->lane = LaneOp::GeluSigmoid;
}

void choose_cast(DType from, ElementwiseOp *op) {
  struct Range {
    DType type;
    float low, high;
  };
  static const Range ranges[] = {{DType::Int8, -128, 127},
                                 {DType::UInt8, 0, 255},
                                 {DType::Int16, -32768, 32767},
                                 {DType::UInt16, 0, 65535},
                                 {DType::Int32, -0x1p31f, 0x1.fffffep30f}};
  if (op->output == DType::Bool && from != DType::Bool) op->lane = LaneOp::CastToBool;
  for (const Range &range : ranges) {
    if (op->output != range.type) continue;
    op->lane = LaneOp::CastToInteger;
    op->alpha = range.low, op->beta = range.high;
  }
}

// What chips do differently to fp16.
void apply_rules(const Profile &profile, ElementwiseOp *op) {
  const auto lookup = [&](const char *rule, LaneOp lane, const Table &table) {
    if (!profile.on(rule)) return;
    op->lane = lane;
    op->table = &table;
  };
  switch (op->lane) {
    case LaneOp::Sigmoid: return lookup("sigmoid-table", LaneOp::TableLookup, sigmoid_table());
    case LaneOp::Tanh: return lookup("tanh-table", LaneOp::TableLookup, tanh_table());
    case LaneOp::ScaledTanh: return lookup("tanh-table", LaneOp::ScaledTanhTable, tanh_table());
    case LaneOp::Silu: return lookup("silu-table", LaneOp::TableLookup, silu_table());
    case LaneOp::GeluExact:
    case LaneOp::GeluTanh:
    case LaneOp::GeluSigmoid: return lookup("gelu-table", LaneOp::TableLookup, gelu_table());
    case LaneOp::Exp:
      if (!profile.on("exp-overflow")) return;
      op->lane = LaneOp::ExpLimited;
      op->alpha = static_cast<float>(profile.value("exp-overflow"));
      return;
    case LaneOp::Round:
      if (!profile.on("round-limit")) return;
      op->lane = LaneOp::RoundCoarse;
      op->alpha = static_cast<float>(profile.value("round-limit"));
      return;
    default: return;
  }
}

}  // namespace

bool is_elementwise(OpKind kind) { return plain_operations().count(kind) != 0; }

ElementwiseOp resolve_elementwise(const NodeView &node, const Profile &profile) {
  const auto found = plain_operations().find(node.kind());
  if (found == plain_operations().end())
    throw std::logic_error(std::string(node.node().spec->name) + " is not elementwise");
  ElementwiseOp op;
  op.lane = found->second;
  op.output = node.output_type().dtype;
  name_operands(node, &op);
  read_parameters(node, &op);
  if (node.kind() == OpKind::Pow) simplify_power(node, &op);
  if (node.kind() == OpKind::Gelu) choose_gelu(node, &op);
  if (node.kind() == OpKind::Cast) choose_cast(node.type("x").dtype, &op);
  if (op.output == DType::Fp16) apply_rules(profile, &op);
  return op;
}

std::vector<int64_t> operand_strides(const NodeView &node, const ElementwiseOp &op, int operand) {
  const Shape &output = node.output_type().shape;
  Shape shape = node.shape(op.operands[operand]);
  // prelu: one slope a channel, and channels are axis 1.
  if (op.lane == LaneOp::Prelu && operand == 1 && output.size() > 2) shape.resize(output.size() - 1, 1);
  const std::vector<int64_t> dense = row_major_strides(shape);
  std::vector<int64_t> strides(output.size(), 0);
  const size_t missing = output.size() - shape.size();  // operands are aligned at their last axes
  for (size_t i = 0; i < shape.size(); ++i) strides[missing + i] = shape[i] == 1 ? 0 : dense[i];
  return strides;
}

}  // namespace ane
