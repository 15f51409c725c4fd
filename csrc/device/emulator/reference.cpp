#include "reference.h"

#include <cstring>
#include <map>
#include <stdexcept>

#include "../../cpu/threads.h"
#include "elements.h"
#include "errors.h"
#include "rounding.h"
#include "rows.h"

namespace ane {

float on_the_way_to(DType type, double value) {
  return type == DType::Fp16 ? round_to_odd(value) : static_cast<float>(value);
}

namespace {

// Sums of products in double: one rounding at the end.
class ExactArithmetic : public Arithmetic {
 public:
  void multiply(const NodeView &, const Product &p) override {
    const size_t rows_worth_a_thread = static_cast<size_t>(1 + 65536 / (1 + p.n * p.k));
    parallel_for(static_cast<size_t>(p.m), rows_worth_a_thread, [&](size_t begin, size_t end) {
      std::vector<double> sums(static_cast<size_t>(p.n));
      for (int64_t row = static_cast<int64_t>(begin); row < static_cast<int64_t>(end); ++row)
        multiply_row(p, row, sums.data());
    });
  }
  float sum(DType, const float *row, int64_t count) override { return row_sum(row, count); }
  bool rounds_inside() const override { return false; }
  void after_read(const Type &, float *) override {}
  void after_compute(const Type &, float *) override {}
  std::string counters_json() const override { return "{}"; }

 private:
  static void multiply_row(const Product &p, int64_t row, double *sums) {
    std::fill(sums, sums + p.n, 0.0);
    for (int64_t i = 0; i < p.k; ++i) {
      const double a = p.a[row * p.k + i];
      const float *b = p.b + i * p.n;
      for (int64_t column = 0; column < p.n; ++column) sums[column] += a * b[column];
    }
    for (int64_t column = 0; column < p.n; ++column) {
      const double bias = p.bias ? p.bias[p.bias_per_column ? column : row] : 0.0;
      p.c[row * p.n + column] = on_the_way_to(p.type, sums[column] + bias);
    }
  }
};

// Reads a graph's values from surfaces, runs node after node, frees what is no longer read.
class GraphExecutor : public Executor {
 public:
  GraphExecutor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options,
                std::unique_ptr<Arithmetic> arithmetic)
      : graph_(std::move(graph)), profile_(*options.profile), arithmetic_(std::move(arithmetic)) {
    values_.resize(graph_->values.size());
    pointers_.resize(values_.size());
    read_constants();
    find_last_uses();
  }

  void run(const std::vector<BoundSurface> &inputs, const std::vector<BoundSurface> &outputs) override {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const int id = graph_->inputs[i];
      const Type &type = graph_->values[id].type;
      allocate(id);
      floats_from_elements(type.dtype, inputs[i].base, values_[id].data(), element_count(type.shape));
      arithmetic_->after_read(type, values_[id].data());
    }
    for (size_t i = 0; i < graph_->nodes.size(); ++i) {
      run_graph_node(graph_->nodes[i]);
      for (int id : dead_after_[i]) set_value(id, {});  // frees the memory
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int id = graph_->outputs[i];
      const Type &type = graph_->values[id].type;
      elements_from_floats(type.dtype, values_[id].data(), outputs[i].base, element_count(type.shape));
    }
  }

  size_t resident_bytes() const override {
    size_t bytes = 0;
    for (const std::vector<float> &values : values_) bytes += values.capacity() * sizeof(float);
    return bytes;
  }

  std::string counters_json() const override { return arithmetic_->counters_json(); }

 private:
  void allocate(int id) {
    values_[id].resize(static_cast<size_t>(element_count(graph_->values[id].type.shape)));
    pointers_[id] = values_[id].data();
  }

  void set_value(int id, std::vector<float> value) {
    values_[id] = std::move(value);
    pointers_[id] = values_[id].data();
  }

  // Parameters (strings, shapes) are read from the graph by the kernels; only what is read per element is kept.
  void read_constants() {
    for (const Node &node : graph_->nodes) {
      for (size_t i = 0; i < node.arguments.size(); ++i) {
        for (int id : node.arguments[i].values) {
          const ConstantPtr &constant = graph_->values[id].constant;
          if (!constant || constant->type.dtype == DType::String || !values_[id].empty()) continue;
          set_value(id, floats_of(*constant));
          arithmetic_->after_read(constant->type, values_[id].data());
        }
      }
    }
  }

  void find_last_uses() {
    std::vector<int> last(graph_->values.size(), -1);
    const int count = static_cast<int>(graph_->nodes.size());
    for (int i = 0; i < count; ++i) {
      for (const Argument &argument : graph_->nodes[i].arguments)
        for (int id : argument.values) last[id] = i;
      for (int id : graph_->nodes[i].outputs) last[id] = i;
    }
    for (int id : graph_->outputs) last[id] = -1;
    dead_after_.resize(graph_->nodes.size());
    for (size_t id = 0; id < last.size(); ++id)
      if (last[id] >= 0 && !graph_->values[id].constant) dead_after_[last[id]].push_back(static_cast<int>(id));
  }

