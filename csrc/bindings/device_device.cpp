// Device: opening, facts, counters, faults, and what the library knows without a device.
#include "device_bindings.h"

namespace anetrain {

static Device open(int kind, const std::string &profile, int executor, bool fp32, bool allow_unproven,
                   const std::string &rules, uint32_t live_budget, uint32_t compile_budget, uint32_t watchdog_ms,
                   const std::string &temp_dir) {
  ane_options options{};
  options.struct_size = sizeof options;
  options.kind = static_cast<ane_kind>(kind);
  options.profile = profile.empty() ? nullptr : profile.c_str();
  options.executor = static_cast<ane_executor>(executor);
  options.fp32 = fp32;
  options.allow_unproven = allow_unproven;
  options.rules = rules.empty() ? nullptr : rules.c_str();
  options.live_budget = live_budget;
  options.compile_budget = compile_budget;
  options.watchdog_ms = watchdog_ms;
  options.temp_dir = temp_dir.empty() ? nullptr : temp_dir.c_str();
  ane_device *device = nullptr;
  call([&](ane_error *error) { return ane_open(&options, &device, error); });
  Device result;
  result.handle.reset(device);
  return result;
}

static py::dict counters(const Device &device) {
  ane_counters values;
  call([&](ane_error *error) { return ane_device_counters(device.handle.get(), &values, error); });
  py::dict result;
  result["compiles"] = values.compiles;
  result["cache_loads"] = values.cache_loads;
  result["loads"] = values.loads;
  result["unloads"] = values.unloads;
  result["evaluations"] = values.evaluations;
  result["failed_compiles"] = values.failed_compiles;
  result["failed_evaluations"] = values.failed_evaluations;
  result["live_programs"] = values.live_programs;
  result["live_surfaces"] = values.live_surfaces;
  result["live_requests"] = values.live_requests;
  result["surface_bytes"] = values.surface_bytes;
  result["live_budget"] = values.live_budget;
  result["compile_budget"] = values.compile_budget;
  result["backend_objects"] = values.backend_objects;
  result["poisoned"] = values.poisoned;
  return result;
}

static Surface create_surface(const Device &device, size_t bytes) {
  ane_surface *surface = nullptr;
  call([&](ane_error *error) { return ane_surface_create(device.handle.get(), bytes, &surface, error); });
  Surface result;
  result.handle.reset(surface);
  return result;
}

static void inject_fault(const Device &device, int fault, uint64_t after, uint32_t milliseconds) {
  call([&](ane_error *error) {
    return ane_inject_fault(device.handle.get(), static_cast<ane_fault>(fault), after, milliseconds, error);
  });
}

static py::tuple real_available() {
  char why[1024] = "";
  const bool available = ane_real_available(why, sizeof why);
  return py::make_tuple(available, why);
}

void bind_device(py::module_ &module) {
  py::class_<Device>(module, "Device")
      .def("facts", [](const Device &device) { return ane_device_facts(device.handle.get()); })
      .def("counters", counters)
      .def("surface", create_surface)
      .def("inject_fault", inject_fault);
  module.def("open", open);
  module.def("real_available", real_available);
  module.def("backends", ane_backends);
  module.def("profiles", ane_profiles);
  module.def("operation_table", ane_operation_table);
  module.def("rule_table", ane_rule_table);
}

}  // namespace anetrain
