// What a chip can do and how it misbehaves, as data: named rules with a source and a switch.
#ifndef ANETRAIN_EMULATOR_PROFILE_H
#define ANETRAIN_EMULATOR_PROFILE_H

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "errors.h"
#include "ir.h"

namespace ane {

// When a rule acts.
enum class Stage : uint8_t {
  Compile,   // looks at the checked graph; refuses it
  Load,      // limits on what is loaded
  Evaluate,  // breaks an evaluation
  Numerics,  // changes values: read by executors
  Raw,       // met by the calls of ane_raw.h only: read where they are made
};

struct RuleSpec {
  const char *name;     // "border-width", "sigmoid-table"
  const char *summary;  // one sentence
  const char *source;   // "ANE_FACTS C47: FG, M0, ESP"
  Stage stage;
  const char *value_unit;  // "" for a plain switch; else what its number counts: "elements", "programs", "bytes"
  double number;           // what a bare `on` means; 1 for a plain switch
  const char *error;       // the hardware's words when it is broken; "" where it refuses nothing
};

const std::vector<RuleSpec> &all_rules();
const RuleSpec *find_rule(const std::string &name);
const char *stage_name(Stage stage);  // "compile"

// A profile: `key = value` lines (see profiles/README.md). Off rules have value 0; a plain switch that is on has 1.
class Profile {
 public:
  // A built-in name or a path; throws DeviceError (ANE_BAD_ARGUMENT) that lists the known names.
  static Profile load(const std::string &name_or_path);
  static std::vector<std::string> builtin_names();
  // With the options' switches; "m4" where they name none.
  static Profile chosen_by(const ane_options &options);
  // "name=on,other=off,third=12"
  void apply_switches(const std::string &switches);
  // For a device opened with `fp32`: rules about fp16's types and arithmetic do not apply there and are switched off.
  void relax_for_fp32();

  bool on(const char *rule) const { return value(rule) != 0; }
  double value(const char *rule) const;  // an unknown rule name is a bug: std::logic_error
  bool any_on(Stage stage) const;
  const std::string &field(const char *key) const;  // one of profile_fields(); another key is a bug: std::logic_error
  std::string facts_json() const;                   // fields and rules in force

 private:
  void read(const std::string &text, const std::string &origin, int depth);
  void set_rule(const std::string &name, const std::string &value, const std::string &origin);
  std::map<std::string, std::string> fields_;
  std::map<std::string, double> rules_;  // those that are on
};

// "name", "chip", "architecture", "sub_type", "cores", "engines", "dialect": every profile has them all.
const std::vector<std::string> &profile_fields();

// The rules of a profile at work on a checked graph, one stage each: `report_...` hands every breach to `report`, in
// the order of the catalogue; `check_...` fails by the first, as the engine does.
using Report = std::function<void(const RuleSpec &rule, const Breach &breach)>;
[[noreturn]] void fail_by(const RuleSpec &rule, const Breach &breach);

// With allow_unproven the evidence rule only warns.
void check_rules(const Graph &graph, const Profile &profile, bool allow_unproven, std::vector<std::string> *warnings);
void report_rules(const Graph &graph, const Profile &profile, const Report &report);

// Load-stage rules, asked before a checked program is loaded. Counts are of this process and leave this program out.
struct LoadState {
  uint64_t live_programs = 0;
  uint64_t lifetime_compiles = 0;
  uint64_t live_weight_bytes = 0;  // baked into the programs that are loaded now
};
void check_load(const Graph &graph, const Profile &profile, const LoadState &state);
void report_load(const Graph &graph, const Profile &profile, const LoadState &state, const Report &report);
uint64_t baked_weight_bytes(const Graph &graph);

// Evaluate-stage rules, asked before an evaluation when profile.any_on(Stage::Evaluate). `poisoned` lives as long as
// the device: a rule may set it, and then every later evaluation fails.
struct SurfaceSizes {
  std::vector<size_t> inputs, outputs;  // bytes, in the graph's declared order
};
void check_evaluation(const Graph &graph, const Profile &profile, const SurfaceSizes &surfaces,
                      std::atomic<bool> &poisoned);
void report_evaluation(const Graph &graph, const Profile &profile, const SurfaceSizes &surfaces, const Report &report);

// What rules that change values are sure to touch, or can be seen to: the place, not the values.
void report_numerics(const Graph &graph, const Profile &profile, const Report &report);

}  // namespace ane
#endif
