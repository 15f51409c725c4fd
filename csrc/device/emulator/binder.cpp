#include "binder.h"

#include <algorithm>
#include <optional>

#include "../names.h"
#include "errors.h"
#include "fold.h"
#include "lexer.h"
#include "literal.h"

namespace ane {
namespace {

struct MissingOp {
  const char *name;
  const char *instead;
};

// ANE_FACTS 3.3 and C10: operations of MIL that the engine does not have.
constexpr MissingOp kMissingOps[] = {
    {"gather", "do it on the CPU, or take fixed pieces with slice_by_size and concat"},
    {"gather_along_axis", "do it on the CPU"},
    {"gather_nd", "do it on the CPU"},
    {"scatter", "do it on the CPU"},
    {"scatter_along_axis", "do it on the CPU"},
    {"scatter_nd", "do it on the CPU"},
    {"one_hot", "do it on the CPU"},
    {"cumsum", "multiply by a triangular matrix of ones with matmul"},
    {"band_part", "multiply by a constant mask"},
    {"argsort", "do it on the CPU"},
    {"lstm", "write the cell with matmul, sigmoid and tanh"},
    {"gru", "write the cell with matmul, sigmoid and tanh"},
    {"rnn", "write the cell with matmul and tanh"},
    {"non_zero", "do it on the CPU"},
    {"while_loop", "run the program in a loop from the host"},
    {"cond", "choose between programs on the host, or use select"},
    {"mod", "write it with floor_div, mul and sub"},
    {"logical_and", "use select, or mul of fp16 masks"},
    {"logical_or", "use select, or maximum of fp16 masks"},
    {"logical_xor", "use select, or sub and abs of fp16 masks"},
    {"reduce_prod", "use exp of the reduce_sum of log"},
    {"read_state", "pass the state as an input"},
    {"write_state", "return the state as an output"},
    {"coreml_update_state", "return the state as an output"},
};

std::string subject(const Statement &statement) { return quoted(statement.op) + ": "; }

// What an argument takes, for messages: "a tensor of fp16 or fp32", "a constant int32[]".
std::string expected_text(const ArgSpec &argument) {
  std::string text = argument.kinds & ArgConst ? "a constant " : "";
  if (argument.parameter[0]) {
    const std::string parameter = argument.parameter;
    const bool list = parameter.size() > 2 && parameter.ends_with("[]");
    const std::string element = list ? parameter.substr(0, parameter.size() - 2) : parameter;
    return text + (list ? "1-D tensor of " : "scalar ") +
           (element == "fp"      ? "fp16 or fp32"
            : element == "scale" ? "int32 or fp32"
                                 : element);
  }
  std::string kinds;
  const auto add = [&](ArgKind kind, const char *name) {
    if (argument.kinds & kind) kinds += (kinds.empty() ? "" : " or ") + std::string(name);
  };
  add(ArgTensor, "floating point");
  add(ArgBoolTensor, "bool");
  add(ArgIntTensor, "integer");
  return text + "tensor of " + kinds;
}

bool is_integer(DType dtype) {
  return dtype != DType::Bool && dtype != DType::String && dtype != DType::Fp16 && dtype != DType::Fp32 &&
         dtype != DType::Fp64 && dtype != DType::BFloat16;
}

bool tensor_kind_matches(const ArgSpec &argument, DType dtype) {
  if (dtype == DType::Fp16 || dtype == DType::Fp32) return argument.kinds & ArgTensor;
  if (dtype == DType::Bool) return argument.kinds & ArgBoolTensor;
  return is_integer(dtype) && (argument.kinds & ArgIntTensor);
}

bool parameter_matches(const std::string &parameter, const Type &type) {
  const bool list = parameter.ends_with("[]");
  if (type.shape.size() != (list ? 1u : 0u)) return false;
  const std::string element = list ? parameter.substr(0, parameter.size() - 2) : parameter;
  if (element == "fp") return type.dtype == DType::Fp16 || type.dtype == DType::Fp32;
  if (element == "scale") return type.dtype == DType::Int32 || type.dtype == DType::Fp32;
  return element == dtype_name(type.dtype);
}

class Binding {
 public:
  Binding(const Statement &statement, const OpSpec &spec, const BindContext &context)
      : statement_(statement), spec_(spec), context_(context), arguments_(spec.arguments.size()) {
    node_.spec = &spec;
    node_.pos = statement.pos;
    node_.label = statement.outputs[0].name;
  }

  Node bind() {
    for (const NamedOperands &argument : statement_.arguments) {
      bind_argument(argument.name, argument.pos, argument.tuple, argument.operands);
    }
    for (const NamedValue &attribute : statement_.attributes) bind_attribute(attribute);
    require_all();
    fill_defaults();
    for (size_t i = 0; i < arguments_.size(); i++) {
      if (!arguments_[i].empty()) node_.arguments.push_back({spec_.arguments[i].name, std::move(arguments_[i])});
    }
    return std::move(node_);
  }

 private:
  [[noreturn]] void invalid(SourcePos pos, const std::string &problem) const {
    invalid_program(pos, subject(statement_) + problem);
  }

  std::string constant_name(const char *argument) const { return statement_.outputs[0].name + "." + argument; }

  // Attributes other than the name are arguments in the second spelling of the constexpr operations.
  void bind_attribute(const NamedValue &attribute) {
    if (attribute.name == "name") {
      if (!attribute.value.constant || attribute.value.type != Type{DType::String, {}}) {
        invalid(attribute.pos, "the attribute 'name' is a string, found " + type_text(attribute.value.type));
      }
      node_.label = attribute.value.constant->text;
      return;
    }
    if (!is_constexpr(spec_.kind)) {
      invalid(attribute.pos, "unknown attribute " + quoted(attribute.name) +
                                 "; the only attribute is 'name', arguments stand in the parentheses");
    }
    bind_argument(attribute.name, attribute.pos, false, {Operand{attribute.value.pos, "", attribute.value}});
  }

