// Rules on what may be loaded together, and how often.
#include <set>

#include "rules.h"

namespace ane {

namespace {

// The codes are known, their words only in part (ANE_FACTS 1.11).
constexpr const char *kLoadError = "Program load failure (0x20004)";
constexpr const char *kCreateError = "Program creation failure";

[[noreturn]] void broken(const char *rule, int64_t code, const std::string &detail) {
  DeviceError error;
  error.status = ANE_COMPILE_FAILED;
  error.domain = "com.apple.appleneuralengine";
  error.code = code;
  error.text = find_rule(rule)->error;
  error.detail = detail;
  error.rule = rule;
  throw error;
}

}  // namespace

const std::vector<RuleSpec> &load_rules() {
  static const std::vector<RuleSpec> rules = {
      {"live-program-limit", "a process holds at most about 119 loaded programs",
       "ANE_FACTS 1.13: MAD, ORI, M0, OM, AF", Stage::Load, "programs", 119, kCreateError},
      {"lifetime-compile-limit", "a process compiles at most about 119 programs in its life",
       "ANE_FACTS C2, 1.13 (!): MAD, ORI, M0; against: LM, FG, AF", Stage::Load, "compiles", 119, kBackEndError},
      {"program-weight-bytes", "a program bakes in at most about 2 GB of weights", "ANE_FACTS C32: LM, M0", Stage::Load,
       "bytes", 2147483648.0, kLoadError},
      {"weight-window-bytes", "all loaded programs together bake in at most about 4 GiB of weights",
       "ANE_FACTS C33: OM", Stage::Load, "bytes", 4294967296.0, kLoadError},
  };
  return rules;
}

uint64_t baked_weight_bytes(const Graph &graph) {
  std::set<int> constants;
  for (const Node &node : graph.nodes)
    for (const Argument &argument : node.arguments)
      for (int id : argument.values)
        if (graph.values[id].constant) constants.insert(id);
  uint64_t bytes = 0;
  for (int id : constants) {
    const Value &value = graph.values[id];
    bytes += (static_cast<uint64_t>(element_count(value.type.shape)) * dtype_bits(value.stored_as) + 7) / 8;
  }
  return bytes;
}

void check_load(const Graph &graph, const Profile &profile, const LoadState &state) {
  const auto limit = [&](const char *rule) { return static_cast<uint64_t>(profile.value(rule)); };
  const auto exceeds = [&](const char *rule, uint64_t count) { return profile.on(rule) && count > limit(rule); };

  if (exceeds("lifetime-compile-limit", state.lifetime_compiles + 1))
    refuse("", {},
           format("this process has compiled %llu programs; the limit is %llu. Save and start a new process",
                  static_cast<unsigned long long>(state.lifetime_compiles),
                  static_cast<unsigned long long>(limit("lifetime-compile-limit"))),
           "lifetime-compile-limit");
  if (exceeds("live-program-limit", state.live_programs + 1))
    broken("live-program-limit", 4,
           format("%llu programs are loaded; the limit is %llu. Unload and release one first",
                  static_cast<unsigned long long>(state.live_programs),
                  static_cast<unsigned long long>(limit("live-program-limit"))));
  const uint64_t bytes = baked_weight_bytes(graph);
  if (exceeds("program-weight-bytes", bytes))
    broken(
        "program-weight-bytes", 6,
        format("the program bakes in %llu bytes of weights; the limit is %llu. Split it, or make weights inputs",
               static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(limit("program-weight-bytes"))));
  if (exceeds("weight-window-bytes", state.live_weight_bytes + bytes))
    broken(
        "weight-window-bytes", 6,
        format("%llu bytes of weights are loaded and the program adds %llu; the limit is %llu. Unload a program first",
               static_cast<unsigned long long>(state.live_weight_bytes), static_cast<unsigned long long>(bytes),
               static_cast<unsigned long long>(limit("weight-window-bytes"))));
}

}  // namespace ane
