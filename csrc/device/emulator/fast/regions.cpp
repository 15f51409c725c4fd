#include "regions.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "../../../cpu/threads.h"
#include "fuse.h"
#include "slice.h"

namespace ane::fast {

namespace {

// The elements one slice of a sliced view touches, relative to the first slice.
Footprint slice_footprint(View view) {
  view.sizes[0] = 1;
  return footprint(view);
}

bool overlap(const Footprint &a, const Footprint &b) { return a.first <= b.last && b.first <= a.last; }

// What `writer` writes in a slice, `reader` can only meet in the same slice.
bool stays_in_slice(const View &writer, const View &reader) {
  if (!overlap(footprint(writer), footprint(reader))) return true;
  const int64_t step = writer.strides[0];
  const Footprint a = slice_footprint(writer), b = slice_footprint(reader);
  return step > 0 && reader.strides[0] == step && std::max(a.last, b.last) - std::min(a.first, b.first) < step;
}

bool stays_in_slice(const Unit &writer, const Unit &reader) {
  for (const View *written : writer.writes()) {
    for (const View *read : reader.reads()) {
      if (written->buffer == read->buffer && !stays_in_slice(*written, *read)) return false;
    }
  }
  return true;
}

// Regions as they grow: each unit belongs to one group; groups of one unit are not yet regions.
class Former {
 public:
  explicit Former(Draft *draft) : draft_(*draft), dependencies_(*draft), group_(draft->units.size()) {
    for (size_t i = 0; i < group_.size(); ++i) group_[i] = static_cast<int>(i);
  }
  void grow_from(int seed);
  std::vector<Region> take();

 private:
  const Unit &unit(int index) const { return *draft_.units[static_cast<size_t>(index)]; }
  const Unit &form(int index) const {
    const auto found = forms_.find(index);
    return found == forms_.end() ? unit(index) : *found->second;
  }
  std::vector<int> members(int group) const;
  bool join(int candidate, int group, int64_t slices);
  bool passes_through_others(int candidate, int group) const;
  std::vector<int> groups_in_order() const;
  void make_local(Region *region);

