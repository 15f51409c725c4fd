// The audit executor: the reference executor with the engine's arithmetic, as far as it is known (ANE_FACTS 6). What it
// imitates is switched by the numerics rules of the profile; docs/numerics.md describes it for users.
#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "../../cpu/cpu_features.h"
#include "../../cpu/threads.h"
#include "../json.h"
#include "audit_kernels.h"
#include "reference.h"
#include "rows.h"

namespace ane {

AuditKernel audit_kernel() {
#if defined(__x86_64__)
  if (anecpu_has_avx512()) return audit_block_avx512;
  if (anecpu_has_avx2()) return audit_block_avx2;
#endif
  return audit_block_base;
}

namespace {

// sum + value in fp16, where a sum halfway between two fp16 values goes up: 2048 + 1 reads 2050.
float add_narrow(float sum, float value) {
  const float exact = sum + value, nearest = round_to_fp16(exact);
  const float other = nearest + 2 * (exact - nearest);  // as far on the other side
  const bool tie = other != nearest && round_to_fp16(other) == other;
  return tie && std::abs(other) > std::abs(nearest) ? other : nearest;
}

bool all_finite(const float *values, int64_t count) {
  float sum = 0;  // of zeros, unless one is not finite
  for (int64_t i = 0; i < count; ++i) sum += values[i] * 0.0f;
  return sum == 0.0f;
}

struct NodeCounters : AuditCounters {
  int64_t products = 0;
};

class AuditArithmetic : public Arithmetic {
 public:
  explicit AuditArithmetic(const Profile &profile)
      : profile_(profile),
        exact_(make_exact_arithmetic()),
        rounds_products_(profile.on("product-rounding")),
        narrow_sums_(profile.on("narrow-reduce-sum")),
        nan_reads_as_inf_(profile.on("nan-reads-as-inf")),
        invalid_gives_zero_(profile.on("invalid-gives-zero")) {}

  void multiply(const NodeView &node, const Product &product) override {
    if (product.type != DType::Fp16) return exact_->multiply(node, product);  // the engine has no such arithmetic
    const AuditRules rules = rules_for(node, product);
    NodeCounters counters;
    counters.products = product.m * product.n * product.k;
    for (int64_t column = 0; column < product.n; column += kPanelColumns)
      multiply_panel(rules, product, column, &counters);
    add_counters(node, counters);
  }

  float sum(DType type, const float *row, int64_t count) override {
    if (!narrow_sums_ || type != DType::Fp16) return row_sum(row, count);
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) sum = add_narrow(sum, row[i]);
    return sum;
  }

  bool rounds_inside() const override { return rounds_products_; }

  void after_read(const Type &type, float *values) override {
    if (!nan_reads_as_inf_ || type.dtype != DType::Fp16) return;
    for (int64_t i = 0, count = element_count(type.shape); i < count; ++i)
      if (values[i] != values[i]) values[i] = vmath::kInfinity;
  }

  void after_compute(const Type &type, float *values) override {
    if (type.dtype != DType::Fp16) return;
    int64_t infinite = 0;
    for (int64_t i = 0, count = element_count(type.shape); i < count; ++i) {
      if (invalid_gives_zero_ && values[i] != values[i]) values[i] = 0.0f;
      infinite += std::abs(values[i]) == vmath::kInfinity;
    }
    infinite_values_ += infinite;
  }

  std::string counters_json() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    NodeCounters total;
    std::string nodes;
    for (const auto &[node, counters] : counters_) {
      accumulate(&total, counters);
      JsonObject entry;
      entry.add("name", node->label).add("op", node->spec->name);
      nodes += (nodes.empty() ? "" : ",") + describe(entry, counters).text();
    }
    JsonObject all;
    return describe(all, total)
        .add("infinite_values", infinite_values_.load())
        .add_json("nodes", "[" + nodes + "]")
        .text();
  }

