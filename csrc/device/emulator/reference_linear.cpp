// matmul, linear, einsum, conv, conv_transpose: each is brought to row-major products for Arithmetic::multiply.
#include <algorithm>

#include "ops/shape_rules.h"
#include "reference.h"

namespace ane {

namespace {

// x[rows, columns] -> [columns, rows]
std::vector<float> transposed(const float *x, int64_t rows, int64_t columns) {
  std::vector<float> result(static_cast<size_t>(rows * columns));
  copy_strided(x, {1, columns}, {columns, rows}, result.data());
  return result;
}

struct Batch {
  Shape shape;                            // of the result, without the last two axes
  std::vector<int64_t> x_steps, y_steps;  // in matrices, by axis
};

// Leading axes broadcast; a matrix index counts matrices of the operand.
Batch batch_of(const Shape &x, const Shape &y, const Shape &result) {
  const auto steps = [&](const Shape &operand) {
    const Shape leading(operand.begin(), operand.end() - 2);
    const std::vector<int64_t> dense = row_major_strides(leading);
    std::vector<int64_t> all(result.size() - 2, 0);
    const size_t missing = all.size() - leading.size();
    for (size_t i = 0; i < leading.size(); ++i) all[missing + i] = leading[i] == 1 ? 0 : dense[i];
    return all;
  };
  return {Shape(result.begin(), result.end() - 2), steps(x), steps(y)};
}

int64_t operand_matrix(const Shape &shape, const std::vector<int64_t> &steps, int64_t index) {
  int64_t matrix = 0;
  for (size_t axis = shape.size(); axis-- > 0; index /= shape[axis]) matrix += index % shape[axis] * steps[axis];
  return matrix;
}

}  // namespace

// x [..., M, K], y [..., K, N] -> [..., M, N]
void run_matmul(const NodeRun &run) {
  const Shape &x = run.shape("x"), &y = run.shape("y"), &result = run.output_type().shape;
  const bool transpose_x = run.boolean("transpose_x"), transpose_y = run.boolean("transpose_y");
  const int64_t m = result[result.size() - 2], n = result.back();
  const int64_t k = transpose_x ? x[x.size() - 2] : x.back();
  const Batch batch = batch_of(x, y, result);
  for (int64_t i = 0; i < element_count(batch.shape); ++i) {
    const float *a = run.in("x") + operand_matrix(batch.shape, batch.x_steps, i) * m * k;
    const float *b = run.in("y") + operand_matrix(batch.shape, batch.y_steps, i) * k * n;
    std::vector<float> a_turned, b_turned;
    if (transpose_x) a = (a_turned = transposed(a, k, m)).data();
    if (transpose_y) b = (b_turned = transposed(b, n, k)).data();
    run.arithmetic.multiply(run, {m, n, k, a, b, nullptr, false, run.out() + i * m * n, run.output_type().dtype});
  }
}

// x [..., I], weight [O, I], bias [O] -> [..., O]
void run_linear(const NodeRun &run) {
  const Shape &weight = run.shape("weight");
  const int64_t outputs = weight[0], features = weight[1], rows = run.out_count() / outputs;
  const std::vector<float> b = transposed(run.in("weight"), outputs, features);
  run.arithmetic.multiply(run, {rows, outputs, features, run.in("x"), b.data(), run.in_or_null("bias"), true, run.out(),
                                run.output_type().dtype});
}

// a [N, C, H, W], b [N, W, H, U] -> [N, C, H, U]: for each n and h a product [C, W] x [W, U]
void run_einsum(const NodeRun &run) {
  const std::vector<int> &operands = run.ids("values");
  const Shape &a = run.graph().values[operands[0]].type.shape, &b = run.graph().values[operands[1]].type.shape;
  const int64_t channels = a[1], height = a[2], width = a[3], units = b[3];
  std::vector<float> left(static_cast<size_t>(channels * width)), right(static_cast<size_t>(width * units)),
      result(static_cast<size_t>(channels * units));
  for (int64_t n = 0; n < a[0]; ++n) {
    for (int64_t h = 0; h < height; ++h) {
      const float *from_a = run.in_value(operands[0]) + (n * channels * height + h) * width;
      const float *from_b = run.in_value(operands[1]) + (n * width * height + h) * units;
      copy_strided(from_a, {height * width, 1}, {channels, width}, left.data());
      copy_strided(from_b, {height * units, 1}, {width, units}, right.data());
      run.arithmetic.multiply(run, {channels, units, width, left.data(), right.data(), nullptr, false, result.data(),
                                    run.output_type().dtype});
      float *to = run.out() + (n * channels * height + h) * units;
      for (int64_t c = 0; c < channels; ++c) std::copy_n(result.data() + c * units, units, to + c * height * units);
    }
  }
}

namespace {

// The geometry conv and conv_transpose share. `image` is the side that is read (x).
struct Convolution {
  int64_t batch, groups, in_channels, out_channels;  // channels of one group
  int64_t in_height, in_width, out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride[2], dilation[2], pad[2];  // pad: before
  bool is_pointwise() const {
    return kernel_height * kernel_width == 1 && stride[0] * stride[1] == 1 && out_pixels() == in_pixels() &&
           pad[0] + pad[1] == 0;
  }
  int64_t taps() const { return in_channels * kernel_height * kernel_width; }
  int64_t in_pixels() const { return in_height * in_width; }
  int64_t out_pixels() const { return out_height * out_width; }
};

Convolution convolution_of(const NodeRun &run) {
  const Shape &x = run.shape("x"), &weight = run.shape("weight"), &y = run.output_type().shape;
  const int64_t groups = run.integer("groups");
  const Window window = window_of(run, &x[2], {weight[2], weight[3]});
  const std::vector<int64_t> dilations = run.integers("dilations");
  return {x[0],
          groups,
          x[1] / groups,
          y[1] / groups,
          x[2],
          x[3],
          y[2],
          y[3],
          weight[2],
          weight[3],
          {window.stride[0], window.stride[1]},
          {dilations[0], dilations[1]},
          {window.pad[0].first, window.pad[1].first}};
}

// columns[taps, out_pixels]: for each tap (channel, kernel row, kernel column) the pixel of x it meets; 0 outside.
// `source` gives the coordinate in x along an axis for an output coordinate and a kernel coordinate, or -1.
template <class Source>
std::vector<float> unfold(const Convolution &c, const float *x, Source source) {
  std::vector<float> columns(static_cast<size_t>(c.taps() * c.out_pixels()), 0.0f);
  float *to = columns.data();
  for (int64_t channel = 0; channel < c.in_channels; ++channel)
    for (int64_t kh = 0; kh < c.kernel_height; ++kh)
      for (int64_t kw = 0; kw < c.kernel_width; ++kw)
        for (int64_t oh = 0; oh < c.out_height; ++oh)
          for (int64_t ow = 0; ow < c.out_width; ++ow, ++to) {
            const int64_t ih = source(0, oh, kh, c.in_height), iw = source(1, ow, kw, c.in_width);
            if (ih >= 0 && iw >= 0) *to = x[(channel * c.in_height + ih) * c.in_width + iw];
          }
  return columns;
}

// weights[groups][out_channels, taps] times the unfolded x, for every image and group.
template <class Source>
void convolve(const NodeRun &run, const Convolution &c, const float *weights, Source source) {
  const float *bias = run.in_or_null("bias");
  for (int64_t n = 0; n < c.batch; ++n) {
    for (int64_t group = 0; group < c.groups; ++group) {
      const int64_t image = n * c.groups + group;
      const float *x = run.in("x") + image * c.in_channels * c.in_pixels();
      const bool unfolded = c.is_pointwise();
      std::vector<float> columns;
      if (!unfolded) columns = unfold(c, x, source);
      run.arithmetic.multiply(run,
                              {c.out_channels, c.out_pixels(), c.taps(), weights + group * c.out_channels * c.taps(),
                               unfolded ? x : columns.data(), bias ? bias + group * c.out_channels : nullptr, false,
                               run.out() + image * c.out_channels * c.out_pixels(), run.output_type().dtype});
    }
  }
}

}  // namespace

// x [N, Ci, H, W], weight [Co, Ci / groups, kH, kW] -> [N, Co, H', W']
void run_conv(const NodeRun &run) {
  const Convolution c = convolution_of(run);
  convolve(run, c, run.in("weight"), [&](int axis, int64_t out, int64_t tap, int64_t size) {
    const int64_t in = out * c.stride[axis] - c.pad[axis] + tap * c.dilation[axis];
    return in < size ? std::max<int64_t>(in, -1) : -1;
  });
}

// x [N, Ci, H, W], weight [Ci, Co / groups, kH, kW] -> [N, Co, H', W']: every x adds its multiple of the kernel at
// `stride` times its place. Read from the output's side: which x meets this pixel under this tap.
void run_conv_transpose(const NodeRun &run) {
  Convolution c = convolution_of(run);
  const std::string &pad_type = run.text("pad_type");
  if (pad_type.starts_with("same")) {  // what is cut so that H' = H * stride
    const int64_t kernel[2] = {c.kernel_height, c.kernel_width}, in[2] = {c.in_height, c.in_width};
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t full = (in[axis] - 1) * c.stride[axis] + (kernel[axis] - 1) * c.dilation[axis] + 1;
      const int64_t cut = std::max<int64_t>(full - in[axis] * c.stride[axis], 0);
      c.pad[axis] = pad_type == "same" ? cut / 2 : cut - cut / 2;
    }
  }
  const int64_t area = c.kernel_height * c.kernel_width;
  std::vector<float> weights(static_cast<size_t>(c.groups * c.out_channels * c.taps()));
  // [groups, Ci, Co, area] -> [groups, Co, Ci, area]
  copy_strided(run.in("weight"), {c.in_channels * c.out_channels * area, area, c.out_channels * area, 1},
               {c.groups, c.out_channels, c.in_channels, area}, weights.data());
  convolve(run, c, weights.data(), [&](int axis, int64_t out, int64_t tap, int64_t size) -> int64_t {
    const int64_t place = out + c.pad[axis] - tap * c.dilation[axis];
    if (place < 0 || place % c.stride[axis] != 0) return -1;
    return place / c.stride[axis] < size ? place / c.stride[axis] : -1;
  });
}

}  // namespace ane
