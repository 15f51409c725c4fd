#include "fuse.h"

#include <algorithm>
#include <functional>
#include <set>

#include "merge.h"
#include "precedence.h"

namespace ane::fast {

namespace {

// Merges as it walks over the units. Knows of those it has met who touches which buffer and what must run before what.
class Fuser {
 public:
  explicit Fuser(Draft *draft) : draft_(*draft), users_(draft->buffers.size()) {}
  void run();

 private:
  void meet(int index);
  void note_views(int index);
  void forget_views(int index);
  std::vector<int> candidates(int index) const;
  bool merge_backwards(int index);
  Unit *unit(int index) const { return draft_.units[static_cast<size_t>(index)].get(); }

  struct Users {
    std::set<int> readers, writers;
  };
  Draft &draft_;
  std::vector<Users> users_;  // by buffer: units met and not merged into others
  Precedence precedence_;     // of the units met
};

void Fuser::note_views(int index) {
  for (const View *view : unit(index)->reads()) users_[static_cast<size_t>(view->buffer)].readers.insert(index);
  for (const View *view : unit(index)->writes()) users_[static_cast<size_t>(view->buffer)].writers.insert(index);
}

void Fuser::forget_views(int index) {
  for (const View *view : unit(index)->reads()) users_[static_cast<size_t>(view->buffer)].readers.erase(index);
  for (const View *view : unit(index)->writes()) users_[static_cast<size_t>(view->buffer)].writers.erase(index);
}

// A unit comes after all that write what it reads, and those have been met: units stand in an order in which they run.
void Fuser::meet(int index) {
  std::set<int> before;
  for (const View *view : unit(index)->reads()) {
    const std::set<int> &writers = users_[static_cast<size_t>(view->buffer)].writers;
    before.insert(writers.begin(), writers.end());
  }
  precedence_.add(before);
  note_views(index);
}

// Earlier lane units that share a buffer with this one, the nearest first.
std::vector<int> Fuser::candidates(int index) const {
  std::vector<int> found;
  const auto take = [&](const std::set<int> &users) {
    for (int user : users) {
      if (user != index && unit(user)->kind == UnitKind::Lanes) found.push_back(user);
    }
  };
  for (const auto &views : {unit(index)->reads(), unit(index)->writes()}) {
    for (const View *view : views) {
      take(users_[static_cast<size_t>(view->buffer)].readers);
      take(users_[static_cast<size_t>(view->buffer)].writers);
    }
  }
  std::sort(found.begin(), found.end(), std::greater<>());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

// Merges unit `index` with an earlier one if any fits; the result stands at `index`.
bool Fuser::merge_backwards(int index) {
  for (int earlier : candidates(index)) {
    std::unique_ptr<LaneUnit> merged =
        merge(static_cast<const LaneUnit &>(*unit(earlier)), static_cast<const LaneUnit &>(*unit(index)));
    if (!merged || precedence_.indirect(earlier, index) || precedence_.indirect(index, earlier)) continue;
    precedence_.merge(earlier, index);
    forget_views(earlier);
    forget_views(index);
    draft_.units[static_cast<size_t>(earlier)].reset();
    draft_.units[static_cast<size_t>(index)] = std::move(merged);
    note_views(index);
    return true;
  }
  return false;
}

void Fuser::run() {
  for (int index = 0; index < static_cast<int>(draft_.units.size()); ++index) {
    meet(index);
    if (unit(index)->kind != UnitKind::Lanes) continue;
    while (merge_backwards(index)) {
    }
  }
  Units sorted;
  for (int index : precedence_.order()) sorted.push_back(std::move(draft_.units[static_cast<size_t>(index)]));
  draft_.units = std::move(sorted);
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

void fuse_lanes(Draft *draft) {
  Fuser(draft).run();
  drop_dead(draft);
  std::erase_if(draft->units, [](const auto &unit) { return unit->writes().empty(); });
}

}  // namespace ane::fast
