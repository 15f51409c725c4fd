// The catalogue of all rules, and the compile-time check of a program against a profile.
#include "rules.h"

#include <map>
#include <set>

#include "../json.h"

namespace ane {

namespace {

const char *stage_name(Stage stage) {
  switch (stage) {
    case Stage::Compile: return "compile";
    case Stage::Load: return "load";
    case Stage::Evaluate: return "evaluate";
    case Stage::Numerics: return "numerics";
  }
  return "";
}

const std::vector<const std::vector<CompileRule> *> &compile_groups() {
  static const std::vector<const std::vector<CompileRule> *> groups = {&border_rules(), &limit_rules(),
                                                                       &operation_rules()};
  return groups;
}

// What has been seen to run only by another route than ours: why, or "".
std::string unproven(const OpSpec &spec) {
  if (spec.evidence == Evidence::Direct) return "";
  return format("'%s' has not been seen to run through the direct path (%s: %s)", spec.name,
                spec.evidence == Evidence::E5rt ? "e5rt only" : "disputed", spec.evidence_source);
}

std::string unproven(const NodeView &node) {
  const OpSpec &spec = *node.node().spec;
  if (spec.evidence != Evidence::Direct) return unproven(spec);
  if (spec.kind == OpKind::Conv && !node.is_constant("weight"))
    return "a conv whose weight is computed at run time has been seen to work through e5rt only (ANE_FACTS C53, 3.4g)";
  return "";
}

void check_evidence(const Graph &graph, bool allow_unproven, std::vector<std::string> *warnings) {
  const RuleCheck check(kEvidenceRule, 1, graph);
  std::set<std::string> warned;
  const auto judge = [&](SourcePos pos, const std::string &reason) {
    if (reason.empty()) return;
    if (!allow_unproven) check.broken(pos, reason + "; use proven operations, or open the device with allow_unproven");
    if (warnings && warned.insert(reason).second) warnings->push_back(reason);
  };
  for (const Node &node : graph.nodes) judge(node.pos, unproven(NodeView(graph, node)));
  for (const Value &value : graph.values)
    if (value.made_by != OpKind::Const) judge(value.pos, unproven(spec_of(value.made_by)));
}

}  // namespace

const RuleSpec kEvidenceRule = {"evidence",
                                "operations and forms without direct evidence are refused (allow_unproven: a warning)",
                                "ANE_FACTS 3.3",
                                Stage::Compile,
                                "",
                                1,
                                kBackEndError};

const RuleSpec kBlobMetadataRule = {
    "blob-metadata",
    "the records of a weight file say the true size and place of their data, the header their number, and no value is "
    "NaN or infinite",
    "ANE_FACTS 4.2, 4.6, C15: MAD, M0, ORI",
    Stage::Compile,
    "",
    1,
    kParserError};

void RuleCheck::broken(SourcePos pos, const std::string &detail) const {
  const std::string words = rule_.error;
  const size_t open = words.find("err=(") + 5;
  refuse(words.substr(open, words.size() - open - 1), pos, detail, rule_.name);
}

const std::vector<RuleSpec> &all_rules() {
  static const std::vector<RuleSpec> rules = [] {
    std::vector<RuleSpec> all = {kEvidenceRule, kBlobMetadataRule};
    for (const auto *group : compile_groups())
      for (const CompileRule &rule : *group) all.push_back(rule.spec);
    for (const auto *group : {&load_rules(), &evaluate_rules(), &numerics_rules()})
      all.insert(all.end(), group->begin(), group->end());
    return all;
  }();
  return rules;
}

const RuleSpec *find_rule(const std::string &name) {
  static const std::map<std::string, const RuleSpec *> by_name = [] {
    std::map<std::string, const RuleSpec *> index;
    for (const RuleSpec &rule : all_rules()) index[rule.name] = &rule;
    return index;
  }();
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

void check_rules(const Graph &graph, const Profile &profile, bool allow_unproven, std::vector<std::string> *warnings) {
  for (const auto *group : compile_groups())
    for (const CompileRule &rule : *group)
      if (profile.on(rule.spec.name)) rule.check(RuleCheck(rule.spec, profile.value(rule.spec.name), graph));
  if (profile.on(kEvidenceRule.name)) check_evidence(graph, allow_unproven, warnings);
}

}  // namespace ane

extern "C" const char *ane_rule_table(void) {
  static const std::string table = [] {
    ane::JsonObject rules;
    for (const ane::RuleSpec &rule : ane::all_rules())
      rules.add_json(rule.name, ane::JsonObject()
                                    .add("summary", rule.summary)
                                    .add("source", rule.source)
                                    .add("stage", ane::stage_name(rule.stage))
                                    .add("kind", *rule.value_unit ? "number" : "switch")
                                    .add("unit", rule.value_unit)
                                    .add("number", rule.number)
                                    .add("error", rule.error)
                                    .text());
    return rules.text();
  }();
  return table.c_str();
}
