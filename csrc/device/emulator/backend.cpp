// The emulated ANE behind backend.h: text and blobs -> checked graph -> rules -> executor; surfaces are plain memory.
#include "../backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../../cpu/threads.h"
#include "../error.h"
#include "../json.h"
#include "engine.h"
#include "report.h"
#include "rules.h"

using namespace ane;

namespace {

constexpr const char *kExecutorNames[] = {"fast", "reference", "audit"};

// ---------------------------------------------------------------- device

std::string describe(const ane_backend_device &device) {
  return JsonObject()
      .add("profile", device.profile.field("name"))
      .add("executor", kExecutorNames[device.executor])
      .add("fp32", device.fp32)
      .add("allow_unproven", device.allow_unproven)
      .merge(device.profile.facts_json())
      .text();
}

ane_status open_device(const ane_options *options, ane_backend_device **result, ane_error *error) {
  return emulated(error, [&] {
    auto device = std::make_unique<ane_backend_device>();
    device->profile = Profile::chosen_by(*options);
    device->executor = options->executor;
    device->fp32 = options->fp32;
    device->allow_unproven = options->allow_unproven;
    device->has_evaluate_rules = device->profile.any_on(Stage::Evaluate);
    device->facts = describe(*device);
    *result = device.release();
    return ANE_OK;
  });
}

void close_device(ane_backend_device *device) { delete device; }
const char *device_facts(ane_backend_device *device) { return device->facts.c_str(); }
uint64_t live_objects(ane_backend_device *device) { return device->objects; }

// ---------------------------------------------------------------- surfaces

ane_status create_surface(ane_backend_device *device, size_t bytes, ane_backend_surface **result, ane_error *error) {
  return emulated(
      error,
      [&] {
        auto surface = std::make_unique<ane_backend_surface>();
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        surface->device = device;
        surface->bytes = bytes;
        surface->mapped_bytes = (bytes + page - 1) / page * page;
        void *base = mmap(nullptr, surface->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED)
          return ane_fail(error, ANE_SURFACE_ERROR, "no memory for a surface of %zu bytes: %s", bytes, strerror(errno));
        surface->base = static_cast<uint8_t *>(base);
        *result = surface.release();
        device->objects++;
        return ANE_OK;
      },
      kCreateSurface);
}

void destroy_surface(ane_backend_surface *surface) {
  munmap(surface->base, surface->mapped_bytes);
  surface->device->objects--;
  delete surface;
}

void *surface_base(ane_backend_surface *surface) { return surface->base; }
// Plain memory needs no lock of its own; the layer above keeps CPU and engine apart.
ane_status lock_surface(ane_backend_surface *, bool, ane_error *) { return ANE_OK; }

// ---------------------------------------------------------------- programs

std::vector<ane_port> public_ports(const std::vector<Port> &ports) {
  std::vector<ane_port> list;
  for (const Port &port : ports) list.push_back(port.port);
  return list;
}

FrontendOptions frontend_options(const ane_backend_device &device, const BlobView *payloads) {
  return {.strict_blobs = device.profile.on(kBlobMetadataRule.name), .fp32 = device.fp32, .payloads = payloads};
}

std::shared_ptr<const Prepared> prepare(const ane_backend_device &device, std::string_view text, int threads,
                                        const BlobFiles &files, const FrontendOptions &frontend) {
  auto prepared = std::make_shared<Prepared>();
  prepared->text = text;
  prepared->threads = threads;
  prepared->graph = std::make_shared<const Graph>(compile_text(text.data(), text.size(), files, frontend));
  check_rules(*prepared->graph, device.profile, device.allow_unproven, &prepared->warnings);
  if (device.executor == ANE_EXECUTOR_FAST) prepared->plan = make_fast_plan(prepared->graph, {&device.profile});
  return prepared;
}

std::unique_ptr<Executor> make_executor(const ane_backend_device &device, const Prepared &prepared,
                                        const std::vector<ConstantPtr> &blobs) {
  const ExecutorOptions options{&device.profile};
  switch (device.executor) {
    case ANE_EXECUTOR_REFERENCE: return make_reference_executor(prepared.graph, options);
    case ANE_EXECUTOR_AUDIT: return make_audit_executor(prepared.graph, options);
    default: return make_fast_executor(prepared.plan, blobs);
  }
}

}  // namespace

bool ane::was_compiled(ane_backend_device &device, const Identity &identity) {
  std::lock_guard lock(device.load_mutex);
  return device.compiled.contains(identity);
}

void ane::remember_compiled(ane_backend_device &device, const Identity &identity) {
  std::lock_guard lock(device.load_mutex);
  device.compiled.insert(identity);
}

