// Rules on operations, and patterns of operations, that the compiler of a chip refuses.
#include <algorithm>
#include <functional>

#include "rules.h"

namespace ane {

namespace {

bool is_reduction(OpKind kind) { return kind >= OpKind::ReduceSum && kind <= OpKind::ReduceLogSumExp; }

// The activation functions; what the engine fuses behind another operation.
bool is_activation(OpKind kind) {
  return (kind >= OpKind::Relu && kind <= OpKind::Clip) || kind == OpKind::Prelu || kind == OpKind::Exp ||
         kind == OpKind::Sqrt || kind == OpKind::Rsqrt || kind == OpKind::Log;
}

bool keeps_elements(OpKind kind) {
  return kind == OpKind::Cast || kind == OpKind::Identity || (kind >= OpKind::Add && kind <= OpKind::Pow);
}

bool is_layout(OpKind kind) { return kind >= OpKind::Concat && kind <= OpKind::Reverse; }

const Node *producer(const Graph &graph, int id) {
  const int index = graph.values[id].producer;
  return index < 0 ? nullptr : &graph.nodes[index];
}

// Walks from a value back to what it is made from, through nodes of which 'through' is true.
bool comes_from(const Graph &graph, int id, const std::function<bool(const Node &)> &through,
                const std::function<bool(int)> &found) {
  if (found(id)) return true;
  const Node *node = producer(graph, id);
  if (!node || !through(*node)) return false;
  for (const Argument &argument : node->arguments)
    for (int source : argument.values)
      if (comes_from(graph, source, through, found)) return true;
  return false;
}

template <class Visit>
void each(const RuleCheck &check, OpKind kind, Visit visit) {
  for (const Node &node : check.graph.nodes)
    if (node.spec->kind == kind) visit(NodeView(check.graph, node));
}

// Refuses every use of one operation.
template <OpKind kind>
void refuse_operation(const RuleCheck &check) {
  each(check, kind, [&](const NodeView &node) {
    check.broken(node.node().pos, format("'%s' is not accepted by this chip's compiler", node.node().spec->name));
  });
}

void check_conv_bias(const RuleCheck &check) {
  each(check, OpKind::Conv, [&](const NodeView &conv) {
    if (conv.has("bias")) check.broken(conv.node().pos, "conv has a 'bias'; expected none: add it in a separate add");
  });
}

void check_runtime_conv_batch(const RuleCheck &check) {
  each(check, OpKind::Conv, [&](const NodeView &conv) {
    const int64_t batch = conv.shape("x")[0];
    if (!conv.is_constant("weight") && batch > 1)
      check.broken(conv.node().pos, format("conv with a weight computed at run time has batch %lld; expected 1: this "
                                           "crashes the compile service",
                                           static_cast<long long>(batch)));
  });
}

void check_zero_product(const RuleCheck &check) {
  const Graph &graph = check.graph;
  const auto is_zero = [&](int id) {
    const ConstantPtr &constant = graph.values[id].constant;
    if (!constant) return false;
    for (int64_t i = 0; i < constant->count(); ++i)
      if (constant->number(i) != 0) return false;
    return constant->count() > 0;
  };
  const auto is_reduced = [&](int id) {
    const Node *node = producer(graph, id);
    return node && is_reduction(node->spec->kind);
  };
  each(check, OpKind::Mul, [&](const NodeView &node) {
    const int x = node.id("x"), y = node.id("y");
    if ((is_reduced(x) && is_zero(y)) || (is_reduced(y) && is_zero(x)))
      check.broken(node.node().pos,
                   "a reduction is multiplied by the constant 0; expected anything else: use a tensor");
  });
}

void check_square_fusion(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes) {
    if (!is_activation(node.spec->kind)) continue;
    const NodeView view(check.graph, node);
    const Node *source = producer(check.graph, view.id("x"));
    const Shape &shape = view.shape("x");
    if (source && source->spec->kind == OpKind::Square && !shape.empty() && shape.back() % 128 > 64)
      check.broken(node.pos, format("'%s' of a square at width %lld, which is %lld mod 128; expected at most 64: write "
                                    "mul(x, x) for the square",
                                    node.spec->name, static_cast<long long>(shape.back()),
                                    static_cast<long long>(shape.back() % 128)));
  }
}

bool slices_width(const Graph &graph, const Node &node, bool with_offset) {
  const OpKind kind = node.spec->kind;
  if (kind != OpKind::SliceBySize && kind != OpKind::SliceByIndex) return false;
  const NodeView view(graph, node);
  const Shape &from = view.shape("x");
  if (from.empty() || (!with_offset && view.output_type().shape == from)) return false;
  const int64_t begin = view.integers("begin").back();
  return with_offset ? begin != 0 : view.output_type().shape.empty() || view.output_type().shape.back() != from.back();
}

bool concatenates_width(const NodeView &concat) {
  const int rank = static_cast<int>(concat.output_type().shape.size());
  return concat.axis("axis", rank) == rank - 1;
}

// The interleaved RoPE: reshape, slices of the width, concat along the width.
void check_width_rope(const RuleCheck &check) {
  const Graph &graph = check.graph;
  const auto through = [](const Node &node) { return keeps_elements(node.spec->kind); };
  const auto is_sliced_reshape = [&](int id) {
    const Node *node = producer(graph, id);
    if (!node || !slices_width(graph, *node, false)) return false;
    const Node *source = producer(graph, NodeView(graph, *node).id("x"));
    return source && source->spec->kind == OpKind::Reshape;
  };
  each(check, OpKind::Concat, [&](const NodeView &concat) {
    if (!concatenates_width(concat)) return;
    for (int id : concat.ids("values"))
      if (comes_from(graph, id, through, is_sliced_reshape))
        check.broken(concat.node().pos,
                     "a tensor is reshaped, sliced and concatenated along the width, as an interleaved "
                     "RoPE does; expected another axis, or a matmul with a permutation matrix");
  });
}

void check_width_slice_concat(const RuleCheck &check) {
  const Graph &graph = check.graph;
  each(check, OpKind::Concat, [&](const NodeView &concat) {
    int sliced = 0;
    for (int id : concat.ids("values")) {
      const Node *node = producer(graph, id);
      sliced += node && slices_width(graph, *node, true);
    }
    if (sliced > 1)
      check.broken(concat.node().pos, format("%d width slices at an offset meet in a concat: the hardware gives wrong "
                                             "elements without an error; expected at most one",
                                             sliced));
  });
}

void check_topk(const RuleCheck &check) {
  each(check, OpKind::TopK, [&](const NodeView &topk) {
    const int64_t k = topk.integer("k");
    if (k == 3 || k == 4)
      check.broken(topk.node().pos, format("topk with k = %lld; expected another k", static_cast<long long>(k)));
  });
}

void check_trigonometry(const RuleCheck &check) {
  refuse_operation<OpKind::Sin>(check);
  refuse_operation<OpKind::Cos>(check);
}

void check_quantize(const RuleCheck &check) {
  refuse_operation<OpKind::Quantize>(check);
  refuse_operation<OpKind::Dequantize>(check);
}

void check_slice_of_input(const RuleCheck &check) {
  const auto has = [&](OpKind kind) {
    return std::any_of(check.graph.nodes.begin(), check.graph.nodes.end(),
                       [&](const Node &node) { return node.spec->kind == kind; });
  };
  if (!has(OpKind::Conv) || !has(OpKind::Softmax)) return;
  each(check, OpKind::SliceByIndex, [&](const NodeView &slice) {
    const Value &x = slice.value("x");
    if (x.producer < 0 && !x.constant)
      check.broken(slice.node().pos, format("slice_by_index of input '%s' in a program with conv and softmax; expected "
                                            "slice_by_size, or separate inputs",
                                            x.name.c_str()));
  });
}

void check_fp32_compute(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes) {
    if (node.spec->kind == OpKind::Cast) continue;
    const Type &type = check.graph.values[node.outputs[0]].type;
    if (type.dtype == DType::Fp32)
      check.broken(node.pos, format("'%s' computes in fp32 (%s); expected fp16: only cast touches fp32",
                                    node.spec->name, type_text(type).c_str()));
  }
}

