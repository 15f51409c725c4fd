// Passes over a draft.
#ifndef ANETRAIN_FAST_FUSE_H
#define ANETRAIN_FAST_FUSE_H

#include "unit.h"

namespace ane::fast {

// Merges lane units wherever a value then need not go through memory, or is read once instead of twice.
void fuse_lanes(Draft *draft);

// Which units must run before which, by what they read and write.
class Dependencies {
 public:
  explicit Dependencies(const Draft &draft);
  const std::vector<int> &before(int unit) const { return before_[unit]; }
  // Is there a way from `from` to `to` through at least one other unit?
  bool indirect(int from, int to) const;

 private:
  std::vector<std::vector<int>> before_;
};

// Puts units in an order in which they can run, near to the order they stand in; null ones are dropped.
void sort_units(Draft *draft);

}  // namespace ane::fast
#endif
