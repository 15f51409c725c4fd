// Opening a device, its facts and counters; poison.
#include <cstdio>
#include <memory>

#include "error.h"
#include "json.h"
#include "objects.h"
#include "selftest.h"

namespace ane {

constexpr uint32_t kDefaultBudget = 100;  // below the 119 or so programs an engine is known to take
constexpr uint32_t kDefaultWatchdog_ms = 30'000;

struct Choice {
  const ane_backend *backend = nullptr;
  std::string why;
};

static const ane_backend *real_backend() {
#ifdef ANETRAIN_APPLE
  return ane_apple_backend();
#else
  return nullptr;
#endif
}

// The real ANE cannot do these: asked for by name, they are not ignored. "auto" keeps them for the emulator.
static const char *emulator_option(const ane_options &options) {
  if (options.fp32) return "fp32";
  if (options.profile && *options.profile) return "profile";
  if (options.executor != ANE_EXECUTOR_FAST) return "executor";
  if (options.rules && *options.rules) return "rules";
  return nullptr;
}

static ane_status choose(const ane_options &options, Choice *choice, ane_error *error) {
  char why[1024] = "";
  switch (options.kind) {
    case ANE_KIND_EMULATOR: *choice = {ane_emulator_backend(), "the emulator was asked for"}; return ANE_OK;
    case ANE_KIND_REAL:
      if (const char *option = emulator_option(options))
        return ane_fail(error, ANE_BAD_ARGUMENT, "`%s` is an option of the emulator; the real ANE has none of it",
                        option);
      if (!ane_real_available(why, sizeof why))
        return ane_fail(error, ANE_UNAVAILABLE, "no real ANE: %s. Open the emulator instead, or \"auto\"", why);
      *choice = {real_backend(), "the real ANE was asked for"};
      return ANE_OK;
    case ANE_KIND_AUTO:
      if (options.fp32) {
        *choice = {ane_emulator_backend(), "fp32 mode exists only on the emulator"};
      } else if (ane_real_available(why, sizeof why)) {
        *choice = {real_backend(), std::string(why) + "; its self-test passed"};
      } else {
        *choice = {ane_emulator_backend(), why};
      }
      return ANE_OK;
  }
  return ane_fail(error, ANE_BAD_ARGUMENT, "ane_options.kind is %d; it must be one of ane_kind", (int)options.kind);
}

ane_status check_options(const ane_options *options, ane_error *error) {
  if (!options) return ANE_OK;
  if (options->struct_size < sizeof(ane_options))
    return ane_fail(error, ANE_BAD_ARGUMENT,
                    "ane_options.struct_size is %u; this library needs %zu. Initialise with ANE_OPTIONS_INIT",
                    options->struct_size, sizeof(ane_options));
  if (options->executor < ANE_EXECUTOR_FAST || options->executor > ANE_EXECUTOR_AUDIT)
    return ane_fail(error, ANE_BAD_ARGUMENT, "ane_options.executor is %d; it must be one of ane_executor",
                    (int)options->executor);
  return ANE_OK;
}

static std::string describe(const ane_device &device, const ane_options &options, const std::string &why) {
  static const char *const requested[] = {"auto", "ane", "emulator"};
  return JsonObject()
      .add("kind", device.backend == ane_emulator_backend() ? "emulator" : "ane")
      .add("backend", device.backend->name)
      .add("requested", requested[options.kind])
      .add("why", why)
      .add("version", ane_version())
      .add("live_budget", device.live_budget)
      .add("compile_budget", device.compile_budget)
      .add("watchdog_ms", device.watchdog_ms)
      .merge(device.backend->facts(device.handle))
      .text();
}

static void destroy(ane_device *device) {
  unregister_device(device);
  if (device->handle) device->backend->close(device->handle);
  delete device;
}

static ane_status open_with(const Choice &choice, const ane_options &options, ane_device **result, ane_error *error) {
  std::unique_ptr<ane_device, void (*)(ane_device *)> device(new ane_device, destroy);
  device->backend = choice.backend;
  if (const ane_status status = choice.backend->open(&options, &device->handle, error)) return status;
  device->process = &process_counts(choice.backend);
  device->fp32 = options.fp32;
  device->live_budget = options.live_budget ? options.live_budget : kDefaultBudget;
  device->compile_budget = options.compile_budget ? options.compile_budget : kDefaultBudget;
  device->watchdog_ms = options.watchdog_ms ? options.watchdog_ms : kDefaultWatchdog_ms;
  device->facts = describe(*device, options, choice.why);
  register_device(device.get());
  *result = device.release();
  return ANE_OK;
}

// Nobody asked for the real ANE by name: it must prove that it computes.
static ane_status open_proven(const Choice &choice, const ane_options &options, ane_device **result, ane_error *error) {
  if (const ane_status status = open_with(choice, options, result, error)) return status;
  const ane_status status = ane_selftest(*result, error);
  if (status != ANE_OK) {
    ane_device_release(*result);
    *result = nullptr;
  }
  return status;
}

static ane_status open(const ane_options &options, ane_device **result, ane_error *error) {
  Choice choice;
  if (const ane_status status = choose(options, &choice, error)) return status;
  const bool is_guess = options.kind == ANE_KIND_AUTO && choice.backend != ane_emulator_backend();
  if (!is_guess) return open_with(choice, options, result, error);
  ane_error refusal;
  clear_error(&refusal);
  if (open_proven(choice, options, result, &refusal) == ANE_OK) return ANE_OK;
  choice = {ane_emulator_backend(), std::string("the real ANE is there but failed its self-test: ") + refusal.detail};
  return open_with(choice, options, result, error);
}

ane_status check_usable(const ane_device &device, ane_error *error) {
  if (is_forked_child())
    return ane_fail(error, ANE_UNAVAILABLE,
                    "this process was forked from one that had a device open, and an engine does not survive a fork. "
                    "Open devices after forking, or start the child with exec or \"spawn\"");
  if (is_exiting()) return ane_fail(error, ANE_UNAVAILABLE, "the process is exiting: all programs are unloaded");
  if (device.poisoned.load(std::memory_order_acquire))
    return ane_fail(error, ANE_UNAVAILABLE, "%s", device.poison_reason.c_str());
  return ANE_OK;
}

bool abandoned() { return is_forked_child() || is_exiting(); }

void poison(ane_device &device, const std::string &reason) {
  std::lock_guard lock(device.gate);
  if (device.poisoned) return;
  device.poison_reason = reason;
  device.poisoned.store(true, std::memory_order_release);
  device.gate_changed.notify_all();
}

}  // namespace ane

