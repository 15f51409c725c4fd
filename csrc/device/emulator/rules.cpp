// The catalogue of all rules, and the compile-time check of a program against a profile.
#include "rules.h"

#include <map>
#include <set>

#include "../json.h"

namespace ane {

namespace {

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

void check_evidence(const RuleCheck &check) {
  const auto judge = [&](SourcePos pos, const std::string &subject, const std::string &reason) {
    if (!reason.empty())
      check.broken({pos, subject, reason, "proven operations", "or open the device with allow_unproven"});
  };
  for (const Node &node : check.graph.nodes)
    judge(node.pos, subject_of(check.graph, node), unproven(NodeView(check.graph, node)));
  for (const Value &value : check.graph.values)
    if (value.made_by != OpKind::Const) judge(value.pos, subject_of(value), unproven(spec_of(value.made_by)));
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

std::string subject_of(const Graph &graph, const Node &node) {
  return format("%s '%s'", node.spec->name, graph.values[node.outputs[0]].name.c_str());
}

std::string subject_of(const Value &constant) {
  return format("constant '%s' of '%s'", constant.name.c_str(), spec_of(constant.made_by).name);
}

void fail_by(const RuleSpec &rule, const Breach &breach) {
  DeviceError error = engine_error(rule.error, breach.pos, breach.text());
  error.rule = rule.name;
  error.breach = breach;
  throw error;
}

const char *stage_name(Stage stage) {
  switch (stage) {
    case Stage::Compile: return "compile";
    case Stage::Load: return "load";
    case Stage::Evaluate: return "evaluate";
    case Stage::Numerics: return "numerics";
    case Stage::Raw: return "raw";
  }
  return "";
}

const std::vector<RuleSpec> &all_rules() {
  static const std::vector<RuleSpec> rules = [] {
    std::vector<RuleSpec> all = {kEvidenceRule, kBlobMetadataRule};
    for (const auto *group : compile_groups())
      for (const CompileRule &rule : *group) all.push_back(rule.spec);
    for (const auto *group : {&load_rules(), &evaluate_rules(), &numerics_rules(), &raw_rules()})
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

void report_rules(const Graph &graph, const Profile &profile, const Report &report) {
  const auto when_on = [&](const RuleSpec &rule, void (*check)(const RuleCheck &)) {
    if (profile.on(rule.name)) check(RuleCheck(rule, profile.value(rule.name), graph, report));
  };
  for (const auto *group : compile_groups())
    for (const CompileRule &rule : *group) when_on(rule.spec, rule.check);
  when_on(kEvidenceRule, check_evidence);
}

void check_rules(const Graph &graph, const Profile &profile, bool allow_unproven, std::vector<std::string> *warnings) {
  std::set<std::string> warned;
  report_rules(graph, profile, [&](const RuleSpec &rule, const Breach &breach) {
    if (!allow_unproven || &rule != &kEvidenceRule) fail_by(rule, breach);
    if (warnings && warned.insert(breach.value).second) warnings->push_back(breach.value);
  });
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
