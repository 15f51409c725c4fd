// Runs tile programs: tiles over threads, instructions over tiles.
#include <algorithm>

#include "../../../cpu/threads.h"
#include "tile.h"

namespace ane::fast {

namespace {

constexpr size_t kMostAccesses = 128;
constexpr int64_t kWorthAThread = 16384;  // instructions times elements; below, a fork costs more than it brings

struct Tile {
  std::array<int64_t, kMostOuterAxes> outer{};
  int64_t row = 0, column = 0;   // its first
  size_t rows = 0, columns = 0;  // its size
};

// A place in this tile.
struct Located {
  uint8_t *at;
  int64_t row_step, column_step;
};

class TileRunner {
 public:
  TileRunner(const TileProgram &program, Bases bases)
      : program_(program),
        bases_(bases),
        registers_(reinterpret_cast<float *>(thread_scratch(Scratch::Step, program.register_floats * sizeof(float)))) {}
  void run(const Tile &tile);

 private:
  Located locate(const Place &place) const;
  Stream stream(const Place &place, Extent result) const;
  void run_move(const Instruction &instruction) const;
  void run_lane(const Instruction &instruction) const;
  void run_reduce(const Instruction &instruction) const;

  const TileProgram &program_;
  Bases bases_;
  float *registers_;
  size_t rows_ = 0, columns_ = 0;
  std::array<uint8_t *, kMostAccesses> at_;
};

void TileRunner::run(const Tile &tile) {
  rows_ = tile.rows, columns_ = tile.columns;
  for (size_t i = 0; i < program_.accesses.size(); ++i) {
    const Access &access = program_.accesses[i];
    int64_t offset = access.offset + tile.row * access.row_step + tile.column * access.column_step;
    for (size_t axis = 0; axis < program_.outer.size(); ++axis) offset += tile.outer[axis] * access.outer_steps[axis];
    at_[i] = bases_[access.buffer] + offset * (access.half ? 2 : 4);
  }
  for (const Instruction &instruction : program_.instructions) {
    switch (instruction.kind) {
      case Instruction::Kind::Move: run_move(instruction); break;
      case Instruction::Kind::Lane: run_lane(instruction); break;
      case Instruction::Kind::Reduce: run_reduce(instruction); break;
    }
  }
}

Located TileRunner::locate(const Place &place) const {
  switch (place.kind) {
    case Place::Kind::Memory: {
      const Access &access = program_.accesses[place.index];
      return {at_[place.index], access.row_step, access.column_step};
    }
    case Place::Kind::Scalar:
      return {reinterpret_cast<uint8_t *>(const_cast<float *>(&program_.scalars[place.index])), 0, 0};
    case Place::Kind::Register: break;
  }
  uint8_t *at = reinterpret_cast<uint8_t *>(registers_ + place.index);
  switch (place.extent) {
    case Extent::Full: return {at, program_.tile_columns, 1};
    case Extent::Rows: return {at, 1, 0};
    case Extent::Columns: return {at, 0, 1};
    case Extent::One: break;
  }
  return {at, 0, 0};
}

// How a kernel that makes `result` walks an operand. Results that are not blocks are one row of the kernel.
Stream TileRunner::stream(const Place &place, Extent result) const {
  const Located located = locate(place);
  const float *at = reinterpret_cast<const float *>(located.at);
  if (place.extent == Extent::One) return {at, 0, true};
  if (result != Extent::Full) return {at, 0, false};
  return {at, static_cast<ptrdiff_t>(place.extent == Extent::Columns ? 0 : located.row_step),
          place.extent == Extent::Rows};
}

void TileRunner::run_move(const Instruction &instruction) const {
  const Located from = locate(instruction.from[0]), to = locate(instruction.to);
  const Extent extent = instruction.to.extent;
  const size_t rows = extent == Extent::Full || extent == Extent::Rows ? rows_ : 1;
  const size_t columns = extent == Extent::Full || extent == Extent::Columns ? columns_ : 1;
  instruction.move({from.at, from.row_step, from.column_step, to.at, to.row_step, to.column_step, rows, columns});
}

void TileRunner::run_lane(const Instruction &instruction) const {
  const Extent extent = instruction.to.extent;
  const Located to = locate(instruction.to);
  LaneArgs args;
  args.out = reinterpret_cast<float *>(to.at);
  args.out_row_step = to.row_step;
  args.op = &instruction.op;
  for (size_t i = 0; i < 3; ++i) args.in[i] = stream(instruction.from[i], extent);
  switch (extent) {
    case Extent::Full: args.rows = rows_, args.columns = columns_; break;
    case Extent::Rows: args.rows = 1, args.columns = rows_; break;
    case Extent::Columns: args.rows = 1, args.columns = columns_; break;
    case Extent::One: args.rows = 1, args.columns = 1; break;
  }
  const ptrdiff_t whole = static_cast<ptrdiff_t>(columns_);
  const bool is_one_row = args.rows > 1 && args.out_row_step == whole &&
                          std::all_of(args.in, args.in + 3,
                                      [&](const Stream &s) { return s.splat ? s.row_step == 0 : s.row_step == whole; });
  if (is_one_row) {
    args.columns *= args.rows;
    args.rows = 1;
  }
  instruction.lane(args);
}

void TileRunner::run_reduce(const Instruction &instruction) const {
  const Located from = locate(instruction.from[0]), to = locate(instruction.to);
  instruction.reduce({reinterpret_cast<float *>(to.at), to.row_step, reinterpret_cast<const float *>(from.at),
                      from.row_step, rows_, columns_, instruction.op.output == DType::Fp16});
}

class LaneStep : public Step {
 public:
  explicit LaneStep(TileProgram program);
  void run(Bases bases) const override;
  void run_slice(Bases bases, int64_t slice) const override;

