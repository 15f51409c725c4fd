// A lane unit as a program over tiles: blocks of rows x columns of its domain, small enough for the inner cache.
#ifndef ANETRAIN_FAST_TILE_H
#define ANETRAIN_FAST_TILE_H

#include <array>
#include <vector>

#include "kernels.h"
#include "step.h"

namespace ane::fast {

constexpr size_t kMostOuterAxes = 6;

// A view in the axes of the tile program.
struct Access {
  int buffer = -1;
  bool half = false;
  int64_t offset = 0;
  int64_t row_step = 0, column_step = 0;
  std::array<int64_t, kMostOuterAxes> outer_steps{};
};

// What of a tile a value has: one for each element, for each row, for each column, or one for all.
enum class Extent : uint8_t { One, Rows, Columns, Full };

struct Place {
  enum class Kind : uint8_t { Register, Memory, Scalar } kind = Kind::Register;
  Extent extent = Extent::Full;
  size_t index = 0;  // Register: offset in floats; Memory: index of the access; Scalar: index of the constant
};

struct Instruction {
  enum class Kind : uint8_t { Move, Lane, Reduce } kind;
  Place from[3], to;
  LaneKernel lane = nullptr;
  ReduceKernel reduce = nullptr;
  MoveKernel move = nullptr;
  ElementwiseOp op{};
};

struct TileProgram {
  Shape outer;                    // sizes of the axes outside of a tile
  int64_t rows = 1, columns = 1;  // of one index of the outer axes
  int64_t tile_rows = 1, tile_columns = 1;
  int64_t slices = 1;  // size of the region's axis, the first of `outer`
  size_t register_floats = 0;
  std::vector<Access> accesses;
  std::vector<float> scalars;
  std::vector<Instruction> instructions;
};

TileProgram compile_tiles(const LaneUnit &unit, const Draft &draft, bool sliced);

}  // namespace ane::fast
#endif
