#include "merge.h"

#include <algorithm>

namespace ane::fast {

namespace {

constexpr size_t kMostOps = 48;
constexpr size_t kMostViews = 32;

using Origin = LaneValue::Origin;

int64_t product(const Shape &shape, size_t first, size_t last) {
  int64_t result = 1;
  for (size_t i = first; i < last; ++i) result *= shape[i];
  return result;
}

// The domain without its reduced axes: what per-row results live on.
Shape kept_axes(const LaneUnit &unit) {
  Shape kept = unit.domain;
  kept.erase(kept.begin() + unit.reduced_first, kept.begin() + unit.reduced_last);
  return kept;
}

void for_each_view(LaneUnit *unit, auto &&change) {
  for (LaneValue &value : unit->values) {
    if (value.origin == Origin::Load) change(&value.view);
  }
  for (LaneStore &store : unit->stores) change(&store.view);
}

// Gives every view and span of `unit`, whose domain is `outer` without its reduced axes, those axes: constant along
// them.
void lift(LaneUnit *unit, const LaneUnit &outer) {
  const Shape added(outer.domain.begin() + outer.reduced_first, outer.domain.begin() + outer.reduced_last);
  const Shape zeros(added.size(), 0);
  auto insert = [&](Shape *shape, const Shape &what) {
    shape->insert(shape->begin() + outer.reduced_first, what.begin(), what.end());
  };
  for_each_view(unit, [&](View *view) {
    insert(&view->sizes, added);
    insert(&view->strides, zeros);
  });
  for (LaneValue &value : unit->values) insert(&value.spans, zeros);
  insert(&unit->domain, added);
  unit->reduced_first = outer.reduced_first;
  unit->reduced_last = outer.reduced_last;
}

int64_t lane_count(const LaneUnit &unit) { return product(unit.domain, 0, unit.domain.size()); }

// Brings both to one domain; false where there is none.
bool align(LaneUnit *first, LaneUnit *second) {
  if (lane_count(*first) == lane_count(*second)) {
    const std::optional<Shape> shared = common_refinement(first->domain, second->domain);
    if (!shared) return false;
    refine(first, *shared);
    refine(second, *shared);
    return true;
  }
  const Shape kept = kept_axes(*first);
  if (product(kept, 0, kept.size()) != lane_count(*second) || common_refinement(kept, second->domain) != kept)
    return false;
  refine(second, kept);
  lift(second, *first);
  return true;
}

// A reduction runs along one axis of memory in every view of the unit.
bool reduced_axes_are_one(const LaneUnit &unit) {
  auto is_one = [&](const View &view) {
    for (size_t axis = unit.reduced_first; axis + 1 < unit.reduced_last; ++axis) {
      if (view.strides[axis] != view.strides[axis + 1] * view.sizes[axis + 1]) return false;
    }
    return true;
  };
  for (const View *view : unit.reads()) {
    if (!is_one(*view)) return false;
  }
  for (const View *view : unit.writes()) {
    if (!is_one(*view)) return false;
  }
  return true;
}

bool writes_buffer(const LaneUnit &unit, int buffer) {
  return std::any_of(unit.stores.begin(), unit.stores.end(),
                     [&](const LaneStore &store) { return store.view.buffer == buffer; });
}

// The value of `unit` that `load` would read back; -1: no such store.
int stored_value(const LaneUnit &unit, const View &load) {
  for (const LaneStore &store : unit.stores) {
    if (store.view.buffer == load.buffer && store.view.offset == load.offset && store.view.strides == load.strides) {
      return store.value;
    }
  }
  return -1;
}

int equal_source(const LaneUnit &unit, const LaneValue &value) {
  for (size_t i = 0; i < unit.values.size(); ++i) {
    const LaneValue &other = unit.values[i];
    if (other.origin != value.origin) continue;
    if (value.origin == Origin::Scalar && other.scalar == value.scalar) return static_cast<int>(i);
    if (value.origin == Origin::Load && other.view == value.view && other.rounds == value.rounds) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace

void refine(LaneUnit *unit, const Shape &finer) {
  // For each axis of the finer domain, the axis it is part of and how many elements of that axis one step is.
  std::vector<std::pair<size_t, int64_t>> origin(finer.size());
  Shape firsts(unit->domain.size() + 1, static_cast<int64_t>(finer.size()));
  size_t next = finer.size();
  for (size_t axis = unit->domain.size(); axis-- > 0;) {
    for (int64_t covered = 1; covered < unit->domain[axis]; covered *= finer[next]) origin[--next] = {axis, covered};
    firsts[axis] = static_cast<int64_t>(next);
  }
  for_each_view(unit, [&](View *view) {
    View result{view->buffer, view->offset, finer, Shape(finer.size(), 0)};
    for (size_t i = 0; i < finer.size(); ++i) result.strides[i] = view->strides[origin[i].first] * origin[i].second;
    *view = std::move(result);
  });
  for (LaneValue &value : unit->values) {
    Shape spans(finer.size());
    for (size_t i = 0; i < finer.size(); ++i) spans[i] = value.spans[origin[i].first];
    value.spans = std::move(spans);
  }
  unit->reduced_first = static_cast<size_t>(firsts[unit->reduced_first]);
  unit->reduced_last = static_cast<size_t>(firsts[unit->reduced_last]);
  unit->domain = finer;
}

namespace {

// What can be said without copies: long programs ask for many pairs that do not fit.
bool may_merge(const LaneUnit &first, const LaneUnit &second) {
  const std::vector<const View *> reads = first.reads();
  if (first.ops.size() + second.ops.size() > kMostOps) return false;
  if (reads.size() + first.stores.size() + second.stores.size() > kMostViews) return false;
  if (lane_count(first) != lane_count(second) && (!first.reduces() || second.reduces())) return false;
  return std::none_of(reads.begin(), reads.end(),
                      [&](const View *view) { return writes_buffer(second, view->buffer); });
}

}  // namespace

std::unique_ptr<LaneUnit> merge(const LaneUnit &first, const LaneUnit &second) {
  if (!may_merge(first, second)) return nullptr;
  auto merged = std::make_unique<LaneUnit>(first);
  LaneUnit added = second;
  if (!align(merged.get(), &added)) return nullptr;
  if (merged->reduces() && added.reduces() &&
      (merged->reduced_first != added.reduced_first || merged->reduced_last != added.reduced_last)) {
    return nullptr;
  }
  if (!merged->reduces()) {
    merged->reduced_first = added.reduced_first;
    merged->reduced_last = added.reduced_last;
  }

  std::vector<int> renamed(added.values.size());
  for (size_t i = 0; i < added.values.size(); ++i) {
    LaneValue &value = added.values[i];
    int same = -1;
    if (value.origin == Origin::Load && writes_buffer(first, value.view.buffer)) {
      same = stored_value(*merged, value.view);
      if (same < 0) return nullptr;
    } else if (value.origin != Origin::Result) {
      same = equal_source(*merged, value);
    }
    if (same < 0) {
      same = static_cast<int>(merged->values.size());
      merged->values.push_back(std::move(value));
    }
    renamed[i] = same;
  }
  for (LaneNode &op : added.ops) {
    for (int &input : op.inputs) input = renamed[input];
    op.output = renamed[op.output];
    merged->ops.push_back(std::move(op));
  }
  for (LaneStore &store : added.stores) merged->stores.push_back({renamed[store.value], std::move(store.view)});
  if (merged->reads().size() + merged->writes().size() > kMostViews || !reduced_axes_are_one(*merged)) return nullptr;
  return merged;
}

}  // namespace ane::fast
