// Faults that tests arm: the k-th compile, load or evaluation from now fails, or takes longer.
#ifndef ANETRAIN_FAULTS_H
#define ANETRAIN_FAULTS_H

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "ane.h"

namespace ane {

class Faults {
 public:
  void arm(ane_fault kind, uint64_t after, uint32_t milliseconds);
  void clear();
  // Counts one event of this kind; true when a fault fires, with the milliseconds it was armed with.
  bool fires(ane_fault kind, uint32_t *milliseconds = nullptr);

 private:
  struct Fault {
    ane_fault kind;
    uint64_t remaining;
    uint32_t milliseconds;
  };
  std::atomic<size_t> armed_{0};  // keeps the usual case, none, off the lock
  std::mutex mutex_;
  std::vector<Fault> faults_;
};

}  // namespace ane
#endif
