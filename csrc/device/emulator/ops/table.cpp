// The whole operation table, and its JSON for other languages.
#include <map>
#include <stdexcept>

#include "../../json.h"
#include "shape_rules.h"

namespace ane {

namespace {

std::vector<OpSpec> make_table() {
  std::vector<OpSpec> table;
  for (const auto &family :
       {linear_ops(), elementwise_ops(), row_ops(), layout_ops(), image_ops(), attention_ops(), quantization_ops()})
    table.insert(table.end(), family.begin(), family.end());
  return table;
}

std::vector<std::string> kind_names(unsigned kinds) {
  static const std::pair<unsigned, const char *> names[] = {{ArgTensor, "tensor"},
                                                            {ArgBoolTensor, "bool tensor"},
                                                            {ArgIntTensor, "int tensor"},
                                                            {ArgConst, "const"},
                                                            {ArgVariadic, "variadic"}};
  std::vector<std::string> present;
  for (const auto &[bit, name] : names)
    if (kinds & bit) present.emplace_back(name);
  return present;
}

std::string argument_json(const ArgSpec &argument) {
  return JsonObject()
      .add("name", argument.name)
      .add("required", argument.required)
      .add_json("kinds", json_array(kind_names(argument.kinds)))
      .add("type", argument.parameter)
      .add("default", argument.default_text)
      .text();
}

std::string operation_json(const OpSpec &spec) {
  static const char *const evidence[] = {"direct", "e5rt", "disputed"};
  std::string arguments = "[";
  for (const ArgSpec &argument : spec.arguments)
    arguments += (arguments.size() > 1 ? ", " : "") + argument_json(argument);
  return JsonObject()
      .add_json("arguments", arguments + "]")
      .add("evidence", evidence[static_cast<int>(spec.evidence)])
      .add("source", spec.evidence_source)
      .add("since_ios", spec.since_ios)
      .text();
}

}  // namespace

const std::vector<OpSpec> &all_ops() {
  static const std::vector<OpSpec> table = make_table();
  return table;
}

const OpSpec &spec_of(OpKind kind) {
  static const std::vector<const OpSpec *> by_kind = [] {
    std::vector<const OpSpec *> index(static_cast<size_t>(OpKind::Count));
    for (const OpSpec &spec : all_ops()) index[static_cast<size_t>(spec.kind)] = &spec;
    return index;
  }();
  return *by_kind.at(static_cast<size_t>(kind));
}

const OpSpec *find_op(const std::string &name) {
  static const std::map<std::string, const OpSpec *> by_name = [] {
    std::map<std::string, const OpSpec *> index;
    for (const OpSpec &spec : all_ops())
      if (!index.emplace(spec.name, &spec).second) throw std::logic_error(std::string("two operations ") + spec.name);
    if (index.size() != static_cast<size_t>(OpKind::Count)) throw std::logic_error("an OpKind has no OpSpec");
    return index;
  }();
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

}  // namespace ane

extern "C" const char *ane_operation_table(void) {
  static const std::string table = [] {
    ane::JsonObject operations;
    for (const ane::OpSpec &spec : ane::all_ops()) operations.add_json(spec.name, ane::operation_json(spec));
    return operations.text();
  }();
  return table.c_str();
}
