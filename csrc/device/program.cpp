// Programs: compile and load under two budgets, ports, unload.
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "error.h"
#include "json.h"
#include "objects.h"

namespace ane {

constexpr char kCompilerDomain[] = "com.apple.appleneuralengine.compiler";
constexpr char kEngineDomain[] = "com.apple.appleneuralengine";

// Holds one of the process's places for a loaded program until it is kept.
class LivePlace {
 public:
  explicit LivePlace(ane_device &device) : live_(device.process->live_programs) {
    fits_ = live_.fetch_add(1) < device.live_budget;
  }
  ~LivePlace() {
    if (!kept_) live_.fetch_sub(1);
  }
  bool fits() const { return fits_; }
  void keep() { kept_ = true; }

 private:
  std::atomic<uint64_t> &live_;
  bool fits_, kept_ = false;
};

// The back end calls this right before its compiler runs.
static ane_status before_compile(void *context, ane_error *error) {
  ane_device &device = *static_cast<ane_device *>(context);
  uint64_t done = device.process->compiles.load();
  do {
    if (done >= device.compile_budget)
      return ane_fail(error, ANE_BUDGET_EXCEEDED,
                      "this process has compiled %llu programs and its budget is %llu. An engine refuses to compile "
                      "after about 119: reuse programs, restart the process, or open the device with a larger "
                      "compile_budget",
                      (unsigned long long)done, (unsigned long long)device.compile_budget);
  } while (!device.process->compiles.compare_exchange_weak(done, done + 1));
  if (device.faults.fires(ANE_FAULT_COMPILE))
    return ane_fail_as(error, ANE_COMPILE_FAILED, kCompilerDomain, 1, "_ANECompiler : ANECCompile() FAILED : err=()",
                       "an injected fault: this compile was told to fail");
  return ANE_OK;
}

ane_status check_blobs(const ane_blob *blobs, size_t count, ane_error *error) {
  if (count && !blobs) return ane_fail(error, ANE_BAD_ARGUMENT, "%zu blobs were announced, but `blobs` is NULL", count);
  for (size_t i = 0; i < count; i++) {
    if (!blobs[i].path) return ane_fail(error, ANE_BAD_ARGUMENT, "blob %zu has no path", i);
    if (!blobs[i].data || !blobs[i].bytes)
      return ane_fail(error, ANE_BAD_ARGUMENT, "blob '%s' is empty", blobs[i].path);
    for (size_t k = 0; k < i; k++)
      if (!strcmp(blobs[i].path, blobs[k].path))
        return ane_fail(error, ANE_BAD_ARGUMENT, "blob '%s' is given twice", blobs[i].path);
  }
  return ANE_OK;
}

// Binding by name rests on this order.
static ane_status check_port_order(const std::vector<ane_port> &ports, ane_error *error) {
  for (size_t i = 1; i < ports.size(); i++)
    if (strcmp(ports[i - 1].name, ports[i].name) >= 0)
      return ane_fail(error, ANE_COMPILE_FAILED, "the device lists port '%s' before '%s': not in ascending ASCII order",
                      ports[i - 1].name, ports[i].name);
  return ANE_OK;
}

ane_status unload(ane_program &program, ane_error *error) {
  ane_device &device = *program.device;
  program.loaded = false;
  device.process->live_programs--;
  device.unloads++;
  ane_status status = device.backend->program_unload(program.handle, error);
  if (status == ANE_OK && device.faults.fires(ANE_FAULT_UNLOAD))
    status =
        ane_fail_as(error, ANE_UNLOAD_FAILED, kEngineDomain, 0, "", "an injected fault: this unload was told to fail");
  if (status) set_label(error, program.label);
  return status;
}

static std::string describe(const ane_program &program, const ane_backend_program_info &info, double compile_ms) {
  return JsonObject()
      .add("label", program.label)
      .add("from_cache", info.from_cache)
      .add("compile_ms", compile_ms)
      .merge(info.report ? info.report : "{}")
      .text();
}

static ane_status take_over(ane_program &program, const ane_backend_program_info &info, double compile_ms,
                            ane_error *error) {
  program.inputs.assign(info.inputs, info.inputs + info.input_count);
  program.outputs.assign(info.outputs, info.outputs + info.output_count);
  program.report = describe(program, info, compile_ms);
  for (const bool output : {false, true})
    if (const ane_status status = check_port_order(ports(program, output), error)) return status;
  if (program.device->faults.fires(ANE_FAULT_LOAD))
    return ane_fail_as(error, ANE_COMPILE_FAILED, kEngineDomain, 6, "Program load failure (0x20004)",
                       "an injected fault: this load was told to fail");
  return ANE_OK;
}

struct Source {
  const char *mil;
  size_t mil_bytes;
  const ane_blob *blobs;
  size_t blob_count;
};

// Undoes as much of a program as there is.
static void destroy(ane_program *program) {
  ane_device &device = *program->device;
  {
    std::lock_guard lock(device.programs_mutex);
    device.programs.erase(program);
  }
  // A poisoned engine may hang in anything: its programs stay where they are.
  if (program->handle && !device.poisoned) {
    if (program->loaded) unload(*program, nullptr);
    device.backend->program_destroy(program->handle);
  }
  delete program;
}

static ane_status load(ane_program &program, const Source &source, LivePlace &place, ane_error *error) {
  ane_device &device = *program.device;
  ane_backend_program_info info{};
  const auto start = std::chrono::steady_clock::now();
  const uint64_t compiles = device.process->compiles;
  if (const ane_status status = device.backend->program_create(
          device.handle, source.mil, source.mil_bytes, source.blobs, source.blob_count, program.label.c_str(),
          before_compile, &device, &program.handle, &info, error)) {
    device.failed_compiles += status != ANE_BUDGET_EXCEEDED && compiles != device.process->compiles;
    return status;
  }
  const std::chrono::duration<double, std::milli> compile_ms = std::chrono::steady_clock::now() - start;
  {
    std::lock_guard turn(program.turn);
    program.loaded = true;
  }
  place.keep();
  device.loads++;
  device.cache_loads += info.from_cache;
  return take_over(program, info, compile_ms.count(), error);
}

static ane_status create(ane_device &device, const Source &source, const char *label, ane_program **result,
                         ane_error *error) {
  if (const ane_status status = check_usable(device, error)) return status;
  if (const ane_status status = check_blobs(source.blobs, source.blob_count, error)) return status;
  LivePlace place(device);
  if (!place.fits())
    return ane_fail(
        error, ANE_BUDGET_EXCEEDED,
        "%llu programs are loaded in this process and the budget is %llu. An engine holds about 119: unload "
        "programs, or open the device with a larger live_budget",
        (unsigned long long)device.process->live_programs - 1, (unsigned long long)device.live_budget);
  std::unique_ptr<ane_program, void (*)(ane_program *)> program(new ane_program, destroy);
  program->device = &device;
  program->label = label;
  for (size_t i = 0; i < source.blob_count; i++) program->blob_paths.emplace_back(source.blobs[i].path);
  {
    std::lock_guard lock(device.programs_mutex);
    device.programs.insert(program.get());
  }
  if (const ane_status status = load(*program, source, place, error)) return status;
  retain(&device);
  *result = program.release();
  return ANE_OK;
}

void unload_programs_at_exit(ane_device &device) {
  if (device.poisoned) return;
  std::lock_guard lock(device.programs_mutex);
  for (ane_program *program : device.programs) {
    // A thread that is still evaluating will not be waited for longer than this: the process wants to end.
    std::unique_lock turn(program->turn, std::defer_lock);
    for (int tries = 0; tries < 100 && !turn.try_lock(); tries++)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (turn.owns_lock() && program->loaded) unload(*program, nullptr);
  }
}

}  // namespace ane

