// What a chip can do and how it misbehaves, as data: named rules with a source and a switch.
#ifndef ANETRAIN_EMULATOR_PROFILE_H
#define ANETRAIN_EMULATOR_PROFILE_H

#include <map>
#include <string>
#include <vector>

#include "errors.h"
#include "ir.h"

namespace ane {

// When a rule acts.
enum class Stage : uint8_t {
  Compile,   // looks at the checked graph; breaks it by refuse(kind, ...)
  Load,      // limits on what is loaded
  Evaluate,  // breaks an evaluation
  Numerics,  // changes values: read by executors
};

struct RuleSpec {
  const char *name;     // "border-width", "sigmoid-table"
  const char *summary;  // one sentence
  const char *source;   // "ANE_FACTS C47: FG, M0, ESP"
  Stage stage;
  const char *value_unit;  // "" for a plain switch; else what its number counts: "elements", "programs", "ppm"
};

const std::vector<RuleSpec> &all_rules();
const RuleSpec *find_rule(const std::string &name);

// A profile: `key = value` lines (see profiles/README.md). Off rules have value 0; a plain switch that is on has 1.
class Profile {
 public:
  // A built-in name or a path; throws DeviceError (ANE_BAD_ARGUMENT) that lists the known names.
  static Profile load(const std::string &name_or_path);
  static std::vector<std::string> builtin_names();
  // "name=on,other=off,third=12"
  void apply_switches(const std::string &switches);

  bool on(const char *rule) const { return value(rule) != 0; }
  double value(const char *rule) const;             // an unknown rule name is a bug: std::logic_error
  const std::string &field(const char *key) const;  // "name", "chip", "architecture", "sub_type", "dialect", "cores"
  std::string facts_json() const;                   // fields and rules in force

 private:
  std::map<std::string, std::string> fields_;
  std::map<std::string, double> rules_;
};

// All Compile-stage rules of the profile, over a checked graph. With allow_unproven the evidence rule only warns.
void check_rules(const Graph &graph, const Profile &profile, bool allow_unproven, std::vector<std::string> *warnings);

}  // namespace ane
#endif
