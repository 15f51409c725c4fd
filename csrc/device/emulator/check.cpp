// ane_check: everything that stands against a program under a profile, found without a device. The front end, the ports
// and the rules are those of a compile (backend.cpp), which stops at the first breach.
#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>

#include "../names.h"
#include "../objects.h"
#include "border.h"
#include "frontend.h"
#include "limits.h"
#include "profile.h"
#include "rules.h"

namespace ane {
namespace {

// No rule of a profile: programs run either way.
const RuleSpec kSortedNames = {"sorted-names",
                               "surfaces are bound to names in ASCII order, whatever the order of declaration",
                               "ANE_FACTS 0.3, 2.3",
                               Stage::Compile,
                               "",
                               1,
                               ""};

// Hands on each finding once, however many uses a tensor has.
class Findings {
 public:
  Findings(ane_finding_callback *found, void *context) : found_(found), context_(context) {}

  void add(const RuleSpec &rule, const Breach &breach, bool advice) {
    if (!seen_.insert({rule.name, breach.subject, breach.value}).second || seen_.size() > limits::kFindings) return;
    const std::string detail = placed(breach.pos, breach.text());
    hand_on({rule.name, stage_name(rule.stage), advice, breach.subject.c_str(), breach.value.c_str(),
             breach.limit.c_str(), detail.c_str(), rule.summary, rule.source, breach.pos.line, breach.pos.column});
  }
  void add(const DeviceError &failure) {
    if (const RuleSpec *rule = failure.rule.empty() ? nullptr : find_rule(failure.rule))
      return add(*rule, failure.breach, false);
    hand_on({"", stage_name(Stage::Compile), false, "", "", "", failure.detail.c_str(), "", "", failure.pos.line,
             failure.pos.column});
  }

 private:
  void hand_on(const ane_finding &finding) { found_(context_, &finding); }

  ane_finding_callback *found_;
  void *context_;
  std::set<std::tuple<std::string, std::string, std::string>> seen_;
};

struct Question {
  const char *mil;
  size_t mil_bytes;
  const BlobFiles &files;
  const Profile &profile;
  bool fp32, allow_unproven;
};

// A file with untrue metadata can often be read all the same: then the rules have their say too.
std::optional<Graph> read(const Question &question, Findings &findings) {
  FrontendOptions frontend;
  frontend.fp32 = question.fp32;
  for (const bool strict : {true, false}) {
    if (strict && !question.profile.on(kBlobMetadataRule.name)) continue;
    frontend.strict_blobs = strict;
    try {
      return compile_text(question.mil, question.mil_bytes, question.files, frontend);
    } catch (const DeviceError &failure) {
      findings.add(failure);
      if (failure.rule.empty()) return std::nullopt;
    }
  }
  return std::nullopt;
}

// The smallest surfaces that fit.
std::vector<size_t> surface_bytes(const Graph &graph, const std::vector<int> &values) {
  std::vector<size_t> bytes(values.size());
  for (const Port &port : device_ports(graph, values)) bytes[port.declared] = port.port.bytes;
  return bytes;
}

// Surfaces may be larger than the smallest ones: what these break is no more than likely.
bool is_about_surfaces(const RuleSpec &rule) {
  static const char *const names[] = {"input-surface-uniform", "output-surface-uniform", "minimum-surface"};
  return std::any_of(std::begin(names), std::end(names), [&](const char *name) { return !strcmp(name, rule.name); });
}

void check_order(const Graph &graph, Findings &findings) {
  for (const bool output : {false, true}) {
    std::vector<std::string> names;
    for (const int id : output ? graph.outputs : graph.inputs) names.push_back(graph.values[id].name);
    std::vector<std::string> bound = names;
    std::sort(bound.begin(), bound.end());
    if (names == bound) continue;
    findings.add(kSortedNames,
                 {{},
                  output ? "the outputs" : "the inputs",
                  "declared " + quoted_list(names),
                  quoted_list(bound) + ", as they are bound",
                  "name them so that sorted order is declared order"},
                 true);
  }
}

void check(const Question &question, Findings &findings) {
  const std::optional<Graph> graph = read(question, findings);
  if (!graph) return;
  const Profile &profile = question.profile;
  report_rules(*graph, profile, [&](const RuleSpec &rule, const Breach &breach) {
    findings.add(rule, breach, question.allow_unproven && &rule == &kEvidenceRule);
  });
  try {
    const SurfaceSizes surfaces{surface_bytes(*graph, graph->inputs), surface_bytes(*graph, graph->outputs)};
    report_load(*graph, profile, {},
                [&](const RuleSpec &rule, const Breach &breach) { findings.add(rule, breach, false); });
    report_evaluation(*graph, profile, surfaces, [&](const RuleSpec &rule, const Breach &breach) {
      findings.add(rule, breach, is_about_surfaces(rule));
    });
    report_numerics(*graph, profile,
                    [&](const RuleSpec &rule, const Breach &breach) { findings.add(rule, breach, true); });
  } catch (const DeviceError &failure) {  // a port without a layout
    findings.add(failure);
  }
  check_order(*graph, findings);
}

}  // namespace
}  // namespace ane

ane_status ane_check(const ane_options *options, const char *mil, size_t mil_bytes, const ane_blob *blobs,
                     size_t blob_count, ane_finding_callback *found, void *context, ane_error *error) {
  return ane::emulated(
      error,
      [&]() -> ane_status {
        if (!mil || !found) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_check: `%s` is NULL", mil ? "found" : "mil");
        if (const ane_status status = ane::check_options(options, error)) return status;
        if (const ane_status status = ane::check_blobs(blobs, blob_count, error)) return status;
        const ane_options chosen = options ? *options : ane_options{};
        const ane::Profile profile = ane::Profile::chosen_by(chosen);
        const ane::BlobFiles files = ane::blob_files(blobs, blob_count);
        ane::Findings findings(found, context);
        ane::check({mil, mil_bytes, files, profile, chosen.fp32, chosen.allow_unproven}, findings);
        return ANE_OK;
      },
      ane::kCheck);
}
