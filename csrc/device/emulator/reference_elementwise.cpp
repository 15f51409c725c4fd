// Elementwise operations: elementwise.h lane by lane over the broadcast operands.
#include "../../cpu/threads.h"
#include "reference.h"

namespace ane {

namespace {

// An operand in the order of the output; `copy` holds it where it had to be broadcast.
const float *broadcast_operand(const NodeRun &run, const ElementwiseOp &op, int operand, std::vector<float> *copy) {
  const float *x = run.in(op.operands[operand]);
  const Shape &shape = run.output_type().shape;
  if (run.shape(op.operands[operand]) == shape) return x;
  copy->resize(static_cast<size_t>(element_count(shape)));
  copy_strided(x, operand_strides(run, op, operand), shape, copy->data());
  return copy->data();
}

}  // namespace

void run_elementwise(const NodeRun &run) {
  const ElementwiseOp op = resolve_elementwise(run, run.profile);
  std::vector<float> copies[3];
  const float *operands[3];
  for (int i = 0; i < 3; ++i)
    operands[i] = i < op.operand_count ? broadcast_operand(run, op, i, &copies[i]) : operands[0];
  const float *x = operands[0], *y = operands[1], *z = operands[2];
  float *out = run.out();
  visit_lane_op(op.lane, [&](auto lane) {
    parallel_for(static_cast<size_t>(run.out_count()), 4096, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) out[i] = apply_lane<lane()>(op, x[i], y[i], z[i]);
    });
  });
}

}  // namespace ane
