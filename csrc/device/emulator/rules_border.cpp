// Rules on what stands at the border of a program: the types and shapes of its inputs and outputs, and its dialect.
#include <algorithm>
#include <cstdlib>

#include "rules.h"

namespace ane {

namespace {

constexpr int64_t kRowBytes = 64;  // rows of a surface start at multiples of this (ANE_FACTS 2.2)

struct BorderPort {
  const Value &value;
  const char *side;
};

template <class Visit>
void each_port(const Graph &graph, Visit visit) {
  for (int id : graph.inputs) visit(BorderPort{graph.values[id], "input"});
  for (int id : graph.outputs) visit(BorderPort{graph.values[id], "output"});
}

void broken(const RuleCheck &check, const BorderPort &port, const std::string &what, const std::string &limit,
            const std::string &remedy = "") {
  check.broken({port.value.pos, format("%s '%s'", port.side, port.value.name.c_str()),
                type_text(port.value.type) + what, limit, remedy});
}

void check_width(const RuleCheck &check) {
  each_port(check.graph, [&](const BorderPort &port) {
    const int64_t element = static_cast<int64_t>(dtype_bytes(port.value.type.dtype));
    const int64_t width = port.value.type.shape.empty() ? 1 : port.value.type.shape.back();
    if (width * element % kRowBytes != 0)
      broken(check, port, format(", a row of %lld bytes", static_cast<long long>(width * element)),
             format("a multiple of %lld (a width that is a multiple of %lld)", static_cast<long long>(kRowBytes),
                    static_cast<long long>(kRowBytes / std::max<int64_t>(element, 1))),
             "pad the width: the hardware reads such a surface with padded rows or fails with 0x1d");
  });
}

void check_rank(const RuleCheck &check) {
  each_port(check.graph, [&](const BorderPort &port) {
    const size_t rank = port.value.type.shape.size();
    if (rank != 4) broken(check, port, format(", of rank %zu", rank), "rank 4, [1, C, 1, W]");
  });
}

void check_shape(const RuleCheck &check) {
  each_port(check.graph, [&](const BorderPort &port) {
    const Shape &shape = port.value.type.shape;
    if (shape.size() == 4 && (shape[0] != 1 || shape[2] != 1))
      broken(check, port, "", "[1, C, 1, W]", "reshape inside the program");
  });
}

void check_dtype(const RuleCheck &check) {
  static const DType allowed[] = {DType::Fp16, DType::Fp32, DType::Int8, DType::UInt8, DType::Int16, DType::UInt16};
  each_port(check.graph, [&](const BorderPort &port) {
    if (std::find(std::begin(allowed), std::end(allowed), port.value.type.dtype) == std::end(allowed))
      broken(check, port, "", "fp16 (or fp32, int8, uint8, int16, uint16)");
  });
}

void check_fp32(const RuleCheck &check) {
  each_port(check.graph, [&](const BorderPort &port) {
    if (port.value.type.dtype == DType::Fp32)
      broken(check, port, "", "fp16", "cast inside the program; this chip takes no fp32 at the border");
  });
}

void check_dialect(const RuleCheck &check) {
  if (check.graph.program_version != "1.0")
    check.broken({{},
                  "the program",
                  format("program(%s) with %s", check.graph.program_version.c_str(), check.graph.opset.c_str()),
                  "program(1.0) with ios16, tensor-typed scalars and fp16 inputs and outputs",
                  "write it in dialect A"});
}

void check_opset(const RuleCheck &check) {
  const std::string &opset = check.graph.opset;
  const int version = opset.rfind("ios", 0) == 0 ? std::atoi(opset.c_str() + 3) : 0;
  const auto judge = [&](SourcePos pos, const OpSpec &spec, const std::string &subject) {
    if (version < spec.since_ios)
      check.broken({pos, subject, "the function says " + opset, format("ios%d or newer", spec.since_ios), ""});
  };
  for (const Node &node : check.graph.nodes) judge(node.pos, *node.spec, subject_of(check.graph, node));
  for (const Value &value : check.graph.values)
    if (value.constant) judge(value.pos, spec_of(value.made_by), subject_of(value));
}

RuleSpec border(const char *name, const char *summary, const char *source, const char *error) {
  return {name, summary, source, Stage::Compile, "", 1, error};
}

}  // namespace

const std::vector<CompileRule> &border_rules() {
  static const std::vector<CompileRule> rules = {
      {border("border-dtype", "inputs and outputs are fp16, fp32 or 8 and 16-bit integers: no int32, bool, bf16, fp64",
              "ANE_FACTS 2.4", kParserError),
       check_dtype},
      {border("border-fp32", "inputs and outputs may not be fp32", "ANE_FACTS C17, 2.4: MAD PR #6, ESP #18",
              kLoweringError),
       check_fp32},
      {border("border-rank", "inputs and outputs have rank 4", "ANE_FACTS 0.3.3, 3.2", kBackEndError), check_rank},
      {border("border-shape", "inputs and outputs are [1, C, 1, W]", "ANE_FACTS 0.3.3", kBackEndError), check_shape},
      {border("border-width", "a row of an input or output is a multiple of 64 bytes (W a multiple of 32 in fp16)",
              "ANE_FACTS C47, 2.2: FG, M0, ESP, RS, AT, H3", kBackEndError),
       check_width},
      {border("new-dialect", "program(1.3) with ios18 is refused", "ANE_FACTS 3.1: MAD (partial on M1)", kParserError),
       check_dialect},
      {border("opset", "an operation may not be newer than the opset of its function",
              "ANE_FACTS 1.11; coremltools 9.0", kParserError),
       check_opset},
  };
  return rules;
}

}  // namespace ane
