// The layer above the back ends, where only native code can look: every allocation failing in turn, threads, the
// watchdog's lanes, and the small helpers.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "check.h"
#include "device/ane_raw.h"
#include "device/faults.h"
#include "device/json.h"
#include "device/names.h"
#include "device/watchdog.h"

// ---------------------------------------------------------------- allocations that fail

static thread_local long allocations_left = -1;  // -1: all succeed

static void *allocate(size_t bytes) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) allocations_left--;
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}
void *operator new(size_t bytes) { return allocate(bytes); }
void *operator new[](size_t bytes) { return allocate(bytes); }
void *operator new(size_t bytes, const std::nothrow_t &) noexcept {
  if (allocations_left == 0) return nullptr;
  if (allocations_left > 0) allocations_left--;
  return malloc(bytes ? bytes : 1);
}
void operator delete(void *memory) noexcept { free(memory); }
void operator delete[](void *memory) noexcept { free(memory); }
void operator delete(void *memory, size_t) noexcept { free(memory); }
void operator delete[](void *memory, size_t) noexcept { free(memory); }

// ---------------------------------------------------------------- a small program

static const char kSubtract[] =
    "program(1.0)\n"
    "[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{\"coremlc-version\", \"3505.4.1\"}})]\n"
    "{ func main<ios16>(tensor<fp16, [1, 1, 1, 32]> x, tensor<fp16, [1, 1, 1, 32]> W) {\n"
    "  tensor<fp16, [1, 1, 1, 32]> z = sub(x = x, y = W)[name = tensor<string, []>(\"z\")];\n"
    "} -> (z); }\n";
static const size_t kBytes = 64;

static ane_options test_options() {
  ane_options options{};
  options.struct_size = sizeof options;
  options.kind = ANE_KIND_EMULATOR;
  options.profile = "exact";
  options.executor = ANE_EXECUTOR_REFERENCE;
  options.live_budget = options.compile_budget = UINT32_MAX;
  return options;
}

static ane_status move(ane_surface *surface, float *host, bool write, ane_error *error) {
  const ane_block block{1, 32, 0, 32, 32, 1};
  return write ? ane_surface_write_f32(surface, &block, host, error)
               : ane_surface_read_f32(surface, &block, host, error);
}

// x - W on surfaces of its own; everything is released however far it comes.
struct Difference {
  ane_device *device = nullptr;
  ane_program *program = nullptr;
  ane_surface *x = nullptr, *w = nullptr, *z = nullptr;
  ane_request *request = nullptr;
  ane_error error{};

  ane_status open(const ane_options &options = test_options()) { return ane_open(&options, &device, &error); }
  ane_status build() {
    ane_status status = ane_program_create(device, kSubtract, strlen(kSubtract), nullptr, 0, "d", &program, &error);
    for (ane_surface **surface : {&x, &w, &z})
      if (status == ANE_OK) status = ane_surface_create(device, kBytes, surface, &error);
    if (status != ANE_OK) return status;
    const ane_binding inputs[] = {{"x", x}, {"W", w}}, outputs[] = {{"z", z}};
    return ane_request_create(program, inputs, 2, outputs, 1, &request, &error);
  }
  // first - second by the device; NaN where it failed.
  float run(float first, float second) {
    float host[32], other[32];
    for (int i = 0; i < 32; i++) host[i] = first, other[i] = second;
    const bool done = move(x, host, true, &error) == ANE_OK && move(w, other, true, &error) == ANE_OK &&
                      ane_evaluate(request, &error) == ANE_OK && move(z, host, false, &error) == ANE_OK;
    return done ? host[31] : NAN;
  }
  ane_counters counters() {
    ane_counters result{};
    CHECK_EQ(ane_device_counters(device, &result, nullptr), ANE_OK);
    return result;
  }
  void release_objects() {
    ane_request_release(request);
    for (ane_surface *surface : {x, w, z}) ane_surface_release(surface);
    ane_program_release(program);
    request = nullptr;
    program = nullptr;
    x = w = z = nullptr;
  }
  ~Difference() {
    release_objects();
    ane_device_release(device);
  }
};

