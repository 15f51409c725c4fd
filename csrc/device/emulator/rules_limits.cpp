// Rules on sizes and counts.
#include <algorithm>
#include <set>

#include "rules.h"

namespace ane {

namespace {

long long text(int64_t value) { return static_cast<long long>(value); }
std::string at_most(double limit) { return format("at most %.0f", limit); }

// Every tensor that an operation reads or writes at run time, with the place of the operation.
template <class Visit>
void each_tensor(const Graph &graph, Visit visit) {
  for (const Node &node : graph.nodes) {
    for (const Argument &argument : node.arguments)
      for (int id : argument.values) visit(graph.values[id], node);
    for (int id : node.outputs) visit(graph.values[id], node);
  }
}

// Axes are counted from the last: 1 width, 2 height, 3 channel.
void check_axes(const RuleCheck &check, size_t from, size_t to, const char *what) {
  each_tensor(check.graph, [&](const Value &value, const Node &node) {
    const Shape &shape = value.type.shape;
    for (size_t axis = from; axis <= to && axis <= shape.size(); ++axis)
      if (static_cast<double>(shape[shape.size() - axis]) > check.number)
        check.broken(
            {node.pos, "tensor '" + value.name + "'",
             format("%lld elements on %s of %s", text(shape[shape.size() - axis]), what, type_text(value.type).c_str()),
             at_most(check.number), "split the axis, or fold it into another one"});
  });
}

void check_channels(const RuleCheck &check) { check_axes(check, 3, 3, "the channel axis"); }
void check_width_height(const RuleCheck &check) { check_axes(check, 1, 2, "the width or height axis"); }

void check_contraction(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes) {
    if (node.spec->kind != OpKind::MatMul && node.spec->kind != OpKind::Linear) continue;
    const NodeView view(check.graph, node);
    const Shape &x = view.shape("x");
    const bool transposed = node.spec->kind == OpKind::MatMul && view.boolean("transpose_x") && x.size() > 1;
    const int64_t contraction = x.empty() ? 1 : x[x.size() - (transposed ? 2 : 1)];
    if (static_cast<double>(contraction) > check.number)
      check.broken(node, format("a contraction over %lld elements", text(contraction)), at_most(check.number),
                   "split it and add the parts");
  }
}

template <class Visit>
void each_conv(const Graph &graph, Visit visit) {
  for (const Node &node : graph.nodes)
    if (node.spec->kind == OpKind::Conv) visit(NodeView(graph, node));
}

void check_conv_input_channels(const RuleCheck &check) {
  each_conv(check.graph, [&](const NodeView &conv) {
    const int64_t channels = conv.shape("x")[1];
    if (static_cast<double>(channels) >= check.number)
      check.broken(conv.node(), format("%lld input channels", text(channels)), format("less than %.0f", check.number),
                   "use matmul");
  });
}

void check_conv_kernel_width(const RuleCheck &check) {
  each_conv(check.graph, [&](const NodeView &conv) {
    const int64_t width = conv.shape("weight").back();
    if (static_cast<double>(width) > check.number)
      check.broken(conv.node(), format("a kernel of width %lld", text(width)), at_most(check.number),
                   "split the kernel and add the parts");
  });
}

void check_conv_fixed_channels(const RuleCheck &check) {
  each_conv(check.graph, [&](const NodeView &conv) {
    const int64_t in = conv.shape("x")[1], out = conv.shape("weight")[0];
    if (static_cast<double>(in) != check.number || static_cast<double>(out) != check.number)
      check.broken(conv.node(), format("%lld input and %lld output channels", text(in), text(out)),
                   format("%.0f of both", check.number), "use matmul");
  });
}

// A scalar constant as an operand of pow, add or mul takes one of the slots.
bool has_inline_scalar(const Graph &graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node &node) {
    const OpKind kind = node.spec->kind;
    if (kind != OpKind::Pow && kind != OpKind::Add && kind != OpKind::Mul) return false;
    const NodeView view(graph, node);
    return (view.is_constant("x") && view.shape("x").empty()) || (view.is_constant("y") && view.shape("y").empty());
  });
}

