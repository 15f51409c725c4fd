// Rotary position embedding, by pairs of channels.
#include "rope.h"

#include "kernels.h"
#include "pieces.h"

using namespace ane::cpu;

void anecpu_rope(size_t heads, size_t head_dim, size_t tokens, const float *x, size_t x_step, const float *cos,
                 size_t cos_step, const float *sin, size_t sin_step, bool interleaved, bool backwards, float *y,
                 size_t y_step) {
  const auto rotate = kernels().rotate;
  const size_t pairs = head_dim / 2;
  for_pieces(heads * pairs, tokens, [&](size_t row, size_t first, size_t count) {
    const size_t pair = row % pairs, head = row / pairs * head_dim;
    const size_t channel0 = head + (interleaved ? 2 * pair : pair);
    const size_t channel1 = channel0 + (interleaved ? 1 : pairs);
    rotate(x + channel0 * x_step + first, x + channel1 * x_step + first, cos + pair * cos_step + first,
           sin + pair * sin_step + first, backwards, y + channel0 * y_step + first, y + channel1 * y_step + first,
           count);
  });
}
