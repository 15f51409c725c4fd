// Names, types and liveness of a parsed program: syntax tree -> checked Graph.
#include <algorithm>
#include <unordered_map>

#include "../names.h"
#include "binder.h"
#include "blob.h"
#include "errors.h"
#include "fold.h"
#include "frontend.h"
#include "lexer.h"
#include "limits.h"
#include "parser.h"

namespace ane {
namespace {

std::string place(SourcePos pos) { return format("line %d, column %d", pos.line, pos.column); }

// What the engine computes with; smaller and wider types exist only in constants.
bool is_run_time_type(DType dtype) {
  switch (dtype) {
    case DType::Fp16:
    case DType::Fp32:
    case DType::Bool:
    case DType::Int8:
    case DType::UInt8:
    case DType::Int16:
    case DType::UInt16:
    case DType::Int32: return true;
    default: return false;
  }
}

class FunctionChecker {
 public:
  FunctionChecker(const FunctionSyntax &function, const std::string &version, const BlobFiles &files,
                  const FrontendOptions &options)
      : function_(function),
        options_(options),
        blobs_(files, options),
        context_{graph_, [this](const Operand &operand, const std::string &name) { return resolve(operand, name); },
                 [this](const std::string &name, SourcePos pos, ConstantPtr constant) {
                   const Type type = constant->type;
                   return add_value({name, type, pos, std::move(constant), -1}, false);
                 },
                 options.fp32} {
    graph_.program_version = version;
    graph_.opset = function.opset;
    graph_.function = function.name;
  }

  Graph check() {
    for (const Declaration &input : function_.inputs) add_input(input);
    for (const Statement &statement : function_.statements) check_statement(statement);
    for (const OutputName &output : function_.outputs) add_output(output);
    if (graph_.outputs.empty())
      invalid_program(function_.pos, quoted(function_.name) + ": a function returns at least one value");
    graph_.blobs = blobs_.constants();
    graph_.blob_uses = blobs_.uses();
    graph_.blob_file_count = blobs_.file_count();
    graph_.unread_blob_paths = blobs_.unread_paths();
    remove_dead_nodes();
    remove_unused_values();
    return std::move(graph_);
  }

 private:
  // `live`: depends on an input, so it is there at run time only.
  int add_value(Value value, bool live) {
    value.stored_as = value.type.dtype;
    graph_.values.push_back(std::move(value));
    live_.push_back(live);
    return static_cast<int>(graph_.values.size()) - 1;
  }

  int declare(const Declaration &declaration, ConstantPtr constant, int producer, bool live) {
    const auto [entry, is_new] = scope_.emplace(declaration.name, static_cast<int>(graph_.values.size()));
    if (!is_new) {
      invalid_program(declaration.pos, quoted(declaration.name) + " is already defined at " +
                                           place(graph_.values[static_cast<size_t>(entry->second)].pos) +
                                           "; every name of a function is defined once");
    }
    return add_value({declaration.name, declaration.type, declaration.pos, std::move(constant), producer}, live);
  }

  int lookup(const std::string &name, SourcePos pos) const {
    const auto found = scope_.find(name);
    if (found != scope_.end()) return found->second;
    constexpr size_t kCompared = 1000;  // the latest names; comparing all of a huge program would take long
    std::vector<std::string> names;
    for (size_t i = graph_.values.size(); i-- > 0 && names.size() < kCompared;) names.push_back(graph_.values[i].name);
    invalid_program(
        pos, "unknown name " + quoted(name) + "; a value is defined before it is used" + did_you_mean(name, names));
  }

  ConstantPtr constant_of(const TypedValue &value) {
    if (value.constant) return value.constant;
    graph_.blob_reference_count++;
    return blobs_.read(*value.blob, value.type, value.pos);
  }

  int resolve(const Operand &operand, const std::string &name) {
    if (!operand.value) return lookup(operand.name, operand.pos);
    return add_value({name, operand.value->type, operand.pos, constant_of(*operand.value), -1}, false);
  }

  void check_port(const std::string &name, const Type &type, SourcePos pos) const {
    if (name.size() > limits::kPortNameBytes) {
      invalid_program(pos, format("the name of an input or output has at most %zu bytes", limits::kPortNameBytes));
    }
    if (!is_run_time_type(type.dtype)) {
      invalid_program(
          pos, quoted(name) + " is " + type_text(type) + ", which cannot cross the border of a program; use fp16");
    }
  }