// Of the whole process: a test that poisons its device leaves a program behind.
static uint64_t programs_alive() {
  Difference d;
  CHECK_EQ(d.open(), ANE_OK);
  return d.counters().live_programs;
}

TEST(every_allocation_may_fail) {
  const uint64_t alive = programs_alive();
  bool finished = false;
  for (long allowed = 0; !finished; allowed++) {
    Difference d;
    allocations_left = allowed;
    ane_status status = d.open();
    if (status == ANE_OK) status = d.build();
    if (status == ANE_OK) status = ane_evaluate(d.request, &d.error);
    if (status == ANE_OK) CHECK(strstr(ane_program_report(d.program), "operations") != nullptr);
    allocations_left = -1;
    finished = status == ANE_OK;
    if (finished) break;
    CHECK_EQ(status, d.error.status);
    CHECK(strstr(d.error.detail, "memory") != nullptr);
    if (!d.device) continue;
    d.release_objects();
    const ane_counters counters = d.counters();
    CHECK_EQ(counters.live_programs, alive);
    CHECK_EQ(counters.live_surfaces, 0u);
    CHECK_EQ(counters.live_requests, 0u);
    CHECK_EQ(counters.backend_objects, 0u);
    CHECK_EQ(d.build(), ANE_OK);
    CHECK_EQ(d.run(5, 3), 2.0f);
  }
}

// ---------------------------------------------------------------- raw calls

// A Difference, run by a raw request and in a chain.
struct RawDifference : Difference {
  ane_surface *weights = nullptr;
  ane_request *raw = nullptr, *back = nullptr;  // z = x - W; x = z - W

  ane_status prepare() {
    ane_status status = ane_surface_create(device, 4096, &weights, &error);
    ane_raw_request fields{}, plain{};
    fields.struct_size = plain.struct_size = sizeof fields;
    fields.weights_buffer = weights;
    fields.performance_stats = true;
    fields.shared_events = 1;
    // Device order: W, x.
    ane_surface *const inputs[] = {w, x}, *const returned[] = {w, z};
    if (status == ANE_OK) status = ane_raw_request_create(program, inputs, 2, &z, 1, &fields, &raw, &error);
    if (status == ANE_OK) status = ane_raw_request_create(program, returned, 2, &x, 1, &plain, &back, &error);
    return status;
  }
  ane_status use() {
    ane_raw_result result;
    ane_request *const links[] = {raw, back};
    char *json = nullptr;
    ane_status status = ane_raw_api(device, &json, &error);
    ane_raw_free(json);
    if (status == ANE_OK) status = ane_raw_evaluate(raw, 21, ANE_RAW_DIRECT, &result, &error);
    if (status == ANE_OK) CHECK(result.has_stats);
    if (status == ANE_OK) status = ane_raw_chain(links, 2, &error);
    if (status == ANE_OK) status = ane_raw_set_stats_mask(program, 1, &error);
    for (const ane_raw_reload_kind kind : {ANE_RAW_REWRITE_FILES, ANE_RAW_NEW_IDENTITY})
      if (status == ANE_OK) status = ane_raw_reload(program, kind, nullptr, 0, &error);
    return status;
  }
  void release_raw() {
    ane_request_release(raw);
    ane_request_release(back);
    ane_surface_release(weights);
    raw = back = nullptr;
    weights = nullptr;
  }
  ~RawDifference() { release_raw(); }
};

static ane_options raw_options() {
  ane_options options = test_options();
  options.rules = "load-compiles=on";
  return options;
}

