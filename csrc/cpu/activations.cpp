// Activations and their derivatives.
#include "activations.h"

#include "kernels.h"
#include "pieces.h"

using namespace ane::cpu;

namespace {

using Function = void (*)(const float *x, float *y, size_t count);
using Backward = void (*)(const float *dy, const float *x, float *dx, size_t count);

void apply(Function function, size_t rows, size_t columns, const float *x, size_t x_step, float *y, size_t y_step) {
  for_pieces(rows, columns, [&](size_t row, size_t first, size_t count) {
    function(x + row * x_step + first, y + row * y_step + first, count);
  });
}

void apply(Backward backward, size_t rows, size_t columns, const float *dy, size_t dy_step, const float *x,
           size_t x_step, float *dx, size_t dx_step) {
  for_pieces(rows, columns, [&](size_t row, size_t first, size_t count) {
    backward(dy + row * dy_step + first, x + row * x_step + first, dx + row * dx_step + first, count);
  });
}

}  // namespace

void anecpu_silu(size_t rows, size_t columns, const float *x, size_t x_step, float *y, size_t y_step) {
  apply(kernels().silu, rows, columns, x, x_step, y, y_step);
}

void anecpu_silu_backward(size_t rows, size_t columns, const float *dy, size_t dy_step, const float *x, size_t x_step,
                          float *dx, size_t dx_step) {
  apply(kernels().silu_backward, rows, columns, dy, dy_step, x, x_step, dx, dx_step);
}

void anecpu_gelu(bool exact, size_t rows, size_t columns, const float *x, size_t x_step, float *y, size_t y_step) {
  apply(exact ? kernels().gelu_exact : kernels().gelu_tanh, rows, columns, x, x_step, y, y_step);
}

void anecpu_gelu_backward(bool exact, size_t rows, size_t columns, const float *dy, size_t dy_step, const float *x,
                          size_t x_step, float *dx, size_t dx_step) {
  const Backward backward = exact ? kernels().gelu_exact_backward : kernels().gelu_tanh_backward;
  apply(backward, rows, columns, dy, dy_step, x, x_step, dx, dx_step);
}
