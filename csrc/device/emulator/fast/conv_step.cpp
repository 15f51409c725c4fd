// General 2-D convolutions: columns of input patches, some rows of the image at a time, times the weights.
#include <algorithm>

#include "../../../cpu/blas.h"
#include "../../../cpu/threads.h"
#include "step.h"

namespace ane::fast {

namespace {

constexpr int64_t kPatchFloats = 64 * 1024;  // of a block of columns: what stays in the second cache

class ConvStep : public Step {
 public:
  explicit ConvStep(const ConvUnit &unit) : unit_(unit) {
    in_channels_ = unit.x.sizes[1] / unit.groups;
    out_channels_ = unit.y.sizes[1] / unit.groups;
    depth_ = in_channels_ * unit.rows.kernel * unit.columns.kernel;
    const int64_t width = unit.y.sizes[3];
    block_rows_ = std::clamp<int64_t>(kPatchFloats / (depth_ * width), 1, unit.y.sizes[2]);
    blocks_ = (unit.y.sizes[2] + block_rows_ - 1) / block_rows_;
  }
  void run(Bases bases) const override {
    const size_t pieces = static_cast<size_t>(unit_.x.sizes[0] * unit_.groups * blocks_);
    parallel_for(pieces, 1, [&](size_t begin, size_t end) {
      for (size_t piece = begin; piece < end; ++piece) run_block(bases, static_cast<int64_t>(piece));
    });
  }

 private:
  void run_block(Bases bases, int64_t piece) const;
  void gather(const float *x, int64_t row, int64_t rows, float *patches) const;
  void gather_row(const float *from, int64_t kernel_column, float *to) const;

  ConvUnit unit_;
  int64_t in_channels_, out_channels_, depth_, block_rows_, blocks_;
};

// patches[ci * kh * kw, rows * ow]
void ConvStep::run_block(Bases bases, int64_t piece) const {
  const int64_t row = piece % blocks_ * block_rows_;
  const int64_t group = piece / blocks_ % unit_.groups;
  const int64_t image = piece / blocks_ / unit_.groups;
  const int64_t rows = std::min(block_rows_, unit_.y.sizes[2] - row);
  const int64_t width = unit_.y.sizes[3];

  const float *x = floats_at(bases, unit_.x.buffer,
                             unit_.x.offset + image * unit_.x.strides[0] + group * in_channels_ * unit_.x.strides[1]);
  const size_t patch_bytes = static_cast<size_t>(depth_ * rows * width) * sizeof(float);
  float *patches = reinterpret_cast<float *>(thread_scratch(Scratch::Step, patch_bytes));
  gather(x, row, rows, patches);

  const View &w = unit_.weight;
  const float *weight = floats_at(bases, w.buffer, w.offset + group * w.strides[0]);
  const bool transposed = w.strides[2] != 1 && depth_ > 1;
  const int64_t leading = transposed ? w.strides[2] : out_channels_ > 1 ? w.strides[1] : depth_;
  const View &y = unit_.y;  // dense
  const int64_t plane = y.sizes[2] * width;
  float *out = floats_at(bases, y.buffer, (image * y.sizes[1] + group * out_channels_) * plane + row * width);
  anecpu_sgemm_serial(transposed, false, static_cast<size_t>(out_channels_), static_cast<size_t>(rows * width),
                      static_cast<size_t>(depth_), 1.0f, weight, static_cast<size_t>(leading), patches,
                      static_cast<size_t>(rows * width), 0.0f, out, static_cast<size_t>(plane));
}

void ConvStep::gather(const float *x, int64_t row, int64_t rows, float *patches) const {
  const ConvAxis &down = unit_.rows;
  const int64_t height = unit_.x.sizes[2], width = unit_.y.sizes[3];
  float *to = patches;
  for (int64_t channel = 0; channel < in_channels_; ++channel) {
    for (int64_t kernel_row = 0; kernel_row < down.kernel; ++kernel_row) {
      for (int64_t kernel_column = 0; kernel_column < unit_.columns.kernel; ++kernel_column) {
        for (int64_t r = 0; r < rows; ++r, to += width) {
          const int64_t from_row = (row + r) * down.stride + kernel_row * down.dilation - down.pad_before;
          if (from_row < 0 || from_row >= height) {
            std::fill(to, to + width, 0.0f);
          } else {
            gather_row(x + channel * unit_.x.strides[1] + from_row * unit_.x.strides[2], kernel_column, to);
          }
        }
      }
    }
  }
}

void ConvStep::gather_row(const float *from, int64_t kernel_column, float *to) const {
  const ConvAxis &across = unit_.columns;
  for (int64_t c = 0; c < unit_.y.sizes[3]; ++c) {
    const int64_t column = c * across.stride + kernel_column * across.dilation - across.pad_before;
    to[c] = column < 0 || column >= unit_.x.sizes[3] ? 0.0f : from[column * unit_.x.strides[3]];
  }
}

}  // namespace

std::unique_ptr<Step> make_conv_step(const ConvUnit &unit) { return std::make_unique<ConvStep>(unit); }

}  // namespace ane::fast