  void check_rank(const Declaration &declaration) const {
    if (declaration.type.shape.size() <= limits::kRank) return;
    invalid_program(declaration.pos,
                    format("%s has %zu dimensions; the engine computes with at most %zu",
                           quoted(declaration.name).c_str(), declaration.type.shape.size(), limits::kRank));
  }

  void add_input(const Declaration &input) {
    check_port(input.name, input.type, input.pos);
    check_rank(input);
    graph_.inputs.push_back(declare(input, nullptr, -1, true));
  }

  void check_statement(const Statement &statement) {
    if (statement.op == "const") return check_const(statement);
    const OpSpec &spec = require_op(statement);
    Node node = bind(statement, spec, context_);
    follow_fp32(&node);
    if (is_constexpr(spec.kind)) return check_constexpr(statement, node);
    check_operation(statement, std::move(node));
  }

  // TYPE v = const()[name = string("v"), val = TYPE(...)];
  void check_const(const Statement &statement) {
    const Declaration &declared = single_output(statement);
    const NamedValue *value = nullptr;
    if (!statement.arguments.empty()) {
      invalid_program(statement.arguments[0].pos, "'const' takes no arguments; write const()[name = ..., val = ...]");
    }
    for (const NamedValue &attribute : statement.attributes) {
      if (attribute.name == "val" && !value) {
        value = &attribute;
      } else if (attribute.name != "name") {
        invalid_program(attribute.pos,
                        "'const' has the attributes 'name' and 'val', once each; found " + quoted(attribute.name));
      }
    }
    if (!value) invalid_program(statement.pos, "'const' needs the attribute 'val'");
    require_declared(declared, value->value.type, "its value");
    declare(declared, constant_of(value->value), -1, false);
  }

  void check_constexpr(const Statement &statement, const Node &node) {
    const Declaration &declared = single_output(statement);
    ConstantPtr folded = fold_constexpr(NodeView(graph_, node));
    require_declared(declared, folded->type, quoted(statement.op));
    const int id = declare(declared, std::move(folded), -1, false);
    Value &value = graph_.values[static_cast<size_t>(id)];
    value.made_by = node.spec->kind;
    value.stored_as = NodeView(graph_, node).type(node.spec->arguments[0].name).dtype;
  }

  void check_operation(const Statement &statement, Node node) {
    bool live = false;
    for (const Argument &argument : node.arguments) {
      for (int id : argument.values) live = live || live_[static_cast<size_t>(id)];
    }
    const std::vector<Type> types = node.spec->infer(NodeView(graph_, node));
    if (types.size() != statement.outputs.size()) {
      invalid_program(statement.pos, format("%s makes %zu value(s), but %zu are declared", quoted(statement.op).c_str(),
                                            types.size(), statement.outputs.size()));
    }
    const int producer = static_cast<int>(graph_.nodes.size());
    for (size_t i = 0; i < types.size(); i++) {
      const Declaration &declared = statement.outputs[i];
      require_declared(declared, types[i], quoted(statement.op));
      check_rank(declared);
      node.outputs.push_back(declare(declared, nullptr, producer, live));
    }
    graph_.nodes.push_back(std::move(node));
  }

  // In fp32 mode a cast to fp16 is one to fp32: the types around it were read so as well.
  void follow_fp32(Node *node) {
    if (!options_.fp32 || (node->spec->kind != OpKind::Cast && node->spec->kind != OpKind::ConstexprCast)) return;
    for (Argument &argument : node->arguments) {
      const Value &value = graph_.values[static_cast<size_t>(argument.values[0])];
      if (!value.constant || value.type.dtype != DType::String || value.constant->text != dtype_name(DType::Fp16))
        continue;
      auto wide = std::make_shared<Constant>(*value.constant);
      wide->text = dtype_name(DType::Fp32);
      argument.values[0] = add_value({value.name + ".fp32", value.type, value.pos, std::move(wide), -1}, false);
    }
  }

  static const Declaration &single_output(const Statement &statement) {
    if (statement.outputs.size() != 1) {
      invalid_program(statement.pos, format("%s makes one value, but %zu are declared", quoted(statement.op).c_str(),
                                            statement.outputs.size()));
    }
    return statement.outputs[0];
  }

