// Rules on what may be loaded together, and how often.
#include <set>

#include "rules.h"

namespace ane {

static unsigned long long text(uint64_t count) { return count; }

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
      // Refuses nothing: read where programs are made.
      {"compiled-model-cache",
       "what this device has compiled before, text and weights alike, is loaded and not compiled",
       "ANE_FACTS 1.3.1, 1.3.3 (!): LM, FG, OM, M0", Stage::Load, "", 1, ""},
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

void report_load(const Graph &graph, const Profile &profile, const LoadState &state, const Report &report) {
  const auto judge = [&](const char *rule, const char *subject, uint64_t count, const std::string &value,
                         const char *remedy) {
    const auto limit = static_cast<uint64_t>(profile.value(rule));
    if (!profile.on(rule) || count <= limit) return;
    report(*find_rule(rule), {{}, subject, value, format("at most %llu", text(limit)), remedy});
  };
  const uint64_t bytes = baked_weight_bytes(graph);
  judge("lifetime-compile-limit", "this process", state.lifetime_compiles + 1,
        format("%llu programs compiled before this one", text(state.lifetime_compiles)),
        "save and start a new process");
  judge("live-program-limit", "this process", state.live_programs + 1,
        format("%llu programs loaded before this one", text(state.live_programs)), "unload and release one first");
  judge("program-weight-bytes", "the program", bytes, format("%llu bytes of weights are baked in", text(bytes)),
        "split it, or make weights inputs");
  judge(
      "weight-window-bytes", "all loaded programs", state.live_weight_bytes + bytes,
      format("%llu bytes of weights, %llu of them of this program", text(state.live_weight_bytes + bytes), text(bytes)),
      "unload a program first");
}

void check_load(const Graph &graph, const Profile &profile, const LoadState &state) {
  report_load(graph, profile, state, fail_by);
}

}  // namespace ane
