// Rules that change values. Executors read them with profile.value("name"); beside each: what its number means and who
// acts on it. "all": every executor. "audit": only the audit executor, which imitates the engine's arithmetic.
// "back end": backend.cpp.
#include <cmath>

#include "border.h"
#include "reference.h"
#include "rules.h"

namespace ane {

namespace {

RuleSpec numerics(const char *name, const char *summary, const char *source, const char *unit = "", double number = 1) {
  return {name, summary, source, Stage::Numerics, unit, number, ""};
}

void check_masks(const RuleCheck &check, const Profile &) {
  for (const Node &node : check.graph.nodes)
    if (node.spec->kind == OpKind::ScaledDotProductAttention && NodeView(check.graph, node).has("attn_mask"))
      check.broken(node, "its attn_mask is not applied", "no attn_mask", "use matmul, add, softmax, matmul");
}

void check_width_slices(const RuleCheck &check, const Profile &profile) {
  for (const Node &node : check.graph.nodes)
    if (std::isfinite(width_slice_limit(NodeView(check.graph, node), profile)))
      check.broken(node, "it slices the width at an offset", format("magnitudes of at most %.0f", check.number),
                   "larger ones become infinity: slice another axis");
}

void check_narrow_rows(const RuleCheck &check, const Profile &) {
  for (const bool output : {false, true}) {
    const std::vector<int> &ids = output ? check.graph.outputs : check.graph.inputs;
    for (const Port &port : device_ports(check.graph, ids))
      if (port.is_padded())
        check.broken(
            {check.graph.values[ids[port.declared]].pos, format("%s '%s'", output ? "output" : "input", port.port.name),
             format("rows of %zu bytes, which are read densely", port.row_bytes), "a multiple of 64", "pad the width"});
  }
}

// Training programs keep to this, well inside of where a narrow sum stays exact.
constexpr int64_t kLongestNarrowSum = 64;

void check_long_sums(const RuleCheck &check, const Profile &) {
  for (const Node &node : check.graph.nodes) {
    if (node.spec->kind != OpKind::ReduceSum && node.spec->kind != OpKind::ReduceMean) continue;
    const NodeView view(check.graph, node);
    const int64_t outputs = element_count(view.output_type().shape);
    const int64_t terms = outputs ? element_count(view.shape("x")) / outputs : 0;
    if (terms > kLongestNarrowSum)
      check.broken(node, format("it adds %lld terms in fp16", static_cast<long long>(terms)),
                   format("at most %lld", static_cast<long long>(kLongestNarrowSum)), "use a matmul with ones");
  }
}

}  // namespace

const std::vector<RuleSpec> &numerics_rules() {
  static const std::vector<RuleSpec> rules = {
      // all. Tables of tables.h; the result is then rounded to fp16.
      numerics("sigmoid-table", "sigmoid reads a 33-knot table, at most 3.4e-3 off", "ANE_FACTS 6: AF, AG"),
      numerics("tanh-table", "tanh reads a 33-knot table, at most 1.7e-3 off", "ANE_FACTS 6: AF, AG"),
      numerics("gelu-table", "gelu reads a 33-knot table, at most 5.9e-3 off, and gelu(0) is -0.000543",
               "ANE_FACTS 6: AF, AG"),
      numerics("silu-table", "silu reads a 33-knot table, and silu(0) is -0.001259", "ANE_FACTS 6: AF, AG"),
      // all. exp(x) is +inf above the number, and finite (at most 65504) up to it.
      numerics("exp-overflow", "exp gives infinity above 11.094 and stays finite up to it", "ANE_FACTS C72, 6",
               "argument", 11.094),
      // all. Where |x| is at or above the number, round() keeps one bit less: the result is a multiple of twice the
      // spacing of fp16 at x. That it is wrong there is known; how it is wrong is not.
      numerics("round-limit", "round is wrong for magnitudes of 1024 and more", "ANE_FACTS C73: AF", "argument", 1024),
      // all. attn_mask of scaled_dot_product_attention is not applied.
      numerics("sdpa-mask-ignored", "scaled_dot_product_attention ignores its attn_mask",
               "ANE_FACTS C6: MAD test_ane_sdpa5, M0, ORI #6"),
      // all. A slice that starts at an offset > 0 on the last axis turns |v| above the number into infinity, sign kept.
      numerics("width-slice-saturation", "a width slice at an offset turns magnitudes above 4094 into infinity",
               "ANE_FACTS C54: AF", "magnitude", 4094),
      // back end. A surface whose rows are not multiples of 64 bytes (border-width is off) is read without row padding.
      numerics("oversize-dense-read", "a surface with narrow rows is read densely, not with padded rows",
               "ANE_FACTS C48: ORI #14; against: H3, FG, LM"),
      // back end. Surface i of a request belongs to the i-th port as the program declares them.
      numerics("declared-order", "surfaces are taken in the order in which ports are declared, not sorted by name",
               "ANE_FACTS C43, 2.3: what M0 and FG took for granted; against: ORI, AT"),

      // audit. Every product of a matmul, conv, linear or einsum is rounded to fp16 before it is added.
      numerics("product-rounding", "every product is rounded to fp16 before it is summed", "ANE_FACTS 6: AG, H3, AF"),
      // audit. Products smaller in magnitude than 2^number become 0 (elementwise operations keep them).
      numerics("denormal-flush", "products below 2^-14 vanish inside a multiply-accumulate", "ANE_FACTS C70, 6: AG, H3",
               "power of two", -14),
      // audit. A result of a matmul, linear or multi-tap conv that rounds to |y| >= number is infinity, sign kept.
      numerics("accumulator-overflow", "results of 32768 and more become infinity in matmul, linear and conv",
               "ANE_FACTS C67, 6: AF", "magnitude", 32768),
      // audit. A partial sum inside the row reaching 2^15 makes the result 1: infinity, 2: zero.
      numerics("interior-partial-overflow", "a partial sum that reaches 32768 spoils the result: 1 infinity, 2 zero",
               "ANE_FACTS 6 (!): H3", "1 infinity, 2 zero", 2),
      // audit. As accumulator-overflow, where the weight is made by a constexpr_* operation from int8.
      numerics("int8-weight-overflow", "results of 30000 and more become infinity where weights are int8",
               "ANE_FACTS C68, 6: AF", "magnitude", 30000),
      // audit. `number` products are first added among themselves, in fp16; such tiles are then added wide:
      // 4096 + 1024 ones = 5116, and 16,384 ones are still exact.
      numerics("tile-of-four", "products are added in fp16 inside each tile of four", "ANE_FACTS 6: AG", "products", 4),
      // audit. Ties in the rounding of a sum go up in magnitude instead of to even: 2048 + 1 = 2050.
      numerics("ties-up", "a sum halfway between two fp16 values is rounded up, not to even", "ANE_FACTS 6: AG, H3"),
      // audit. reduce_sum and reduce_mean round every step of their sum to fp16, ties up: 2049 ones read 2050.
      numerics("narrow-reduce-sum", "reduce_sum and reduce_mean add in fp16, exact only to 2048",
               "ANE_FACTS C69, 6: AF"),
      // audit. A NaN in an operand is read as +infinity.
      numerics("nan-reads-as-inf", "a NaN is read as +infinity", "ANE_FACTS C71, 6: AF, AG"),
      // audit. inf - inf, 0 * inf and sqrt of a negative number give 0 instead of NaN.
      numerics("invalid-gives-zero", "inf - inf, 0 * inf and sqrt(-1) give 0 instead of NaN", "ANE_FACTS 6: AF, AG"),
  };
  return rules;
}

void report_numerics(const Graph &graph, const Profile &profile, const Report &report) {
  const auto when_on = [&](const char *name, auto check) {
    if (profile.on(name)) check(RuleCheck(*find_rule(name), profile.value(name), graph, report), profile);
  };
  when_on("sdpa-mask-ignored", check_masks);
  when_on("width-slice-saturation", check_width_slices);
  when_on("oversize-dense-read", check_narrow_rows);
  when_on("narrow-reduce-sum", check_long_sums);
}

}  // namespace ane
