// The reference executor: every operation on its own, in plain scalar code, from dense floats to dense floats. The
// audit executor is the same with another Arithmetic.
#ifndef ANETRAIN_EMULATOR_REFERENCE_H
#define ANETRAIN_EMULATOR_REFERENCE_H

#include "elementwise.h"
#include "executor.h"

namespace ane {

// c[m,n] = a[m,k] b[k,n] + bias, all row-major.
struct Product {
  int64_t m, n, k;
  const float *a, *b;
  const float *bias;     // null: none
  bool bias_per_column;  // bias[n]; else bias[m]
  float *c;
  DType type;  // of c
};

// What the engine's arithmetic may do differently: sums of products, and numbers that are not finite.
class Arithmetic {
 public:
  virtual ~Arithmetic() = default;
  // Writes values that rounding to product.type makes right.
  virtual void multiply(const NodeView &node, const Product &product) = 0;
  // The sum of reduce_sum and reduce_mean, on its way to `type`.
  virtual float sum(DType type, const float *row, int64_t count) = 0;
  // Does one operation that is made of several (attention) round between them?
  virtual bool rounds_inside() const = 0;
  virtual void after_read(const Type &type, float *values) = 0;     // an input or a constant
  virtual void after_compute(const Type &type, float *values) = 0;  // an output of a node
  virtual std::string counters_json() const = 0;
};

std::unique_ptr<Arithmetic> make_exact_arithmetic();
std::unique_ptr<Executor> make_graph_executor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options,
                                              std::unique_ptr<Arithmetic> arithmetic);

// One node with its values. Outputs are rounded to their types after the kernel.
class NodeRun : public NodeView {
 public:
  NodeRun(const NodeView &view, const Profile &profile, Arithmetic &arithmetic, const float *const *values,
          std::vector<float *> outputs)
      : NodeView(view), profile(profile), arithmetic(arithmetic), values_(values), outputs_(std::move(outputs)) {}

  const Profile &profile;
  Arithmetic &arithmetic;

  const float *in(const char *argument) const { return values_[id(argument)]; }
  const float *in_value(int value_id) const { return values_[value_id]; }
  float *out(size_t index = 0) const { return outputs_[index]; }
  int64_t out_count(size_t index = 0) const { return element_count(output_type(index).shape); }
  // null where the argument is absent
  const float *in_or_null(const char *argument) const { return has(argument) ? in(argument) : nullptr; }

 private:
  const float *const *values_;  // by value id
  std::vector<float *> outputs_;
};

// Runs any node: dense floats in, dense floats out, rounded to the types of the outputs. `values` is indexed by value
// id and needs what the node reads per element; parameters come from the graph.
void run_node(const NodeRun &run);

// Kernels by family.
void run_elementwise(const NodeRun &run);
void run_matmul(const NodeRun &run);
void run_linear(const NodeRun &run);
void run_einsum(const NodeRun &run);
void run_conv(const NodeRun &run);
void run_conv_transpose(const NodeRun &run);
void run_attention(const NodeRun &run);
void run_softmax(const NodeRun &run);
void run_reduction(const NodeRun &run);
void run_argmax(const NodeRun &run);
void run_topk(const NodeRun &run);
void run_layer_norm(const NodeRun &run);
void run_batch_norm(const NodeRun &run);
void run_instance_norm(const NodeRun &run);
void run_l2_norm(const NodeRun &run);
void run_local_response_norm(const NodeRun &run);
void run_layout(const NodeRun &run);
void run_pool(const NodeRun &run);
void run_resize(const NodeRun &run);
void run_affine(const NodeRun &run);
void run_quantize(const NodeRun &run);
void run_dequantize(const NodeRun &run);

// x seen as rows along some axes: elements of a row in row-major order of these axes, rows in that of the others.
class Rows {
 public:
  Rows(const Shape &shape, std::vector<int64_t> axes);  // axes >= 0
  int64_t count() const { return element_count(outer_); }
  int64_t length() const { return element_count(inner_); }
  void read(const float *x, int64_t row, float *to) const;
  void write(const float *from, int64_t row, float *y) const;

 private:
  int64_t offset(int64_t row) const;
  Shape outer_, inner_;
  std::vector<int64_t> outer_steps_, inner_steps_;
};

// What a slice does to |v| above the number it returns: infinity (rule width-slice-saturation). Infinity: nothing.
float width_slice_limit(const NodeView &node, const Profile &profile);

// A double on its way to `type`, such that the rounding that follows is the only one.
float on_the_way_to(DType type, double value);

// out[i0, i1, ...] = x[i0 steps[0] + i1 steps[1] + ...] over `shape`; steps may be 0 or negative.
void copy_strided(const float *x, const std::vector<int64_t> &steps, const Shape &shape, float *out);

}  // namespace ane
#endif
