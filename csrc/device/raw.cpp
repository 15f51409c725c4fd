// The calls of ane_raw.h as far as both back ends share them: arguments, turns, counters.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "error.h"
#include "names.h"
#include "objects.h"

namespace ane {

static ane_status check_raw(const ane_device &device, ane_error *error) {
  if (const ane_status status = check_usable(device, error)) return status;
  if (!device.backend->raw)
    return ane_fail(error, ANE_UNAVAILABLE, "the back end '%s' has none of the raw calls", device.backend->name);
  return ANE_OK;
}

// ---------------------------------------------------------------- requests

static ane_status check_request(const ane_program &program, const ane_raw_request &raw, ane_error *error) {
  if (raw.struct_size < sizeof raw)
    return ane_fail(error, ANE_BAD_ARGUMENT,
                    "ane_raw_request.struct_size is %u; this library needs %zu. Initialise with ANE_RAW_REQUEST_INIT",
                    raw.struct_size, sizeof raw);
  if (raw.weights_buffer && raw.weights_buffer->device != program.device)
    return ane_fail(error, ANE_BAD_ARGUMENT, "the weights buffer belongs to another device than the program");
  return ANE_OK;
}

static ane_status evaluate_raw(ane_request &request, uint32_t qos, ane_raw_path path, ane_raw_result *result,
                               ane_error *error) {
  // Shared: an evaluation that was given up still writes to it.
  const auto answer = std::make_shared<ane_raw_result>();
  const auto call = [&request, qos, path, answer](ane_error *failure) {
    return request.program->device->backend->raw->evaluate(request.handle, request.input_seeds.data(), qos, path,
                                                           answer.get(), failure);
  };
  const ane_status status = evaluate(request, true, call, error);
  if (result) *result = status == ANE_OK ? *answer : ane_raw_result{};
  return status;
}

// Is there a surface that `first` writes and `second` reads?
static bool feeds(const ane_request &first, const ane_request &second) {
  return std::any_of(first.outputs.begin(), first.outputs.end(), [&](const ane_surface *surface) {
    return std::find(second.inputs.begin(), second.inputs.end(), surface) != second.inputs.end();
  });
}

static ane_status check_chain(ane_request *const *requests, size_t count, ane_error *error) {
  if (!requests || !count) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_raw_chain: there are no requests");
  for (size_t i = 0; i < count; i++) {
    if (!requests[i]) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_raw_chain: request %zu is NULL", i);
    if (requests[i]->program->device != requests[0]->program->device)
      return ane_fail(error, ANE_BAD_ARGUMENT, "request %zu of the chain belongs to another device than the first", i);
    if (i && !feeds(*requests[i - 1], *requests[i]))
      return ane_fail(
          error, ANE_BAD_ARGUMENT,
          "request %zu of the chain ('%s') reads no output of the one before ('%s'): bind an output surface "
          "of one as an input of the next",
          i, requests[i]->program->label.c_str(), requests[i - 1]->program->label.c_str());
  }
  return ANE_OK;
}

static ane_status run_chain(ane_request *const *requests, size_t count, ane_error *error) {
  const ane_backend_raw *raw = requests[0]->program->device->backend->raw;
  const std::vector<ane_request *> chain(requests, requests + count);
  std::vector<ane_backend_request *> handles;
  for (const ane_request *request : chain) handles.push_back(request->handle);
  const auto call = [raw, handles](ane_error *failure) { return raw->chain(handles.data(), handles.size(), failure); };
  return evaluate_together(chain, call, error);
}

// ---------------------------------------------------------------- programs

// A reload writes over the files that a program was made of: all of them, and no others.
static ane_status check_paths(const ane_program &program, const ane_blob *blobs, size_t count, ane_error *error) {
  const std::vector<std::string> &known = program.blob_paths;
  for (size_t i = 0; i < count; i++)
    if (std::find(known.begin(), known.end(), blobs[i].path) == known.end())
      return ane_fail(error, ANE_BAD_ARGUMENT, "the program was made without a blob '%s'%s", blobs[i].path,
                      name_help(blobs[i].path, known).c_str());
  if (count != known.size())  // none twice, none unknown: some are missing
    return ane_fail(error, ANE_BAD_ARGUMENT, "%zu blobs were given; the program was made with %zu: %s", count,
                    known.size(), quoted_list(known).c_str());
  return ANE_OK;
}

// In the program's turn: `call` unloads it and loads it again. The surroundings are those of any unload and load.
template <class Call>
ane_status load_again(ane_program &program, const Call &call, ane_error *error) {
  ane_device &device = *program.device;
  if (!program.loaded) return ane_fail(error, ANE_BAD_ARGUMENT, "the program is unloaded: compile it again");
  const ane_status status = call(&program.loaded);
  if (!program.loaded) {
    device.process->live_programs--;
    device.unloads++;
  }
  if (status != ANE_OK) return status;
  device.unloads++;
  device.loads++;
  if (!device.faults.fires(ANE_FAULT_LOAD)) return ANE_OK;
  (void)unload(program, nullptr);  // the fault is the failure to report
  return ane_fail_as(error, ANE_COMPILE_FAILED, "com.apple.appleneuralengine", 6, "Program load failure (0x20004)",
                     "an injected fault: this load was told to fail");
}

static ane_status reload(ane_program &program, ane_raw_reload_kind kind, const ane_blob *blobs, size_t count,
                         ane_error *error) {
  if (kind < ANE_RAW_REWRITE_FILES || kind > ANE_RAW_NEW_IDENTITY)
    return ane_fail(error, ANE_BAD_ARGUMENT, "reload kind %d is unknown; it must be one of ane_raw_reload_kind",
                    (int)kind);
  if (const ane_status status = check_blobs(blobs, count, error)) return status;
  if (const ane_status status = check_paths(program, blobs, count, error)) return status;
  std::lock_guard turn(program.turn);
  return load_again(
      program,
      [&](bool *loaded) {
        return program.device->backend->raw->reload(program.handle, kind, blobs, count, loaded, error);
      },
      error);
}

static ane_status set_stats_mask(ane_program &program, uint32_t mask, ane_error *error) {
  constexpr uint32_t kKnownBits = 1 | 2 | 4 | 8;
  if (mask & ~kKnownBits)
    return ane_fail(error, ANE_BAD_ARGUMENT, "the mask of statistics is 0x%x; its bits are 1, 2, 4 and 8", mask);
  std::lock_guard turn(program.turn);
  return load_again(
      program,
      [&](bool *loaded) { return program.device->backend->raw->set_stats_mask(program.handle, mask, loaded, error); },
      error);
}

// Runs the body of a call about one program.
template <class Body>
ane_status about_program(ane_program *program, const char *function, ane_error *error, const Task &task, Body &&body) {
  const ane_status status = guarded(
      error,
      [&] {
        if (!program) return ane_fail(error, ANE_BAD_ARGUMENT, "%s: `program` is NULL", function);
        if (const ane_status failed = check_raw(*program->device, error)) return failed;
        return body();
      },
      task);
  if (status && program) set_label(error, program->label);
  return status;
}

}  // namespace ane