TEST(every_allocation_of_the_raw_calls_may_fail) {
  const uint64_t alive = programs_alive();
  ane_options options = raw_options();
  options.watchdog_ms = UINT32_MAX;  // without a lane everything happens in this thread
  bool finished = false;
  for (long allowed = 0; !finished; allowed++) {
    RawDifference d;
    CHECK_EQ(d.open(options), ANE_OK);
    CHECK_EQ(d.build(), ANE_OK);
    allocations_left = allowed;
    ane_status status = d.prepare();
    if (status == ANE_OK) status = d.use();
    allocations_left = -1;
    finished = status == ANE_OK;
    if (!finished) CHECK(strstr(d.error.detail, "memory") != nullptr);
    d.release_raw();
    d.release_objects();
    const ane_counters counters = d.counters();
    CHECK_EQ(counters.live_programs, alive);
    CHECK_EQ(counters.live_surfaces, 0u);
    CHECK_EQ(counters.live_requests, 0u);
    CHECK_EQ(counters.backend_objects, 0u);
  }
}

TEST(raw_calls_of_several_threads_take_turns) {
  RawDifference d;
  CHECK_EQ(d.open(raw_options()), ANE_OK);
  CHECK_EQ(d.build(), ANE_OK);
  CHECK_EQ(d.prepare(), ANE_OK);
  ane_request *const links[] = {d.raw, d.back};
  const auto repeat = [](auto call) {
    return std::thread([call] {
      for (int turn = 0; turn < 50; turn++) CHECK_EQ(call(), ANE_OK);
    });
  };
  std::vector<std::thread> threads;
  threads.push_back(repeat([&] { return ane_raw_chain(links, 2, nullptr); }));
  threads.push_back(repeat([&] { return ane_raw_reload(d.program, ANE_RAW_NEW_IDENTITY, nullptr, 0, nullptr); }));
  threads.push_back(repeat([&] { return ane_raw_evaluate(d.back, 33, ANE_RAW_CLIENT, nullptr, nullptr); }));
  threads.push_back(repeat([&] { return ane_evaluate(d.request, nullptr); }));
  for (std::thread &thread : threads) thread.join();
  CHECK_EQ(d.counters().evaluations, 150u);
  CHECK_EQ(d.run(9, 3), 6.0f);
}

// ---------------------------------------------------------------- the checker

static void append_rule(void *list, const ane_finding *finding) {
  *static_cast<std::string *>(list) += std::string(finding->advice ? "(" : "") + finding->rule + ' ';
}

static ane_status check_subtract(const char *switches, std::string *rules, ane_error *error) {
  ane_options options = test_options();
  options.rules = switches;
  return ane_check(&options, kSubtract, sizeof kSubtract - 1, nullptr, 0, append_rule, rules, error);
}

TEST(a_check_hands_over_every_breach) {
  std::string rules;
  ane_error error;
  CHECK_EQ(check_subtract("axis-limit=16,single-input=on", &rules, &error), ANE_OK);
  CHECK_EQ(rules, "axis-limit axis-limit axis-limit single-input (sorted-names ");
  CHECK_EQ(ane_check(nullptr, "", 0, nullptr, 0, append_rule, &rules, &error), ANE_OK);
  CHECK_EQ(ane_check(nullptr, nullptr, 0, nullptr, 0, append_rule, nullptr, &error), ANE_BAD_ARGUMENT);
  CHECK_EQ(ane_check(nullptr, kSubtract, 1, nullptr, 0, nullptr, nullptr, &error), ANE_BAD_ARGUMENT);
  const ane_blob empty{"w", nullptr, 0};
  CHECK_EQ(ane_check(nullptr, kSubtract, 1, &empty, 1, append_rule, nullptr, &error), ANE_BAD_ARGUMENT);
  CHECK_EQ(check_subtract("axis-limt=16", &rules, &error), ANE_BAD_ARGUMENT);
  CHECK(strstr(error.detail, "axis-limit") != nullptr);
}

TEST(every_allocation_of_a_check_may_fail) {
  ane_status status = ANE_COMPILE_FAILED;
  for (long allowed = 0; status != ANE_OK; allowed++) {
    std::string rules;
    ane_error error;
    allocations_left = allowed;
    status = check_subtract("trigonometry=on", &rules, &error);
    allocations_left = -1;
    CHECK_EQ(status, error.status);
    if (status != ANE_OK) CHECK(strstr(error.detail, "memory") != nullptr);
  }
}

