// Rules on operations, and patterns of operations, that the compiler of a chip refuses.
#include <algorithm>

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

// Which values are made, through operations of which `through` is true, from those of which `from` is true.
template <class From, class Through>
std::vector<bool> made_from(const Graph &graph, From from, Through through) {
  std::vector<bool> reached(graph.values.size());
  for (int id = 0; id < static_cast<int>(reached.size()); ++id) reached[id] = from(id);
  for (const Node &node : graph.nodes) {
    if (!through(node.spec->kind)) continue;
    for (const Argument &argument : node.arguments)
      for (int source : argument.values)
        if (reached[source])
          for (int id : node.outputs) reached[id] = true;
  }
  return reached;
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
    check.broken(node.node(), "this chip's compiler refuses it", "another operation");
  });
}

void check_conv_bias(const RuleCheck &check) {
  each(check, OpKind::Conv, [&](const NodeView &conv) {
    if (conv.has("bias")) check.broken(conv.node(), "it has a 'bias'", "none", "add it in a separate add");
  });
}

void check_runtime_conv_batch(const RuleCheck &check) {
  each(check, OpKind::Conv, [&](const NodeView &conv) {
    const int64_t batch = conv.shape("x")[0];
    if (!conv.is_constant("weight") && batch > 1)
      check.broken(conv.node(), format("batch %lld with a weight computed at run time", static_cast<long long>(batch)),
                   "batch 1", "put the batch on the width; this crashes the compile service");
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
      check.broken(node.node(), "a reduction times the constant 0", "anything else", "use a tensor");
  });
}

void check_square_fusion(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes) {
    if (!is_activation(node.spec->kind)) continue;
    const NodeView view(check.graph, node);
    const Node *source = producer(check.graph, view.id("x"));
    const Shape &shape = view.shape("x");
    if (source && source->spec->kind == OpKind::Square && !shape.empty() && shape.back() % 128 > 64)
      check.broken(node,
                   format("an activation of a square at width %lld, which is %lld mod 128",
                          static_cast<long long>(shape.back()), static_cast<long long>(shape.back() % 128)),
                   "at most 64", "write mul(x, x) for the square");
  }
}

constexpr int64_t kNoWidthSlice = -1;

// Where on the last axis a slice begins; kNoWidthSlice when the node is no slice or keeps the whole axis.
int64_t width_slice_begin(const Graph &graph, const Node *node) {
  if (!node || (node->spec->kind != OpKind::SliceBySize && node->spec->kind != OpKind::SliceByIndex))
    return kNoWidthSlice;
  const NodeView view(graph, *node);
  const Shape &from = view.shape("x"), &to = view.output_type().shape;
  const bool drops_width = view.has("squeeze_mask") && !from.empty() && view.integers("squeeze_mask").back();
  if (from.empty() || (!drops_width && from.back() == to.back())) return kNoWidthSlice;
  const bool open = view.has("begin_mask") && view.integers("begin_mask").back();
  const int64_t begin = open ? 0 : view.integers("begin").back();
  return begin < 0 ? begin + from.back() : begin;
}

bool concatenates_width(const NodeView &concat) {
  const int rank = static_cast<int>(concat.output_type().shape.size());
  return concat.axis("axis", rank) == rank - 1;
}

// The interleaved RoPE: reshape, slices of the width, concat along the width.
void check_width_rope(const RuleCheck &check) {
  const Graph &graph = check.graph;
  const auto is_sliced_reshape = [&](int id) {
    const Node *node = producer(graph, id);
    if (width_slice_begin(graph, node) == kNoWidthSlice) return false;
    const Node *source = producer(graph, NodeView(graph, *node).id("x"));
    return source && source->spec->kind == OpKind::Reshape;
  };
  const std::vector<bool> sliced = made_from(graph, is_sliced_reshape, keeps_elements);
  each(check, OpKind::Concat, [&](const NodeView &concat) {
    if (!concatenates_width(concat)) return;
    for (int id : concat.ids("values"))
      if (sliced[id])
        check.broken(concat.node(),
                     "a tensor is reshaped, sliced and concatenated along the width, as an interleaved RoPE does",
                     "another axis, or a matmul with a permutation matrix");
  });
}

void check_width_slice_concat(const RuleCheck &check) {
  const Graph &graph = check.graph;
  each(check, OpKind::Concat, [&](const NodeView &concat) {
    int sliced = 0;
    for (int id : concat.ids("values")) sliced += width_slice_begin(graph, producer(graph, id)) > 0;
    if (sliced > 1)
      check.broken(concat.node(), format("%d width slices at an offset meet here", sliced), "at most one",
                   "slice another axis: the hardware gives wrong elements without an error");
  });
}

void check_topk(const RuleCheck &check) {
  each(check, OpKind::TopK, [&](const NodeView &topk) {
    const int64_t k = topk.integer("k");
    if (k == 3 || k == 4) check.broken(topk.node(), format("k = %lld", static_cast<long long>(k)), "another k");
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
      check.broken(slice.node(), format("it slices input '%s' in a program with conv and softmax", x.name.c_str()),
                   "slice_by_size, or separate inputs");
  });
}

void check_fp32_compute(const RuleCheck &check) {
  for (const Node &node : check.graph.nodes) {
    if (node.spec->kind == OpKind::Cast) continue;
    const Type &type = check.graph.values[node.outputs[0]].type;
    if (type.dtype == DType::Fp32)
      check.broken(node, "it computes in fp32, " + type_text(type), "fp16", "only cast touches fp32");
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
    check.broken(node,
                 format("weight '%s' is stored compressed, as %s", value.name.c_str(), dtype_name(value.stored_as)),
                 "fp16");
  });
}

void check_constexpr_reshape(const RuleCheck &check) {
  each_compressed_operand(check, [&](const Node &node, const Value &value) {
    if (node.spec->kind == OpKind::Reshape)
      check.broken(node, format("it reshapes the compressed weight '%s'", value.name.c_str()),
                   "a weight in the shape it is used in");
  });
}

void check_runtime_matmul(const RuleCheck &check) {
  const Graph &graph = check.graph;
  const auto is_input = [&](int id) { return graph.values[id].producer < 0 && !graph.values[id].constant; };
  const auto through = [](OpKind kind) { return is_layout(kind) || kind == OpKind::Cast; };
  const std::vector<bool> from_input = made_from(graph, is_input, through);
  each(check, OpKind::MatMul, [&](const NodeView &matmul) {
    if (from_input[matmul.id("x")] && from_input[matmul.id("y")])
      check.broken(matmul.node(), "both operands are inputs of the program", "a constant weight");
  });
}

void check_batch_broadcast(const RuleCheck &check) {
  if (check.graph.nodes.size() < 2) return;
  each(check, OpKind::Mul, [&](const NodeView &node) {
    const Shape &x = node.shape("x"), &y = node.shape("y");
    if (x.size() == 4 && y.size() == 4 && x[0] != y[0])
      check.broken(node.node(),
                   format("it broadcasts the batch axis, %s with %s", shape_text(x).c_str(), shape_text(y).c_str()),
                   "equal batches");
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
