// What every elementwise operation does to one lane: the single definition that all executors use, so that they agree
// bit for bit. Lanes hold values of fp16, fp32, bool (1 or 0) and integers of up to 16 bits as floats.
#ifndef ANETRAIN_EMULATOR_ELEMENTWISE_H
#define ANETRAIN_EMULATOR_ELEMENTWISE_H

#include <utility>

#include "../../cpu/vmath.h"
#include "ir.h"
#include "profile.h"
#include "tables.h"

namespace ane {

// An operation with its mode decided: OpKind, its parameters and the profile's rules say which.
enum class LaneOp : uint8_t {
  // x
  Identity,
  Square,
  Cube,
  Sqrt,
  Rsqrt,    // 1 / sqrt(x + alpha)
  Inverse,  // 1 / (x + alpha)
  Abs,
  Sign,
  Exp,
  ExpLimited,  // exp, infinite above alpha and at most 65504 up to it
  Exp2,
  Log,  // log(x + alpha)
  Floor,
  Ceil,
  Round,
  RoundCoarse,  // Round, with one bit of fp16's fraction less from |x| = alpha on
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
  GeluExact,
  GeluTanh,
  GeluSigmoid,
  TableLookup,  // sigmoid, tanh, gelu, silu of chips
  Elu,
  LeakyRelu,
  Threshold,
  ThresholdedRelu,
  SigmoidHard,
  ScaledTanh,
  ScaledTanhTable,
  ClampedRelu,
  LinearActivation,
  Clip,
  LogicalNot,
  CastToInteger,  // toward zero, kept within [alpha, beta]
  CastToBool,
  // x, y
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
  Prelu,  // y: the slope
  // cond, a, b
  Select,
  Count,
};

struct ElementwiseOp {
  LaneOp lane = LaneOp::Identity;
  int operand_count = 1;
  const char *operands[3] = {"x", "y", nullptr};  // names of the arguments that are read per element, in order
  float alpha = 0, beta = 0;
  const Table *table = nullptr;
  DType output = DType::Fp16;
};

bool is_elementwise(OpKind kind);
// A node for which is_elementwise holds. A power with a constant exponent of -1, -0.5, 0.5, 1, 2 or 3 becomes an
// operation on x alone.
ElementwiseOp resolve_elementwise(const NodeView &node, const Profile &profile);
// Strides (in elements) that walk an operand in the order of the output: 0 where it is broadcast.
std::vector<int64_t> operand_strides(const NodeView &node, const ElementwiseOp &op, int operand);

namespace detail {

template <class F>
ANE_LANE F truth(decltype(F{} < F{}) mask) {
  return select_constants<F>(mask, 1.0f, 0.0f);
}

// NaN in either operand is kept.
template <class F>
ANE_LANE F maximum(F x, F y) {
  return select(x == x, select(x > y, x, y), x);
}
template <class F>
ANE_LANE F minimum(F x, F y) {
  return select(x == x, select(x < y, x, y), x);
}
template <class F>
ANE_LANE F clamp(F x, float low, float high) {
  const F raised = select(x < low, low, x);
  return select(raised > high, high, raised);
}

// To 10 significant bits, ties to even.
template <class F>
ANE_LANE F drop_last_bit_of_fp16(F x) {
  using I = IntLanes<F>;
  const I bits = bit_cast<I>(x);
  return bit_cast<F>(add_bits<I>(bits, 0x1fff + ((bits >> 14) & 1)) & ~0x3fff);
}

// table_value of tables.h without branches.
template <class F>
ANE_LANE F table_lane(const Table &table, F x) {
  const F a = table.odd ? abs(x) : x;
  const F position = (a - table.low) * table.step_inverse;
  const F floored = floor(position);
  const F last = splat<F>(static_cast<float>(kTableKnots - 2));
  const F index = select(floored > 0.0f, select(floored < last, floored, last), 0.0f);
  const F knot = lookup32<F>(table.knots, to_int(index)), next = lookup32<F>(table.knots + 1, to_int(index));
  const F inside = fma(position - index, next - knot, knot);
  const F above = table.right_is_input ? a : splat<F>(table.right);
  const F y = select(a < table.low, table.left, select(a >= table.high, above, inside));
  return select(x == x, table.odd ? copysign(y, x) : y, x);
}

}  // namespace detail

// One lane of `Op`, not yet rounded to the declared type. Operands that Op does not have are ignored.
template <LaneOp Op, class F>
ANE_LANE F lane_value(const ElementwiseOp &op, F x, F y, F z) {
  using enum LaneOp;
  using detail::clamp;
  using detail::truth;
  const float alpha = op.alpha, beta = op.beta;
  (void)y, (void)z, (void)alpha, (void)beta;
  if constexpr (Op == Identity) {
    return x;
  } else if constexpr (Op == Square) {
    return x * x;
  } else if constexpr (Op == Cube) {
    return x * x * x;
  } else if constexpr (Op == Sqrt) {
    return sqrt(x);
  } else if constexpr (Op == Rsqrt) {
    return 1.0f / sqrt(x + alpha);
  } else if constexpr (Op == Inverse) {
    return 1.0f / (x + alpha);
  } else if constexpr (Op == Abs) {
    return abs(x);
  } else if constexpr (Op == Sign) {
    return select(x > 0.0f, 1.0f, select(x < 0.0f, -1.0f, x));
  } else if constexpr (Op == Exp) {
    return vmath::exp(x);
  } else if constexpr (Op == ExpLimited) {
    const F y = vmath::exp(x);
    return select(x > alpha, vmath::kInfinity, select(y > 65504.0f, 65504.0f, y));
  } else if constexpr (Op == Exp2) {
    return vmath::exp2(x);
  } else if constexpr (Op == Log) {
    return vmath::log(x + alpha);
  } else if constexpr (Op == Floor) {
    return floor(x);
  } else if constexpr (Op == Ceil) {
    return ceil(x);
  } else if constexpr (Op == Round) {
    return rint(x);
  } else if constexpr (Op == RoundCoarse) {
    return select(abs(x) >= alpha, detail::drop_last_bit_of_fp16(x), rint(x));
  } else if constexpr (Op == Sin) {
    return vmath::sin(x);
  } else if constexpr (Op == Cos) {
    return vmath::cos(x);
  } else if constexpr (Op == Atan) {
    return vmath::atan(x);
  } else if constexpr (Op == Erf) {
    return vmath::erf(x);
  } else if constexpr (Op == Relu) {
    return select(x < 0.0f, 0.0f, x);
  } else if constexpr (Op == Relu6) {
    return clamp(x, 0.0f, 6.0f);
  } else if constexpr (Op == Sigmoid) {
    return vmath::sigmoid(x);
  } else if constexpr (Op == Tanh) {
    return vmath::tanh(x);
  } else if constexpr (Op == Softplus) {
    return vmath::softplus(x);
  } else if constexpr (Op == Softsign) {
    const F magnitude = abs(x);
    return select(magnitude == vmath::kInfinity, copysign(splat<F>(1.0f), x), x / (1.0f + magnitude));
  } else if constexpr (Op == Silu) {
    return vmath::silu(x);
  } else if constexpr (Op == GeluExact) {
    return vmath::gelu(x);
  } else if constexpr (Op == GeluTanh) {
    return vmath::gelu_tanh(x);
  } else if constexpr (Op == GeluSigmoid) {
    return vmath::gelu_sigmoid(x);
  } else if constexpr (Op == TableLookup) {
    return detail::table_lane(*op.table, x);
  } else if constexpr (Op == Elu) {
    return select(x < 0.0f, alpha * vmath::expm1(x), x);
  } else if constexpr (Op == LeakyRelu) {
    return select(x < 0.0f, alpha * x, x);
  } else if constexpr (Op == Threshold) {
    return select(x < alpha, alpha, x);
  } else if constexpr (Op == ThresholdedRelu) {
    return select(x < alpha, 0.0f, x);
  } else if constexpr (Op == SigmoidHard) {
    return clamp(fma(x, splat<F>(alpha), splat<F>(beta)), 0.0f, 1.0f);
  } else if constexpr (Op == ScaledTanh) {
    return alpha * vmath::tanh(beta * x);
  } else if constexpr (Op == ScaledTanhTable) {
    return alpha * detail::table_lane(*op.table, beta * x);
  } else if constexpr (Op == ClampedRelu) {
    const F leaky = select(x < 0.0f, alpha * x, x);
    return select(leaky > beta, beta, leaky);
  } else if constexpr (Op == LinearActivation) {
    return fma(x, splat<F>(alpha), splat<F>(beta));
  } else if constexpr (Op == Clip) {
    return clamp(x, alpha, beta);
  } else if constexpr (Op == LogicalNot) {
    return truth<F>(x == 0.0f);
  } else if constexpr (Op == CastToInteger) {
    return clamp(select(x == x, trunc(x), 0.0f), alpha, beta) + 0.0f;  // no -0 among integers
  } else if constexpr (Op == CastToBool) {
    return truth<F>(x != 0.0f);
  } else if constexpr (Op == Add) {
    return x + y;
  } else if constexpr (Op == Sub) {
    return x - y;
  } else if constexpr (Op == Mul) {
    return x * y;
  } else if constexpr (Op == RealDiv) {
    return x / y;
  } else if constexpr (Op == FloorDiv) {
    return floor(x / y);
  } else if constexpr (Op == Maximum) {
    return detail::maximum(x, y);
  } else if constexpr (Op == Minimum) {
    return detail::minimum(x, y);
  } else if constexpr (Op == Pow) {
    return vmath::pow(x, y);
  } else if constexpr (Op == Equal) {
    return truth<F>(x == y);
  } else if constexpr (Op == NotEqual) {
    return truth<F>(x != y);
  } else if constexpr (Op == Less) {
    return truth<F>(x < y);
  } else if constexpr (Op == LessEqual) {
    return truth<F>(x <= y);
  } else if constexpr (Op == Greater) {
    return truth<F>(x > y);
  } else if constexpr (Op == GreaterEqual) {
    return truth<F>(x >= y);
  } else if constexpr (Op == Prelu) {
    return select(x < 0.0f, x * y, x);
  } else {
    static_assert(Op == LaneOp::Select);
    return select(x != 0.0f, y, z);
  }
}

// The same rounded to the output's type: what the operation writes.
template <LaneOp Op, class F>
ANE_LANE F apply_lane(const ElementwiseOp &op, F x, F y, F z) {
  const F value = lane_value<Op>(op, x, y, z);
  return op.output == DType::Fp16 ? round_to_fp16(value) : value;
}

// Calls visitor(std::integral_constant<LaneOp, op>{}): the one place where a run-time operation becomes a compile-time
// one.
template <class Visitor>
inline void visit_lane_op(LaneOp op, Visitor &&visitor) {
  [&]<size_t... I>(std::index_sequence<I...>) {
    (void)((op == static_cast<LaneOp>(I) &&
            (visitor(std::integral_constant<LaneOp, static_cast<LaneOp>(I)>{}), true)) ||
           ...);
  }(std::make_index_sequence<static_cast<size_t>(LaneOp::Count)>{});
}

}  // namespace ane
#endif
