// Evaluations: the programs' turns, the surfaces, faults, the watchdog, and what a failure leaves behind.
#include <algorithm>
#include <span>

#include "error.h"
#include "objects.h"

namespace ane {

using Uses = std::vector<ane_request::Use>;
using Requests = std::span<ane_request *const>;

// Surfaces, held against the CPU and against other evaluations.
class SurfaceHold {
 public:
  SurfaceHold(ane_device &device, const Uses &uses) : device_(device), uses_(uses) {}
  SurfaceHold(const SurfaceHold &) = delete;
  ~SurfaceHold() {
    if (held_) finish(false);
  }

  // All or none: waits while other evaluations use them, refuses what the CPU has locked.
  ane_status take(ane_error *error) {
    std::unique_lock gate(device_.gate);
    device_.gate_changed.wait(gate, [&] { return device_.poisoned || !used_by_others(); });
    if (const ane_status status = check_usable(device_, error)) return status;
    for (const ane_request::Use &use : uses_)
      if (const ane_status status = check(use, error)) return status;
    for (const ane_request::Use &use : uses_) {
      use.surface->engine_readers += use.read;
      if (use.write) use.surface->engine_writer = true;
    }
    held_ = true;
    return ANE_OK;
  }

  void finish(bool outputs_valid) {
    {
      std::lock_guard gate(device_.gate);
      for (const ane_request::Use &use : uses_) {
        use.surface->engine_readers -= use.read;
        if (!use.write) continue;
        use.surface->engine_writer = false;
        use.surface->invalid = !outputs_valid;
        use.surface->seed.fetch_add(1, std::memory_order_release);
      }
    }
    held_ = false;
    device_.gate_changed.notify_all();
  }

  // An evaluation that may still run keeps its surfaces for ever.
  void abandon() { held_ = false; }

 private:
  bool used_by_others() const {
    for (const ane_request::Use &use : uses_)
      if (use.surface->engine_writer || (use.write && use.surface->engine_readers)) return true;
    return false;
  }

  static ane_status check(const ane_request::Use &use, ane_error *error) {
    if (use.surface->writer)
      return ane_fail(error, ANE_SURFACE_ERROR,
                      "the surface of '%s' is locked for writing: close the lock before evaluating", use.port);
    if (use.write && use.surface->readers)
      return ane_fail(error, ANE_SURFACE_ERROR,
                      "the surface of output '%s' is locked for reading: close the lock before evaluating", use.port);
    if (use.read && use.surface->invalid)
      return ane_fail(error, ANE_SURFACE_ERROR,
                      "input '%s' holds no valid data: the evaluation that should have written it failed", use.port);
    return ANE_OK;
  }

  ane_device &device_;
  const Uses &uses_;
  bool held_ = false;
};

// The surfaces are held: their seeds stand still.
static void note_seeds(ane_request &request) {
  for (size_t i = 0; i < request.inputs.size(); i++)
    request.input_seeds[i] = request.inputs[i]->seed.load(std::memory_order_relaxed);
}

static void mark_outputs_invalid(ane_device &device, Requests requests) {
  std::lock_guard gate(device.gate);
  for (ane_request *request : requests)
    for (ane_surface *surface : request->outputs) surface->invalid = true;
}

static ane_status give_up(ane_device &device, const std::string &label, ane_error *error) {
  char reason[512];
  snprintf(reason, sizeof reason,
           "an evaluation of '%s' did not come back within %u ms and cannot be cancelled: this device is lost to this "
           "process. Save and restart the process",
           label.c_str(), device.watchdog_ms);
  poison(device, reason);
  return check_usable(device, error);
}

// Sets `*lost` when the evaluation may still be running.
static ane_status dispatch(ane_request &request, bool may_hang, const EngineCall &call, bool *lost, ane_error *error) {
  ane_device &device = *request.program->device;
  uint32_t stall_ms = 0;
  const bool stalls = device.faults.fires(ANE_FAULT_STALL, &stall_ms);
  if (device.faults.fires(ANE_FAULT_EVALUATE))
    return ane_fail_as(
        error, ANE_EVAL_FAILED, "com.apple.appleneuralengine", 8,
        "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : Program Inference error",
        "an injected fault: this evaluation was told to fail");
  if (!stalls && (!may_hang || device.watchdog_ms == UINT32_MAX)) return call(error);
  ane_status status;
  if (device.watchdog.run({call, stall_ms}, device.watchdog_ms, &status, error)) return status;
  *lost = true;
  return give_up(device, request.program->label, error);
}

// In the programs' turns; `uses` are those of all requests.
static ane_status evaluate_in_turn(Requests requests, const Uses &uses, bool may_hang, const EngineCall &call,
                                   ane_error *error) {
  ane_device &device = *requests[0]->program->device;
  ane_status status = ANE_OK;
  SurfaceHold hold(device, uses);
  for (const ane_request *request : requests)
    if (!status && !request->program->loaded)
      status = ane_fail(error, ANE_BAD_ARGUMENT, "the program is unloaded: compile it again");
  if (!status) status = hold.take(error);
  if (status != ANE_OK) {
    mark_outputs_invalid(device, requests);
    return status;
  }
  for (ane_request *request : requests) note_seeds(*request);
  bool lost = false;
  device.evaluations++;
  status = dispatch(*requests[0], may_hang, call, &lost, error);
  if (lost)
    hold.abandon();
  else
    hold.finish(status == ANE_OK);
  if (status != ANE_OK) device.failed_evaluations++;
  return status;
}

ane_status evaluate(ane_request &request, bool may_hang, const EngineCall &call, ane_error *error) {
  if (const ane_status status = check_usable(*request.program->device, error)) return status;
  std::lock_guard turn(request.program->turn);
  ane_request *const self = &request;
  return evaluate_in_turn({&self, 1}, request.uses, may_hang, call, error);
}

// What is written by one request before another one reads it is, taken together, only written.
static Uses uses_together(Requests requests) {
  Uses together;
  for (const ane_request *request : requests)
    for (const ane_request::Use &use : request->uses) {
      const auto known = std::find_if(together.begin(), together.end(),
                                      [&](const ane_request::Use &other) { return other.surface == use.surface; });
      if (known == together.end()) {
        together.push_back(use);
      } else {
        known->read |= use.read && !known->write;
        known->write |= use.write;
      }
    }
  return together;
}

ane_status evaluate_together(const std::vector<ane_request *> &requests, const EngineCall &call, ane_error *error) {
  if (const ane_status status = check_usable(*requests[0]->program->device, error)) return status;
  std::vector<ane_program *> programs;
  for (const ane_request *request : requests) programs.push_back(request->program);
  std::sort(programs.begin(), programs.end());  // one order for everybody
  programs.erase(std::unique(programs.begin(), programs.end()), programs.end());
  std::vector<std::unique_lock<std::mutex>> turns;
  for (ane_program *program : programs) turns.emplace_back(program->turn);
  return evaluate_in_turn(requests, uses_together(requests), true, call, error);
}

}  // namespace ane

ane_status ane_evaluate(ane_request *request, ane_error *error) {
  const ane_status status = ane::guarded(
      error,
      [&] {
        if (!request) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_evaluate: `request` is NULL");
        const ane_backend &backend = *request->program->device->backend;
        return ane::evaluate(
            *request, backend.can_hang || request->is_raw,
            [request](ane_error *failure) {
              return request->program->device->backend->evaluate(request->handle, request->input_seeds.data(), failure);
            },
            error);
      },
      ane::kEvaluate);
  if (status && request) ane::set_label(error, request->program->label);
  return status;
}
