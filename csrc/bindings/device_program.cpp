// Program and Request: compile, ports, binding, run.
#include "device_arguments.h"

namespace anetrain {

static Program compile(const Device &device, const py::bytes &text, const py::dict &blobs, const std::string &label) {
  const Blobs files(blobs);
  const std::string_view mil = text;
  ane_program *program = nullptr;
  call([&](ane_error *error) {
    return ane_program_create(device.handle.get(), mil.data(), mil.size(), files.data(), files.size(), label.c_str(),
                              &program, error);
  });
  Program result;
  result.handle.reset(program);
  return result;
}

struct Found {  // an ane_finding of one's own
  std::string rule, stage, subject, value, limit, detail, summary, source;
  bool advice;
  int32_t line, column;
};

static void keep(void *list, const ane_finding *finding) {
  static_cast<std::vector<Found> *>(list)->push_back(
      {finding->rule, finding->stage, finding->subject, finding->value, finding->limit, finding->detail,
       finding->summary, finding->source, finding->advice, finding->line, finding->column});
}

// Findings as dicts, in the order of the check.
static py::list check(const py::bytes &text, const py::dict &blobs, const std::string &profile, bool fp32,
                      bool allow_unproven, const std::string &rules) {
  ane_options options{};
  options.struct_size = sizeof options;
  options.profile = profile.c_str();
  options.fp32 = fp32;
  options.allow_unproven = allow_unproven;
  options.rules = rules.c_str();
  const Blobs files(blobs);
  const std::string_view mil = text;
  std::vector<Found> found;
  call([&](ane_error *error) {
    return ane_check(&options, mil.data(), mil.size(), files.data(), files.size(), keep, &found, error);
  });
  py::list list;
  for (const Found &finding : found) {
    py::dict entry;
    entry["rule"] = finding.rule;
    entry["stage"] = finding.stage;
    entry["advice"] = finding.advice;
    entry["subject"] = readable(finding.subject.c_str());
    entry["value"] = readable(finding.value.c_str());
    entry["limit"] = readable(finding.limit.c_str());
    entry["detail"] = readable(finding.detail.c_str());
    entry["summary"] = finding.summary;
    entry["source"] = finding.source;
    entry["line"] = finding.line;
    entry["column"] = finding.column;
    list.append(entry);
  }
  return list;
}

// (name, dtype, shape, bytes, row stride, plane stride) of each port, in device order.
static py::list ports(const Program &program, bool output) {
  py::list list;
  for (size_t i = 0; i < ane_program_port_count(program.handle.get(), output); i++) {
    ane_port port;
    call([&](ane_error *error) { return ane_program_port(program.handle.get(), output, i, &port, error); });
    py::tuple shape(static_cast<size_t>(port.rank));
    for (int axis = 0; axis < port.rank; axis++) shape[static_cast<size_t>(axis)] = port.shape[axis];
    list.append(py::make_tuple(port.name, port.dtype, shape, port.bytes, port.row_stride, port.plane_stride));
  }
  return list;
}

static void unload(const Program &program) {
  call([&](ane_error *error) { return ane_program_unload(program.handle.get(), error); });
}

struct Bindings {
  std::deque<std::string> names;
  std::vector<ane_binding> list;
  explicit Bindings(const py::dict &surfaces) {
    for (const auto &[name, surface] : surfaces) {
      names.push_back(py::cast<std::string>(name));
      list.push_back({names.back().c_str(), py::cast<const Surface &>(surface).handle.get()});
    }
  }
};

static Request request(const Program &program, const py::dict &inputs, const py::dict &outputs) {
  const Bindings in(inputs), out(outputs);
  ane_request *made = nullptr;
  call([&](ane_error *error) {
    return ane_request_create(program.handle.get(), in.list.data(), in.list.size(), out.list.data(), out.list.size(),
                              &made, error);
  });
  Request result;
  result.handle.reset(made);
  return result;
}

static Request request_positional(const Program &program, const py::list &inputs, const py::list &outputs) {
  const std::vector<ane_surface *> in = handles(inputs), out = handles(outputs);
  ane_request *made = nullptr;
  call([&](ane_error *error) {
    return ane_request_create_positional(program.handle.get(), in.data(), in.size(), out.data(), out.size(), &made,
                                         error);
  });
  Request result;
  result.handle.reset(made);
  return result;
}

static void run(const Request &request) {
  call([&](ane_error *error) { return ane_evaluate(request.handle.get(), error); });
}

void bind_program(py::module_ &module) {
  py::class_<Program>(module, "Program")
      .def("ports", ports)
      .def("report", [](const Program &program) { return ane_program_report(program.handle.get()); })
      .def("unload", unload)
      .def("request", request)
      .def("request_positional", request_positional);
  py::class_<Request>(module, "Request").def("run", run);
  // Here and not in device_device.cpp: it makes a Program.
  module.def("compile", compile);
  module.def("check", check);
}

}  // namespace anetrain
