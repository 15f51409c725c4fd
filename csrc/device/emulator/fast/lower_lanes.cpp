// Elementwise operations, reductions and softmax: lane units of one operation each, for fusion to put together.
#include <algorithm>
#include <limits>

#include "kernels.h"
#include "lower.h"

namespace ane::fast {

namespace {

struct AxisRange {
  size_t first, last;
};

// The reduced axes as one range, axes of size one ignored; nothing where they stand apart.
std::optional<AxisRange> one_range(const Shape &shape, std::vector<int64_t> axes) {
  const int64_t rank = static_cast<int64_t>(shape.size());
  std::vector<bool> reduced(shape.size(), axes.empty());
  for (int64_t axis : axes) reduced[static_cast<size_t>(axis < 0 ? axis + rank : axis)] = true;
  size_t first = shape.size(), last = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (reduced[i] && shape[i] != 1) first = std::min(first, i), last = i + 1;
  }
  for (size_t i = first; i < last; ++i) {
    if (!reduced[i] && shape[i] != 1) return std::nullopt;
  }
  if (first >= last) return std::nullopt;
  return AxisRange{first, last};
}

}  // namespace

Lowering::LaneInput Lowering::lane_input(const View &view) {
  return {view, std::nullopt, draft_.buffers[static_cast<size_t>(view.buffer)].raw};
}

Lowering::LaneInput Lowering::lane_input(int id, const Shape &sizes) {
  const ConstantPtr &constant = value(id).constant;
  if (constant && constant->count() == 1) return {{}, static_cast<float>(constant->number(0)), false};
  return lane_input(broadcast(read(id), sizes));
}

LaneUnit *Lowering::add_lane_unit(const Shape &domain, const std::vector<LaneInput> &inputs) {
  auto unit = std::make_unique<LaneUnit>();
  unit->domain = domain;
  for (const LaneInput &input : inputs) {
    LaneValue value;
    value.spans.assign(domain.size(), 0);
    if (input.scalar) {
      value.origin = LaneValue::Origin::Scalar;
      value.scalar = *input.scalar;
    } else {
      value.view = input.view;
      value.rounds = input.rounds;
      for (size_t i = 0; i < domain.size(); ++i) value.spans[i] = input.view.strides[i] != 0;
    }
    unit->values.push_back(std::move(value));
  }
  draft_.units.push_back(std::move(unit));
  return static_cast<LaneUnit *>(draft_.units.back().get());
}

// Appends an operation; its result, whose index is returned, spans the domain, or all of it but the reduced axes.
int Lowering::add_lane_node(LaneUnit *unit, LaneNode node) {
  LaneValue result;
  result.origin = LaneValue::Origin::Result;
  for (int64_t size : unit->domain) result.spans.push_back(size != 1);
  if (node.reduces() && node.reduction != OpKind::Softmax) {
    std::fill(result.spans.begin() + static_cast<ptrdiff_t>(unit->reduced_first),
              result.spans.begin() + static_cast<ptrdiff_t>(unit->reduced_last), 0);
  }
  node.output = static_cast<int>(unit->values.size());
  unit->values.push_back(std::move(result));
  unit->ops.push_back(std::move(node));
  return unit->ops.back().output;
}

// The value is what the unit computes as `lane_value`.
void Lowering::place_lanes(int id, LaneUnit *unit, int lane_value) {
  Origin origin;
  origin.kind = Origin::Kind::Lanes;
  origin.unit = unit;
  origin.lane_value = lane_value;
  const View made = new_buffer(value(id).type.shape);
  set_alias(id, made, origin);
  store(unit, lane_value, made);
}

// A unit of one operation on all its values.
void Lowering::finish_lanes(int id, LaneUnit *unit, LaneNode node) {
  for (size_t i = 0; i < unit->values.size(); ++i) node.inputs.push_back(static_cast<int>(i));
  place_lanes(id, unit, add_lane_node(unit, std::move(node)));
}

void Lowering::store(LaneUnit *unit, int lane_value, const View &view) {
  const Shape &spans = unit->values[static_cast<size_t>(lane_value)].spans;
  Shape kept = unit->domain;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (spans[i] == 0) kept[i] = 1;
  }
  unit->stores.push_back({lane_value, broadcast(*reshaped(view, kept), unit->domain)});
}

// Nothing is computed: what is loaded is stored.
void Lowering::copy(const View &from, const View &to) {
  LaneUnit *unit = add_lane_unit(from.sizes, {lane_input(from)});
  unit->stores.push_back({0, to});
}

bool Lowering::lower_lanes(const NodeView &node) {
  if (!is_elementwise(node.kind())) return false;
  const Shape &shape = node.output_type().shape;
  LaneNode lanes;
  lanes.op = resolve_elementwise(node, profile_);
  const int result = node.output();
  const int first = node.id(lanes.op.operands[0]);
  if (lanes.op.lane == LaneOp::Identity && value(first).type.shape == shape && (!is_half(result) || is_half(first))) {
    Origin origin;
    origin.kind = Origin::Kind::Reshape;
    origin.parents = {first};
    set_alias(result, read(first), origin);
    return true;
  }
  std::vector<LaneInput> inputs;
  for (int i = 0; i < lanes.op.operand_count; ++i) {
    const int id = node.id(lanes.op.operands[i]);
    if (lanes.op.lane == LaneOp::Prelu && i == 1 && shape.size() > 2) {  // a slope a channel, and channels are axis 1
      Shape slopes = value(id).type.shape;
      slopes.resize(shape.size() - 1, 1);
      inputs.push_back(lane_input(broadcast(*reshaped(read(id), slopes), shape)));
    } else {
      inputs.push_back(lane_input(id, shape));
    }
  }
  finish_lanes(result, add_lane_unit(shape, inputs), lanes);
  return true;
}

// x where |x| <= limit, else infinity with the sign of x.
void Lowering::saturate(int id, const View &x, float limit) {
  LaneUnit *unit =
      add_lane_unit(x.sizes, {lane_input(x), {{}, limit, false}, {{}, std::numeric_limits<float>::infinity(), false}});
  const auto add = [&](LaneOp lane, std::vector<int> inputs) {
    LaneNode node;
    node.op.lane = lane;
    node.op.output = DType::Fp32;  // nothing here needs rounding
    node.inputs = std::move(inputs);
    return add_lane_node(unit, std::move(node));
  };
  const int x_value = 0, limit_value = 1, infinity_value = 2;
  const int exceeds = add(LaneOp::Greater, {add(LaneOp::Abs, {x_value}), limit_value});
  const int infinite = add(LaneOp::Mul, {x_value, infinity_value});
  place_lanes(id, unit, add(LaneOp::Select, {exceeds, infinite, x_value}));
}

bool Lowering::lower_rows(const NodeView &node) {
  if (kernels().reduce(node.kind(), false) == nullptr) return false;
  const Shape &shape = node.shape("x");
  std::vector<int64_t> axes;
  if (node.kind() == OpKind::Softmax) {
    axes = {node.integer("axis")};
  } else if (node.has("axes")) {
    axes = node.integers("axes");
  }
  const std::optional<AxisRange> range = one_range(shape, axes);
  if (!range) return false;
  LaneUnit *unit = add_lane_unit(shape, {lane_input(node.id("x"), shape)});
  unit->reduced_first = range->first;
  unit->reduced_last = range->last;
  LaneNode lanes;
  lanes.reduction = node.kind();
  lanes.op.output = node.output_type().dtype;
  finish_lanes(node.output(), unit, lanes);
  return true;
}

}  // namespace ane::fast