  static void require_declared(const Declaration &declared, const Type &found, const std::string &source) {
    if (declared.type == found) return;
    invalid_program(declared.pos, quoted(declared.name) + " is declared " + type_text(declared.type) + ", but " +
                                      source + " is " + type_text(found));
  }

  // An output that needs nothing computed leaves an empty program, which the compiler refuses (ANE_FACTS C24).
  void add_output(const OutputName &output) {
    const int id = lookup(output.name, output.pos);
    const Value &value = graph_.values[static_cast<size_t>(id)];
    if (std::find(graph_.outputs.begin(), graph_.outputs.end(), id) != graph_.outputs.end()) {
      invalid_program(output.pos, quoted(output.name) + " is returned twice");
    }
    if (value.producer < 0 && !value.constant) {
      invalid_program(output.pos, "the output " + quoted(output.name) +
                                      " is directly an input; compute it, for instance with a mul by 1");
    }
    if (!live_[static_cast<size_t>(id)]) {
      invalid_program(output.pos,
                      "the output " + quoted(output.name) + " depends on no input: there is nothing to run");
    }
    check_port(output.name, value.type, output.pos);
    graph_.outputs.push_back(id);
  }

  void remove_dead_nodes() {
    std::vector<bool> used(graph_.values.size());
    for (int id : graph_.outputs) used[static_cast<size_t>(id)] = true;
    std::vector<bool> keep(graph_.nodes.size());
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const Node &node = graph_.nodes[n];
      keep[n] =
          std::any_of(node.outputs.begin(), node.outputs.end(), [&](int id) { return used[static_cast<size_t>(id)]; });
      if (!keep[n]) continue;
      for (const Argument &argument : node.arguments) {
        for (int id : argument.values) used[static_cast<size_t>(id)] = true;
      }
    }
    std::vector<Node> kept;
    for (size_t n = 0; n < keep.size(); n++) {
      if (!keep[n]) continue;
      for (int id : graph_.nodes[n].outputs)
        graph_.values[static_cast<size_t>(id)].producer = static_cast<int>(kept.size());
      kept.push_back(std::move(graph_.nodes[n]));
    }
    graph_.nodes = std::move(kept);
  }

  // Constants that were only folded, and results of dead nodes, are not kept in memory.
  void remove_unused_values() {
    std::vector<bool> used(graph_.values.size());
    const auto each_id = [&](auto visit) {
      for (int &id : graph_.inputs) visit(id);
      for (int &id : graph_.outputs) visit(id);
      for (Node &node : graph_.nodes) {
        for (int &id : node.outputs) visit(id);
        for (Argument &argument : node.arguments) {
          for (int &id : argument.values) visit(id);
        }
      }
    };
    each_id([&](int &id) { used[static_cast<size_t>(id)] = true; });
    std::vector<int> renumbered(graph_.values.size());
    std::vector<Value> kept;
    for (size_t i = 0; i < used.size(); i++) {
      renumbered[i] = static_cast<int>(kept.size());
      if (used[i]) kept.push_back(std::move(graph_.values[i]));
    }
    each_id([&](int &id) { id = renumbered[static_cast<size_t>(id)]; });
    graph_.values = std::move(kept);
  }

  const FunctionSyntax &function_;
  const FrontendOptions &options_;
  Graph graph_;
  std::vector<bool> live_;  // by value id
  std::unordered_map<std::string, int> scope_;
  BlobReader blobs_;
  BindContext context_;
};

}  // namespace

BlobFiles blob_files(const ane_blob *blobs, size_t count) {
  BlobFiles files;
  for (size_t i = 0; i < count; i++)
    files[blobs[i].path] = {static_cast<const uint8_t *>(blobs[i].data), blobs[i].bytes};
  return files;
}

std::vector<ConstantPtr> read_blobs(const Graph &graph, const BlobFiles &files, const FrontendOptions &options,
                                    std::vector<std::string> *unread_paths) {
  BlobReader reader(files, options);
  for (size_t i = 0; i < graph.blobs.size(); i++)
    reader.read(graph.blob_uses[i].reference, graph.blobs[i]->type, graph.blob_uses[i].pos);
  *unread_paths = reader.unread_paths();
  return reader.constants();
}

Graph compile_text(const char *text, size_t bytes, const BlobFiles &blobs, const FrontendOptions &options) {
  const ProgramSyntax program = parse_program(text, bytes, options.fp32);
  return FunctionChecker(program.function, program.version, blobs, options).check();
}

}  // namespace ane