 private:
  AuditRules rules_for(const NodeView &node, const Product &product) const {
    AuditRules rules = {};
    rules.round_products = rounds_products_;
    rules.round_ties_up = profile_.on("ties-up");
    rules.invalid_gives_zero = invalid_gives_zero_;
    rules.tile = static_cast<int>(profile_.value("tile-of-four"));
    if (profile_.on("denormal-flush"))
      rules.flush_below = std::ldexp(1.0f, static_cast<int>(profile_.value("denormal-flush")));
    rules.overflow_from = rules.interior_from = vmath::kInfinity;
    const bool single_tap = node.kind() == OpKind::Conv && product.k == 1;  // acts like an elementwise operation
    if (single_tap) return rules;
    const char *overflow = has_int8_weight(node) ? "int8-weight-overflow" : "accumulator-overflow";
    if (profile_.on(overflow)) rules.overflow_from = static_cast<float>(profile_.value(overflow));
    if (profile_.on("interior-partial-overflow")) rules.interior_from = kInteriorLimit;
    rules.interior_gives_zero = profile_.value("interior-partial-overflow") == 2;
    return rules;
  }

  static bool has_int8_weight(const NodeView &node) {
    for (const Argument &argument : node.node().arguments)
      for (int id : argument.values) {
        const Value &value = node.graph().values[id];
        const bool eight_bits = value.stored_as == DType::Int8 || value.stored_as == DType::UInt8;
        if (value.constant && eight_bits && value.type.dtype == DType::Fp16) return true;
      }
    return false;
  }

  // Columns [first, first + kPanelColumns) of the product.
  static void multiply_panel(const AuditRules &rules, const Product &p, int64_t first, NodeCounters *counters) {
    const int64_t columns = std::min<int64_t>(kPanelColumns, p.n - first);
    std::vector<float> panel(static_cast<size_t>(p.k * kPanelColumns), 0.0f);
    for (int64_t i = 0; i < p.k; ++i) std::copy_n(p.b + i * p.n + first, columns, panel.data() + i * kPanelColumns);
    const bool finite = all_finite(panel.data(), p.k * kPanelColumns) && all_finite(p.a, p.m * p.k);
    std::mutex mutex;
    const size_t rows_worth_a_thread = static_cast<size_t>(1 + 65536 / (1 + columns * p.k));
    parallel_for(static_cast<size_t>(p.m), rows_worth_a_thread, [&](size_t begin, size_t end) {
      AuditBlock block = {};
      const int64_t row = static_cast<int64_t>(begin);
      block.a = p.a + row * p.k, block.a_step = p.k;
      block.panel = panel.data();
      block.rows = static_cast<int64_t>(end) - row, block.columns = columns, block.k = p.k;
      if (p.bias) (p.bias_per_column ? block.column_bias : block.row_bias) = p.bias + (p.bias_per_column ? first : row);
      block.c = p.c + row * p.n + first, block.c_step = p.n;
      block.finite = finite;
      AuditCounters local;
      audit_kernel()(rules, block, &local);
      std::lock_guard<std::mutex> lock(mutex);
      counters->flushed += local.flushed;
      counters->overflowed += local.overflowed;
      counters->interior += local.interior;
    });
  }

  static void accumulate(NodeCounters *sum, const NodeCounters &more) {
    sum->products += more.products;
    sum->flushed += more.flushed;
    sum->overflowed += more.overflowed;
    sum->interior += more.interior;
  }

  static JsonObject &describe(JsonObject &object, const NodeCounters &counters) {
    return object.add("products", counters.products)
        .add("flushed_products", counters.flushed)
        .add("overflowed_sums", counters.overflowed)
        .add("interior_overflows", counters.interior);
  }

  void add_counters(const NodeView &node, const NodeCounters &more) {
    std::lock_guard<std::mutex> lock(mutex_);
    accumulate(&counters_[&node.node()], more);
  }

  static constexpr float kInteriorLimit = 0x1p15f;
  const Profile &profile_;
  const std::unique_ptr<Arithmetic> exact_;
  const bool rounds_products_, narrow_sums_, nan_reads_as_inf_, invalid_gives_zero_;
  mutable std::mutex mutex_;
  std::map<const Node *, NodeCounters> counters_;  // nodes lie in program order in one array
  std::atomic<int64_t> infinite_values_{0};
};

}  // namespace

std::unique_ptr<Executor> make_audit_executor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options) {
  return make_graph_executor(std::move(graph), options, std::make_unique<AuditArithmetic>(*options.profile));
}

}  // namespace ane
