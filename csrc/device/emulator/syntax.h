// MIL text as a tree: names not resolved, nothing but the syntax and the literals checked.
#ifndef ANETRAIN_EMULATOR_SYNTAX_H
#define ANETRAIN_EMULATOR_SYNTAX_H

#include <optional>
#include <string>
#include <vector>

#include "types.h"

namespace ane {

struct BlobReference {
  std::string path;
  uint64_t offset = 0;  // of the metadata record in the file
};

// `tensor<fp16, [2]>([1, 2])`, `bool(true)`, `tensor<fp16, [8]>(BLOBFILE(path = ..., offset = ...))`
struct TypedValue {
  Type type;
  SourcePos pos;
  ConstantPtr constant;  // exactly one of the two
  std::optional<BlobReference> blob;
};

// What stands for a value: a name, or a typed value in place.
struct Operand {
  SourcePos pos;
  std::string name;
  std::optional<TypedValue> value;
};

struct NamedOperands {  // `x = a`, `values = (a, b)`
  std::string name;
  SourcePos pos;
  bool tuple = false;
  std::vector<Operand> operands;
};

struct NamedValue {  // an attribute: `name = string("n")`
  std::string name;
  SourcePos pos;
  TypedValue value;
};

struct Declaration {
  Type type;
  std::string name;
  SourcePos pos;
};

struct Statement {
  std::vector<Declaration> outputs;
  std::string op;
  SourcePos pos;  // of the op's name
  std::vector<NamedOperands> arguments;
  std::vector<NamedValue> attributes;
};

struct OutputName {
  std::string name;
  SourcePos pos;
};

struct FunctionSyntax {
  std::string name;
  std::string opset;
  SourcePos pos;
  std::vector<Declaration> inputs;
  std::vector<Statement> statements;
  std::vector<OutputName> outputs;
};

struct ProgramSyntax {
  std::string version;
  FunctionSyntax function;
};

}  // namespace ane
#endif
