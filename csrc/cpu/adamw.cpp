// All tensors are one range of pieces, which the threads share: a small tensor is a piece, a large one many, cut where
// its copies allow it. Pieces depend on the tensors alone, so that sums over them do not depend on the threads.
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

// body(tensor, its piece, piece) for every piece; size_of(tensor) is how many elements it has, pieces_in(tensor) how
// many pieces.
template <class SizeOf, class PiecesIn, class Body>
void for_tensor_pieces(size_t tensor_count, SizeOf size_of, PiecesIn pieces_in, Body body) {
  size_t pieces = 0, elements = 0;
  for (size_t i = 0; i < tensor_count; ++i) pieces += pieces_in(i), elements += size_of(i);
  if (pieces == 0) return;
  parallel_for(pieces, grain_of(elements / pieces), [&](size_t begin, size_t end) {
    size_t tensor = 0, first_piece = 0;  // of the tensor
    for (size_t piece = begin; piece < end; ++piece) {
      while (piece - first_piece >= pieces_in(tensor)) first_piece += pieces_in(tensor++);
      body(tensor, piece - first_piece, piece);
    }
  });
}

struct Span {
  size_t first, count;
};

Span span_of(size_t elements, size_t piece) { return {piece * kPiece, std::min(kPiece, elements - piece * kPiece)}; }

Span span_of(const AnecpuAdamWTensor &tensor, size_t piece) {
  if (!tensor.stretches) return span_of(tensor.count, piece);
  const size_t first = piece ? tensor.stretches[piece - 1].end : 0;
  return {first, tensor.stretches[piece].end - first};
}

void copy_stretch(const AnecpuAdamWTensor &tensor, size_t piece) {
  for (size_t i = piece ? tensor.stretches[piece - 1].copies_end : 0; i < tensor.stretches[piece].copies_end; ++i)
    anecpu_halves_from_floats_move(&tensor.copies[i].move, *tensor.copies[i].target);
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
  const auto pieces_in = [&](size_t tensor) {
    return tensors[tensor].stretches ? tensors[tensor].stretch_count : pieces_of(tensors[tensor].count);
  };
  for_tensor_pieces(tensor_count, size_of, pieces_in, [&](size_t tensor, size_t piece, size_t) {
    const AnecpuAdamWTensor &t = tensors[tensor];
    const auto [first, count] = span_of(t, piece);
    const double rate = step->lr * t.lr_factor;
    update(constants, static_cast<float>(rate / step->mean_correction), static_cast<float>(1 - rate * t.decay),
           t.weight + first, t.gradient + first, t.mean + first, t.square + first, count);
    if (t.stretches) copy_stretch(t, piece);
  });
}

bool anecpu_sum_of_squares(const float *const *arrays, const size_t *counts, size_t array_count, double *sum) try {
  const auto sum_of_squares = kernels().sum_of_squares;
  const auto size_of = [&](size_t array) { return counts[array]; };
  const auto pieces_in = [&](size_t array) { return pieces_of(counts[array]); };
  size_t pieces = 0;
  for (size_t i = 0; i < array_count; ++i) pieces += pieces_of(counts[i]);
  std::vector<double> sums(pieces);
  for_tensor_pieces(array_count, size_of, pieces_in, [&](size_t array, size_t part, size_t piece) {
    const auto [first, count] = span_of(counts[array], part);
    sums[piece] = sum_of_squares(arrays[array] + first, count);
  });
  *sum = 0;
  for (const double part : sums) *sum += part;
  return true;
} catch (const std::bad_alloc &) {
  return false;
}
