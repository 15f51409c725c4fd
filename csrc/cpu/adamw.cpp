// All tensors are one range of pieces, which the threads share: a small tensor is a piece, a large one many. Pieces
// depend on the sizes of the tensors alone, so that sums over them do not depend on the threads.
#include "adamw.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "kernels.h"
#include "pieces.h"
#include "threads.h"

using namespace ane::cpu;

namespace {

constexpr size_t kPiece = 1 << 15;  // elements

size_t pieces_of(size_t elements) { return (elements + kPiece - 1) / kPiece; }

// body(tensor, first, count, piece) for every piece; size_of(tensor) is how many elements it has.
template <class SizeOf, class Body>
void for_tensor_pieces(size_t tensor_count, SizeOf size_of, Body body) {
  size_t pieces = 0, elements = 0;
  for (size_t i = 0; i < tensor_count; ++i) pieces += pieces_of(size_of(i)), elements += size_of(i);
  if (pieces == 0) return;
  parallel_for(pieces, grain_of(elements / pieces), [&](size_t begin, size_t end) {
    size_t tensor = 0, first_piece = 0;  // of the tensor
    for (size_t piece = begin; piece < end; ++piece) {
      while (piece - first_piece >= pieces_of(size_of(tensor))) first_piece += pieces_of(size_of(tensor++));
      const size_t first = (piece - first_piece) * kPiece;
      body(tensor, first, std::min(kPiece, size_of(tensor) - first), piece);
    }
  });
}

AdamW constants_of(const AnecpuAdamWStep &step) {
  return {.factor = static_cast<float>(step.factor),
          .mean_share = static_cast<float>(1 - step.beta1),
          .beta2 = static_cast<float>(step.beta2),
          .square_share = static_cast<float>(1 - step.beta2),
          .root_scale = static_cast<float>(1 / std::sqrt(step.square_correction)),
          .eps = static_cast<float>(step.eps),
          .clear = step.clear};
}

}  // namespace

void anecpu_adamw(const AnecpuAdamWTensor *tensors, size_t tensor_count, const AnecpuAdamWStep *step) {
  const auto update = kernels().adamw;
  const AdamW constants = constants_of(*step);
  const auto size_of = [&](size_t tensor) { return tensors[tensor].count; };
  for_tensor_pieces(tensor_count, size_of, [&](size_t tensor, size_t first, size_t count, size_t) {
    const AnecpuAdamWTensor &t = tensors[tensor];
    const double rate = step->lr * t.lr_factor;
    update(constants, static_cast<float>(rate / step->mean_correction), static_cast<float>(1 - rate * t.decay),
           t.weight + first, t.gradient + first, t.mean + first, t.square + first, count);
  });
}

bool anecpu_sum_of_squares(const float *const *arrays, const size_t *counts, size_t array_count, double *sum) try {
  const auto sum_of_squares = kernels().sum_of_squares;
  const auto size_of = [&](size_t array) { return counts[array]; };
  size_t pieces = 0;
  for (size_t i = 0; i < array_count; ++i) pieces += pieces_of(counts[i]);
  std::vector<double> sums(pieces);
  for_tensor_pieces(array_count, size_of, [&](size_t array, size_t first, size_t count, size_t piece) {
    sums[piece] = sum_of_squares(arrays[array] + first, count);
  });
  *sum = 0;
  for (const double part : sums) *sum += part;
  return true;
} catch (const std::bad_alloc &) {
  return false;
}
