#include "parser.h"

#include "errors.h"
#include "lexer.h"
#include "limits.h"
#include "literal.h"

namespace ane {
namespace {

constexpr const char *kVersions[] = {"1.0", "1.3"};
constexpr const char *kOpsets[] = {"ios16", "ios17", "ios18"};

class Parser {
 public:
  Parser(const char *text, size_t bytes, bool fp32) : lexer_(text, bytes), fp32_(fp32), token_(lexer_.next()) {}
  ProgramSyntax program();

 private:
  // The current token and how to move on.
  Token take();
  bool at(std::string_view text) const;
  bool accept(std::string_view text);
  void expect(std::string_view text, const char *where);
  Token expect_kind(TokenKind kind, const char *what);
  [[noreturn]] void unexpected(const std::string &expected) const;

  void version(ProgramSyntax *program);
  void build_info();
  void string_type();
  FunctionSyntax function();
  Statement statement();
  Declaration declaration();
  NamedOperands argument();
  Operand operand();
  std::vector<NamedValue> attributes();

  DType dtype();
  Shape shape();
  Type type();
  TypedValue typed_value(bool may_be_blob = true);
  void elements(Constant *constant, SourcePos pos);
  BlobReference blob_reference();
  std::string string_scalar(const char *what);
  uint64_t offset_scalar();

