// The objects behind ane.h, and who keeps whom: a request keeps its program and surfaces; programs and surfaces keep
// their device. References are counted; the last release destroys.
#ifndef ANETRAIN_OBJECTS_H
#define ANETRAIN_OBJECTS_H

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backend.h"
#include "faults.h"
#include "process.h"
#include "watchdog.h"

struct ane_device {
  std::atomic<uint64_t> references{1};
  const ane_backend *backend = nullptr;
  ane_backend_device *handle = nullptr;
  ane::ProcessCounts *process = nullptr;
  std::string facts;
  bool fp32 = false;
  uint64_t live_budget = 0, compile_budget = 0;
  uint32_t watchdog_ms = 0;

  std::atomic<uint64_t> cache_loads{0}, loads{0}, unloads{0}, evaluations{0};
  std::atomic<uint64_t> failed_compiles{0}, failed_evaluations{0};
  std::atomic<uint64_t> live_surfaces{0}, live_requests{0}, surface_bytes{0};

  ane::Faults faults;
  ane::Watchdog watchdog;

  // The gate: one lock over the lock state of all surfaces, so that an evaluation takes all of its surfaces or none.
  std::mutex gate;
  std::condition_variable gate_changed;

  // Set once, when an evaluation did not come back; `poison_reason` is written before.
  std::atomic<bool> poisoned{false};
  std::string poison_reason;

  std::mutex programs_mutex;
  std::set<ane_program *> programs;  // for the exit handler
};

struct ane_surface {
  std::atomic<uint64_t> references{1};
  ane_device *device = nullptr;
  ane_backend_surface *handle = nullptr;
  uint8_t *base = nullptr;
  size_t bytes = 0;
  std::atomic<uint64_t> seed{1};  // 0 never occurs: executors use it for "none"

  // Guarded by the device's gate.
  uint32_t readers = 0;         // read locks
  bool writer = false;          // the write lock
  uint32_t engine_readers = 0;  // evaluations that read it now
  bool engine_writer = false;   // an evaluation writes it now
  bool invalid = false;         // an evaluation that should have written it failed
};

struct ane_program {
  std::atomic<uint64_t> references{1};
  ane_device *device = nullptr;
  ane_backend_program *handle = nullptr;
  std::vector<ane_port> inputs, outputs;
  std::string label, report, report_with_counters;
  std::vector<std::string> blob_paths;
  std::mutex turn;  // one evaluation at a time; guards `loaded`
  bool loaded = false;
};

struct ane_request {
  // One surface of a request, once, however often it is bound.
  struct Use {
    ane_surface *surface;
    bool read, write;
    const char *port;  // the first port it is bound to
  };
  ane_program *program = nullptr;
  ane_backend_request *handle = nullptr;
  std::vector<ane_surface *> inputs, outputs;  // device order
  std::vector<Use> uses;
  std::vector<uint64_t> input_seeds;  // written at each evaluation, in the program's turn
  bool is_raw = false;                // made by ane_raw_request_create: the engine may do anything with it
};

namespace ane {

// Are the arguments of a caller well formed?
ane_status check_options(const ane_options *options, ane_error *error);
ane_status check_blobs(const ane_blob *blobs, size_t count, ane_error *error);
// May this device be talked to? Fails with ANE_UNAVAILABLE and the reason. Must come before any lock is taken: in a
// forked child a lock may be held by a thread that does not exist.
ane_status check_usable(const ane_device &device, ane_error *error);
// Must releases leave everything as it is? In a forked child and after the exit handler.
bool abandoned();
void poison(ane_device &device, const std::string &reason);
// Unloads every program that is not in the middle of an evaluation.
void unload_programs_at_exit(ane_device &device);

// Surfaces by position. `raw` may be null: a request like any other.
ane_status create_request(ane_program *program, ane_surface *const *inputs, size_t input_count,
                          ane_surface *const *outputs, size_t output_count, const ane_raw_request *raw,
                          ane_request **request, ane_error *error);
// Unloads a loaded program, in its turn.
ane_status unload(ane_program &program, ane_error *error);

// One evaluation of a request, or of several together: the programs' turns, the surfaces, faults, the watchdog, and
// what a failure leaves behind.
ane_status evaluate(ane_request &request, bool may_hang, const EngineCall &call, ane_error *error);
ane_status evaluate_together(const std::vector<ane_request *> &requests, const EngineCall &call, ane_error *error);

inline void retain(ane_device *device) { device->references.fetch_add(1, std::memory_order_relaxed); }
inline void retain(ane_program *program) { program->references.fetch_add(1, std::memory_order_relaxed); }
inline void retain(ane_surface *surface) { surface->references.fetch_add(1, std::memory_order_relaxed); }
template <class Object>
bool drop_reference(Object *object) {  // true: it was the last one
  return object->references.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

inline const std::vector<ane_port> &ports(const ane_program &program, bool output) {
  return output ? program.outputs : program.inputs;
}

}  // namespace ane
#endif