uint64_t ane::count_compile(ane_backend_device &device) {
  std::lock_guard lock(device.load_mutex);
  return device.load.lifetime_compiles++;
}

void ane::load(ane_backend_device &device, const ane_backend_program &program, uint64_t earlier_compiles) {
  std::lock_guard lock(device.load_mutex);
  LoadState others = device.load;
  others.lifetime_compiles = earlier_compiles;
  check_load(*program.graph, device.profile, others);
  device.load.live_programs++;
  device.load.live_weight_bytes += program.weight_bytes;
}

void ane::unload(ane_backend_program &program) {
  std::lock_guard lock(program.device->load_mutex);
  program.device->load.live_programs--;
  program.device->load.live_weight_bytes -= program.weight_bytes;
  program.executor.reset();
}

std::unique_ptr<ane_backend_program> ane::compile(ane_backend_device &device, const std::string &mil,
                                                  const BlobFiles &files, const BlobView *payloads) {
  auto program = std::make_unique<ane_backend_program>();
  program->device = &device;
  program->text = mil;
  const FrontendOptions frontend = frontend_options(device, payloads);
  const int threads = anecpu_threads();
  std::shared_ptr<const Prepared> prepared = device.prepared.find(mil, threads);
  const bool was_prepared = prepared != nullptr;
  std::vector<std::string> unread_paths;
  if (was_prepared) {
    program->executor = make_executor(device, *prepared, read_blobs(*prepared->graph, files, frontend, &unread_paths));
  } else {
    prepared = prepare(device, mil, threads, files, frontend);
    program->executor = make_executor(device, *prepared, prepared->graph->blobs);
    unread_paths = prepared->graph->unread_blob_paths;
    // Of a text that was read without its files not everything is known: how many there are, for instance.
    const bool keeps = prepared->plan && !payloads && prepared->holds_for_all_blobs();
    for (const ConstantPtr &constant : prepared->graph->blobs) constant->forget();  // the files may go now
    if (keeps) device.prepared.keep(prepared);
  }
  std::vector<std::string> warnings = prepared->warnings;
  for (const std::string &path : unread_paths)
    warnings.push_back("blob '" + path + "' was given, but the text never refers to it");
  const std::shared_ptr<const Graph> &graph = program->graph = prepared->graph;
  program->inputs = device_ports(*graph, graph->inputs);
  program->outputs = device_ports(*graph, graph->outputs);
  program->input_ports = public_ports(program->inputs);
  program->output_ports = public_ports(program->outputs);
  program->weight_bytes = baked_weight_bytes(*graph);
  program->report = report_json(*graph, warnings, kExecutorNames[device.executor], *program->executor, was_prepared);
  return program;
}

namespace {

ane_status create_program(ane_backend_device *device, const char *mil, size_t mil_bytes, const ane_blob *blobs,
                          size_t blob_count, const char *, ane_status (*before_compile)(void *, ane_error *),
                          void *context, ane_backend_program **result, ane_backend_program_info *info,
                          ane_error *error) {
  return emulated(
      error,
      [&]() -> ane_status {
        const BlobFiles files = blob_files(blobs, blob_count);
        const bool caches = device->profile.on("compiled-model-cache");
        const Identity identity = caches ? identity_of(mil, mil_bytes, files) : Identity{};
        const bool from_cache = caches && was_compiled(*device, identity);
        uint64_t earlier_compiles = 0;
        if (!from_cache) {
          if (const ane_status status = before_compile(context, error)) return status;
          earlier_compiles = count_compile(*device);
        }
        std::unique_ptr<ane_backend_program> program;
        under_profile(*device, [&] {
          program = compile(*device, std::string(mil, mil_bytes), files);
          if (caches) remember_compiled(*device, identity);
          load(*device, *program, earlier_compiles);
        });
        device->objects++;
        *info = {program->input_ports.data(),
                 program->output_ports.data(),
                 program->inputs.size(),
                 program->outputs.size(),
                 from_cache,
                 program->report.c_str()};
        *result = program.release();
        return ANE_OK;
      },
      kCompile);
}

const char *program_counters(ane_backend_program *program) {
  if (program->executor) program->counters = program->executor->counters_json();
  return program->counters.c_str();
}

ane_status unload_program(ane_backend_program *program, ane_error *error) {
  return emulated(error, [&] {
    program_counters(program);  // the last ones
    unload(*program);
    return ANE_OK;
  });
}

void destroy_program(ane_backend_program *program) {
  program->device->objects--;
  delete program;
}

// ---------------------------------------------------------------- requests

// Where a request has the surface of a port: ports are sorted by name.
size_t surface_place(const ane_backend_device &device, const Port &port, size_t sorted) {
  return device.profile.on("declared-order") ? port.declared : sorted;
}

// One side of a request: the surfaces in declared order, padded ports through a dense copy.
void bind_side(const std::vector<Port> &ports, ane_backend_surface *const *surfaces, const char *side,
               ane_backend_request &request, std::vector<BoundSurface> &bound,
               std::vector<ane_backend_request::Padded> &padded, std::vector<size_t> &sizes) {
  bound.resize(ports.size());
  sizes.resize(ports.size());
  padded.reserve(ports.size());  // `dense` must not move
  for (size_t i = 0; i < ports.size(); i++) {
    const Port &port = ports[i];
    ane_backend_surface &surface = *surfaces[surface_place(*request.program->device, port, i)];
    sizes[port.declared] = surface.bytes;
    if (surface.bytes < port.port.bytes && request.too_small.empty())
      request.too_small = format("the surface of %s '%s' has %zu bytes; it needs %zu", side, port.port.name,
                                 surface.bytes, port.port.bytes);
    BoundSurface &target = bound[port.declared];
    if (port.is_padded() && !request.program->device->profile.on("oversize-dense-read")) {
      padded.push_back({&port, surface.base, std::vector<uint8_t>(port.dense_bytes())});
      target = {padded.back().dense.data(), port.dense_bytes(), 0, nullptr};
    } else {
      target = {surface.base, surface.bytes, 0, &surface.image};
    }
  }
}

}  // namespace

