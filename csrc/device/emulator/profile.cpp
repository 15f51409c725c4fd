// Profiles: 'key = value  # source' lines, built in or read from a file.
#include "profile.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "../json.h"
#include "../names.h"

namespace ane {

namespace {

struct BuiltinProfile {
  const char *name;
  const char *text;
};

const BuiltinProfile kBuiltin[] = {
#include "builtin_profiles.inc"
    {nullptr, nullptr},
};

constexpr int kDeepestBase = 4;
constexpr double kLargestNumber = 0x1p53;  // of a rule: whole numbers up to it are exact, and sizes hold them

const char *builtin_text(const std::string &name) {
  for (const BuiltinProfile *profile = kBuiltin; profile->name; ++profile)
    if (name == profile->name) return profile->text;
  return nullptr;
}

[[noreturn]] void bad_argument(const std::string &detail) {
  DeviceError error;
  error.status = ANE_BAD_ARGUMENT;
  error.detail = detail;
  throw error;
}

std::string trimmed(const std::string &text) {
  const char *space = " \t\r\n";
  const size_t first = text.find_first_not_of(space);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(space) - first + 1);
}

// Both sides of 'key = value', trimmed. Fails where there is no '='.
std::pair<std::string, std::string> key_and_value(const std::string &text, const std::string &origin) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) bad_argument(origin + ": '" + text + "' has no '='; expected 'name = value'");
  return {trimmed(text.substr(0, equals)), trimmed(text.substr(equals + 1))};
}

bool parse_number(const std::string &text, double *number) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  stream >> *number;
  return !stream.fail() && stream.eof() && std::isfinite(*number);
}

// A base such as 'apple-common' describes no chip and cannot be opened.
bool describes_a_chip(const std::string &text) {
  return text.rfind("chip =", 0) == 0 || text.find("\nchip =") != std::string::npos;
}

std::string file_text(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) bad_argument("cannot read the profile file " + path);
  return text.str();
}

}  // namespace

const std::vector<std::string> &profile_fields() {
  static const std::vector<std::string> fields = {"name",  "chip",    "architecture", "sub_type",
                                                  "cores", "engines", "dialect"};
  return fields;
}

std::vector<std::string> Profile::builtin_names() {
  std::vector<std::string> names;
  for (const BuiltinProfile *profile = kBuiltin; profile->name; ++profile)
    if (describes_a_chip(profile->text)) names.push_back(profile->name);
  return names;
}

Profile Profile::load(const std::string &name_or_path) {
  Profile profile;
  const char *builtin = builtin_text(name_or_path);
  if (builtin && describes_a_chip(builtin)) {
    profile.fields_["name"] = name_or_path;
    profile.read(builtin, "profile " + name_or_path, 0);
  } else if (name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".profile")) {
    profile.fields_["name"] = name_or_path;
    profile.read(file_text(name_or_path), name_or_path, 0);
  } else {
    bad_argument("there is no profile '" + name_or_path + "'" + name_help(name_or_path, builtin_names()) +
                 "; or give a path to a .profile file");
  }
  for (const std::string &field : profile_fields())
    if (!profile.fields_.count(field)) bad_argument(name_or_path + ": the field '" + field + "' is missing");
  return profile;
}

Profile Profile::chosen_by(const ane_options &options) {
  Profile profile = load(options.profile && *options.profile ? options.profile : "m4");
  if (options.fp32) profile.relax_for_fp32();
  if (options.rules) profile.apply_switches(options.rules);
  return profile;
}

void Profile::read(const std::string &text, const std::string &origin, int depth) {
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const std::string place = origin + ", line " + std::to_string(number);
    const auto [key, value] = key_and_value(line, place);
    if (key == "base") {
      const char *base = builtin_text(value);
      if (!base || depth == kDeepestBase)
        bad_argument(place + ": there is no base profile '" + value + "', or bases are nested too deeply");
      read(base, "profile " + value, depth + 1);
    } else if (std::find(profile_fields().begin(), profile_fields().end(), key) != profile_fields().end()) {
      fields_[key] = value;
    } else {
      set_rule(key, value, place);
    }
  }
}

void Profile::set_rule(const std::string &name, const std::string &value, const std::string &origin) {
  const RuleSpec *rule = find_rule(name);
  if (!rule) {
    std::vector<std::string> names;
    for (const RuleSpec &known : all_rules()) names.push_back(known.name);
    bad_argument(origin + ": there is no rule '" + name + "'" + name_help(name, names));
  }
  const bool counts = *rule->value_unit != 0, may_be_negative = std::string_view(rule->value_unit) == "power of two";
  double number = 0;
  if (value == "on") {
    rules_[name] = rule->number;
  } else if (value == "off") {
    rules_.erase(name);
  } else if (counts && parse_number(value, &number) && number != 0 && std::fabs(number) <= kLargestNumber &&
             (number > 0 || may_be_negative)) {
    rules_[name] = number;
  } else {
    bad_argument(origin + ": rule '" + name + "' is set to '" + value + "'; expected on, off" +
                 (counts ? std::string(" or a number (") + rule->value_unit +
                               (may_be_negative ? ", not 0)" : ", above 0 and at most 2^53)")
                         : ""));
  }
}

void Profile::apply_switches(const std::string &switches) {
  std::istringstream list(switches);
  for (std::string item; std::getline(list, item, ',');) {
    if (trimmed(item).empty()) continue;
    const auto [name, value] = key_and_value(trimmed(item), "rules");
    set_rule(name, value, "rules");
  }
}

void Profile::relax_for_fp32() {
  for (const char *rule : {"border-fp32", "fp32-compute", "cast"}) rules_.erase(rule);
  for (const RuleSpec &rule : all_rules())
    if (rule.stage == Stage::Numerics && std::string(rule.name) != "sdpa-mask-ignored") rules_.erase(rule.name);
}

double Profile::value(const char *rule) const {
  const auto found = rules_.find(rule);
  if (found != rules_.end()) return found->second;
  if (!find_rule(rule)) throw std::logic_error(std::string("no rule ") + rule);
  return 0;
}

bool Profile::any_on(Stage stage) const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [&](const auto &rule) { return find_rule(rule.first)->stage == stage; });
}

const std::string &Profile::field(const char *key) const {
  const auto found = fields_.find(key);
  if (found == fields_.end()) throw std::logic_error(std::string("no profile field ") + key);
  return found->second;
}

std::string Profile::facts_json() const {
  JsonObject facts, rules;
  for (const std::string &key : profile_fields()) {
    double number = 0;
    const std::string &value = field(key.c_str());
    if (parse_number(value, &number))
      facts.add(key, static_cast<int>(number));
    else
      facts.add(key, value);
  }
  for (const auto &[name, number] : rules_) {
    if (*find_rule(name)->value_unit)
      rules.add(name, number);
    else
      rules.add(name, true);
  }
  return facts.add_json("rules", rules.text()).text();
}

}  // namespace ane

extern "C" const char *ane_profiles(void) {
  static const std::string names = [] {
    std::string list;
    for (const std::string &name : ane::Profile::builtin_names()) list += (list.empty() ? "" : ",") + name;
    return list;
  }();
  return names.c_str();
}
