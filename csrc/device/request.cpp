// Requests: which surface stands at which port, checked once.
#include <cstring>
#include <memory>

#include "error.h"
#include "names.h"
#include "objects.h"

namespace ane {

static const char *side(bool output) { return output ? "output" : "input"; }

static std::vector<std::string> port_names(const std::vector<ane_port> &ports) {
  std::vector<std::string> names;
  for (const ane_port &port : ports) names.emplace_back(port.name);
  return names;
}

static ane_status check_surface(const ane_program &program, const ane_port &port, bool output,
                                const ane_surface *surface, ane_error *error) {
  if (!surface)
    return ane_fail(error, ANE_BAD_ARGUMENT, "%s '%s' is bound to no surface (NULL)", side(output), port.name);
  if (surface->device != program.device)
    return ane_fail(error, ANE_BAD_ARGUMENT, "the surface bound to %s '%s' belongs to another device than the program",
                    side(output), port.name);
  return ANE_OK;
}

static ane_status check_size(const ane_port &port, bool output, const ane_surface *surface, ane_error *error) {
  if (surface->bytes >= port.bytes) return ANE_OK;
  return ane_fail(error, ANE_SURFACE_ERROR, "the surface bound to %s '%s' has %zu bytes; it needs %zu", side(output),
                  port.name, surface->bytes, port.bytes);
}

// Binds by name: every port of this side exactly once, into device order.
static ane_status bind(const ane_program &program, bool output, const ane_binding *bindings, size_t count,
                       std::vector<ane_surface *> *surfaces, ane_error *error) {
  const std::vector<ane_port> &known = ports(program, output);
  if (count && !bindings) return ane_fail(error, ANE_BAD_ARGUMENT, "the %s bindings are NULL", side(output));
  surfaces->assign(known.size(), nullptr);
  std::vector<bool> bound(known.size(), false);
  for (size_t b = 0; b < count; b++) {
    const char *name = bindings[b].name;
    if (!name) return ane_fail(error, ANE_BAD_ARGUMENT, "%s binding %zu has no name", side(output), b);
    size_t i = 0;
    while (i < known.size() && strcmp(known[i].name, name) != 0) i++;
    if (i == known.size())
      return ane_fail(error, ANE_BAD_ARGUMENT, "the program has no %s '%s'%s", side(output), name,
                      name_help(name, port_names(known)).c_str());
    if (bound[i]) return ane_fail(error, ANE_BAD_ARGUMENT, "%s '%s' is bound twice", side(output), name);
    if (const ane_status status = check_surface(program, known[i], output, bindings[b].surface, error)) return status;
    if (const ane_status status = check_size(known[i], output, bindings[b].surface, error)) return status;
    (*surfaces)[i] = bindings[b].surface;
    bound[i] = true;
  }
  std::vector<std::string> missing;
  for (size_t i = 0; i < known.size(); i++)
    if (!bound[i]) missing.emplace_back(known[i].name);
  if (!missing.empty())
    return ane_fail(error, ANE_BAD_ARGUMENT, "not every %s is bound; missing: %s", side(output),
                    quoted_list(missing).c_str());
  return ANE_OK;
}

static ane_status bind_by_position(const ane_program &program, bool output, ane_surface *const *given, size_t count,
                                   std::vector<ane_surface *> *surfaces, ane_error *error) {
  const std::vector<ane_port> &known = ports(program, output);
  if (count != known.size() || (count && !given))
    return ane_fail(error, ANE_BAD_ARGUMENT, "%zu %s surfaces were given; the program has %zu: %s", given ? count : 0,
                    side(output), known.size(), quoted_list(port_names(known)).c_str());
  for (size_t i = 0; i < count; i++)
    if (const ane_status status = check_surface(program, known[i], output, given[i], error)) return status;
  surfaces->assign(given, given + count);
  return ANE_OK;
}

static void add_use(ane_request &request, ane_surface *surface, bool output, const char *port) {
  for (ane_request::Use &use : request.uses) {
    if (use.surface != surface) continue;
    (output ? use.write : use.read) = true;
    return;
  }
  request.uses.push_back({surface, !output, output, port});
}

static ane_status check_distinct_outputs(const ane_request &request, ane_error *error) {
  for (size_t i = 0; i < request.outputs.size(); i++)
    for (size_t k = 0; k < i; k++)
      if (request.outputs[i] == request.outputs[k])
        return ane_fail(error, ANE_BAD_ARGUMENT, "outputs '%s' and '%s' are bound to the same surface",
                        request.program->outputs[k].name, request.program->outputs[i].name);
  return ANE_OK;
}

static ane_status create_in_backend(ane_request &request, const std::vector<ane_backend_surface *> &inputs,
                                    const std::vector<ane_backend_surface *> &outputs, const ane_raw_request *raw,
                                    ane_error *error) {
  const ane_backend &backend = *request.program->device->backend;
  ane_backend_program *program = request.program->handle;
  if (!raw)
    return backend.request_create(program, inputs.data(), inputs.size(), outputs.data(), outputs.size(),
                                  &request.handle, error);
  const ane_backend_raw_request fields = {raw->procedure_index,
                                          raw->weights_buffer ? raw->weights_buffer->handle : nullptr,
                                          raw->performance_stats, raw->shared_events};
  return backend.raw->request_create(program, inputs.data(), inputs.size(), outputs.data(), outputs.size(), &fields,
                                     &request.handle, error);
}

// `request` has its program and surfaces; makes the back end's half and takes the references.
static ane_status finish(std::unique_ptr<ane_request> request, const ane_raw_request *raw, ane_request **result,
                         ane_error *error) {
  ane_program &program = *request->program;
  std::vector<ane_backend_surface *> inputs, outputs;
  for (size_t i = 0; i < request->inputs.size(); i++) {
    inputs.push_back(request->inputs[i]->handle);
    add_use(*request, request->inputs[i], false, program.inputs[i].name);
  }
  for (size_t i = 0; i < request->outputs.size(); i++) {
    outputs.push_back(request->outputs[i]->handle);
    add_use(*request, request->outputs[i], true, program.outputs[i].name);
  }
  if (raw && raw->weights_buffer) add_use(*request, raw->weights_buffer, false, "the weights buffer");
  request->is_raw = raw != nullptr;
  request->input_seeds.resize(inputs.size());
  std::lock_guard turn(program.turn);
  if (!program.loaded) return ane_fail(error, ANE_BAD_ARGUMENT, "the program is unloaded: compile it again");
  if (const ane_status status = create_in_backend(*request, inputs, outputs, raw, error)) return status;
  retain(&program);
  for (const ane_request::Use &use : request->uses) retain(use.surface);
  program.device->live_requests++;
  *result = request.release();
  return ANE_OK;
}

static std::unique_ptr<ane_request> request_of(ane_program *program) {
  auto request = std::make_unique<ane_request>();
  request->program = program;
  return request;
}

static ane_status check_program(ane_program *program, ane_request **request, ane_error *error) {
  if (!program || !request)
    return ane_fail(error, ANE_BAD_ARGUMENT, "ane_request_create: `%s` is NULL", program ? "request" : "program");
  *request = nullptr;
  return check_usable(*program->device, error);
}

ane_status create_request(ane_program *program, ane_surface *const *inputs, size_t input_count,
                          ane_surface *const *outputs, size_t output_count, const ane_raw_request *raw,
                          ane_request **request, ane_error *error) {
  if (const ane_status failed = check_program(program, request, error)) return failed;
  auto made = request_of(program);
  if (const ane_status failed = bind_by_position(*program, false, inputs, input_count, &made->inputs, error))
    return failed;
  if (const ane_status failed = bind_by_position(*program, true, outputs, output_count, &made->outputs, error))
    return failed;
  return finish(std::move(made), raw, request, error);
}

}  // namespace ane

