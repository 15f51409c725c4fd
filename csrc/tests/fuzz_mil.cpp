// Fuzzer: any bytes as MIL text -> a DeviceError or a graph, and all executors where the graph is tiny; the checker
// with every rule on. The signature reader sees the same bytes, and finds the ports of every graph. Anything else (a
// crash, another exception, a leak) is a finding.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "device/emulator/errors.h"
#include "device/emulator/executor.h"
#include "device/emulator/frontend.h"
#include "device/emulator/profile.h"
#include "device/signature.h"
#include "tests/mil_samples.h"

using namespace ane;

namespace {

constexpr int64_t kElementLimit = 2048;  // of all values together: keeps an execution short
constexpr size_t kNodeLimit = 64;
constexpr const char *kWeightPath = "@model_path/weights/w.bin";

bool is_tiny(const Graph &graph) {
  int64_t elements = 0;
  for (const Value &value : graph.values) {
    const int64_t count = element_count(value.type.shape);
    if (count > kElementLimit) return false;
    elements += count;
  }
  return elements <= kElementLimit && graph.nodes.size() <= kNodeLimit;
}

// Surfaces with a pattern in them: every byte value, so infinities and NaN as well.
std::vector<std::vector<uint8_t>> surfaces(const Graph &graph, const std::vector<int> &ports) {
  std::vector<std::vector<uint8_t>> all;
  for (int id : ports) {
    const Type &type = graph.values[static_cast<size_t>(id)].type;
    std::vector<uint8_t> &bytes =
        all.emplace_back(static_cast<size_t>(element_count(type.shape)) * dtype_bytes(type.dtype));
    for (size_t i = 0; i < bytes.size(); i++)
      bytes[i] = static_cast<uint8_t>(type.dtype == DType::Bool ? i & 1 : i * 37);
  }
  return all;
}

std::vector<BoundSurface> bound(std::vector<std::vector<uint8_t>> &all) {
  std::vector<BoundSurface> bound;
  for (std::vector<uint8_t> &bytes : all) {
    BoundSurface &surface = bound.emplace_back();
    surface.base = bytes.data();
    surface.bytes = bytes.size();
    surface.seed = 1;
  }
  return bound;
}

void execute(Executor &executor, const Graph &graph) {
  std::vector<std::vector<uint8_t>> inputs = surfaces(graph, graph.inputs), outputs = surfaces(graph, graph.outputs);
  executor.run(bound(inputs), bound(outputs));
}

// Every rule there is, switched on.
const std::string &all_switches() {
  static const std::string switches = [] {
    std::string list;
    for (const RuleSpec &rule : all_rules()) list += std::string(rule.name) + "=on,";
    return list;
  }();
  return switches;
}

void keep_refusal(void *context, const ane_finding *finding) {
  auto &first = *static_cast<std::string *>(context);
  if (first.empty() && !finding->advice) first = finding->detail;
}

// The checker finds what a compile stops at, first; after that, whatever else there is.
void check_all_rules(const char *text, size_t size, const std::string &weights, const BlobFiles &files, bool fp32) {
  static const Profile profile = [] {
    Profile all = Profile::load("exact");
    all.apply_switches(all_switches());
    return all;
  }();
  ane_options options{};
  options.struct_size = sizeof options;
  options.profile = "exact";
  options.rules = all_switches().c_str();
  options.fp32 = fp32;
  const ane_blob blob{kWeightPath, weights.data(), weights.size()};
  std::string found, refused;
  if (ane_check(&options, text, size, &blob, 1, keep_refusal, &found, nullptr) != ANE_OK) std::abort();
  try {
    FrontendOptions frontend;
    frontend.fp32 = fp32;
    check_rules(compile_text(text, size, files, frontend), profile, false, nullptr);
  } catch (const DeviceError &error) {
    refused = error.detail.c_str();  // as a C string has it: a text may hold zero bytes
  }
  if (!refused.empty() && found != refused) std::abort();
}

using Ports = std::vector<std::pair<std::string, Type>>;

Ports declared_ports(const Graph &graph, const std::vector<int> &ids) {
  Ports ports;
  for (int id : ids) {
    const Value &value = graph.values[static_cast<size_t>(id)];
    ports.emplace_back(value.name, value.type);
  }
  std::sort(ports.begin(), ports.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
  return ports;
}

bool same(const Ports &expected, const ane_port *found, size_t count) {
  if (expected.size() != count) return false;
  for (size_t i = 0; i < count; i++) {
    const Shape shape(found[i].shape, found[i].shape + found[i].rank);
    if (expected[i].first != found[i].name || expected[i].second.shape != shape) return false;
    if (dtype_name(expected[i].second.dtype) != std::string(found[i].dtype)) return false;
  }
  return true;
}

// `graph`: what the front end made of the text; null where it refused.
void check_signature(const char *text, size_t size, const Graph *graph) {
  ane_signature signature;
  ane_error error;
  const bool read = ane_signature_read(text, size, &signature, &error) == ANE_OK;
  if (graph && !read) std::abort();
  if (graph && !(same(declared_ports(*graph, graph->inputs), signature.inputs, signature.input_count) &&
                 same(declared_ports(*graph, graph->outputs), signature.outputs, signature.output_count)))
    std::abort();
  ane_signature_free(&signature);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const Profile profile = Profile::load("m4");
  static const std::string weights = samples::conv_weight_file();
  static const BlobFiles files{{kWeightPath, {reinterpret_cast<const uint8_t *>(weights.data()), weights.size()}}};
  const char *text = reinterpret_cast<const char *>(data);
  check_signature(text, size, nullptr);
  for (const bool fp32 : {false, true}) {
    FrontendOptions options;
    options.fp32 = fp32;
    try {
      auto graph = std::make_shared<const Graph>(compile_text(text, size, files, options));
      if (!fp32) check_signature(text, size, graph.get());
      if (is_tiny(*graph)) {
        const ExecutorOptions executor_options{&profile};
        execute(*make_reference_executor(graph, executor_options), *graph);
        execute(*make_fast_executor(make_fast_plan(graph, executor_options), graph->blobs), *graph);
        execute(*make_audit_executor(graph, executor_options), *graph);
      }
    } catch (const DeviceError &) {
    }
    check_all_rules(text, size, weights, files, fp32);
  }
  return 0;
}
