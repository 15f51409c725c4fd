#include "process.h"

#include <pthread.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <set>

#include "objects.h"

namespace ane {

static std::atomic<bool> forked{false}, exiting{false};

// Never destroyed: objects may be released while static destructors run.
struct Registry {
  std::recursive_mutex mutex;  // unloading at exit may release a device that a back end opened for itself
  std::set<ane_device *> devices;
  std::map<const ane_backend *, ProcessCounts> counts;
};
static Registry &registry() {
  static Registry *instance = new Registry;
  return *instance;
}

ProcessCounts &process_counts(const ane_backend *backend) {
  std::lock_guard lock(registry().mutex);
  return registry().counts[backend];
}

bool is_forked_child() { return forked.load(std::memory_order_relaxed); }
bool is_exiting() { return exiting.load(std::memory_order_relaxed); }

static void unload_everything() {
  if (is_forked_child()) return;
  std::lock_guard lock(registry().mutex);  // nobody else closes a device meanwhile
  const std::set<ane_device *> devices = registry().devices;
  for (ane_device *device : devices)
    if (registry().devices.contains(device)) unload_programs_at_exit(*device);
  exiting = true;
}

void register_device(ane_device *device) {
  static std::once_flag once;
  std::call_once(once, [] {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
    atexit(unload_everything);
  });
  std::lock_guard lock(registry().mutex);
  registry().devices.insert(device);
}

void unregister_device(ane_device *device) {
  std::lock_guard lock(registry().mutex);
  registry().devices.erase(device);
}

}  // namespace ane
