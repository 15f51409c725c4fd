// How elementwise work is cut over the threads.
#ifndef ANETRAIN_PIECES_H
#define ANETRAIN_PIECES_H

#include <algorithm>
#include <cstddef>

#include "threads.h"

namespace ane::cpu {

constexpr size_t kElementsPerThread = 1 << 13;  // less is not worth waking another thread for

// The least number of items of so many elements each that is worth a thread.
inline size_t grain_of(size_t elements) {
  return std::max<size_t>(1, kElementsPerThread / std::max<size_t>(1, elements));
}

// body(row, first, count) over pieces of all rows.
template <class Body>
void for_pieces(size_t rows, size_t columns, Body body) {
  constexpr size_t kPiece = 4096;
  const size_t pieces = (columns + kPiece - 1) / kPiece;
  parallel_for(rows * pieces, grain_of(std::min(columns, kPiece)), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t first = i % pieces * kPiece;
      body(i / pieces, first, std::min(kPiece, columns - first));
    }
  });
}

}  // namespace ane::cpu
#endif
