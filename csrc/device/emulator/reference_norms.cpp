// Normalisations, in double with one rounding at the end.
#include <cmath>

#include "ops/shape_rules.h"
#include "reference.h"

namespace ane {

namespace {

struct Moments {
  double mean, variance;  // of the population
};

Moments moments_of(const float *x, int64_t count) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, squares / static_cast<double>(count)};
}

// (x - mean) / sqrt(variance + epsilon) * gamma + beta
class Affine {
 public:
  explicit Affine(const NodeRun &run)
      : gamma_(run.in_or_null("gamma")),
        beta_(run.in_or_null("beta")),
        epsilon_(run.number("epsilon")),
        type_(run.output_type().dtype) {}
  float operator()(double x, const Moments &moments, int64_t index) const {
    const double normalised = (x - moments.mean) / std::sqrt(moments.variance + epsilon_);
    return on_the_way_to(type_, normalised * (gamma_ ? gamma_[index] : 1.0) + (beta_ ? beta_[index] : 0.0));
  }

 private:
  const float *gamma_, *beta_;
  double epsilon_;
  DType type_;
};

// x [N, C, ...]: pixels of one channel, and body(channel, first element) for each image and channel
template <class Body>
void for_channels(const NodeRun &run, Body body) {
  const Shape &x = run.shape("x");
  const int64_t pixels = element_product(x, 2, x.size());
  for (int64_t i = 0; i < x[0] * x[1]; ++i) body(i % x[1], i * pixels, pixels);
}

}  // namespace

// gamma and beta have the shape of the normalised axes.
void run_layer_norm(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const Rows rows(x, axes_of(run, "axes", x.size()));
  const Affine affine(run);
  std::vector<float> values(static_cast<size_t>(rows.length()));
  for (int64_t row = 0; row < rows.count(); ++row) {
    rows.read(run.in("x"), row, values.data());
    const Moments moments = moments_of(values.data(), rows.length());
    for (int64_t i = 0; i < rows.length(); ++i) values[i] = affine(values[i], moments, i);
    rows.write(values.data(), row, run.out());
  }
}

void run_batch_norm(const NodeRun &run) {
  const Affine affine(run);
  const float *x = run.in("x"), *mean = run.in("mean"), *variance = run.in("variance");
  for_channels(run, [&](int64_t channel, int64_t first, int64_t pixels) {
    const Moments moments = {mean[channel], variance[channel]};
    for (int64_t i = first; i < first + pixels; ++i) run.out()[i] = affine(x[i], moments, channel);
  });
}

void run_instance_norm(const NodeRun &run) {
  const Affine affine(run);
  const float *x = run.in("x");
  for_channels(run, [&](int64_t channel, int64_t first, int64_t pixels) {
    const Moments moments = moments_of(x + first, pixels);
    for (int64_t i = first; i < first + pixels; ++i) run.out()[i] = affine(x[i], moments, channel);
  });
}

// x / sqrt(sum of squares + epsilon) over the last three axes
void run_l2_norm(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const int64_t count = element_product(x, x.size() - 3, x.size());
  const double epsilon = run.number("epsilon");
  for (int64_t first = 0; first < run.out_count(); first += count) {
    const float *values = run.in("x") + first;
    double squares = 0;
    for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(values[i]) * values[i];
    for (int64_t i = 0; i < count; ++i)
      run.out()[first + i] = on_the_way_to(run.output_type().dtype, values[i] / std::sqrt(squares + epsilon));
  }
}

// x / (k + alpha / size * sum of squares over `size` neighbouring channels)^beta; channels outside count as 0
void run_local_response_norm(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const int64_t size = run.integer("size"), channels = x[1];
  const double alpha = run.number("alpha"), beta = run.number("beta"), k = run.number("k");
  for_channels(run, [&](int64_t channel, int64_t first, int64_t pixels) {
    const int64_t lowest = std::max<int64_t>(channel - size / 2, 0);
    const int64_t highest = std::min(channel + (size - 1) / 2, channels - 1);
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const float *column = run.in("x") + first - channel * pixels + pixel;
      double squares = 0;
      for (int64_t c = lowest; c <= highest; ++c)
        squares += static_cast<double>(column[c * pixels]) * column[c * pixels];
      const double divisor = std::pow(k + alpha / static_cast<double>(size) * squares, beta);
      run.out()[first + pixel] = on_the_way_to(run.output_type().dtype, column[channel * pixels] / divisor);
    }
  });
}

}  // namespace ane