ane_status ane_request_create(ane_program *program, const ane_binding *inputs, size_t input_count,
                              const ane_binding *outputs, size_t output_count, ane_request **request,
                              ane_error *error) {
  const ane_status status = ane::guarded(error, [&] {
    if (const ane_status failed = ane::check_program(program, request, error)) return failed;
    auto made = ane::request_of(program);
    if (const ane_status failed = ane::bind(*program, false, inputs, input_count, &made->inputs, error)) return failed;
    if (const ane_status failed = ane::bind(*program, true, outputs, output_count, &made->outputs, error))
      return failed;
    if (const ane_status failed = ane::check_distinct_outputs(*made, error)) return failed;
    return ane::finish(std::move(made), nullptr, request, error);
  });
  if (status && program) ane::set_label(error, program->label);
  return status;
}

ane_status ane_request_create_positional(ane_program *program, ane_surface *const *inputs, size_t input_count,
                                         ane_surface *const *outputs, size_t output_count, ane_request **request,
                                         ane_error *error) {
  const ane_status status = ane::guarded(error, [&] {
    return ane::create_request(program, inputs, input_count, outputs, output_count, nullptr, request, error);
  });
  if (status && program) ane::set_label(error, program->label);
  return status;
}

void ane_request_release(ane_request *request) {
  if (!request || ane::abandoned()) return;
  ane_device *device = request->program->device;
  // Behind a poisoned device an evaluation of this very request may still run: it and its surfaces stay for ever.
  if (device->poisoned) return;
  device->backend->request_destroy(request->handle);
  device->live_requests--;
  for (const ane_request::Use &use : request->uses) ane_surface_release(use.surface);
  ane_program_release(request->program);
  delete request;
}