  void run_graph_node(const Node &node) {
    std::vector<float *> outputs;
    for (int id : node.outputs) {
      allocate(id);
      outputs.push_back(values_[id].data());
    }
    const NodeView view(*graph_, node);
    run_node(NodeRun(view, profile_, *arithmetic_, pointers_.data(), outputs));
    for (int id : node.outputs) arithmetic_->after_compute(graph_->values[id].type, values_[id].data());
  }

  const std::shared_ptr<const Graph> graph_;
  const Profile &profile_;
  const std::unique_ptr<Arithmetic> arithmetic_;
  std::vector<std::vector<float>> values_;    // by value id
  std::vector<const float *> pointers_;       // the data of each of values_, as kernels want them
  std::vector<std::vector<int>> dead_after_;  // value ids that no later node reads, by node
};

using Kernel = void (*)(const NodeRun &);

const std::map<OpKind, Kernel> &kernels() {
  static const std::map<OpKind, Kernel> table = {
      {OpKind::Conv, run_conv},
      {OpKind::ConvTranspose, run_conv_transpose},
      {OpKind::MatMul, run_matmul},
      {OpKind::Linear, run_linear},
      {OpKind::Einsum, run_einsum},
      {OpKind::Softmax, run_softmax},
      {OpKind::ReduceSum, run_reduction},
      {OpKind::ReduceMean, run_reduction},
      {OpKind::ReduceMax, run_reduction},
      {OpKind::ReduceMin, run_reduction},
      {OpKind::ReduceL1Norm, run_reduction},
      {OpKind::ReduceL2Norm, run_reduction},
      {OpKind::ReduceLogSum, run_reduction},
      {OpKind::ReduceSumSquare, run_reduction},
      {OpKind::ReduceLogSumExp, run_reduction},
      {OpKind::ReduceArgmax, run_argmax},
      {OpKind::TopK, run_topk},
      {OpKind::LayerNorm, run_layer_norm},
      {OpKind::BatchNorm, run_batch_norm},
      {OpKind::InstanceNorm, run_instance_norm},
      {OpKind::L2Norm, run_l2_norm},
      {OpKind::LocalResponseNorm, run_local_response_norm},
      {OpKind::Concat, run_layout},
      {OpKind::Stack, run_layout},
      {OpKind::Split, run_layout},
      {OpKind::SliceBySize, run_layout},
      {OpKind::SliceByIndex, run_layout},
      {OpKind::Reshape, run_layout},
      {OpKind::Transpose, run_layout},
      {OpKind::Squeeze, run_layout},
      {OpKind::ExpandDims, run_layout},
      {OpKind::Flatten2d, run_layout},
      {OpKind::Tile, run_layout},
      {OpKind::Reverse, run_layout},
      {OpKind::Pad, run_layout},
      {OpKind::Crop, run_layout},
      {OpKind::PixelShuffle, run_layout},
      {OpKind::PixelUnshuffle, run_layout},
      {OpKind::SpaceToDepth, run_layout},
      {OpKind::DepthToSpace, run_layout},
      {OpKind::MaxPool, run_pool},
      {OpKind::AvgPool, run_pool},
      {OpKind::UpsampleNearestNeighbor, run_resize},
      {OpKind::UpsampleBilinear, run_resize},
      {OpKind::ResizeNearestNeighbor, run_resize},
      {OpKind::ResizeBilinear, run_resize},
      {OpKind::Affine, run_affine},
      {OpKind::ScaledDotProductAttention, run_attention},
      {OpKind::Quantize, run_quantize},
      {OpKind::Dequantize, run_dequantize},
  };
  return table;
}

}  // namespace

void run_node(const NodeRun &run) {
  if (is_elementwise(run.kind())) {
    run_elementwise(run);
    return;  // rounded lane by lane
  }
  const auto kernel = kernels().find(run.kind());
  if (kernel == kernels().end()) throw std::logic_error(std::string("no kernel for ") + run.node().spec->name);
  kernel->second(run);
  for (size_t i = 0; i < run.node().outputs.size(); ++i) {
    if (run.output_type(i).dtype != DType::Fp16) continue;
    float *values = run.out(i);
    for (int64_t j = 0, count = run.out_count(i); j < count; ++j) values[j] = round_to_fp16(values[j]);
  }
}

std::unique_ptr<Arithmetic> make_exact_arithmetic() { return std::make_unique<ExactArithmetic>(); }

std::unique_ptr<Executor> make_graph_executor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options,
                                              std::unique_ptr<Arithmetic> arithmetic) {
  return std::make_unique<GraphExecutor>(std::move(graph), options, std::move(arithmetic));
}

std::unique_ptr<Executor> make_reference_executor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options) {
  return make_graph_executor(std::move(graph), options, make_exact_arithmetic());
}

}  // namespace ane