// Files, not references to them: the published stacks of 128 weights in one file run on M4 and M4 Max.
void check_blobfile_weights(const RuleCheck &check) {
  const bool scalar = has_inline_scalar(check.graph);
  const double limit = check.number - (scalar ? 1 : 0);
  if (check.graph.blob_file_count > limit)
    check.broken(
        {{},
         "the program",
         format("%d files of weights", check.graph.blob_file_count),
         at_most(limit) + (scalar ? " (one less, because it adds, multiplies or raises by a scalar constant)" : ""),
         "put several weights in one file, or split the program"});
}

void check_single_blob(const RuleCheck &check) {
  if (check.graph.blob_reference_count > check.graph.blob_file_count)
    check.broken({{},
                  "the program",
                  format("%d weights in %d files", check.graph.blob_reference_count, check.graph.blob_file_count),
                  "one file for each weight",
                  ""});
}

// A concat of reshaped tensors, or a reshape of a concat, whose rows are very long.
void check_wide_rows(const RuleCheck &check) {
  const Graph &graph = check.graph;
  const auto made_by = [&](int id, OpKind kind) {
    const int producer = graph.values[id].producer;
    return producer >= 0 && graph.nodes[producer].spec->kind == kind;
  };
  const auto row_elements = [&](int id) {
    const Shape &shape = graph.values[id].type.shape;
    return shape.empty() ? int64_t{1} : shape.back();
  };
  const auto is_wide = [&](int id) { return static_cast<double>(row_elements(id)) > check.number; };
  for (const Node &node : graph.nodes) {
    if (node.spec->kind != OpKind::Concat && node.spec->kind != OpKind::Reshape) continue;
    const bool concat = node.spec->kind == OpKind::Concat;
    for (int id : NodeView(graph, node).ids(concat ? "values" : "x")) {
      if (!made_by(id, concat ? OpKind::Reshape : OpKind::Concat)) continue;
      if (is_wide(id) || is_wide(node.outputs[0]))
        check.broken(node,
                     format("a reshape meets a concat on rows of %lld elements",
                            text(std::max(row_elements(id), row_elements(node.outputs[0])))),
                     at_most(check.number), "put the elements on other axes: this crashes the compiler");
    }
  }
}

RuleSpec limit(const char *name, const char *summary, const char *source, const char *unit, double number,
               const char *error = kBackEndError) {
  return {name, summary, source, Stage::Compile, unit, number, error};
}

}  // namespace

const std::vector<CompileRule> &limit_rules() {
  static const std::vector<CompileRule> rules = {
      {limit("channel-limit", "the channel axis holds at most 65,536", "ANE_FACTS C11: AF, AG", "elements", 65536),
       check_channels},
      {limit("axis-limit", "width and height hold at most 16,384 (M1 to M3) or 65,536 (M4 and later)",
             "ANE_FACTS C11: AF, AG", "elements", 16384),
       check_width_height},
      {limit("contraction-limit", "a matmul contracts over at most 16,384 (M1 to M3) or 65,536 elements",
             "ANE_FACTS C11: AF, AG", "elements", 16384),
       check_contraction},
      {limit("conv-input-channels", "a conv with 32,000 input channels is rejected", "ANE_FACTS C11: MAD PR #19",
             "channels", 32000),
       check_conv_input_channels},
      {limit("conv-kernel-width", "the kernel of a conv is at most 13 (M1) or 15 (M5) wide", "ANE_FACTS C12: AF",
             "elements", 15),
       check_conv_kernel_width},
      {limit("conv-fixed-channels", "only convs with 512 channels compile",
             "ANE_FACTS C15: MAD #3 #42; reading: an artefact of wrong blob headers", "channels", 512),
       check_conv_fixed_channels},
      {limit("blobfile-weights",
             "a program takes at most 16 BLOBFILE files, 15 where it adds, multiplies or raises by a scalar",
             "ANE_FACTS C14: ORI #15 #16, of one file per weight; 128 weights in one file run (7.2: MAD #3)", "files",
             16),
       check_blobfile_weights},
      {limit("blobfile-per-weight", "each weight needs a blob file of its own",
             "ANE_FACTS C16: MAD; reading: the cause is fp32 at the border", "", 1, kParserError),
       check_single_blob},
      {limit("wide-rows", "reshape with concat on rows of more than about 100,000 elements crashes the compiler",
             "ANE_FACTS C25: AF", "elements", 100000),
       check_wide_rows},
  };
  return rules;
}

}  // namespace ane