ane_status ane_open(const ane_options *options, ane_device **device, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!device) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_open: `device` is NULL");
    *device = nullptr;
    if (ane::is_forked_child())
      return ane_fail(error, ANE_UNAVAILABLE,
                      "this process was forked from one that had a device open; open devices after forking, or start "
                      "the child with exec or \"spawn\"");
    if (const ane_status status = ane::check_options(options, error)) return status;
    return ane::open(options ? *options : ane_options{}, device, error);
  });
}

void ane_device_release(ane_device *device) {
  if (!device || ane::abandoned() || !ane::drop_reference(device)) return;
  // Behind a poisoned device an evaluation still runs: its engine is left as it is.
  if (!device->poisoned) ane::destroy(device);
}

const char *ane_device_facts(ane_device *device) { return device ? device->facts.c_str() : "{}"; }

ane_status ane_device_counters(ane_device *device, ane_counters *counters, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!device || !counters)
      return ane_fail(error, ANE_BAD_ARGUMENT, "ane_device_counters: `%s` is NULL", device ? "counters" : "device");
    *counters = {
        .compiles = device->process->compiles,
        .cache_loads = device->cache_loads,
        .loads = device->loads,
        .unloads = device->unloads,
        .evaluations = device->evaluations,
        .failed_compiles = device->failed_compiles,
        .failed_evaluations = device->failed_evaluations,
        .live_programs = device->process->live_programs,
        .live_surfaces = device->live_surfaces,
        .live_requests = device->live_requests,
        .surface_bytes = device->surface_bytes,
        .live_budget = device->live_budget,
        .compile_budget = device->compile_budget,
        .backend_objects = ane::is_forked_child() ? 0 : device->backend->live_objects(device->handle),
        .poisoned = device->poisoned,
    };
    return ANE_OK;
  });
}

ane_status ane_inject_fault(ane_device *device, ane_fault fault, uint64_t after, uint32_t milliseconds,
                            ane_error *error) {
  return ane::guarded(error, [&] {
    if (!device) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_inject_fault: `device` is NULL");
    if (const ane_status status = ane::check_usable(*device, error)) return status;
    if (fault < ANE_FAULT_COMPILE || fault > ANE_FAULT_UNLOAD)
      return ane_fail(error, ANE_BAD_ARGUMENT, "fault %d is unknown; it must be one of ane_fault", (int)fault);
    if (fault == ANE_FAULT_CLEAR)
      device->faults.clear();
    else
      device->faults.arm(fault, after, milliseconds);
    return ANE_OK;
  });
}

bool ane_real_available(char *why, size_t why_bytes) {
  char unread[1024];
  if (!why || !why_bytes) why = unread, why_bytes = sizeof unread;
#ifdef ANETRAIN_APPLE
  return ane_apple_available(why, why_bytes);
#else
  if (why && why_bytes) snprintf(why, why_bytes, "this build has no real ANE in it: that needs macOS on Apple silicon");
  return false;
#endif
}

const char *ane_backends(void) { return ane::real_backend() ? "apple,emulator" : "emulator"; }
