// One evaluation: the program's turn, the surfaces, faults, the watchdog, and what a failure leaves behind.
#include "error.h"
#include "objects.h"

namespace ane {

// The surfaces of a request, held against the CPU and against other evaluations.
class SurfaceHold {
 public:
  explicit SurfaceHold(ane_request &request) : request_(request), device_(*request.program->device) {}
  SurfaceHold(const SurfaceHold &) = delete;
  ~SurfaceHold() {
    if (held_) finish(false);
  }

  // All or none: waits while other evaluations use them, refuses what the CPU has locked.
  ane_status take(ane_error *error) {
    std::unique_lock gate(device_.gate);
    device_.gate_changed.wait(gate, [&] { return device_.poisoned || !used_by_others(); });
    if (const ane_status status = check_usable(device_, error)) return status;
    for (const ane_request::Use &use : request_.uses)
      if (const ane_status status = check(use, error)) return status;
    for (const ane_request::Use &use : request_.uses) {
      use.surface->engine_readers += use.read;
      if (use.write) use.surface->engine_writer = true;
    }
    for (size_t i = 0; i < request_.inputs.size(); i++)
      request_.input_seeds[i] = request_.inputs[i]->seed.load(std::memory_order_relaxed);
    held_ = true;
    return ANE_OK;
  }

  void finish(bool outputs_valid) {
    {
      std::lock_guard gate(device_.gate);
      for (const ane_request::Use &use : request_.uses) {
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
    for (const ane_request::Use &use : request_.uses)
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

  ane_request &request_;
  ane_device &device_;
  bool held_ = false;
};

static void mark_outputs_invalid(ane_request &request) {
  std::lock_guard gate(request.program->device->gate);
  for (ane_surface *surface : request.outputs) surface->invalid = true;
}

static ane_status give_up(ane_request &request, ane_error *error) {
  ane_device &device = *request.program->device;
  char reason[512];
  snprintf(reason, sizeof reason,
           "an evaluation of '%s' did not come back within %u ms and cannot be cancelled: this device is lost to this "
           "process. Save and restart the process",
           request.program->label.c_str(), device.watchdog_ms);
  poison(device, reason);
  return check_usable(device, error);
}

// Sets `*lost` when the evaluation may still be running.
static ane_status dispatch(ane_request &request, bool *lost, ane_error *error) {
  ane_device &device = *request.program->device;
  uint32_t stall_ms = 0;
  const bool stalls = device.faults.fires(ANE_FAULT_STALL, &stall_ms);
  if (device.faults.fires(ANE_FAULT_EVALUATE))
    return ane_fail_as(
        error, ANE_EVAL_FAILED, "com.apple.appleneuralengine", 8,
        "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : Program Inference error",
        "an injected fault: this evaluation was told to fail");
  if (!stalls && (!device.backend->can_hang || device.watchdog_ms == UINT32_MAX))
    return device.backend->evaluate(request.handle, request.input_seeds.data(), error);
  ane_status status;
  const LaneJob job{device.backend, request.handle, request.input_seeds.data(), stall_ms};
  if (device.watchdog.run(job, device.watchdog_ms, &status, error)) return status;
  *lost = true;
  return give_up(request, error);
}

static ane_status evaluate(ane_request &request, ane_error *error) {
  ane_program &program = *request.program;
  ane_device &device = *program.device;
  if (const ane_status status = check_usable(device, error)) return status;
  std::lock_guard turn(program.turn);
  ane_status status = ANE_OK;
  SurfaceHold hold(request);
  if (!program.loaded)
    status = ane_fail(error, ANE_BAD_ARGUMENT, "the program is unloaded: compile it again");
  else
    status = hold.take(error);
  if (status != ANE_OK) {
    mark_outputs_invalid(request);
    return status;
  }
  bool lost = false;
  device.evaluations++;
  status = dispatch(request, &lost, error);
  if (lost)
    hold.abandon();
  else
    hold.finish(status == ANE_OK);
  if (status != ANE_OK) device.failed_evaluations++;
  return status;
}

}  // namespace ane

ane_status ane_evaluate(ane_request *request, ane_error *error) {
  const ane_status status = ane::guarded(
      error,
      [&] {
        if (!request) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_evaluate: `request` is NULL");
        return ane::evaluate(*request, error);
      },
      ane::kEvaluate);
  if (status && request) ane::set_label(error, request->program->label);
  return status;
}
