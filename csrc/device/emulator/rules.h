// The rule catalogue, one file per group. Each group is a list of rules with the code that checks them.
#ifndef ANETRAIN_EMULATOR_RULES_H
#define ANETRAIN_EMULATOR_RULES_H

#include <vector>

#include "profile.h"

namespace ane {

// One rule at work on one program.
class RuleCheck {
 public:
  RuleCheck(const RuleSpec &rule, double number, const Graph &graph) : number(number), graph(graph), rule_(rule) {}

  const double number;
  const Graph &graph;
  // Refuses the program with the words of the rule; `detail` says what was found, what is expected and what to do.
  [[noreturn]] void broken(SourcePos pos, const std::string &detail) const;

 private:
  const RuleSpec &rule_;
};

struct CompileRule {
  RuleSpec spec;
  void (*check)(const RuleCheck &check);
};

// How a compile error reads: the `error` of a Compile rule.
inline constexpr const char *kBackEndError = "_ANECompiler : ANECCompile() FAILED : err=()";
inline constexpr const char *kParserError = "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)";
inline constexpr const char *kLoweringError = "_ANECompiler : ANECCompile() FAILED : err=(CompilationFailure)";

const std::vector<CompileRule> &border_rules();     // rules_border.cpp: what a program's inputs and outputs may be
const std::vector<CompileRule> &limit_rules();      // rules_limits.cpp: sizes and counts
const std::vector<CompileRule> &operation_rules();  // rules_operations.cpp: operations and patterns that do not compile
const std::vector<RuleSpec> &load_rules();          // rules_load.cpp
const std::vector<RuleSpec> &evaluate_rules();      // rules_evaluate.cpp
const std::vector<RuleSpec> &numerics_rules();      // rules_numerics.cpp

// The rule `evidence` is checked by check_rules itself, because it may warn instead.
extern const RuleSpec kEvidenceRule;
// The rule `blob-metadata` is checked where blobs are read (FrontendOptions::strict_blobs).
extern const RuleSpec kBlobMetadataRule;

}  // namespace ane
#endif
