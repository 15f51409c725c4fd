// The rule catalogue, one file per group. Each group is a list of rules with the code that checks them.
#ifndef ANETRAIN_EMULATOR_RULES_H
#define ANETRAIN_EMULATOR_RULES_H

#include <string>
#include <utility>
#include <vector>

#include "profile.h"

namespace ane {

std::string subject_of(const Graph &graph, const Node &node);  // "conv 'y'"
std::string subject_of(const Value &constant);                 // "constant 'w' of 'constexpr_lut_to_dense'"

// One rule at work on one program.
class RuleCheck {
 public:
  RuleCheck(const RuleSpec &rule, double number, const Graph &graph, const Report &report)
      : number(number), graph(graph), rule_(rule), report_(report) {}

  const double number;
  const Graph &graph;
  // May return: the check then goes on to the next place.
  void broken(const Breach &breach) const { report_(rule_, breach); }
  void broken(const Node &node, std::string value, std::string limit, std::string remedy = "") const {
    broken({node.pos, subject_of(graph, node), std::move(value), std::move(limit), std::move(remedy)});
  }

 private:
  const RuleSpec &rule_;
  const Report &report_;
};

struct CompileRule {
  RuleSpec spec;
  void (*check)(const RuleCheck &check);
};

const std::vector<CompileRule> &border_rules();     // rules_border.cpp: what a program's inputs and outputs may be
const std::vector<CompileRule> &limit_rules();      // rules_limits.cpp: sizes and counts
const std::vector<CompileRule> &operation_rules();  // rules_operations.cpp: operations and patterns that do not compile
const std::vector<RuleSpec> &load_rules();          // rules_load.cpp
const std::vector<RuleSpec> &evaluate_rules();      // rules_evaluate.cpp
const std::vector<RuleSpec> &numerics_rules();      // rules_numerics.cpp
const std::vector<RuleSpec> &raw_rules();           // rules_raw.cpp

// The rule `evidence`: a caller may let it pass with a warning.
extern const RuleSpec kEvidenceRule;
// The rule `blob-metadata` is checked where blobs are read (FrontendOptions::strict_blobs).
extern const RuleSpec kBlobMetadataRule;

}  // namespace ane
#endif
