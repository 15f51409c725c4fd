// Rules that break an evaluation. None is on in a built-in profile: each is a report that others contradict.
#include <algorithm>
#include <set>

#include "rules.h"

namespace ane {

namespace {

constexpr const char *kInferenceError =
    "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : Program Inference error";

RuleSpec evaluation(const char *name, const char *summary, const char *source, const char *unit = "",
                    double number = 1) {
  return {name, summary, source, Stage::Evaluate, unit, number, kInferenceError};
}

[[noreturn]] void broken(const char *rule, const std::string &detail) { evaluation_failed(0x1d, 0x9, detail, rule); }

void check_softmax_length(const Graph &graph) {
  for (const Node &node : graph.nodes) {
    if (node.spec->kind != OpKind::Softmax) continue;
    const NodeView view(graph, node);
    const Shape &shape = view.shape("x");
    const int64_t length = shape[view.axis("axis", static_cast<int>(shape.size()))];
    if ((length & (length - 1)) != 0)
      broken("softmax-power-of-two",
             format("softmax '%s' runs over %lld elements; expected a power of two: pad the axis", node.label.c_str(),
                    static_cast<long long>(length)));
  }
}

void check_uniform(const char *rule, const char *side, const std::vector<size_t> &bytes) {
  if (std::set<size_t>(bytes.begin(), bytes.end()).size() > 1)
    broken(rule, format("%s surfaces hold %zu to %zu bytes; expected one size: make all as large as the largest", side,
                        *std::min_element(bytes.begin(), bytes.end()), *std::max_element(bytes.begin(), bytes.end())));
}

void check_minimum(const SurfaceSizes &surfaces, double minimum) {
  for (const auto *side : {&surfaces.inputs, &surfaces.outputs})
    for (size_t bytes : *side)
      if (static_cast<double>(bytes) < minimum)
        broken("minimum-surface", format("a surface holds %zu bytes; expected at least %.0f", bytes, minimum));
}

void check_tile(const Graph &graph, std::atomic<bool> &poisoned) {
  for (const Node &node : graph.nodes)
    if (node.spec->kind == OpKind::Tile) {
      poisoned = true;
      broken("tile-poison", "the program holds a tile; from now on every evaluation of this process fails. Use concat");
    }
}

}  // namespace

const std::vector<RuleSpec> &evaluate_rules() {
  static const std::vector<RuleSpec> rules = {
      evaluation("softmax-power-of-two", "softmax over a number of elements that is no power of two fails",
                 "ANE_FACTS C19: ESP; against: MAD, AF"),
      evaluation("tile-poison", "a tile makes its evaluation and every later one of the process fail",
                 "ANE_FACTS C51: FG; against: AF"),
      evaluation("input-surface-uniform", "the surfaces of all inputs must have one size",
                 "ANE_FACTS C45: ORI #12; against: LM, H3, AT, PR #22"),
      evaluation("output-surface-uniform", "the surfaces of all outputs must have one size",
                 "ANE_FACTS C44: ORI #2; against: LM, H3, AT, PR #22"),
      evaluation("minimum-surface", "a surface of less than 49,152 bytes fails",
                 "ANE_FACTS C46: ORI #4, M0; against: FG, MAD", "bytes", 49152),
      evaluation("single-input", "a program with more than one input fails",
                 "ANE_FACTS C49: MAD; against: PR #22, H3, AT, LM, ORI"),
      evaluation("output-count", "a program with more than two outputs fails", "ANE_FACTS C50: M0; against: LM, ORI",
                 "outputs", 2),
  };
  return rules;
}

void check_evaluation(const Graph &graph, const Profile &profile, const SurfaceSizes &surfaces,
                      std::atomic<bool> &poisoned) {
  if (poisoned) broken("tile-poison", "an earlier evaluation of a tile poisoned this process: start a new one");
  if (profile.on("tile-poison")) check_tile(graph, poisoned);
  if (profile.on("softmax-power-of-two")) check_softmax_length(graph);
  if (profile.on("input-surface-uniform")) check_uniform("input-surface-uniform", "input", surfaces.inputs);
  if (profile.on("output-surface-uniform")) check_uniform("output-surface-uniform", "output", surfaces.outputs);
  if (profile.on("minimum-surface")) check_minimum(surfaces, profile.value("minimum-surface"));
  if (profile.on("single-input") && graph.inputs.size() > 1)
    broken("single-input", format("the program has %zu inputs; expected one: pack them", graph.inputs.size()));
  if (profile.on("output-count") && static_cast<double>(graph.outputs.size()) > profile.value("output-count"))
    broken("output-count", format("the program has %zu outputs; expected at most %.0f: concatenate them",
                                  graph.outputs.size(), profile.value("output-count")));
}

}  // namespace ane
