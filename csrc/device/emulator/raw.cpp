// The raw calls (ane_raw.h) on the emulated ANE: what the profile's rules say happens, and what happens without them.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "../error.h"
#include "../json.h"
#include "engine.h"
#include "rules.h"

using namespace ane;

namespace {

// What fails because a rule is off, or stops short of this value: the error names the rule all the same.
[[noreturn]] void fail_without(const char *rule, const char *words, const std::string &found,
                               const std::string &expected) {
  DeviceError error = engine_error(words, {}, found + "; expected " + expected);
  error.rule = rule;
  throw error;
}

// ---------------------------------------------------------------- the framework's methods

struct FrameworkMethod {
  const char *owner;     // class
  const char *selector;  // with its sign: "+sharedConnection"
  const char *encoding;
};

constexpr FrameworkMethod kMethods[] = {
#include "framework_methods.inc"
};

// Of one class: {selector: encoding}, of methods with this sign; 0: of all, sign and all.
std::string methods_json(const std::string &owner, char sign) {
  JsonObject methods;
  for (const FrameworkMethod &method : kMethods)
    if (owner == method.owner && (!sign || sign == *method.selector))
      methods.add(sign ? method.selector + 1 : method.selector, method.encoding);
  return methods.text();
}

std::string framework_json() {
  JsonObject classes;
  std::string last;
  for (const FrameworkMethod &method : kMethods) {  // those of a class stand together
    if (last == method.owner) continue;
    last = method.owner;
    classes.add_json(last, JsonObject()
                               .add("found", true)
                               .add_json("class_methods", methods_json(last, '+'))
                               .add_json("instance_methods", methods_json(last, '-'))
                               .add_json("expected", methods_json(last, 0))
                               .text());
  }
  return JsonObject()
      .add("framework", "emulator")
      .add("version", ane_version())
      .add_json("classes", classes.text())
      .add_json("other_classes", "[]")
      .text();
}

ane_status api(ane_backend_device *, char **json, ane_error *error) {
  return emulated(error, [&] {
    *json = strdup(framework_json().c_str());
    return *json ? ANE_OK : ane_fail(error, ANE_UNAVAILABLE, "out of memory");
  });
}

// ---------------------------------------------------------------- requests

// The limits of the framework's -validate (ANE_FACTS 1.4).
constexpr uint32_t kMaxProcedureIndex = 128, kMaxSharedEvents = 64;

// The framework answers nil, and says nothing.
void check_stats(const Profile &profile) {
  if (!profile.on("no-performance-stats")) return;
  DeviceError error;
  error.status = ANE_EVAL_FAILED;
  error.detail = "[[_ANEPerformanceStats alloc] init] gave nil: measure on the clock";
  error.rule = "no-performance-stats";
  throw error;
}

ane_status create_request(ane_backend_program *program, ane_backend_surface *const *inputs, size_t,
                          ane_backend_surface *const *outputs, size_t, const ane_backend_raw_request *fields,
                          ane_backend_request **result, ane_error *error) {
  return emulated(error, [&]() -> ane_status {
    if (fields->procedure_index > kMaxProcedureIndex)
      return ane_fail(error, ANE_BAD_ARGUMENT, "the request's procedure index is %u; -validate allows at most %u",
                      fields->procedure_index, kMaxProcedureIndex);
    if (fields->shared_events > kMaxSharedEvents)
      return ane_fail(error, ANE_BAD_ARGUMENT, "the request has %u signal events; -validate allows at most %u",
                      fields->shared_events, kMaxSharedEvents);
    if (fields->performance_stats) under_profile(*program->device, [&] { check_stats(program->device->profile); });
    auto raw = std::make_unique<ane_backend_request::Raw>();
    raw->fields = *fields;
    auto request = bind_request(*program, inputs, outputs);
    request->raw = std::move(raw);
    *result = request.release();
    return ANE_OK;
  });
}

[[noreturn]] void crash() {
  raise(SIGSEGV);
  abort();  // somebody caught it
}

[[noreturn]] void hang() {
  for (;;) pause();
}

void check_qos(const Profile &profile, uint32_t qos) {
  constexpr uint32_t kMapped[] = {9, 17, 21, 25, 33};  // by _ANEQoSMapper
  const double largest = profile.value("qos-range");
  if (qos <= largest && largest) return;
  if (std::find(std::begin(kMapped), std::end(kMapped), qos) != std::end(kMapped)) return;
  fail_without("qos-range", kQosError, format("the quality of service is %u", qos),
               largest ? format("at most %.0f", largest) : "9, 17, 21, 25 or 33, as 'qos-range' is off");
}

ane_status evaluate(ane_backend_request *request, const uint64_t *input_seeds, uint32_t qos, ane_raw_path path,
                    ane_raw_result *result, ane_error *error) {
  return emulated(
      error,
      [&] {
        const ane_backend_device &device = *request->program->device;
        // The real-time path takes no quality of service.
        if (path != ANE_RAW_REAL_TIME) under_profile(device, [&] { check_qos(device.profile, qos); });
        const auto start = std::chrono::steady_clock::now();
        run_request(*request, input_seeds);
        const std::chrono::nanoseconds run = std::chrono::steady_clock::now() - start;
        result->has_stats = request->raw && request->raw->fields.performance_stats;
        if (result->has_stats) result->hardware_ns = static_cast<uint64_t>(run.count());
        result->real_time_granted = path == ANE_RAW_REAL_TIME && !device.profile.on("real-time-denied");
        return ANE_OK;
      },
      kEvaluate);
}

ane_status chain(ane_backend_request *const *requests, size_t count, ane_error *error) {
  return emulated(
      error,
      [&] {
        const ane_backend_device &device = *requests[0]->program->device;
        under_profile(device, [&] {
          if (device.profile.on("chaining-unavailable"))
            fail_by(*find_rule("chaining-unavailable"),
                    {{}, "the chain", format("%zu requests", count), "none", "evaluate one after the other"});
        });
        // Inside a chain content changes without a new seed of its surface: these are met nowhere else.
        static std::atomic<uint64_t> next_seed{uint64_t{1} << 63};
        for (size_t i = 0; i < count; i++) {
          const std::vector<uint64_t> seeds(requests[i]->inputs.size(), next_seed++);
          run_request(*requests[i], seeds.data());
        }
        return ANE_OK;
      },
      kEvaluate);
}

// ---------------------------------------------------------------- programs

// The program goes on with other constants: it is the same text, so border and sizes are the same.
void replace(ane_backend_program &program, ane_backend_program &replacement) {
  program.graph = std::move(replacement.graph);
  program.executor = std::move(replacement.executor);
}

// Loads the object as it was compiled: `executor` is what ran it before.
void load_unchanged(ane_backend_program &program, std::unique_ptr<Executor> executor) {
  load(*program.device, program, 0);
  program.executor = std::move(executor);
}

void load_rewritten(ane_backend_program &program, std::unique_ptr<Executor> executor, const BlobFiles &files) {
  ane_backend_device &device = *program.device;
  if (device.profile.on("weights-frozen")) return load_unchanged(program, std::move(executor));
  const auto replacement = compile(device, program.text, files);
  load(device, *replacement, 0);
  replace(program, *replacement);
}

void load_new_identity(ane_backend_program &program, const BlobFiles &files) {
  ane_backend_device &device = *program.device;
  const bool caches = device.profile.on("compiled-model-cache");
  const Identity identity = identity_of(program.text.data(), program.text.size(), files);
  uint64_t earlier_compiles = 0;
  if (!caches || !was_compiled(device, identity)) {
    if (!device.profile.on("load-compiles"))
      fail_without("load-compiles", kModelError, "the device keeps no compiled program of this text with these weights",
                   "one, or 'load-compiles' on");
    earlier_compiles = count_compile(device);
  }
  const auto replacement = compile(device, program.text, files);
  if (caches) remember_compiled(device, identity);
  load(device, *replacement, earlier_compiles);
  replace(program, *replacement);
}

// Unloads the program; it is loaded again where `load_it`, which gets what ran it, comes back.
template <class Load>
ane_status load_again(ane_backend_program &program, bool *loaded, ane_error *error, const Load &load_it) {
  return emulated(
      error,
      [&] {
        std::unique_ptr<Executor> executor = std::move(program.executor);
        unload(program);
        *loaded = false;
        under_profile(*program.device, [&] { load_it(std::move(executor)); });
        *loaded = true;
        return ANE_OK;
      },
      kCompile);
}

ane_status reload(ane_backend_program *program, ane_raw_reload_kind kind, const ane_blob *blobs, size_t blob_count,
                  bool *loaded, ane_error *error) {
  return load_again(*program, loaded, error, [&](std::unique_ptr<Executor> executor) {
    const BlobFiles files = blob_files(blobs, blob_count);
    kind == ANE_RAW_REWRITE_FILES ? load_rewritten(*program, std::move(executor), files)
                                  : load_new_identity(*program, files);
  });
}

ane_status set_stats_mask(ane_backend_program *program, uint32_t mask, bool *loaded, ane_error *error) {
  return load_again(*program, loaded, error, [&](std::unique_ptr<Executor> executor) {
    if (mask && program->device->profile.on("no-performance-stats"))
      fail_by(*find_rule("no-performance-stats"),
              {{}, "the program", format("its mask of statistics is 0x%x", mask), "0", "measure on the clock"});
    load_unchanged(*program, std::move(executor));
  });
}

}  // namespace