// ---------------------------------------------------------------- threads

TEST(threads_share_a_device) {
  const uint64_t alive = programs_alive();
  Difference shared;
  CHECK_EQ(shared.open(), ANE_OK);
  CHECK_EQ(shared.build(), ANE_OK);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      for (int round = 0; round < 20; round++) {
        // A program of its own, and the shared one on surfaces of its own with the shared weights.
        Difference own;
        CHECK_EQ(own.open(), ANE_OK);
        CHECK_EQ(own.build(), ANE_OK);
        CHECK_EQ(own.run(static_cast<float>(t), 1), static_cast<float>(t) - 1);
        ane_surface *z = nullptr;
        ane_request *request = nullptr;
        CHECK_EQ(ane_surface_create(shared.device, kBytes, &z, nullptr), ANE_OK);
        const ane_binding inputs[] = {{"x", shared.x}, {"W", shared.w}}, outputs[] = {{"z", z}};
        CHECK_EQ(ane_request_create(shared.program, inputs, 2, outputs, 1, &request, nullptr), ANE_OK);
        for (int i = 0; i < 10; i++) CHECK_EQ(ane_evaluate(request, nullptr), ANE_OK);
        void *base = nullptr;
        CHECK_EQ(ane_surface_lock(shared.x, false, &base, nullptr), ANE_OK);
        CHECK_EQ(static_cast<const uint16_t *>(base)[0], 0);
        CHECK_EQ(ane_surface_unlock(shared.x, false, nullptr), ANE_OK);
        ane_request_release(request);
        ane_surface_release(z);
      }
    });
  for (std::thread &thread : threads) thread.join();
  CHECK_EQ(shared.counters().evaluations, 4u * 20 * 10);
  CHECK_EQ(shared.counters().live_requests, 1u);
  CHECK_EQ(shared.counters().live_programs, alive + 1);
}

// Evaluations that write one surface, and a CPU that reads it, take turns: nobody sees half of a result.
TEST(writers_of_one_surface_take_turns) {
  Difference d;
  CHECK_EQ(d.open(), ANE_OK);
  CHECK_EQ(d.build(), ANE_OK);
  CHECK_EQ(d.run(5, 3), 2.0f);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; t++)
    threads.emplace_back([&] {
      for (int i = 0; i < 300; i++) {
        ane_error error;
        const ane_status status = ane_evaluate(d.request, &error);
        if (status == ANE_SURFACE_ERROR)
          refused++;  // the reader had it
        else
          CHECK_EQ(status, ANE_OK);
      }
    });
  threads.emplace_back([&] {
    for (int i = 0; i < 300; i++) {
      void *base = nullptr;
      const ane_status status = ane_surface_lock(d.z, false, &base, nullptr);
      if (status != ANE_OK) continue;  // a refused evaluation left it invalid
      for (int k = 0; k < 32; k++) CHECK_EQ(static_cast<const uint16_t *>(base)[k], 0x4000);  // 2.0
      CHECK_EQ(ane_surface_unlock(d.z, false, nullptr), ANE_OK);
    }
  });
  for (std::thread &thread : threads) thread.join();
  CHECK_EQ(d.run(9, 3), 6.0f);
}

TEST(a_poisoned_device_wakes_who_waits) {
  ane_options options = test_options();
  options.watchdog_ms = 200;
  static Difference *const d = new Difference;  // never destroyed: its evaluation does not end
  CHECK_EQ(ane_open(&options, &d->device, &d->error), ANE_OK);
  CHECK_EQ(d->build(), ANE_OK);
  CHECK_EQ(ane_inject_fault(d->device, ANE_FAULT_STALL, 0, 3'600'000, nullptr), ANE_OK);
  std::thread reader([&] {
    while (d->counters().evaluations == 0) std::this_thread::yield();
    void *address = nullptr;
    CHECK_EQ(ane_surface_lock(d->z, false, &address, nullptr), ANE_UNAVAILABLE);
  });
  ane_error error;
  CHECK_EQ(ane_evaluate(d->request, &error), ANE_UNAVAILABLE);
  reader.join();
  CHECK(strstr(error.detail, "200 ms") != nullptr);
  CHECK(d->counters().poisoned);
}

