// The objects of the emulated ANE, and what its back end (backend.cpp) shares with the raw calls (raw.cpp).
#ifndef ANETRAIN_EMULATOR_ENGINE_H
#define ANETRAIN_EMULATOR_ENGINE_H

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../backend.h"
#include "border.h"
#include "executor.h"
#include "frontend.h"
#include "identity.h"
#include "prepared.h"
#include "profile.h"

struct ane_backend_device {
  ane::Profile profile;
  ane_executor executor = ANE_EXECUTOR_FAST;
  bool fp32 = false, allow_unproven = false;
  bool has_evaluate_rules = false;  // keeps the usual evaluation free of rule look-ups
  std::string facts;
  // An emulated device is an engine of its own: its limits count what was done on it.
  std::mutex load_mutex;
  ane::LoadState load;               // guarded by load_mutex
  std::set<ane::Identity> compiled;  // guarded by load_mutex; kept where the profile has a cache of compiled models
  ane::PreparedTexts prepared;
  std::atomic<bool> tile_poisoned{false};
  std::atomic<uint64_t> objects{0};
};

struct ane_backend_surface {
  ane_backend_device *device = nullptr;
  uint8_t *base = nullptr;
  size_t bytes = 0, mapped_bytes = 0;
  ane::SurfaceImage image;
};

struct ane_backend_program {
  ane_backend_device *device = nullptr;
  std::string text;  // MIL, to be compiled with other weights
  std::shared_ptr<const ane::Graph> graph;
  std::unique_ptr<ane::Executor> executor;  // null once unloaded
  uint64_t weight_bytes = 0;
  std::vector<ane::Port> inputs, outputs;
  std::vector<ane_port> input_ports, output_ports;  // as the layer above sees them
  std::string report, counters;
};

struct ane_backend_request {
  // A padded port: the executor sees `dense`, the surface has the rows 64 bytes apart.
  struct Padded {
    const ane::Port *port;
    uint8_t *surface;
    std::vector<uint8_t> dense;
  };
  ane_backend_program *program = nullptr;
  std::vector<ane::BoundSurface> inputs, outputs;  // declared order, as the executor wants them
  std::vector<size_t> input_places;                // declared order: which surface of the request each input has
  std::vector<Padded> padded_inputs, padded_outputs;
  ane::SurfaceSizes sizes;
  std::string too_small;  // why the engine would refuse the surfaces; "" when it would not

  // What a request of ane_raw.h asks for beyond the usual.
  struct Raw {
    ane_backend_raw_request fields{};
    std::vector<uint8_t> weights;             // of the weights buffer, as `executor` has them
    std::unique_ptr<ane::Executor> executor;  // the program with those weights; null: not made yet
  };
  std::unique_ptr<Raw> raw;  // null: a request like any other
};

namespace ane {

// Runs the body; a rule that it breaks is one of the device's profile, and the error says of which.
template <class Body>
void under_profile(const ane_backend_device &device, Body &&body) {
  try {
    body();
  } catch (DeviceError &failure) {
    if (!failure.rule.empty()) failure.detail += " (profile " + device.profile.field("name") + ")";
    throw;
  }
}

// backend.cpp. All of it throws DeviceError.
// Text and weights -> a program that has passed the compile rules and is not loaded. `payloads`: see FrontendOptions.
std::unique_ptr<ane_backend_program> compile(ane_backend_device &device, const std::string &mil, const BlobFiles &files,
                                             const BlobView *payloads = nullptr);
bool was_compiled(ane_backend_device &device, const Identity &identity);
void remember_compiled(ane_backend_device &device, const Identity &identity);
// Compiles that fail count too. Returns how many there were before.
uint64_t count_compile(ane_backend_device &device);
// Takes a place among the loaded programs, as the load-stage rules allow; gives it back, with the executor.
void load(ane_backend_device &device, const ane_backend_program &program, uint64_t earlier_compiles);
void unload(ane_backend_program &program);
std::unique_ptr<ane_backend_request> bind_request(ane_backend_program &program, ane_backend_surface *const *inputs,
                                                  ane_backend_surface *const *outputs);
void run_request(ane_backend_request &request, const uint64_t *input_seeds);

// raw.cpp. Before such a request runs: what the profile does to it. Then the executor that runs it.
void meet_raw_rules(const ane_backend_request &request);
Executor &raw_executor(ane_backend_request &request);
const ane_backend_raw &raw_calls();

}  // namespace ane

#endif
