// Pools, resampling, affine transforms.
#include <algorithm>
#include <cmath>

#include "../../cpu/vmath.h"
#include "ops/shape_rules.h"
#include "reference.h"

namespace ane {

namespace {

struct Span {
  int64_t begin, end;  // within x
  int64_t padded;      // elements of the window, padding of the sides included
};

Span pool_span(const Window &window, int axis, int64_t place, int64_t size) {
  const int64_t start = place * window.stride[axis] - window.pad[axis].first;
  const int64_t end = start + window.span[axis];
  return {std::max<int64_t>(start, 0), std::min(end, size), std::min(end, size + window.pad[axis].second) - start};
}

}  // namespace

// x [N, C, H, W] -> [N, C, H', W']
void run_pool(const NodeRun &run) {
  const Shape &x = run.shape("x"), &y = run.output_type().shape;
  const Window window = window_of(run, &x[2], run.integers("kernel_sizes"));
  const bool largest = run.kind() == OpKind::MaxPool;
  const bool real_only = !largest && run.boolean("exclude_padding_from_average");
  float *out = run.out();
  for (int64_t plane = 0; plane < x[0] * x[1]; ++plane) {
    const float *pixels = run.in("x") + plane * x[2] * x[3];
    for (int64_t oh = 0; oh < y[2]; ++oh) {
      for (int64_t ow = 0; ow < y[3]; ++ow) {
        const Span rows = pool_span(window, 0, oh, x[2]), columns = pool_span(window, 1, ow, x[3]);
        float highest = -vmath::kInfinity;
        double sum = 0;
        for (int64_t h = rows.begin; h < rows.end; ++h)
          for (int64_t w = columns.begin; w < columns.end; ++w) {
            highest = std::max(highest, pixels[h * x[3] + w]);
            sum += pixels[h * x[3] + w];
          }
        const int64_t count =
            real_only ? (rows.end - rows.begin) * (columns.end - columns.begin) : rows.padded * columns.padded;
        *out++ = largest ? highest : on_the_way_to(run.output_type().dtype, sum / static_cast<double>(count));
      }
    }
  }
}

namespace {

// Where an output place reads along one axis: between `low` and `low + 1`, `weight` of the latter.
struct Sample {
  int64_t low;
  double weight;
};

Sample sample_at(double place, int64_t size) {
  const double inside = std::clamp(place, 0.0, static_cast<double>(size - 1));
  const int64_t low = std::min(static_cast<int64_t>(inside), std::max<int64_t>(size - 2, 0));
  return {low, inside - static_cast<double>(low)};
}

// The place in x of output place `i` along one axis, by the sampling modes of MIL.
double place_of(const std::string &mode, double i, double in, double out) {
  if (mode == "STRICT_ALIGN_CORNERS" || mode == "ALIGN_CORNERS") {
    if (out == 1) return mode == "ALIGN_CORNERS" ? (in - 1) / 2 : 0;
    return i * (in - 1) / (out - 1);
  }
  if (mode == "OFFSET_CORNERS") {
    const double delta = std::max(1.0, in - 1) / out;
    return delta * (i + 0.5);
  }
  if (mode == "UNALIGN_CORNERS") return (i + 0.5) * in / out - 0.5;
  return i * in / out;  // DEFAULT
}

// How one axis is resampled; `scale` is the factor that upsample_* were given, 0 for resize_*.
double resampled_place(const NodeRun &run, double i, double in, double out, double scale) {
  switch (run.kind()) {
    case OpKind::UpsampleNearestNeighbor: return std::floor(i / scale);
    case OpKind::ResizeNearestNeighbor: return std::floor(i * in / out);
    case OpKind::UpsampleBilinear:
      if (run.boolean("align_corners")) return out == 1 ? 0 : i * (in - 1) / (out - 1);
      return (i + 0.5) / scale - 0.5;
    default: return place_of(run.text("sampling_mode"), i, in, out);
  }
}

std::vector<Sample> samples_along(const NodeRun &run, size_t axis, const char *scale_argument) {
  const int64_t in = run.shape("x")[axis], out = run.output_type().shape[axis];
  const double scale = run.has(scale_argument) ? run.number(scale_argument) : 0;
  std::vector<Sample> samples;
  for (int64_t i = 0; i < out; ++i)
    samples.push_back(sample_at(
        resampled_place(run, static_cast<double>(i), static_cast<double>(in), static_cast<double>(out), scale), in));
  return samples;
}

double mix(double low, double high, double weight) { return low + (high - low) * weight; }

}  // namespace

// x [..., H, W] -> [..., H', W']
void run_resize(const NodeRun &run) {
  const Shape &x = run.shape("x");
  const size_t rank = x.size();
  const int64_t height = x[rank - 2], width = x[rank - 1];
  const std::vector<Sample> rows = samples_along(run, rank - 2, "scale_factor_height");
  const std::vector<Sample> columns = samples_along(run, rank - 1, "scale_factor_width");
  float *out = run.out();
  for (int64_t plane = 0; plane < element_product(x, 0, rank - 2); ++plane) {
    const float *pixels = run.in("x") + plane * height * width;
    for (const Sample &row : rows) {
      const float *upper = pixels + row.low * width, *lower = row.weight > 0 ? upper + width : upper;
      for (const Sample &column : columns) {
        const int64_t left = column.low, right = column.weight > 0 ? left + 1 : left;
        const double value = mix(mix(upper[left], upper[right], column.weight),
                                 mix(lower[left], lower[right], column.weight), row.weight);
        *out++ = on_the_way_to(run.output_type().dtype, value);
      }
    }
  }
}

namespace {

// Bilinear, with 0 outside of the image.
double pixel_at(const float *pixels, int64_t height, int64_t width, double row, double column) {
  double value = 0;
  const double top = std::floor(row), left = std::floor(column);
  for (int corner = 0; corner < 4; ++corner) {
    const double h = top + corner / 2, w = left + corner % 2;
    const double weight = (1 - std::fabs(row - h)) * (1 - std::fabs(column - w));
    const bool inside = h >= 0 && h < static_cast<double>(height) && w >= 0 && w < static_cast<double>(width);
    if (inside && weight > 0) value += weight * pixels[static_cast<int64_t>(h) * width + static_cast<int64_t>(w)];
  }
  return value;
}

// Coordinates run from -1 at the first pixel's centre to 1 at the last one's.
double normalised(int64_t i, int64_t size) {
  return size == 1 ? 0 : 2 * static_cast<double>(i) / static_cast<double>(size - 1) - 1;
}
double pixel_coordinate(double place, int64_t size) { return (place + 1) / 2 * static_cast<double>(size - 1); }

}  // namespace

// x [N, C, H, W], transform_matrix [N or 1, 6] -> [N, C, H', W']
void run_affine(const NodeRun &run) {
  const Shape &x = run.shape("x"), &y = run.output_type().shape;
  const int64_t matrices = run.shape("transform_matrix")[0];
  float *out = run.out();
  for (int64_t plane = 0; plane < x[0] * x[1]; ++plane) {
    const float *pixels = run.in("x") + plane * x[2] * x[3];
    const float *t = run.in("transform_matrix") + (matrices == 1 ? 0 : plane / x[1]) * 6;
    for (int64_t oh = 0; oh < y[2]; ++oh) {
      for (int64_t ow = 0; ow < y[3]; ++ow) {
        const double across = normalised(ow, y[3]), down = normalised(oh, y[2]);
        const double column = pixel_coordinate(t[0] * across + t[1] * down + t[2], x[3]);
        const double row = pixel_coordinate(t[3] * across + t[4] * down + t[5], x[2]);
        *out++ = on_the_way_to(run.output_type().dtype, pixel_at(pixels, x[2], x[3], row, column));
      }
    }
  }
}

}  // namespace ane
