// Calls of an engine that may never return run on a thread of their own, so that the caller can give up on them.
#ifndef ANETRAIN_WATCHDOG_H
#define ANETRAIN_WATCHDOG_H

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "backend.h"

namespace ane {

struct Lane;

// What an evaluation asks of the engine once it has its surfaces. What it refers to must live for ever if it does not
// come back; what it captures by value does.
using EngineCall = std::function<ane_status(ane_error *)>;

struct LaneJob {
  EngineCall call;
  uint32_t stall_ms = 0;  // a fault: sleep this long first
};

class Watchdog {
 public:
  ~Watchdog();  // idle lanes end; one that was given up stays with its evaluation
  // False: it did not come back within `timeout_ms`. It cannot be cancelled, so its lane is never used again.
  bool run(LaneJob job, uint32_t timeout_ms, ane_status *status, ane_error *error);

 private:
  std::shared_ptr<Lane> take_lane();
  std::mutex mutex_;
  std::vector<std::shared_ptr<Lane>> idle_;  // as many lanes as evaluations ever overlapped
};

}  // namespace ane
#endif