  Draft &draft_;
  const Dependencies dependencies_;
  std::vector<int> group_;                      // by unit
  std::map<int, std::unique_ptr<Unit>> forms_;  // the sliced form of units in regions
  std::map<int, int64_t> slices_;               // by group
};

std::vector<int> Former::members(int group) const {
  std::vector<int> result;
  for (size_t i = 0; i < group_.size(); ++i) {
    if (group_[i] == group) result.push_back(static_cast<int>(i));
  }
  return result;
}

// Would a unit outside of both have to run between the group and the candidate?
bool Former::passes_through_others(int candidate, int group) const {
  const auto reaches = [&](int from, int to) {  // a way from group `from` to group `to` through a third one
    std::set<int> seen{to};
    std::vector<int> open{to};
    while (!open.empty()) {
      const int current = open.back();
      open.pop_back();
      for (int member : members(current)) {
        for (int earlier : dependencies_.before(member)) {
          const int next = group_[static_cast<size_t>(earlier)];
          if (next == from && current != to) return true;
          if (next != from && seen.insert(next).second) open.push_back(next);
        }
      }
    }
    return false;
  };
  return reaches(group, candidate) || reaches(candidate, group);
}

bool Former::join(int candidate, int group, int64_t slices) {
  const int own = group_[static_cast<size_t>(candidate)];
  if (own == group || slices_.count(own) != 0) return false;
  for (std::unique_ptr<Unit> &sliced : sliced_forms(unit(candidate), slices)) {
    const std::vector<int> others = members(group);
    const bool fits = std::all_of(others.begin(), others.end(), [&](int other) {
      return stays_in_slice(form(other), *sliced) && stays_in_slice(*sliced, form(other));
    });
    if (!fits || passes_through_others(own, group)) continue;
    group_[static_cast<size_t>(candidate)] = group;
    forms_[candidate] = std::move(sliced);
    return true;
  }
  return false;
}

void Former::grow_from(int seed) {
  const int group = group_[static_cast<size_t>(seed)];
  const int64_t slices = matrix_count(unit(seed));
  if (slices_.count(group) != 0 || slices < std::max(2, anecpu_threads())) return;
  forms_[seed] = std::move(sliced_forms(unit(seed), slices)[0]);
  slices_[group] = slices;
  bool grown = true;
  while (grown) {
    grown = false;
    std::set<int> written, read;
    for (int member : members(group)) {
      for (const View *view : unit(member).writes()) written.insert(view->buffer);
      for (const View *view : unit(member).reads()) read.insert(view->buffer);
    }
    for (size_t i = 0; i < group_.size(); ++i) {
      const Unit &candidate = unit(static_cast<int>(i));
      const auto touches = [](const std::vector<const View *> &views, const std::set<int> &buffers) {
        return std::any_of(views.begin(), views.end(),
                           [&](const View *view) { return buffers.count(view->buffer) != 0; });
      };
      const bool adjacent = touches(candidate.reads(), written) || touches(candidate.writes(), read);
      if (adjacent && join(static_cast<int>(i), group, slices)) grown = true;
    }
  }
}

// Groups so that each comes after those it needs, near to the order of the units.
std::vector<int> Former::groups_in_order() const {
  std::vector<int> order;
  std::set<int> done;
  std::vector<int> left(group_);
  std::sort(left.begin(), left.end());
  left.erase(std::unique(left.begin(), left.end()), left.end());
  while (!left.empty()) {
    const auto ready = std::find_if(left.begin(), left.end(), [&](int group) {
      for (int member : members(group)) {
        for (int earlier : dependencies_.before(member)) {
          const int needed = group_[static_cast<size_t>(earlier)];
          if (needed != group && done.count(needed) == 0) return false;
        }
      }
      return true;
    });
    if (ready == left.end()) throw std::logic_error("regions that wait for each other");
    done.insert(*ready);
    order.push_back(*ready);
    left.erase(ready);
  }
  return order;
}

// Buffers that only this region touches, and only slice by slice, shrink to one slice.
void Former::make_local(Region *region) {
  std::map<int, std::vector<View *>> views;
  const std::set<int> inside(region->units.begin(), region->units.end());
  for (int index : region->units) {
    Unit &unit = *draft_.units[static_cast<size_t>(index)];
    for (const auto &list : {unit.reads(), unit.writes()}) {
      for (const View *view : list) views[view->buffer].push_back(const_cast<View *>(view));
    }
  }
  for (size_t index = 0; index < draft_.units.size(); ++index) {
    if (inside.count(static_cast<int>(index)) != 0) continue;
    for (const View *view : draft_.units[index]->reads()) views.erase(view->buffer);
    for (const View *view : draft_.units[index]->writes()) views.erase(view->buffer);
  }
  for (auto &[buffer, list] : views) {
    Buffer &storage = draft_.buffers[static_cast<size_t>(buffer)];
    const int64_t step = list[0]->strides[0];
    Footprint all = slice_footprint(*list[0]);
    bool together = storage.storage == Storage::Temporary && step > 0;
    for (const View *view : list) {
      const Footprint one = slice_footprint(*view);
      all = {std::min(all.first, one.first), std::max(all.last, one.last)};
      together = together && view->strides[0] == step;
    }
    if (!together || all.last - all.first >= step) continue;
    for (View *view : list) {
      view->offset -= all.first;
      view->strides[0] = 0;
    }
    storage.count = all.last - all.first + 1;
    region->local_buffers.push_back(buffer);
  }
}

std::vector<Region> Former::take() {
  std::vector<Region> regions;
  for (int group : groups_in_order()) {
    Region region;
    region.units = members(group);
    if (region.units.size() > 1) {
      region.slices = slices_.at(group);
      for (int index : region.units) draft_.units[static_cast<size_t>(index)] = std::move(forms_.at(index));
    }
    regions.push_back(std::move(region));
  }
  for (Region &region : regions) {
    if (region.slices > 0) make_local(&region);
  }
  return regions;
}

}  // namespace

std::vector<Region> form_regions(Draft *draft) {
  Former former(draft);
  for (size_t i = 0; i < draft->units.size(); ++i) {
    if (matrix_count(*draft->units[i]) > 1) former.grow_from(static_cast<int>(i));
  }
  return former.take();
}

}  // namespace ane::fast
