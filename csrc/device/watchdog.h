// Evaluations that may never return run on a thread of their own, so that the caller can give up on them.
#ifndef ANETRAIN_WATCHDOG_H
#define ANETRAIN_WATCHDOG_H

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "backend.h"

namespace ane {

struct Lane;

// An evaluation for a lane. What it points to must live for ever if the lane is given up.
struct LaneJob {
  const ane_backend *backend;
  ane_backend_request *request;
  const uint64_t *input_seeds;
  uint32_t stall_ms;  // a fault: sleep this long first
};

class Watchdog {
 public:
  ~Watchdog();  // idle lanes end; one that was given up stays with its evaluation
  // False: it did not come back within `timeout_ms`. It cannot be cancelled, so its lane is never used again.
  bool run(const LaneJob &job, uint32_t timeout_ms, ane_status *status, ane_error *error);

 private:
  std::shared_ptr<Lane> take_lane();
  std::mutex mutex_;
  std::vector<std::shared_ptr<Lane>> idle_;  // as many lanes as evaluations ever overlapped
};

}  // namespace ane
#endif