// ---------------------------------------------------------------- watchdog

static std::atomic<int> evaluations{0};

static ane_status succeed(ane_error *) {
  evaluations++;
  return ANE_OK;
}
static ane_status fail(ane_error *error) { return ane_fail(error, ANE_EVAL_FAILED, "told to"); }

TEST(lanes_bring_back_status_and_error) {
  ane::Watchdog watchdog;
  ane_status status = ANE_UNAVAILABLE;
  ane_error error{};
  CHECK(watchdog.run({succeed, 0}, 10'000, &status, &error));
  CHECK_EQ(status, ANE_OK);
  CHECK(watchdog.run({fail, 0}, 10'000, &status, &error));
  CHECK_EQ(status, ANE_EVAL_FAILED);
  CHECK(strcmp(error.detail, "told to") == 0);
  CHECK(watchdog.run({succeed, 5}, 10'000, &status, nullptr));
  CHECK_EQ(status, ANE_OK);
}

TEST(a_lane_given_up_is_not_used_again) {
  ane::Watchdog watchdog;
  ane_status status = ANE_OK;
  evaluations = 0;
  CHECK(!watchdog.run({succeed, 300}, 10, &status, nullptr));
  CHECK(watchdog.run({succeed, 0}, 10'000, &status, nullptr));
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  CHECK_EQ(evaluations.load(), 1);  // the stalled one saw that nobody waits
}

// ---------------------------------------------------------------- helpers

TEST(faults_count_their_own_kind) {
  ane::Faults faults;
  faults.arm(ANE_FAULT_COMPILE, 1, 0);
  faults.arm(ANE_FAULT_STALL, 0, 30);
  faults.arm(ANE_FAULT_STALL, 0, 20);
  CHECK(!faults.fires(ANE_FAULT_EVALUATE));
  CHECK(!faults.fires(ANE_FAULT_COMPILE));
  CHECK(faults.fires(ANE_FAULT_COMPILE));
  CHECK(!faults.fires(ANE_FAULT_COMPILE));
  uint32_t milliseconds = 0;
  CHECK(faults.fires(ANE_FAULT_STALL, &milliseconds));
  CHECK_EQ(milliseconds, 30u);
  faults.arm(ANE_FAULT_LOAD, 0, 0);
  faults.clear();
  CHECK(!faults.fires(ANE_FAULT_LOAD));
}

TEST(json_is_escaped_and_merged) {
  CHECK_EQ(ane::json_quote("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\u000a\\u0001\"");
  CHECK_EQ(ane::json_array({}), "[]");
  CHECK_EQ(ane::json_array({"a", "b"}), "[\"a\", \"b\"]");
  ane::JsonObject object;
  CHECK_EQ(object.text(), "{}");
  object.add("n", 3).add("b", true).add("d", 0.5).add("i", INFINITY).merge("{ }").merge(" {\"x\": {}} ");
  CHECK_EQ(object.text(), "{\"n\": 3, \"b\": true, \"d\": 0.5, \"i\": null, \"x\": {}}");
}

TEST(nearest_name_is_a_slip_or_nothing) {
  const std::vector<std::string> known = {"activations", "weights", "x"};
  CHECK_EQ(ane::nearest_name("activation", known), "activations");
  CHECK_EQ(ane::nearest_name("Weights", known), "weights");
  CHECK_EQ(ane::nearest_name("xx", known), "x");
  CHECK_EQ(ane::nearest_name("y", known), "");
  CHECK_EQ(ane::nearest_name("somethingelse", known), "");
  CHECK_EQ(ane::nearest_name("", known), "");
  CHECK_EQ(ane::quoted_list({}), "none");
}
