#include "slice.h"

#include <algorithm>

#include "merge.h"

namespace ane::fast {

namespace {

void split_front(View *view, int64_t slices) {
  const int64_t rest = view->sizes[0] / slices;
  view->sizes[0] = rest;
  view->sizes.insert(view->sizes.begin(), slices);
  const int64_t step = view->strides[0];
  if (rest == 1) view->strides[0] = 0;
  view->strides.insert(view->strides.begin(), step * rest);
}

void drop_axis(View *view, size_t axis) {
  view->sizes.erase(view->sizes.begin() + static_cast<ptrdiff_t>(axis));
  view->strides.erase(view->strides.begin() + static_cast<ptrdiff_t>(axis));
}

// Brings the first batch axis of a product to a multiple of `multiple` by laying following ones under it.
bool join_batch(GemmUnit *unit, int64_t multiple) {
  const auto views = {&unit->a, &unit->b, &unit->c};
  while (unit->c.rank() > 2 && unit->c.sizes[0] == 1) {
    for (View *view : views) drop_axis(view, 0);
  }
  while (true) {
    if (unit->c.rank() <= 2) return false;
    if (unit->c.sizes[0] % multiple == 0) return true;
    if (unit->c.rank() == 3) return false;
    const bool joins = std::all_of(views.begin(), views.end(), [](const View *view) {
      return view->sizes[1] == 1 || view->strides[0] == view->strides[1] * view->sizes[1];
    });
    if (!joins) return false;
    for (View *view : views) {
      const int64_t size = view->sizes[0] * view->sizes[1];
      const int64_t stride = view->sizes[1] == 1 ? view->strides[0] : view->strides[1];
      drop_axis(view, 0);
      view->sizes[0] = size;
      view->strides[0] = stride;
    }
  }
}

std::unique_ptr<Unit> sliced_product(const GemmUnit &unit, int64_t slices) {
  auto result = std::make_unique<GemmUnit>(unit);
  if (!join_batch(result.get(), slices)) return nullptr;
  for (View *view : {&result->a, &result->b, &result->c}) split_front(view, slices);
  return result;
}

// The part of `axis` that counts slices goes to the front.
std::unique_ptr<Unit> sliced_lanes(const LaneUnit &unit, size_t axis, int64_t slices) {
  auto result = std::make_unique<LaneUnit>(unit);
  Shape finer = unit.domain;
  finer[axis] /= slices;
  if (finer[axis] == 1) {
    finer[axis] = slices;
  } else {
    finer.insert(finer.begin() + static_cast<ptrdiff_t>(axis), slices);
  }
  refine(result.get(), finer);
  const auto to_front = [axis](Shape *shape) {
    std::rotate(shape->begin(), shape->begin() + static_cast<ptrdiff_t>(axis),
                shape->begin() + static_cast<ptrdiff_t>(axis) + 1);
  };
  for (LaneValue &value : result->values) {
    to_front(&value.spans);
    if (value.origin != LaneValue::Origin::Load) continue;
    to_front(&value.view.sizes);
    to_front(&value.view.strides);
  }
  for (LaneStore &store : result->stores) {
    to_front(&store.view.sizes);
    to_front(&store.view.strides);
  }
  to_front(&result->domain);
  if (result->reduces() && axis >= result->reduced_last) {
    ++result->reduced_first;
    ++result->reduced_last;
  }
  return result;
}

}  // namespace

int64_t matrix_count(const Unit &unit) {
  if (unit.kind != UnitKind::Gemm) return 1;
  GemmUnit joined = static_cast<const GemmUnit &>(unit);
  int64_t all = 1;
  for (size_t axis = 0; axis + 2 < joined.c.rank(); ++axis) all *= joined.c.sizes[axis];
  if (join_batch(&joined, all)) return all;
  GemmUnit first = static_cast<const GemmUnit &>(unit);
  return join_batch(&first, 1) ? first.c.sizes[0] : 1;
}

std::vector<std::unique_ptr<Unit>> sliced_forms(const Unit &unit, int64_t slices) {
  std::vector<std::unique_ptr<Unit>> forms;
  if (unit.kind == UnitKind::Gemm) {
    if (auto form = sliced_product(static_cast<const GemmUnit &>(unit), slices)) forms.push_back(std::move(form));
  } else if (unit.kind == UnitKind::Lanes) {
    const LaneUnit &lanes = static_cast<const LaneUnit &>(unit);
    for (size_t axis = 0; axis < lanes.domain.size(); ++axis) {
      if (lanes.reduces() && axis >= lanes.reduced_first && axis < lanes.reduced_last) continue;
      if (lanes.domain[axis] % slices == 0) forms.push_back(sliced_lanes(lanes, axis, slices));
    }
  }
  return forms;
}

}  // namespace ane::fast
