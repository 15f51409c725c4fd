// quantize and dequantize of run-time tensors.
#include "ops/shape_rules.h"
#include "reference.h"

namespace ane {

namespace {

// scale or zero_point for an element: one number, or one for each place of `axis`.
class PerChannel {
 public:
  PerChannel(const NodeRun &run, const char *argument, float absent) : values_(run.in_or_null(argument)), one_(absent) {
    const Shape &input = run.shape("input");
    if (!values_ || run.shape(argument).empty()) {
      if (values_) one_ = *values_;
      values_ = nullptr;
      return;
    }
    const int64_t axis = run.axis("axis", static_cast<int>(input.size()));
    channels_ = input[axis];
    inner_ = element_product(input, axis + 1, input.size());
  }
  float operator()(int64_t element) const { return values_ ? values_[element / inner_ % channels_] : one_; }

 private:
  const float *values_;
  float one_;
  int64_t channels_ = 1, inner_ = 1;
};

}  // namespace

// clip(round(input / scale) + zero_point), ties to even
void run_quantize(const NodeRun &run) {
  const PerChannel scale(run, "scale", 1), zero_point(run, "zero_point", 0);
  const bool is_signed = run.output_type().dtype == DType::Int8;
  const float low = is_signed ? -128.0f : 0.0f, high = is_signed ? 127.0f : 255.0f;
  const float *input = run.in("input");
  for (int64_t i = 0; i < run.out_count(); ++i) {
    const float steps = rint(input[i] / scale(i)) + zero_point(i);
    run.out()[i] = steps == steps ? detail::clamp(steps, low, high) + 0.0f : zero_point(i);
  }
}

// (input - zero_point) * scale
void run_dequantize(const NodeRun &run) {
  const PerChannel scale(run, "scale", 1), zero_point(run, "zero_point", 0);
  const float *input = run.in("input");
  for (int64_t i = 0; i < run.out_count(); ++i) run.out()[i] = (input[i] - zero_point(i)) * scale(i);
}

}  // namespace ane