void ane::meet_raw_rules(const ane_backend_request &request) {
  const Profile &profile = request.program->device->profile;
  const ane_backend_raw_request &fields = request.raw->fields;
  if (fields.shared_events && profile.on("shared-events")) profile.value("shared-events") == 2 ? hang() : crash();
  const double largest = profile.value("procedure-index-ignored");
  if (fields.procedure_index > largest)
    fail_without("procedure-index-ignored", kProcedureError,
                 format("the procedure index is %u and the program has one procedure", fields.procedure_index),
                 largest ? format("at most %.0f", largest) : "0, as 'procedure-index-ignored' is off");
}

Executor &ane::raw_executor(ane_backend_request &request) {
  ane_backend_program &program = *request.program;
  ane_backend_request::Raw &raw = *request.raw;
  const ane_backend_surface *buffer = raw.fields.weights_buffer;
  if (!buffer || program.device->profile.on("weights-buffer-ignored")) return *program.executor;
  if (!raw.executor || memcmp(raw.weights.data(), buffer->base, buffer->bytes) != 0) {
    raw.weights.assign(buffer->base, buffer->base + buffer->bytes);
    const BlobView payloads{raw.weights.data(), raw.weights.size()};
    raw.executor.reset();  // should the compile fail
    raw.executor = std::move(compile(*program.device, program.text, {}, &payloads)->executor);
  }
  return *raw.executor;
}

const ane_backend_raw &ane::raw_calls() {
  static const ane_backend_raw calls = {
      .api = api,
      .request_create = create_request,
      .evaluate = evaluate,
      .reload = reload,
      .set_stats_mask = set_stats_mask,
      .chain = chain,
  };
  return calls;
}
