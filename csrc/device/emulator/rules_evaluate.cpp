// Rules that break an evaluation. None is on in a built-in profile: each is a report that others contradict.
#include <algorithm>
#include <set>

#include "rules.h"

namespace ane {

namespace {

RuleSpec evaluation(const char *name, const char *summary, const char *source, const char *unit = "",
                    double number = 1) {
  return {name, summary, source, Stage::Evaluate, unit, number, kInferenceError};
}

void check_softmax_length(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes) {
    if (node.spec->kind != OpKind::Softmax) continue;
    const NodeView view(check.graph, node);
    const Shape &shape = view.shape("x");
    const int64_t length = shape[view.axis("axis", static_cast<int>(shape.size()))];
    if ((length & (length - 1)) != 0)
      check.broken(node, format("it runs over %lld elements", static_cast<long long>(length)), "a power of two",
                   "pad the axis");
  }
}

void check_uniform(const RuleCheck &check, const char *side, const std::vector<size_t> &bytes) {
  if (std::set<size_t>(bytes.begin(), bytes.end()).size() > 1)
    check.broken({{},
                  format("the %s surfaces", side),
                  format("%zu to %zu bytes", *std::min_element(bytes.begin(), bytes.end()),
                         *std::max_element(bytes.begin(), bytes.end())),
                  "one size",
                  "make all as large as the largest"});
}

void check_minimum(const RuleCheck &check, const SurfaceSizes &surfaces) {
  for (const auto *side : {&surfaces.inputs, &surfaces.outputs})
    for (size_t bytes : *side)
      if (static_cast<double>(bytes) < check.number)
        check.broken(
            {{}, "a surface", format("%zu bytes", bytes), format("at least %.0f", check.number), "enlarge it"});
}

void check_tile(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes)
    if (node.spec->kind == OpKind::Tile)
      check.broken(node, "from now on every evaluation of this process fails", "another operation", "use concat");
}

void check_inputs(const RuleCheck &check) {
  if (check.graph.inputs.size() > 1)
    check.broken({{}, "the program", format("%zu inputs", check.graph.inputs.size()), "one", "pack them"});
}

void check_outputs(const RuleCheck &check) {
  if (static_cast<double>(check.graph.outputs.size()) > check.number)
    check.broken({{},
                  "the program",
                  format("%zu outputs", check.graph.outputs.size()),
                  format("at most %.0f", check.number),
                  "concatenate them"});
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

void report_evaluation(const Graph &graph, const Profile &profile, const SurfaceSizes &surfaces, const Report &report) {
  const auto when_on = [&](const char *name, auto check, const auto &...more) {
    if (profile.on(name)) check(RuleCheck(*find_rule(name), profile.value(name), graph, report), more...);
  };
  when_on("tile-poison", check_tile);
  when_on("softmax-power-of-two", check_softmax_length);
  when_on("input-surface-uniform", check_uniform, "input", surfaces.inputs);
  when_on("output-surface-uniform", check_uniform, "output", surfaces.outputs);
  when_on("minimum-surface", check_minimum, surfaces);
  when_on("single-input", check_inputs);
  when_on("output-count", check_outputs);
}

void check_evaluation(const Graph &graph, const Profile &profile, const SurfaceSizes &surfaces,
                      std::atomic<bool> &poisoned) {
  static const RuleSpec &tile = *find_rule("tile-poison");
  if (poisoned)
    fail_by(tile, {{}, "this process", "an earlier evaluation of a tile poisoned it", "none", "start a new one"});
  report_evaluation(graph, profile, surfaces, [&](const RuleSpec &rule, const Breach &breach) {
    if (&rule == &tile) poisoned = true;
    fail_by(rule, breach);
  });
}

}  // namespace ane
