#include "regions.h"

#include <algorithm>
#include <map>
#include <set>

#include "../../../cpu/threads.h"
#include "precedence.h"
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
  explicit Former(Draft *draft);
  void grow_from(int seed);
  std::vector<Region> take();

 private:
  const Unit &unit(int index) const { return *draft_.units[static_cast<size_t>(index)]; }
  const Unit &form(int index) const {
    const auto found = forms_.find(index);
    return found == forms_.end() ? unit(index) : *found->second;
  }
  bool join(int candidate, int group, int64_t slices);
  std::set<int> neighbours(int group) const;
  void make_local(Region *region);

  struct Users {
    std::vector<int> readers, writers;
  };
  Draft &draft_;
  std::vector<Users> users_;                    // by buffer: units
  Precedence precedence_;                       // of groups
  std::vector<int> group_;                      // by unit
  std::vector<std::vector<int>> members_;       // by group: units in order
  std::map<int, std::unique_ptr<Unit>> forms_;  // the sliced form of units in regions
  std::map<int, int64_t> slices_;               // by group
};

Former::Former(Draft *draft) : draft_(*draft), users_(draft->buffers.size()) {
  for (int index = 0; index < static_cast<int>(draft->units.size()); ++index) {
    std::set<int> before;
    for (const View *view : unit(index).reads()) {
      Users &users = users_[static_cast<size_t>(view->buffer)];
      before.insert(users.writers.begin(), users.writers.end());
      users.readers.push_back(index);
    }
    for (const View *view : unit(index).writes()) users_[static_cast<size_t>(view->buffer)].writers.push_back(index);
    precedence_.add(before);
    group_.push_back(index);
    members_.push_back({index});
  }
}

bool Former::join(int candidate, int group, int64_t slices) {
  const int own = group_[static_cast<size_t>(candidate)];
  if (own == group || slices_.count(own) != 0) return false;
  for (std::unique_ptr<Unit> &sliced : sliced_forms(unit(candidate), slices)) {
    std::vector<int> &others = members_[static_cast<size_t>(group)];
    const bool fits = std::all_of(others.begin(), others.end(), [&](int other) {
      return stays_in_slice(form(other), *sliced) && stays_in_slice(*sliced, form(other));
    });
    // A unit outside of both must not have to run between them.
    if (!fits || precedence_.indirect(own, group) || precedence_.indirect(group, own)) continue;
    precedence_.merge(own, group);
    others.insert(std::upper_bound(others.begin(), others.end(), candidate), candidate);
    members_[static_cast<size_t>(own)].clear();
    group_[static_cast<size_t>(candidate)] = group;
    forms_[candidate] = std::move(sliced);
    return true;
  }
  return false;
}

// Units that read what the group writes, or write what it reads; its own among them.
std::set<int> Former::neighbours(int group) const {
  std::set<int> found;
  for (int member : members_[static_cast<size_t>(group)]) {
    for (const View *view : unit(member).writes()) {
      const std::vector<int> &readers = users_[static_cast<size_t>(view->buffer)].readers;
      found.insert(readers.begin(), readers.end());
    }
    for (const View *view : unit(member).reads()) {
      const std::vector<int> &writers = users_[static_cast<size_t>(view->buffer)].writers;
      found.insert(writers.begin(), writers.end());
    }
  }
  return found;
}

void Former::grow_from(int seed) {
  const int group = group_[static_cast<size_t>(seed)];
  const int64_t slices = matrix_count(unit(seed));
  // Fewer slices than threads would leave threads idle. So plans differ with the number of threads, as does how BLAS
  // cuts a product; both move the sums of products by their last bits, within one rounding.
  if (slices_.count(group) != 0 || slices < std::max(2, anecpu_threads())) return;
  forms_[seed] = std::move(sliced_forms(unit(seed), slices)[0]);
  slices_[group] = slices;
  bool grown = true;
  while (grown) {
    grown = false;
    for (int candidate : neighbours(group)) grown |= join(candidate, group, slices);
  }
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
  const auto is_inside = [&](int index) { return inside.count(index) != 0; };
  std::erase_if(views, [&](const auto &entry) {
    const Users &users = users_[static_cast<size_t>(entry.first)];
    return !std::all_of(users.readers.begin(), users.readers.end(), is_inside) ||
           !std::all_of(users.writers.begin(), users.writers.end(), is_inside);
  });
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
  for (int group : precedence_.order()) {
    Region region;
    region.units = members_[static_cast<size_t>(group)];
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