template <class Visit>
void each_compressed_operand(const RuleCheck &check, Visit visit) {
  for (const Node &node : check.graph.nodes)
    for (const Argument &argument : node.arguments)
      for (int id : argument.values)
        if (check.graph.values[id].made_by != OpKind::Const) visit(node, check.graph.values[id]);
}

void check_constexpr(const RuleCheck &check) {
  each_compressed_operand(check, [&](const Node &node, const Value &value) {
    check.broken(node.pos, format("weight '%s' is stored compressed (%s); expected fp16", value.name.c_str(),
                                  dtype_name(value.stored_as)));
  });
}

void check_constexpr_reshape(const RuleCheck &check) {
  each_compressed_operand(check, [&](const Node &node, const Value &value) {
    if (node.spec->kind == OpKind::Reshape)
      check.broken(node.pos,
                   format("compressed weight '%s' is reshaped; expected the shape it is used in", value.name.c_str()));
  });
}

void check_runtime_matmul(const RuleCheck &check) {
  const Graph &graph = check.graph;
  const auto through = [](const Node &node) { return is_layout(node.spec->kind) || node.spec->kind == OpKind::Cast; };
  const auto is_input = [&](int id) {
    return std::find(graph.inputs.begin(), graph.inputs.end(), id) != graph.inputs.end();
  };
  each(check, OpKind::MatMul, [&](const NodeView &matmul) {
    if (comes_from(graph, matmul.id("x"), through, is_input) && comes_from(graph, matmul.id("y"), through, is_input))
      check.broken(matmul.node().pos,
                   "both operands of a matmul are inputs of the program; expected a constant weight");
  });
}

