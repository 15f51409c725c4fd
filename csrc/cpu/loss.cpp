// Two passes over the logits, each in the order of memory: pieces of a fixed number of rows, shared among the threads.
// The first leaves, for each piece and column, the largest value and the sum of exponentials below it; these are merged
// in double, in the order of the pieces, so that nothing depends on who computed them.
#include "loss.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>
#include <vector>

#include "cpu_features.h"
#include "loss_kernels.h"
#include "threads.h"

namespace {

constexpr size_t kPieceRows = 256;
constexpr size_t kGrain = 16 * 1024;  // logits that are worth a thread
constexpr size_t kMergeGrain = 512;   // exponentials in double that are

const LossKernels &kernels() {
#if defined(__x86_64__)
  static const LossKernels &best = anecpu_has_avx512() ? kLossKernelsAvx512
                                   : anecpu_has_avx2() ? kLossKernelsAvx2
                                                       : kLossKernelsBase;
  return best;
#else
  return kLossKernelsBase;
#endif
}

struct Piece {
  const AnecpuLogits *chunk;
  size_t row, rows;  // of the chunk

  const float *logits() const { return chunk->logits + row * chunk->logits_stride; }
  float *gradient() const { return chunk->gradient + row * chunk->gradient_stride; }
};

// What both passes share. `largest` and `sum` are [pieces, columns]; the others have a value per column.
struct Work {
  const AnecpuLogits *chunks;
  size_t columns;
  const int32_t *targets;
  int32_t ignored;
  double share;  // of a column in the gradient: scale / counted columns
  std::vector<Piece> pieces;
  std::vector<float> largest, sum, factor;
  std::vector<double> loss;

  template <class Body>
  void for_pieces(Body body) const {
    parallel_for(pieces.size(), kGrain / (kPieceRows * columns) + 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) body(i);
    });
  }
};

void cut_into_pieces(Work &work, size_t chunk_count) {
  for (size_t i = 0; i < chunk_count; ++i)
    for (size_t row = 0; row < work.chunks[i].rows; row += kPieceRows)
      work.pieces.push_back({&work.chunks[i], row, std::min(kPieceRows, work.chunks[i].rows - row)});
  work.largest.assign(work.pieces.size() * work.columns, kNoLogit);
  work.sum.assign(work.pieces.size() * work.columns, 0.0f);
  work.factor.assign(work.columns, 0.0f);
  work.loss.assign(work.columns, 0.0);
}

// The chunk that a row of the whole stands in, and which of its rows it is.
std::pair<const AnecpuLogits *, size_t> place(const Work &work, int32_t target) {
  const AnecpuLogits *chunk = work.chunks;
  size_t row = static_cast<size_t>(target);
  for (; row >= chunk->rows; ++chunk) row -= chunk->rows;
  return {chunk, row};
}

void merge_column(Work &work, size_t column) {
  if (work.targets[column] == work.ignored) return;  // its loss and factor stay 0
  float largest = kNoLogit;
  for (size_t i = 0; i < work.pieces.size(); ++i) largest = std::max(largest, work.largest[i * work.columns + column]);
  double sum = 0;
  for (size_t i = 0; i < work.pieces.size(); ++i) {
    const size_t at = i * work.columns + column;
    sum += work.sum[at] * std::exp(double{work.largest[at]} - double{largest});
  }
  const auto [chunk, row] = place(work, work.targets[column]);
  // The difference first: both may be large.
  work.loss[column] = std::log(sum) + (double{largest} - double{chunk->logits[row * chunk->logits_stride + column]});
  work.largest[column] = largest;  // the first piece's is not needed any more
  work.factor[column] = static_cast<float>(work.share / sum);
}

void find_losses(Work &work) {
  work.for_pieces([&](size_t i) {
    const Piece &piece = work.pieces[i];
    kernels().fold(piece.logits(), piece.chunk->logits_stride, piece.rows, work.columns,
                   &work.largest[i * work.columns], &work.sum[i * work.columns]);
  });
  parallel_for(work.columns, kMergeGrain / work.pieces.size() + 1, [&](size_t begin, size_t end) {
    for (size_t column = begin; column < end; ++column) merge_column(work, column);
  });
}

void write_gradient(const Work &work) {
  work.for_pieces([&](size_t i) {
    const Piece &piece = work.pieces[i];
    if (!piece.chunk->gradient) return;
    kernels().gradient(piece.logits(), piece.chunk->logits_stride, piece.gradient(), piece.chunk->gradient_stride,
                       piece.rows, work.columns, work.largest.data(), work.factor.data());
  });
  for (size_t column = 0; column < work.columns; ++column) {
    if (work.targets[column] == work.ignored) continue;
    const auto [chunk, row] = place(work, work.targets[column]);
    if (chunk->gradient) chunk->gradient[row * chunk->gradient_stride + column] -= static_cast<float>(work.share);
  }
}

}  // namespace

bool anecpu_cross_entropy(const AnecpuLogits *chunks, size_t chunk_count, size_t columns, const int32_t *targets,
                          int32_t ignored, float scale, double *loss, size_t *counted) try {
  *loss = 0;
  *counted = columns - static_cast<size_t>(std::count(targets, targets + columns, ignored));
  if (columns == 0) return true;
  const double count = static_cast<double>(*counted);
  Work work{chunks, columns, targets, ignored, *counted ? scale / count : 0.0, {}, {}, {}, {}, {}};
  cut_into_pieces(work, chunk_count);
  if (*counted) {
    find_losses(work);
    for (const double column_loss : work.loss) *loss += column_loss / count;
  }
  write_gradient(work);
  return true;
} catch (const std::bad_alloc &) {
  return false;
}
