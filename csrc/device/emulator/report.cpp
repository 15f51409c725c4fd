#include "report.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include "../json.h"

namespace ane {

static int64_t elements(const Type &type) { return element_count(type.shape); }
// Counts that stay at the largest instead of overflowing: absurd shapes are still reported.
static int64_t plus(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}
static int64_t times(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static int64_t bytes(const Type &type) { return times(elements(type), static_cast<int64_t>(dtype_bytes(type.dtype))); }

// What one output element of a contraction sums over, times two.
static int64_t product_flops(const NodeView &node) {
  const int64_t outputs = elements(node.output_type());
  switch (node.kind()) {
    case OpKind::Conv: {  // weight [Co, Ci/g, kH, kW]
      const Shape &weight = node.shape("weight");
      return times(2 * outputs, element_count(weight) / weight[0]);
    }
    case OpKind::ConvTranspose: {  // weight [Ci, Co/g, kH, kW]: every input element meets Co/g * kH * kW
      const Shape &weight = node.shape("weight");
      return times(2 * elements(node.type("x")), element_count(weight) / weight[0]);
    }
    case OpKind::MatMul: {
      const Shape &x = node.shape("x");
      return times(2 * outputs, x[x.size() - (node.boolean("transpose_x") ? 2 : 1)]);
    }
    case OpKind::Linear: return times(2 * outputs, node.shape("weight").back());
    case OpKind::Einsum: {  // "nchw,nwhu->nchu"
      const Shape &x = node.graph().values[node.ids("values")[0]].type.shape;
      return times(2 * outputs, x.back());
    }
    case OpKind::ScaledDotProductAttention: {  // query [..., L, E], key [..., S, E], value [..., S, V]
      const Shape &query = node.shape("query"), &key = node.shape("key");
      const int64_t scores = times(elements(node.type("query")) / query.back(), key[key.size() - 2]);
      return times(scores, 2 * (query.back() + node.shape("value").back()));
    }
    default: return 0;
  }
}

static bool is_product(OpKind kind) { return kind <= OpKind::Einsum || kind == OpKind::ScaledDotProductAttention; }

static bool only_moves(OpKind kind) {
  return (kind >= OpKind::Concat && kind <= OpKind::DepthToSpace) || kind == OpKind::Cast || kind == OpKind::Identity;
}

int64_t node_flops(const NodeView &node) {
  if (is_product(node.kind())) return product_flops(node);
  if (only_moves(node.kind())) return 0;
  int64_t largest = elements(node.output_type());  // a reduction works on its input
  for (const Argument &argument : node.node().arguments)
    for (const int id : argument.values) largest = std::max(largest, elements(node.graph().values[id].type));
  return largest;
}

// Run-time tensors and constants read, and outputs written. Parameters such as axes are not data, but tiny.
static int64_t node_bytes(const NodeView &node) {
  int64_t total = 0;
  for (const Argument &argument : node.node().arguments)
    for (const int id : argument.values) total = plus(total, bytes(node.graph().values[id].type));
  for (size_t i = 0; i < node.node().outputs.size(); i++) total = plus(total, bytes(node.output_type(i)));
  return total;
}

struct Cost {
  int64_t count = 0, flops = 0, bytes = 0;
};

std::string report_json(const Graph &graph, const std::vector<std::string> &warnings, const char *executor_name,
                        const Executor &executor, bool was_prepared) {
  std::map<std::string, Cost> kinds;
  Cost total;
  for (const Node &node : graph.nodes) {
    const NodeView view(graph, node);
    Cost &kind = kinds[node.spec->name];
    const int64_t flops = node_flops(view), moved = node_bytes(view);
    for (Cost *cost : {&kind, &total}) *cost = {cost->count + 1, plus(cost->flops, flops), plus(cost->bytes, moved)};
  }
  int64_t constants = 0;
  for (const Value &value : graph.values)
    if (value.constant && value.type.dtype != DType::String) constants = plus(constants, bytes(value.type));
  JsonObject by_kind;
  for (const auto &[name, cost] : kinds)
    by_kind.add_json(name,
                     JsonObject().add("count", cost.count).add("flops", cost.flops).add("bytes", cost.bytes).text());
  return JsonObject()
      .add("operations", total.count)
      .add("flops", total.flops)
      .add("bytes", total.bytes)
      .add_json("operation_kinds", by_kind.text())
      .add("constant_bytes", constants)
      .add("blob_files", graph.blob_file_count)
      .add("blob_references", graph.blob_reference_count)
      .add_json("warnings", json_array(warnings))
      .add("executor", executor_name)
      .add("was_prepared", was_prepared)
      .add("executor_resident_bytes", executor.resident_bytes())
      .text();
}

}  // namespace ane