ane_status ane_raw_api(ane_device *device, char **json, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!device || !json)
      return ane_fail(error, ANE_BAD_ARGUMENT, "ane_raw_api: `%s` is NULL", device ? "json" : "device");
    *json = nullptr;
    if (const ane_status status = ane::check_raw(*device, error)) return status;
    return device->backend->raw->api(device->handle, json, error);
  });
}

void ane_raw_free(char *json) { free(json); }

ane_status ane_raw_request_create(ane_program *program, ane_surface *const *inputs, size_t input_count,
                                  ane_surface *const *outputs, size_t output_count, const ane_raw_request *raw,
                                  ane_request **request, ane_error *error) {
  if (request) *request = nullptr;
  return ane::about_program(program, "ane_raw_request_create", error, ane::kAnyTask, [&] {
    if (!raw) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_raw_request_create: `raw` is NULL");
    if (const ane_status status = ane::check_request(*program, *raw, error)) return status;
    return ane::create_request(program, inputs, input_count, outputs, output_count, raw, request, error);
  });
}

ane_status ane_raw_evaluate(ane_request *request, uint32_t qos, ane_raw_path path, ane_raw_result *result,
                            ane_error *error) {
  if (result) *result = {};
  if (!request)
    return ane::guarded(error,
                        [&] { return ane_fail(error, ANE_BAD_ARGUMENT, "ane_raw_evaluate: `request` is NULL"); });
  return ane::about_program(request->program, "ane_raw_evaluate", error, ane::kEvaluate, [&] {
    if (path < ANE_RAW_STANDARD || path > ANE_RAW_PROCESS)
      return ane_fail(error, ANE_BAD_ARGUMENT, "path %d is unknown; it must be one of ane_raw_path", (int)path);
    return ane::evaluate_raw(*request, qos, path, result, error);
  });
}

ane_status ane_raw_reload(ane_program *program, ane_raw_reload_kind kind, const ane_blob *blobs, size_t blob_count,
                          ane_error *error) {
  return ane::about_program(program, "ane_raw_reload", error, ane::kCompile,
                            [&] { return ane::reload(*program, kind, blobs, blob_count, error); });
}

ane_status ane_raw_set_stats_mask(ane_program *program, uint32_t mask, ane_error *error) {
  return ane::about_program(program, "ane_raw_set_stats_mask", error, ane::kCompile,
                            [&] { return ane::set_stats_mask(*program, mask, error); });
}

ane_status ane_raw_chain(ane_request *const *requests, size_t count, ane_error *error) {
  return ane::guarded(
      error,
      [&] {
        if (const ane_status status = ane::check_chain(requests, count, error)) return status;
        if (const ane_status status = ane::check_raw(*requests[0]->program->device, error)) return status;
        return ane::run_chain(requests, count, error);
      },
      ane::kEvaluate);
}
