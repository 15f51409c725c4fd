#include "lower.h"

#include "../errors.h"
#include "merge.h"

namespace ane::fast {

namespace {

Shape without_ones(const Shape &sizes) {
  Shape result;
  for (int64_t size : sizes) {
    if (size != 1) result.push_back(size);
  }
  return result;
}

// Readers of a raw buffer that was rounded before they run read the rounded copy. Those that come earlier do not: what
// makes the copy may depend on them, or be merged with what does.
void read_rounded_copies(Draft *draft, const std::vector<int> &rounded) {
  std::vector<bool> made(rounded.size(), false);  // by raw buffer: its copy
  for (auto &unit : draft->units) {
    if (unit->kind != UnitKind::Lanes) continue;
    LaneUnit &lanes = static_cast<LaneUnit &>(*unit);
    for (LaneValue &value : lanes.values) {
      if (value.origin != LaneValue::Origin::Load || !value.rounds) continue;
      const int raw = value.view.buffer;
      if (made[raw]) {
        value.view.buffer = rounded[raw];
        value.rounds = false;
      } else if (lanes.stores[0].view.buffer == rounded[raw]) {
        made[raw] = true;
      }
    }
  }
}

}  // namespace

Lowering::Lowering(const Graph &graph, const Profile &profile)
    : graph_(graph),
      profile_(profile),
      places_(graph.values.size()),
      origins_(graph.values.size()),
      consumers_(graph.values.size()),
      images_(graph.inputs.size(), -1) {
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (const Argument &argument : graph.nodes[n].arguments) {
      for (int id : argument.values) consumers_[id].push_back(static_cast<int>(n));
    }
  }
  for (size_t port = 0; port < graph.inputs.size(); ++port) {
    const Type &type = value(graph.inputs[port]).type;
    Buffer surface{
        Storage::Input, type.dtype == DType::Fp16, false, element_count(type.shape), static_cast<int>(port), {}, {}};
    set_place(graph.inputs[port], dense_view(draft_.add_buffer(std::move(surface)), type.shape));
  }
}

Draft Lowering::run() {
  for (const Node &node : graph_.nodes) lower(NodeView(graph_, node));
  for (size_t port = 0; port < graph_.outputs.size(); ++port) {
    const Type &type = value(graph_.outputs[port]).type;
    Buffer surface{
        Storage::Output, type.dtype == DType::Fp16, false, element_count(type.shape), static_cast<int>(port), {}, {}};
    add_home(graph_.outputs[port], dense_view(draft_.add_buffer(std::move(surface)), type.shape));
  }
  rounded_.resize(draft_.buffers.size(), -1);
  read_rounded_copies(&draft_, rounded_);
  for (auto &unit : draft_.units) {
    if (unit->kind != UnitKind::Lanes) continue;
    LaneUnit &lanes = static_cast<LaneUnit &>(*unit);
    refine(&lanes, without_ones(lanes.domain));
  }
  return std::move(draft_);
}

void Lowering::lower(const NodeView &node) {
  if (lower_layout(node) || lower_lanes(node) || lower_rows(node) || lower_products(node)) return;
  lower_generic(node);
}

View Lowering::read(int id) {
  if (!places_[id]) {
    Buffer buffer;
    buffer.storage = Storage::Constant;
    buffer.constant = value(id).constant;
    buffer.count = buffer.constant->count();
    set_place(id, dense_view(draft_.add_buffer(std::move(buffer)), value(id).type.shape));
  }
  return *places_[id];
}

View Lowering::read_rounded(int id) {
  View view = read(id);
  if (!draft_.buffers[view.buffer].raw) return view;
  const int raw = view.buffer;
  rounded_.resize(draft_.buffers.size(), -1);
  if (rounded_[raw] < 0) {
    const View made = copied(dense_view(raw, {draft_.buffers[raw].count}));
    rounded_.resize(draft_.buffers.size(), -1);
    rounded_[raw] = made.buffer;
  }
  view.buffer = rounded_[raw];
  return view;
}

void Lowering::set_alias(int id, View view, Origin origin) {
  set_place(id, std::move(view));
  origins_[id] = std::move(origin);
}

View Lowering::new_buffer(const Shape &sizes) {
  Buffer buffer;
  buffer.count = element_count(sizes);
  return dense_view(draft_.add_buffer(std::move(buffer)), sizes);
}

View Lowering::copied(const View &view) {
  const View made = new_buffer(view.sizes);
  copy(view, made);
  return made;
}

View Lowering::reshaped_or_copied(const View &view, const Shape &shape) {
  if (const std::optional<View> same = reshaped(view, shape)) return *same;
  return *reshaped(copied(view), shape);
}

void Lowering::add_home(int id, const View &home) {
  const Origin origin = origins_[id];
  switch (origin.kind) {
    case Origin::Kind::Lanes: return store(origin.unit, origin.lane_value, home);
    case Origin::Kind::Reshape: {
      const int parent = origin.parents[0];
      if (const std::optional<View> view = reshaped(home, value(parent).type.shape)) return add_home(parent, *view);
      break;
    }
    case Origin::Kind::Permute: {
      std::vector<int64_t> inverse(origin.permutation.size());
      for (size_t i = 0; i < inverse.size(); ++i) inverse[origin.permutation[i]] = static_cast<int64_t>(i);
      return add_home(origin.parents[0], permuted(home, inverse));
    }
    case Origin::Kind::Concat: {
      int64_t begin = 0;
      for (int part : origin.parents) {
        const Shape &shape = value(part).type.shape;
        const int64_t size = shape.size() == home.rank() ? shape[origin.axis] : 1;  // parts of a stack lack the axis
        add_home(part, *reshaped(sliced(home, origin.axis, begin, size), shape));
        begin += size;
      }
      return;
    }
    case Origin::Kind::Elsewhere: break;
  }
  copy(read(id), home);
}

void Lowering::lower_generic(const NodeView &node) {
  auto unit = std::make_unique<GenericUnit>();
  unit->node = static_cast<int>(&node.node() - graph_.nodes.data());
  for (const Argument &argument : node.node().arguments) {
    for (int id : argument.values) {
      if (value(id).type.dtype == DType::String) continue;
      if (value(id).constant) value(id).constant->bytes();  // when it runs, the graph is read, too
      const View view = read_rounded(id);
      const bool usable = is_dense(view) && !draft_.buffers[static_cast<size_t>(view.buffer)].half;
      unit->input_values.push_back(id);
      unit->inputs.push_back(usable ? view : copied(view));
    }
  }
  for (int id : node.node().outputs) {
    const View view = new_buffer(value(id).type.shape);
    unit->outputs.push_back(view);
    set_place(id, view);
  }
  draft_.units.push_back(std::move(unit));
}

}  // namespace ane::fast