ane_status ane_program_create(ane_device *device, const char *mil, size_t mil_bytes, const ane_blob *blobs,
                              size_t blob_count, const char *label, ane_program **program, ane_error *error) {
  label = label ? label : "";
  const ane_status status = ane::guarded(
      error,
      [&] {
        if (!device || !mil || !program)
          return ane_fail(error, ANE_BAD_ARGUMENT, "ane_program_create: `%s` is NULL",
                          !device ? "device"
                          : !mil  ? "mil"
                                  : "program");
        *program = nullptr;
        return ane::create(*device, {mil, mil_bytes, blobs, blob_count}, label, program, error);
      },
      ane::kCompile);
  if (status) ane::set_label(error, label);
  return status;
}

ane_status ane_program_unload(ane_program *program, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!program) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_program_unload: `program` is NULL");
    if (const ane_status status = ane::check_usable(*program->device, error)) return status;
    std::lock_guard turn(program->turn);
    if (!program->loaded) return ANE_OK;
    return ane::unload(*program, error);
  });
}

void ane_program_release(ane_program *program) {
  if (!program || ane::abandoned() || !ane::drop_reference(program)) return;
  ane_device *device = program->device;
  ane::destroy(program);
  ane_device_release(device);
}

size_t ane_program_port_count(const ane_program *program, bool output) {
  return program ? ane::ports(*program, output).size() : 0;
}

ane_status ane_program_port(const ane_program *program, bool output, size_t index, ane_port *port, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!program || !port)
      return ane_fail(error, ANE_BAD_ARGUMENT, "ane_program_port: `%s` is NULL", program ? "port" : "program");
    const auto &ports = ane::ports(*program, output);
    if (index >= ports.size())
      return ane_fail(error, ANE_BAD_ARGUMENT, "%s %zu does not exist: the program has %zu",
                      output ? "output" : "input", index, ports.size());
    *port = ports[index];
    return ANE_OK;
  });
}

const char *ane_program_report(ane_program *program) {
  if (!program) return "{}";
  const auto counters = program->device->backend->program_counters;
  // Never waits: while the program is evaluated, in a forked child, and behind a poisoned device, where an evaluation
  // may still run, the counters of the last call stand.
  const std::unique_lock<std::mutex> turn(program->turn, std::try_to_lock);
  if (counters && turn.owns_lock() && !program->device->poisoned)
    (void)ane::guarded(nullptr, [&] {
      program->report_with_counters =
          ane::JsonObject().merge(program->report).add_json("counters", counters(program->handle)).text();
      return ANE_OK;
    });
  return program->report_with_counters.empty() ? program->report.c_str() : program->report_with_counters.c_str();
}