std::unique_ptr<ane_backend_request> ane::bind_request(ane_backend_program &program, ane_backend_surface *const *inputs,
                                                       ane_backend_surface *const *outputs) {
  auto request = std::make_unique<ane_backend_request>();
  request->program = &program;
  bind_side(program.inputs, inputs, "input", *request, request->inputs, request->padded_inputs, request->sizes.inputs);
  bind_side(program.outputs, outputs, "output", *request, request->outputs, request->padded_outputs,
            request->sizes.outputs);
  request->input_places.resize(program.inputs.size());
  for (size_t i = 0; i < program.inputs.size(); i++)
    request->input_places[program.inputs[i].declared] = surface_place(*program.device, program.inputs[i], i);
  program.device->objects++;
  return request;
}

void ane::run_request(ane_backend_request &request, const uint64_t *input_seeds) {
  ane_backend_program &program = *request.program;
  ane_backend_device &device = *program.device;
  if (request.raw) under_profile(device, [&] { meet_raw_rules(request); });
  if (!request.too_small.empty()) throw engine_error(kInferenceError, {}, request.too_small);
  if (device.has_evaluate_rules)
    under_profile(device,
                  [&] { check_evaluation(*program.graph, device.profile, request.sizes, device.tile_poisoned); });
  Executor &executor = request.raw ? raw_executor(request) : *program.executor;
  for (size_t i = 0; i < request.inputs.size(); i++) request.inputs[i].seed = input_seeds[request.input_places[i]];
  for (auto &input : request.padded_inputs) pack_rows(*input.port, input.surface, input.dense.data());
  executor.run(request.inputs, request.outputs);
  for (auto &output : request.padded_outputs) unpack_rows(*output.port, output.dense.data(), output.surface);
}

namespace {

ane_status create_request(ane_backend_program *program, ane_backend_surface *const *inputs, size_t,
                          ane_backend_surface *const *outputs, size_t, ane_backend_request **result, ane_error *error) {
  return emulated(error, [&] {
    *result = bind_request(*program, inputs, outputs).release();
    return ANE_OK;
  });
}

void destroy_request(ane_backend_request *request) {
  request->program->device->objects--;
  delete request;
}

ane_status evaluate(ane_backend_request *request, const uint64_t *input_seeds, ane_error *error) {
  return emulated(
      error,
      [&] {
        run_request(*request, input_seeds);
        return ANE_OK;
      },
      kEvaluate);
}

}  // namespace

const ane_backend *ane_emulator_backend(void) {
  static const ane_backend backend = {
      .name = "emulator",
      .can_hang = false,
      .open = open_device,
      .close = close_device,
      .facts = device_facts,
      .live_objects = live_objects,
      .surface_create = create_surface,
      .surface_destroy = destroy_surface,
      .surface_base = surface_base,
      .surface_lock = lock_surface,
      .surface_unlock = lock_surface,
      .program_create = create_program,
      .program_unload = unload_program,
      .program_counters = program_counters,
      .program_destroy = destroy_program,
      .request_create = create_request,
      .request_destroy = destroy_request,
      .evaluate = evaluate,
      .raw = &raw_calls(),
  };
  return &backend;
}