  Lexer lexer_;
  bool fp32_;
  Token token_;
};

// ---------------------------------------------------------------- tokens

Token Parser::take() {
  const Token taken = token_;
  token_ = lexer_.next();
  return taken;
}

bool Parser::at(std::string_view text) const {
  return token_.text == text && (token_.kind == TokenKind::Symbol || token_.kind == TokenKind::Identifier);
}

bool Parser::accept(std::string_view text) {
  if (!at(text)) return false;
  take();
  return true;
}

void Parser::unexpected(const std::string &expected) const {
  invalid_program(token_.pos, "expected " + expected + ", found " + describe(token_));
}

void Parser::expect(std::string_view text, const char *where) {
  if (!accept(text)) unexpected(quoted(text) + " " + where);
}

Token Parser::expect_kind(TokenKind kind, const char *what) {
  if (token_.kind != kind) unexpected(what);
  return take();
}

// ---------------------------------------------------------------- the program around its functions

ProgramSyntax Parser::program() {
  ProgramSyntax program;
  version(&program);
  build_info();
  expect("{", "before the function of the program");
  if (!at("func")) unexpected("'func': a program has a function");
  program.function = function();
  if (at("func")) {
    unsupported(token_.pos,
                "a program of several functions; this device runs programs of one, because a request cannot say which "
                "function it is for");
  }
  expect("}", "after the function of the program");
  if (token_.kind != TokenKind::End) unexpected("nothing after the program");
  return program;
}

void Parser::version(ProgramSyntax *program) {
  expect("program", "at the start of MIL text");
  expect("(", "and a version after 'program'");
  const Token found = expect_kind(TokenKind::Number, "the version of the program, 1.0 or 1.3");
  for (const char *known : kVersions) {
    if (found.text == known) program->version = known;
  }
  if (program->version.empty()) {
    invalid_program(found.pos, "unknown program version " + describe(found) + "; the engine reads 1.0 and 1.3");
  }
  expect(")", "after the program version");
}

// [buildInfo = dict<string, string>({{"key", "value"}, ...})]: must be there, its content is not looked at.
void Parser::build_info() {
  expect("[", "and buildInfo after the program version (the engine refuses a program without it)");
  expect("buildInfo", "after '['");
  expect("=", "after 'buildInfo'");
  expect("dict", "as the type of buildInfo");
  expect("<", "after 'dict'");
  string_type();
  expect(",", "between the types of a dict");
  string_type();
  expect(">", "after the types of a dict");
  expect("(", "before the entries of buildInfo");
  expect("{", "before the entries of buildInfo");
  do {
    if (at("}")) break;
    expect("{", "before an entry of buildInfo");
    expect_kind(TokenKind::String, "a key in double quotes");
    expect(",", "between a key and its value");
    expect_kind(TokenKind::String, "a value in double quotes");
    expect("}", "after an entry of buildInfo");
  } while (accept(","));
  expect("}", "after the entries of buildInfo");
  expect(")", "after the entries of buildInfo");
  expect("]", "after buildInfo");
}

void Parser::string_type() {
  const SourcePos pos = token_.pos;
  const Type found = type();
  if (found.dtype != DType::String || !found.shape.empty()) {
    invalid_program(pos, "buildInfo is a dict from string to string, found " + type_text(found));
  }
}

// ---------------------------------------------------------------- functions and statements

// func NAME<OPSET>(TYPE name, ...) { statements } -> (name, ...);
FunctionSyntax Parser::function() {
  FunctionSyntax function;
  expect("func", "");
  function.pos = token_.pos;
  function.name = expect_kind(TokenKind::Identifier, "the name of the function").text;
  expect("<", "and an opset such as ios18 after the function's name");
  const Token opset = expect_kind(TokenKind::Identifier, "an opset such as ios18");
  for (const char *known : kOpsets) {
    if (opset.text == known) function.opset = known;
  }
  if (function.opset.empty()) {
    invalid_program(opset.pos, "unknown opset " + describe(opset) + "; known are ios16, ios17 and ios18");
  }
  expect(">", "after the opset");
  expect("(", "before the inputs of the function");
  while (!at(")")) {
    if (!function.inputs.empty()) expect(",", "or ')' after an input");
    if (function.inputs.size() == limits::kPorts) {
      invalid_program(token_.pos, format("a function has at most %zu inputs", limits::kPorts));
    }
    function.inputs.push_back(declaration());
  }
  take();
  expect("{", "before the statements of the function");
  while (!at("}")) {
    if (function.statements.size() == limits::kStatements) {
      invalid_program(token_.pos, format("a function has at most %zu statements", limits::kStatements));
    }
    function.statements.push_back(statement());
  }
  take();
  expect("->", "and the outputs after the body of the function");
  expect("(", "before the outputs of the function");
  while (!at(")")) {
    if (!function.outputs.empty()) expect(",", "or ')' after an output");
    if (function.outputs.size() == limits::kPorts) {
      invalid_program(token_.pos, format("a function has at most %zu outputs", limits::kPorts));
    }
    const Token name = expect_kind(TokenKind::Identifier, "the name of an output");
    function.outputs.push_back({std::string(name.text), name.pos});
  }
  take();
  expect(";", "after the outputs of the function");
  return function;
}

// TYPE a, TYPE b = op(argument = value, ...)[name = string("...")];
Statement Parser::statement() {
  Statement statement;
  do {
    if (statement.outputs.size() == limits::kOperands) {
      invalid_program(token_.pos, format("an operation has at most %zu outputs", limits::kOperands));
    }
    statement.outputs.push_back(declaration());
  } while (accept(","));
  expect("=", "after the declared name");
  statement.pos = token_.pos;
  statement.op = expect_kind(TokenKind::Identifier, "the name of an operation").text;
  expect("(", "after the name of an operation");
  while (!at(")")) {
    if (!statement.arguments.empty()) expect(",", "or ')' after an argument");
    if (statement.arguments.size() == limits::kOperands) {
      invalid_program(token_.pos, format("an operation has at most %zu arguments", limits::kOperands));
    }
    statement.arguments.push_back(argument());
  }
  take();
  if (at("[")) statement.attributes = attributes();
  expect(";", "after a statement");
  return statement;
}

Declaration Parser::declaration() {
  Declaration declaration;
  declaration.type = type();
  declaration.pos = token_.pos;
  declaration.name = expect_kind(TokenKind::Identifier, "a name after the type").text;
  return declaration;
}

NamedOperands Parser::argument() {
  NamedOperands argument;
  argument.pos = token_.pos;
  argument.name = expect_kind(TokenKind::Identifier, "the name of an argument").text;
  expect("=", "after the name of an argument");
  if (!accept("(")) {
    argument.operands.push_back(operand());
    return argument;
  }
  argument.tuple = true;
  while (!at(")")) {
    if (!argument.operands.empty()) expect(",", "or ')' inside a tuple");
    if (argument.operands.size() == limits::kOperands) {
      invalid_program(token_.pos, format("a tuple has at most %zu values", limits::kOperands));
    }
    argument.operands.push_back(operand());
  }
  take();
  return argument;
}

// A name, or a typed value. A type is told from a name by what follows it: `tensor<` or `int32(`.
Operand Parser::operand() {
  Operand operand;
  operand.pos = token_.pos;
  DType scalar;
  if (at("tensor") || (token_.kind == TokenKind::Identifier && dtype_from_name(std::string(token_.text), &scalar))) {
    operand.value = typed_value();
    return operand;
  }
  if (token_.kind != TokenKind::Identifier || at("true") || at("false")) {
    unexpected("the name of a value, or a value with its type such as int32(1) or bool(true)");
  }
  operand.name = take().text;
  return operand;
}

std::vector<NamedValue> Parser::attributes() {
  std::vector<NamedValue> attributes;
  expect("[", "");
  while (!at("]")) {
    if (!attributes.empty()) expect(",", "or ']' after an attribute");
    if (attributes.size() == limits::kOperands) {
      invalid_program(token_.pos, format("an operation has at most %zu attributes", limits::kOperands));
    }
    NamedValue attribute;
    attribute.pos = token_.pos;
    attribute.name = expect_kind(TokenKind::Identifier, "the name of an attribute").text;
    expect("=", "after the name of an attribute");
    attribute.value = typed_value();
    attributes.push_back(std::move(attribute));
  }
  take();
  return attributes;
}

// ---------------------------------------------------------------- types and values

DType Parser::dtype() {
  const Token token = expect_kind(TokenKind::Identifier, "a type");
  const std::string name(token.text);
  DType found;
  if (!dtype_from_name(name, &found)) {
    const bool fp8 = name.rfind("fp8", 0) == 0 || name.rfind("float8", 0) == 0;
    invalid_program(token.pos, fp8 ? quoted(name) + ": the engine has no 8-bit floating point"
                                   : quoted(name) +
                                         " is not a type; expected tensor<TYPE, [sizes]> or a scalar type such "
                                         "as fp16, int32, bool, string");
  }
  return fp32_ && found == DType::Fp16 ? DType::Fp32 : found;
}

Shape Parser::shape() {
  Shape shape;
  const SourcePos pos = token_.pos;
  expect("[", "before the sizes of a tensor");
  while (!at("]")) {
    if (!shape.empty()) expect(",", "or ']' after a size");
    if (shape.size() == limits::kDimensions) {
      invalid_program(token_.pos, format("a tensor has at most %zu dimensions", limits::kDimensions));
    }
    if (at("?")) invalid_program(token_.pos, "the engine has no unknown sizes; write the number");
    const Token size = take();
    shape.push_back(static_cast<int64_t>(unsigned_value(size, limits::kElements, "the size of a dimension")));
    if (shape.back() == 0) invalid_program(size.pos, "a size must be at least 1");
  }
  take();
  int64_t count = 1;
  for (int64_t size : shape) {
    if (count > limits::kElements / size) {
      invalid_program(pos, format("the shape %s has more than %lld elements", shape_text(shape).c_str(),
                                  static_cast<long long>(limits::kElements)));
    }
    count *= size;
  }
  return shape;
}

// tensor<fp16, [1, 8]>, tensor<fp16, []>, fp16
Type Parser::type() {
  Type type;
  if (!accept("tensor")) {
    type.dtype = dtype();
    return type;
  }
  expect("<", "after 'tensor'");
  type.dtype = dtype();
  expect(",", "after the element type of a tensor");
  type.shape = shape();
  expect(">", "after the sizes of a tensor");
  return type;
}

TypedValue Parser::typed_value(bool may_be_blob) {
  TypedValue value;
  value.pos = token_.pos;
  value.type = type();
  expect("(", "and a value after its type");
  if (may_be_blob && at("BLOBFILE")) {
    value.blob = blob_reference();
  } else {
    auto constant = std::make_shared<Constant>();
    constant->type = value.type;
    elements(constant.get(), value.pos);
    value.constant = std::move(constant);
  }
  expect(")", "after a value");
  return value;
}

// A scalar, or nested lists as deep as the tensor's rank: [[1, 2], [3, 4]]. `filled[d]` counts what the open list of
// depth d holds so far.
void Parser::elements(Constant *constant, SourcePos pos) {
  const Shape &shape = constant->type.shape;
  if (shape.empty()) return append_element(take(), constant);
  if (constant->type.dtype == DType::String) invalid_program(pos, "strings have no lists");
  if (element_count(shape) > static_cast<int64_t>(limits::kListElements)) {
    invalid_program(pos,
                    format("a list in the text holds at most %zu elements; use a BLOBFILE", limits::kListElements));
  }
  std::vector<int64_t> filled;
  const auto begin_item = [&] {
    if (filled.empty()) return;
    if (filled.back() == shape[filled.size() - 1]) {
      invalid_program(token_.pos, format("more than %lld items in this list of %s",
                                         static_cast<long long>(filled.back()), type_text(constant->type).c_str()));
    }
    if (filled.back() > 0) expect(",", "between the items of a list");
    filled.back()++;
  };
  do {
    if (at("]") && !filled.empty()) {
      if (filled.back() != shape[filled.size() - 1]) {
        invalid_program(token_.pos,
                        format("%lld items in this list of %s, expected %lld", static_cast<long long>(filled.back()),
                               type_text(constant->type).c_str(), static_cast<long long>(shape[filled.size() - 1])));
      }
      take();
      filled.pop_back();
      continue;
    }
    begin_item();
    if (filled.size() == shape.size()) {
      append_element(take(), constant);
    } else {
      expect("[", "and a list for each dimension of the tensor");
      filled.push_back(0);
    }
  } while (!filled.empty());
}

// BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64))
BlobReference Parser::blob_reference() {
  BlobReference blob;
  bool has_path = false, has_offset = false;
  expect("BLOBFILE", "");
  expect("(", "after 'BLOBFILE'");
  do {
    if (at("path") && !has_path) {
      take();
      expect("=", "after 'path'");
      blob.path = string_scalar("the path of a blob file");
      has_path = true;
    } else if (at("offset") && !has_offset) {
      take();
      expect("=", "after 'offset'");
      blob.offset = offset_scalar();
      has_offset = true;
    } else {
      unexpected("'path' and 'offset', once each");
    }
  } while (accept(","));
  if (!has_path || !has_offset) unexpected(has_path ? "',' and 'offset'" : "',' and 'path'");
  expect(")", "after 'path' and 'offset'");
  return blob;
}

std::string Parser::string_scalar(const char *what) {
  const SourcePos pos = token_.pos;
  const TypedValue value = typed_value(false);
  if (!value.constant || value.type != Type{DType::String, {}}) {
    invalid_program(pos, format("%s is a string, found %s", what, type_text(value.type).c_str()));
  }
  return value.constant->text;
}

uint64_t Parser::offset_scalar() {
  const SourcePos pos = token_.pos;
  const TypedValue value = typed_value(false);
  if (!value.constant || value.type != Type{DType::UInt64, {}}) {
    invalid_program(pos, "the offset of a blob is a uint64, found " + type_text(value.type));
  }
  return *value.constant->as<uint64_t>();
}

}  // namespace

ProgramSyntax parse_program(const char *text, size_t bytes, bool fp32) { return Parser(text, bytes, fp32).program(); }

}  // namespace ane
