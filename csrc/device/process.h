// What belongs to the process and not to one device: fork, exit, and the counts an engine limits per process.
#ifndef ANETRAIN_PROCESS_H
#define ANETRAIN_PROCESS_H

#include <atomic>
#include <cstdint>

#include "backend.h"

namespace ane {

// An engine limits both per process: how many programs are loaded at once and (as far as is known) how often the
// compiler runs. Opening a second device does not reset them. One of these for each back end.
struct ProcessCounts {
  std::atomic<uint64_t> compiles{0};
  std::atomic<uint64_t> live_programs{0};
};
ProcessCounts &process_counts(const ane_backend *backend);

// True in a child that was forked after a device was opened: neither the engine nor our threads and locks survive a
// fork, so nothing there may be touched, not even to release it.
bool is_forked_child();
// True once exit handlers have unloaded everything.
bool is_exiting();

// Devices announce themselves, so that what is loaded is unloaded at exit.
void register_device(ane_device *device);
void unregister_device(ane_device *device);

}  // namespace ane
#endif
