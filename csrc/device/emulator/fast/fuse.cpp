#include "fuse.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "merge.h"

namespace ane::fast {

namespace {

std::set<int> buffers_of(const Unit &unit) {
  std::set<int> result;
  for (const View *view : unit.reads()) result.insert(view->buffer);
  for (const View *view : unit.writes()) result.insert(view->buffer);
  return result;
}

bool share(const std::set<int> &a, const std::set<int> &b) {
  return std::any_of(a.begin(), a.end(), [&](int buffer) { return b.count(buffer) != 0; });
}

// Merges unit `index` with an earlier one if any fits; the result stands at `index`.
bool merge_backwards(Draft *draft, size_t index) {
  const LaneUnit &unit = static_cast<const LaneUnit &>(*draft->units[index]);
  const std::set<int> buffers = buffers_of(unit);
  std::unique_ptr<Dependencies> dependencies;  // made at the first candidate: most units have none
  for (size_t earlier = index; earlier-- > 0;) {
    const Unit *candidate = draft->units[earlier].get();
    if (candidate == nullptr || candidate->kind != UnitKind::Lanes || !share(buffers, buffers_of(*candidate))) continue;
    std::unique_ptr<LaneUnit> merged = merge(static_cast<const LaneUnit &>(*candidate), unit);
    if (!merged) continue;
    if (!dependencies) dependencies = std::make_unique<Dependencies>(*draft);
    const int a = static_cast<int>(earlier), b = static_cast<int>(index);
    if (dependencies->indirect(a, b) || dependencies->indirect(b, a)) continue;
    draft->units[earlier].reset();
    draft->units[index] = std::move(merged);
    return true;
  }
  return false;
}

// Stores into buffers that no unit reads any more, and the operations that only fed those.
void drop_dead(Draft *draft) {
  std::set<int> read;
  for (const auto &unit : draft->units) {
    for (const View *view : unit->reads()) read.insert(view->buffer);
  }
  for (auto &unit : draft->units) {
    if (unit->kind != UnitKind::Lanes) continue;
    LaneUnit &lanes = static_cast<LaneUnit &>(*unit);
    std::erase_if(lanes.stores, [&](const LaneStore &store) {
      return draft->buffers[store.view.buffer].storage == Storage::Temporary && read.count(store.view.buffer) == 0;
    });
    std::vector<bool> needed(lanes.values.size(), false);
    for (const LaneStore &store : lanes.stores) needed[store.value] = true;
    for (size_t i = lanes.ops.size(); i-- > 0;) {
      if (!needed[lanes.ops[i].output]) {
        lanes.ops.erase(lanes.ops.begin() + static_cast<ptrdiff_t>(i));
        continue;
      }
      for (int input : lanes.ops[i].inputs) needed[input] = true;
    }
  }
}

}  // namespace

Dependencies::Dependencies(const Draft &draft) : before_(draft.units.size()) {
  std::vector<std::vector<int>> writers(draft.buffers.size());
  for (size_t i = 0; i < draft.units.size(); ++i) {
    if (!draft.units[i]) continue;
    for (const View *view : draft.units[i]->writes()) writers[view->buffer].push_back(static_cast<int>(i));
  }
  for (size_t i = 0; i < draft.units.size(); ++i) {
    if (!draft.units[i]) continue;
    std::set<int> all;
    for (const View *view : draft.units[i]->reads())
      all.insert(writers[view->buffer].begin(), writers[view->buffer].end());
    all.erase(static_cast<int>(i));
    before_[i].assign(all.begin(), all.end());
  }
}

bool Dependencies::indirect(int from, int to) const {
  std::vector<bool> seen(before_.size(), false);
  std::vector<int> open;
  auto visit = [&](int unit) {
    for (int earlier : before_[unit]) {
      if (!seen[earlier] && !(unit == to && earlier == from)) {
        seen[earlier] = true;
        open.push_back(earlier);
      }
    }
  };
  visit(to);
  while (!open.empty()) {
    const int unit = open.back();
    open.pop_back();
    if (unit == from) return true;
    visit(unit);
  }
  return false;
}

void sort_units(Draft *draft) {
  const Dependencies dependencies(*draft);
  const size_t count = draft->units.size();
  std::vector<int> waiting(count, 0);
  std::vector<std::vector<int>> after(count);
  std::set<int> ready;
  for (size_t i = 0; i < count; ++i) {
    if (!draft->units[i]) continue;
    for (int earlier : dependencies.before(static_cast<int>(i))) {
      after[earlier].push_back(static_cast<int>(i));
      ++waiting[i];
    }
    if (waiting[i] == 0) ready.insert(static_cast<int>(i));
  }
  Units sorted;
  while (!ready.empty()) {
    const int next = *ready.begin();
    ready.erase(ready.begin());
    for (int later : after[next]) {
      if (--waiting[later] == 0) ready.insert(later);
    }
    sorted.push_back(std::move(draft->units[next]));
  }
  if (std::any_of(draft->units.begin(), draft->units.end(), [](const auto &unit) { return unit != nullptr; })) {
    throw std::logic_error("fusion made units that wait for each other");
  }
  draft->units = std::move(sorted);
}

void fuse_lanes(Draft *draft) {
  for (size_t i = 0; i < draft->units.size(); ++i) {
    if (draft->units[i]->kind != UnitKind::Lanes) continue;
    while (merge_backwards(draft, i)) {
    }
  }
  sort_units(draft);
  drop_dead(draft);
  std::erase_if(draft->units, [](const auto &unit) { return unit->writes().empty(); });
}

}  // namespace ane::fast
