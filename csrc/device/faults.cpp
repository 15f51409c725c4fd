#include "faults.h"

#include <algorithm>

namespace ane {

void Faults::arm(ane_fault kind, uint64_t after, uint32_t milliseconds) {
  std::lock_guard lock(mutex_);
  faults_.push_back({kind, after, milliseconds});
  armed_ = faults_.size();
}

void Faults::clear() {
  std::lock_guard lock(mutex_);
  faults_.clear();
  armed_ = 0;
}

bool Faults::fires(ane_fault kind, uint32_t *milliseconds) {
  if (armed_.load(std::memory_order_relaxed) == 0) return false;
  std::lock_guard lock(mutex_);
  bool fired = false;
  std::erase_if(faults_, [&](Fault &fault) {
    if (fault.kind != kind) return false;
    if (fault.remaining-- > 0) return false;
    fired = true;
    if (milliseconds) *milliseconds = std::max(*milliseconds, fault.milliseconds);
    return true;
  });
  armed_ = faults_.size();
  return fired;
}

}  // namespace ane
