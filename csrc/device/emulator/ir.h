// The checked program: what the parser and the checker make of MIL text, and what rules and executors read.
#ifndef ANETRAIN_EMULATOR_IR_H
#define ANETRAIN_EMULATOR_IR_H

#include <memory>
#include <string>
#include <vector>

#include "ops.h"
#include "syntax.h"
#include "types.h"

namespace ane {

struct Value {
  std::string name;  // unique in the program
  Type type;
  SourcePos pos;
  ConstantPtr constant;  // null when it is computed at run time
  int producer = -1;     // index of the node that makes it; -1 for inputs and constants
  // Constants only: the operation that made it (Const or one of the constexpr_*), and the type of its stored elements,
  // e.g. Int8 where `type` is fp16. Rules about compressed weights read them.
  OpKind made_by = OpKind::Const;
  DType stored_as = DType::Fp16;
};

struct Argument {
  const char *name;         // as in OpSpec
  std::vector<int> values;  // value ids: one, or several for `values = (a, b)`
};

// One operation. Consts and constexpr_* are folded into Value::constant and are not nodes. Optional arguments that have
// a default are always present, as constants made by the checker; those that have none (a conv's bias) may be absent.
struct Node {
  const OpSpec *spec;
  std::vector<Argument> arguments;
  std::vector<int> outputs;
  std::string label;  // the name attribute
  SourcePos pos;
};

// Where a constant lies in a blob file, and where the text says so.
struct BlobUse {
  BlobReference reference;
  SourcePos pos;
};

struct Graph {
  std::string program_version;  // "1.0", "1.3"
  std::string opset;            // "ios16", "ios18"
  std::string function;         // "main"
  std::vector<Value> values;
  std::vector<Node> nodes;   // in program order, which is a topological order; dead ones already removed
  std::vector<int> inputs;   // value ids as declared
  std::vector<int> outputs;  // value ids as declared
  // Constants of blob files, each once, in the order of the text; also those that only others were made of.
  std::vector<ConstantPtr> blobs;
  std::vector<BlobUse> blob_uses;  // of each of them
  int blob_file_count = 0;         // distinct files
  int blob_reference_count = 0;
  std::vector<std::string> unread_blob_paths;  // given with the text, which never refers to them
};

// Reads the arguments of one node. A wrong name is a bug of the emulator and throws std::logic_error.
class NodeView {
 public:
  NodeView(const Graph &graph, const Node &node) : graph_(graph), node_(node) {}
  const Node &node() const { return node_; }
  const Graph &graph() const { return graph_; }
  OpKind kind() const { return node_.spec->kind; }

  bool has(const char *argument) const;
  int id(const char *argument) const;                       // value id
  const std::vector<int> &ids(const char *argument) const;  // variadic
  const Value &value(const char *argument) const;
  const Type &type(const char *argument) const;
  const Shape &shape(const char *argument) const;
  bool is_constant(const char *argument) const;

  // Constant parameters.
  bool boolean(const char *argument) const;
  int64_t integer(const char *argument) const;
  double number(const char *argument) const;
  const std::string &text(const char *argument) const;
  std::vector<int64_t> integers(const char *argument) const;
  int64_t axis(const char *argument, int rank) const;  // negative axes made positive

  int output(size_t index = 0) const { return node_.outputs[index]; }
  const Type &output_type(size_t index = 0) const { return graph_.values[node_.outputs[index]].type; }

 private:
  const Argument *find(const char *argument) const;
  const Graph &graph_;
  const Node &node_;
};

}  // namespace ane
#endif