 private:
  void run_tiles(Bases bases, int64_t first, int64_t last) const;

  TileProgram program_;
  int64_t tiles_across_, tiles_down_, tiles_;  // of one outer index; of all
  size_t grain_;                               // tiles
};

LaneStep::LaneStep(TileProgram program) : program_(std::move(program)) {
  tiles_across_ = (program_.columns + program_.tile_columns - 1) / program_.tile_columns;
  tiles_down_ = (program_.rows + program_.tile_rows - 1) / program_.tile_rows;
  tiles_ = tiles_across_ * tiles_down_;
  for (int64_t size : program_.outer) tiles_ *= size;
  const int64_t work = program_.tile_rows * program_.tile_columns * static_cast<int64_t>(program_.instructions.size());
  grain_ = static_cast<size_t>(std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, work)));
}

void LaneStep::run_tiles(Bases bases, int64_t first, int64_t last) const {
  TileRunner runner(program_, bases);
  for (int64_t index = first; index < last; ++index) {
    Tile tile;
    int64_t rest = index;
    tile.column = rest % tiles_across_ * program_.tile_columns;
    rest /= tiles_across_;
    tile.row = rest % tiles_down_ * program_.tile_rows;
    rest /= tiles_down_;
    for (size_t axis = program_.outer.size(); axis-- > 0;) {
      tile.outer[axis] = rest % program_.outer[axis];
      rest /= program_.outer[axis];
    }
    tile.rows = static_cast<size_t>(std::min(program_.tile_rows, program_.rows - tile.row));
    tile.columns = static_cast<size_t>(std::min(program_.tile_columns, program_.columns - tile.column));
    runner.run(tile);
  }
}

void LaneStep::run(Bases bases) const {
  if (tiles_ <= static_cast<int64_t>(grain_)) return run_tiles(bases, 0, tiles_);
  parallel_for(static_cast<size_t>(tiles_), grain_, [&](size_t begin, size_t end) {
    run_tiles(bases, static_cast<int64_t>(begin), static_cast<int64_t>(end));
  });
}

void LaneStep::run_slice(Bases bases, int64_t slice) const {
  const int64_t each = tiles_ / program_.slices;
  run_tiles(bases, slice * each, (slice + 1) * each);
}

}  // namespace

std::unique_ptr<Step> make_lane_step(const LaneUnit &unit, const Draft &draft, bool sliced) {
  return std::make_unique<LaneStep>(compile_tiles(unit, draft, sliced));
}

}  // namespace ane::fast
