// The inner loops, compiled once per instruction set (kernels.inc) and chosen when the library is loaded.
#ifndef ANETRAIN_FAST_KERNELS_H
#define ANETRAIN_FAST_KERNELS_H

#include <cstddef>
#include <cstdint>

#include "../elementwise.h"

namespace ane::fast {

// An operand of a lane kernel over rows x columns: element (r, c) stands at at[r * row_step + c], or at[r * row_step]
// for every c where it is `splat`.
struct Stream {
  const float *at;
  ptrdiff_t row_step;
  bool splat;
};

struct LaneArgs {
  float *out;
  ptrdiff_t out_row_step;
  Stream in[3];
  size_t rows, columns;
  const ElementwiseOp *op;
};
using LaneKernel = void (*)(const LaneArgs &);

// Along rows (each row of `in` to one value or one row) or along columns (each column).
struct ReduceArgs {
  float *out;  // a value per row or per column; for softmax a block of its own
  ptrdiff_t out_row_step;
  const float *in;
  ptrdiff_t in_row_step;
  size_t rows, columns;
  bool rounds;
};
using ReduceKernel = void (*)(const ReduceArgs &);

// A block of rows x columns from one place and element type to another. Steps in elements.
struct MoveArgs {
  const void *from;
  ptrdiff_t from_row_step, from_column_step;
  void *to;
  ptrdiff_t to_row_step, to_column_step;
  size_t rows, columns;
};
using MoveKernel = void (*)(const MoveArgs &);
enum class Move : uint8_t { Copy, Round, Widen, Narrow, CopyHalves, Count };  // Narrow rounds; the others keep

struct Kernels {
  const char *name;
  // `rounds`: the result is an fp16. Null: no such kernel.
  LaneKernel (*lane)(LaneOp op, bool rounds);
  ReduceKernel (*reduce)(OpKind kind, bool along_columns);
  MoveKernel move[static_cast<int>(Move::Count)];
};

const Kernels &kernels();
// For tests: "avx512", "avx2", "base"; false where this CPU cannot.
bool select_kernels(const char *name);

}  // namespace ane::fast
#endif
