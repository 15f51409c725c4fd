// The raw calls of ane_raw.h, as functions: they work on the objects of the other files.
#include "device/ane_raw.h"

#include "device_arguments.h"

namespace anetrain {

static std::string api(const Device &device) {
  char *json = nullptr;
  call([&](ane_error *error) { return ane_raw_api(device.handle.get(), &json, error); });
  const std::unique_ptr<char, Releaser<ane_raw_free>> owned(json);
  return json;
}

static Request request(const Program &program, const py::list &inputs, const py::list &outputs,
                       uint32_t procedure_index, const Surface *weights_buffer, bool performance_stats,
                       uint32_t shared_events) {
  const std::vector<ane_surface *> in = handles(inputs), out = handles(outputs);
  const ane_raw_request raw = {sizeof raw, procedure_index, weights_buffer ? weights_buffer->handle.get() : nullptr,
                               performance_stats, shared_events};
  ane_request *made = nullptr;
  call([&](ane_error *error) {
    return ane_raw_request_create(program.handle.get(), in.data(), in.size(), out.data(), out.size(), &raw, &made,
                                  error);
  });
  Request result;
  result.handle.reset(made);
  return result;
}

// (nanoseconds of the statistics object or None, was the real-time task granted)
static py::tuple evaluate(const Request &request, uint32_t qos, int path) {
  ane_raw_result result;
  call([&](ane_error *error) {
    return ane_raw_evaluate(request.handle.get(), qos, static_cast<ane_raw_path>(path), &result, error);
  });
  const py::object nanoseconds = result.has_stats ? py::cast(result.hardware_ns) : py::none();
  return py::make_tuple(nanoseconds, result.real_time_granted);
}

static void reload(const Program &program, int kind, const py::dict &blobs) {
  const Blobs files(blobs);
  call([&](ane_error *error) {
    return ane_raw_reload(program.handle.get(), static_cast<ane_raw_reload_kind>(kind), files.data(), files.size(),
                          error);
  });
}

static void set_stats_mask(const Program &program, uint32_t mask) {
  call([&](ane_error *error) { return ane_raw_set_stats_mask(program.handle.get(), mask, error); });
}

static void chain(const py::list &requests) {
  std::vector<ane_request *> list;
  for (const auto &request : requests) list.push_back(py::cast<const Request &>(request).handle.get());
  call([&](ane_error *error) { return ane_raw_chain(list.data(), list.size(), error); });
}

void bind_raw(py::module_ &module) {
  module.def("raw_api", api);
  module.def("raw_request", request);
  module.def("raw_evaluate", evaluate);
  module.def("raw_reload", reload);
  module.def("raw_set_stats_mask", set_stats_mask);
  module.def("raw_chain", chain);
}

}  // namespace anetrain