  void bind_argument(const std::string &name, SourcePos pos, bool tuple, const std::vector<Operand> &operands) {
    const auto found = std::find_if(spec_.arguments.begin(), spec_.arguments.end(),
                                    [&](const ArgSpec &candidate) { return name == candidate.name; });
    if (found == spec_.arguments.end()) {
      std::vector<std::string> names;
      for (const ArgSpec &candidate : spec_.arguments) names.emplace_back(candidate.name);
      invalid(pos, "unknown argument " + quoted(name) + name_help(name, names));
    }
    std::vector<int> &values = arguments_[static_cast<size_t>(found - spec_.arguments.begin())];
    if (!values.empty()) invalid(pos, "argument " + quoted(name) + " is given twice");
    const bool variadic = found->kinds & ArgVariadic;
    if (variadic != tuple || operands.empty()) {
      invalid(pos,
              "argument " + quoted(name) + (variadic ? " takes a tuple: " + name + " = (a, b)" : " takes one value"));
    }
    for (size_t i = 0; i < operands.size(); i++) {
      const int id = context_.resolve(operands[i], constant_name(found->name) + (tuple ? std::to_string(i) : ""));
      check_kind(*found, operands[i].pos, id);
      values.push_back(id);
    }
  }

  void check_kind(const ArgSpec &argument, SourcePos pos, int id) const {
    const Value &value = context_.graph.values[static_cast<size_t>(id)];
    if ((argument.kinds & ArgConst) && !value.constant) {
      invalid(pos, format("argument '%s' must be known when the program is compiled, but %s is computed at run time",
                          argument.name, quoted(value.name).c_str()));
    }
    const bool matches = argument.parameter[0] ? parameter_matches(argument.parameter, value.type)
                                               : tensor_kind_matches(argument, value.type.dtype);
    if (!matches) {
      invalid(pos, format("argument '%s' is %s, expected %s", argument.name, type_text(value.type).c_str(),
                          expected_text(argument).c_str()));
    }
  }

  void require_all() const {
    for (size_t i = 0; i < arguments_.size(); i++) {
      if (!arguments_[i].empty() || !spec_.arguments[i].required) continue;
      invalid(statement_.pos, format("required argument '%s' is missing; expected %s", spec_.arguments[i].name,
                                     expected_text(spec_.arguments[i]).c_str()));
    }
  }

  // The floating type the operation computes in: of its first floating tensor; none for a dequantize, for instance.
  std::optional<DType> floating_type() const {
    for (size_t i = 0; i < arguments_.size(); i++) {
      if (arguments_[i].empty() || spec_.arguments[i].parameter[0] || !(spec_.arguments[i].kinds & ArgTensor)) continue;
      const DType dtype = context_.graph.values[static_cast<size_t>(arguments_[i][0])].type.dtype;
      if (dtype == DType::Fp16 || dtype == DType::Fp32) return dtype;
    }
    return std::nullopt;
  }

  void fill_defaults() {
    const std::optional<DType> floating = floating_type();
    for (size_t i = 0; i < arguments_.size(); i++) {
      const ArgSpec &argument = spec_.arguments[i];
      std::string element = argument.parameter;
      const bool list = element.ends_with("[]");
      if (list) element.resize(element.size() - 2);
      if (!arguments_[i].empty()) {
        if (element == "fp" && floating) require_same_type(argument, arguments_[i][0], *floating);
        continue;
      }
      if (!argument.default_text[0]) continue;
      DType dtype = floating ? *floating : context_.fp32 ? DType::Fp32 : DType::Fp16;
      if (element == "scale") element = "int32";
      if (element != "fp" && !dtype_from_name(element, &dtype)) {
        throw std::logic_error(std::string(spec_.name) + ": default of a parameter of type " + argument.parameter);
      }
      arguments_[i].push_back(context_.add_constant(constant_name(argument.name), statement_.pos,
                                                    constant_from_text(dtype, list, argument.default_text)));
    }
  }

  void require_same_type(const ArgSpec &argument, int id, DType floating) const {
    const Value &value = context_.graph.values[static_cast<size_t>(id)];
    if (value.type.dtype == floating) return;
    invalid(statement_.pos, format("argument '%s' is %s, but the operation computes in %s; give both the same type",
                                   argument.name, dtype_name(value.type.dtype), dtype_name(floating)));
  }

  const Statement &statement_;
  const OpSpec &spec_;
  const BindContext &context_;
  std::vector<std::vector<int>> arguments_;  // by position in the OpSpec; empty: not given
  Node node_;
};

}  // namespace

const OpSpec &require_op(const Statement &statement) {
  if (const OpSpec *spec = find_op(statement.op)) return *spec;
  for (const MissingOp &missing : kMissingOps) {
    if (statement.op == missing.name) {
      invalid_program(statement.pos, "the engine has no operation " + quoted(statement.op) + "; " + missing.instead);
    }
  }
  std::vector<std::string> names;
  for (const OpSpec &spec : all_ops()) names.emplace_back(spec.name);
  invalid_program(statement.pos, "unknown operation " + quoted(statement.op) + did_you_mean(statement.op, names));
}

Node bind(const Statement &statement, const OpSpec &spec, const BindContext &context) {
  return Binding(statement, spec, context).bind();
}

}  // namespace ane