void check_batch_broadcast(const RuleCheck &check) {
  if (check.graph.nodes.size() < 2) return;
  each(check, OpKind::Mul, [&](const NodeView &node) {
    const Shape &x = node.shape("x"), &y = node.shape("y");
    if (x.size() == 4 && y.size() == 4 && x[0] != y[0])
      check.broken(node.node().pos, format("mul broadcasts the batch axis, %s with %s; expected equal batches",
                                           shape_text(x).c_str(), shape_text(y).c_str()));
  });
}

RuleSpec operation(const char *name, const char *summary, const char *source, const char *error = kBackEndError) {
  return {name, summary, source, Stage::Compile, "", 1, error};
}

}  // namespace

const std::vector<CompileRule> &operation_rules() {
  static const std::vector<CompileRule> rules = {
      {operation("conv-bias", "conv takes no bias", "ANE_FACTS C36: ORI #17; AF and LM add separately"),
       check_conv_bias},
      {operation("runtime-conv-batch", "a conv whose weight is computed at run time has batch 1", "ANE_FACTS C26: AF",
                 kLoweringError),
       check_runtime_conv_batch},
      {operation("zero-product", "a reduction may not be multiplied by the constant 0", "ANE_FACTS C22: AF"),
       check_zero_product},
      {operation("square-fusion", "an activation of a square fails where W mod 128 is above 64", "ANE_FACTS C23: AF"),
       check_square_fusion},
      {operation("width-rope", "reshape, slice and concat along the width, as in an interleaved RoPE, fail",
                 "ANE_FACTS C18: RS #9", kLoweringError),
       check_width_rope},
      {operation("width-slice-concat", "several width slices at an offset, concatenated, give wrong elements",
                 "ANE_FACTS C54, 3.3: AF (H14)"),
       check_width_slice_concat},
      {operation("topk-three-four", "topk with k of 3 or 4 fails", "ANE_FACTS C10, 3.3: AF"), check_topk},
      {operation("trigonometry", "sin and cos need an M3 or later", "ANE_FACTS 3.3: AF"), check_trigonometry},
      {operation("cast", "cast is refused", "ANE_FACTS 3.3, C17: MAD PR #6", kLoweringError),
       refuse_operation<OpKind::Cast>},
      {operation("fp32-compute", "only cast may read or write fp32", "ANE_FACTS 2.4, 6: MAD, AG", kLoweringError),
       check_fp32_compute},
      {operation("quantize", "quantize and dequantize of activations are refused",
                 "ANE_FACTS C35 (!): M0; M4 and M5 Max accept them", kParserError),
       check_quantize},
      {operation("constexpr-weights", "weights of constexpr_* operations are refused",
                 "ANE_FACTS C34 (!): M0, ESP; against: MAD, PR #50, OM, AF", kParserError),
       check_constexpr},
      {operation("constexpr-reshape", "the result of a constexpr_* operation cannot be reshaped",
                 "ANE_FACTS 3.3, 4.4: AF"),
       check_constexpr_reshape},
      {operation("concat", "concat is refused", "ANE_FACTS C1 (!): ORI #1, AT; against: MAD, ESP, LM, M0, AF"),
       refuse_operation<OpKind::Concat>},
      {operation("rsqrt", "rsqrt is refused",
                 "ANE_FACTS C8 (!): ESP, M0, AT, ORI #17; reading: its epsilon was missing", kParserError),
       refuse_operation<OpKind::Rsqrt>},
      {operation("gelu", "gelu is refused", "ANE_FACTS C7 (!): ORI #10; reading: its mode was missing", kParserError),
       refuse_operation<OpKind::Gelu>},
      {operation("reduce-mean", "reduce_mean is refused", "ANE_FACTS C9 (!): ESP; against: ORI, AF", kParserError),
       refuse_operation<OpKind::ReduceMean>},
      {operation("layer-norm", "layer_norm is refused: its native form compiles for some values only",
                 "ANE_FACTS C27: AF (M2 Pro)"),
       refuse_operation<OpKind::LayerNorm>},
      {operation("slice-of-input", "slice_by_index of an input fails in a program with conv and softmax",
                 "ANE_FACTS C21: ESP; against: LM", kParserError),
       check_slice_of_input},
      {operation("runtime-matmul", "a matmul of two inputs of the program is refused",
                 "ANE_FACTS C93: M0; against: PR #22, H3, AT, ORI"),
       check_runtime_matmul},
      {operation("batch-broadcast", "mul may not broadcast the batch axis in a program of several operations",
                 "ANE_FACTS C52: FG"),
       check_batch_broadcast},
  };
  return rules;
}

}  // namespace ane
