// Lane unit -> tile program: axes, tile sizes, registers.
#include <algorithm>

#include "tile.h"

namespace ane::fast {

namespace {

using Origin = LaneValue::Origin;

constexpr int64_t kTileFloats = 4096;  // of a register: a handful stay in the second cache; shorter ones stop streams
constexpr int64_t kTransposedRows = 32, kTransposedColumns = 64;
constexpr int64_t kReducedTileFloats = 4096;
constexpr int64_t kVector = 16;

// The unit on as few axes as its views allow, and what each of them is for.
struct Axes {
  LaneUnit unit;
  int rows = -1, columns = -1;  // axes of a tile; -1: size one
  bool reduces_rows = false;    // the reduced axis is `rows`: columns are reduced one beside the other
  bool transposes = false;      // some view is contiguous along `rows`
};

void join_axes(LaneUnit *unit, size_t axis) {
  const auto at = [axis](Shape *shape) { return shape->begin() + static_cast<ptrdiff_t>(axis); };
  const int64_t size = unit->domain[axis] * unit->domain[axis + 1];
  const auto join_view = [&](View *view) {
    view->sizes.erase(at(&view->sizes));
    view->sizes[axis] = size;
    view->strides.erase(at(&view->strides));
  };
  for (LaneValue &value : unit->values) {
    if (value.origin == Origin::Load) join_view(&value.view);
    value.spans.erase(at(&value.spans));
  }
  for (LaneStore &store : unit->stores) join_view(&store.view);
  unit->domain.erase(at(&unit->domain));
  unit->domain[axis] = size;
  if (unit->reduced_first > axis) --unit->reduced_first;
  if (unit->reduced_last > axis) --unit->reduced_last;
}

bool can_join(const LaneUnit &unit, size_t axis) {
  if (unit.reduces() && (axis + 1 == unit.reduced_first || axis + 1 == unit.reduced_last)) return false;
  const auto walks_as_one = [&](const View *view) {
    return view->strides[axis] == view->strides[axis + 1] * view->sizes[axis + 1];
  };
  const auto reads = unit.reads(), writes = unit.writes();
  return std::all_of(reads.begin(), reads.end(), walks_as_one) &&
         std::all_of(writes.begin(), writes.end(), walks_as_one) &&
         std::all_of(unit.values.begin(), unit.values.end(),
                     [&](const LaneValue &value) { return value.spans[axis] == value.spans[axis + 1]; });
}

// The axis along which most views are contiguous; of equals the last.
int contiguous_axis(const LaneUnit &unit, size_t first) {
  int best = -1, most = -1;
  for (size_t axis = first; axis < unit.domain.size(); ++axis) {
    int votes = 0;
    for (const View *view : unit.reads()) votes += view->strides[axis] == 1;
    for (const View *view : unit.writes()) votes += view->strides[axis] == 1;
    if (votes >= most) best = static_cast<int>(axis), most = votes;
  }
  return best;
}

// An axis that some view is contiguous along although it is not `columns`; else the longest other one.
int row_axis(const LaneUnit &unit, size_t first, int columns, bool *transposes) {
  int longest = -1;
  for (size_t axis = first; axis < unit.domain.size(); ++axis) {
    if (static_cast<int>(axis) == columns) continue;
    const auto along = [&](const View *view) { return view->strides[axis] == 1 && view->strides[columns] != 0; };
    const auto reads = unit.reads(), writes = unit.writes();
    *transposes = std::any_of(reads.begin(), reads.end(), along) || std::any_of(writes.begin(), writes.end(), along);
    if (*transposes) return static_cast<int>(axis);
    if (longest < 0 || unit.domain[axis] >= unit.domain[longest]) longest = static_cast<int>(axis);
  }
  return longest;
}

Axes arrange(const LaneUnit &original, bool sliced) {
  Axes axes{original};
  LaneUnit &unit = axes.unit;
  const size_t first = sliced ? 1 : 0;
  for (size_t axis = unit.domain.size(); axis-- > first + 1;) {
    if (can_join(unit, axis - 1)) join_axes(&unit, axis - 1);
  }
  axes.columns = contiguous_axis(unit, first);
  if (unit.reduces() && axes.columns != static_cast<int>(unit.reduced_first)) {
    axes.rows = static_cast<int>(unit.reduced_first);
    axes.reduces_rows = true;
  } else if (axes.columns >= 0) {
    axes.rows = row_axis(unit, first, axes.columns, &axes.transposes);
  }
  return axes;
}

// Equal pieces of at most `most`, in whole vectors.
int64_t even_piece(int64_t length, int64_t most) {
  if (length <= most) return length;
  const int64_t pieces = (length + most - 1) / most;
  return ((length + pieces - 1) / pieces + kVector - 1) / kVector * kVector;
}

void choose_tile(const Axes &axes, TileProgram *program) {
  const int64_t rows = program->rows, columns = program->columns;
  if (axes.unit.reduces() && axes.reduces_rows) {
    program->tile_rows = rows;
    program->tile_columns = even_piece(columns, std::max(kVector, kReducedTileFloats / rows));
  } else if (axes.unit.reduces()) {
    program->tile_columns = columns;
    program->tile_rows = std::clamp<int64_t>(kReducedTileFloats / columns, 1, rows);
  } else if (axes.transposes) {
    program->tile_columns = even_piece(columns, kTransposedColumns);
    program->tile_rows = even_piece(rows, kTransposedRows);
  } else {
    program->tile_columns = even_piece(columns, kTileFloats);
    program->tile_rows = std::clamp<int64_t>(kTileFloats / program->tile_columns, 1, rows);
  }
}

class Compiler {
 public:
  Compiler(const LaneUnit &unit, const Draft &draft, bool sliced) : axes_(arrange(unit, sliced)), draft_(draft) {
    for (size_t axis = 0; axis < this->unit().domain.size(); ++axis) {
      const int64_t size = this->unit().domain[axis];
      if (static_cast<int>(axis) == axes_.columns) {
        program_.columns = size;
      } else if (static_cast<int>(axis) == axes_.rows) {
        program_.rows = size;
      } else {
        outer_.push_back(axis);
        program_.outer.push_back(size);
      }
    }
    if (sliced) program_.slices = program_.outer[0];
    choose_tile(axes_, &program_);
  }
  TileProgram compile();

 private:
  const LaneUnit &unit() const { return axes_.unit; }
  Extent extent_of(const Shape &spans) const;
  Extent extent(const LaneValue &value) const { return extent_of(value.spans); }
  size_t register_size(Extent extent) const;
  size_t take_register(Extent extent);
  void give_back(const Place &place);
  size_t add_access(const View &view);
  bool readable_in_place(const LaneValue &value, const Access &access) const;
  const LaneStore *direct_store(int value) const;
  Place use(int value, Extent wanted);
  Place result_place(int value);
  void emit_move(const Place &from, const Place &to, bool from_half, bool to_half, bool rounds);
  void emit_op(const LaneNode &op);
  void emit_stores(int value);
  void count_uses();
  void release(int value);

  Axes axes_;
  const Draft &draft_;
  TileProgram program_;
  std::vector<size_t> outer_;  // axes of the unit outside of the tile
  std::vector<Place> places_;  // by value, once it has one
  std::vector<bool> placed_;
  std::vector<int> uses_;  // left, by value
  struct Free {
    size_t offset, size;
  };
  std::vector<Free> free_;
};

Extent Compiler::extent_of(const Shape &spans) const {
  const bool rows = axes_.rows >= 0 && spans[static_cast<size_t>(axes_.rows)] != 0;
  const bool columns = axes_.columns >= 0 && spans[static_cast<size_t>(axes_.columns)] != 0;
  if (rows && columns) return Extent::Full;
  return rows ? Extent::Rows : columns ? Extent::Columns : Extent::One;
}

size_t Compiler::register_size(Extent extent) const {
  const size_t rows = static_cast<size_t>(program_.tile_rows), columns = static_cast<size_t>(program_.tile_columns);
  const size_t floats = extent == Extent::Full ? rows * columns : extent == Extent::Rows ? rows : columns;
  return (floats + kVector - 1) / kVector * kVector;
}

size_t Compiler::take_register(Extent extent) {
  const size_t size = register_size(extent);
  for (size_t i = 0; i < free_.size(); ++i) {
    if (free_[i].size != size) continue;
    const size_t offset = free_[i].offset;
    free_.erase(free_.begin() + static_cast<ptrdiff_t>(i));
    return offset;
  }
  const size_t offset = program_.register_floats;
  program_.register_floats += size;
  return offset;
}

void Compiler::give_back(const Place &place) {
  if (place.kind == Place::Kind::Register) free_.push_back({place.index, register_size(place.extent)});
}

size_t Compiler::add_access(const View &view) {
  Access access;
  access.buffer = view.buffer;
  access.half = draft_.buffers[static_cast<size_t>(view.buffer)].half;
  access.offset = view.offset;
  if (axes_.rows >= 0) access.row_step = view.strides[static_cast<size_t>(axes_.rows)];
  if (axes_.columns >= 0) access.column_step = view.strides[static_cast<size_t>(axes_.columns)];
  for (size_t i = 0; i < outer_.size(); ++i) access.outer_steps[i] = view.strides[outer_[i]];
  program_.accesses.push_back(access);
  return program_.accesses.size() - 1;
}

// Kernels read it where it stands.
bool Compiler::readable_in_place(const LaneValue &value, const Access &access) const {
  if (access.half || value.rounds) return false;
  switch (extent(value)) {
    case Extent::Full:
    case Extent::Columns: return access.column_step == 1;
    case Extent::Rows: return access.row_step == 1;
    case Extent::One: return true;
  }
  return false;
}

// A store into which the result can be computed at once.
const LaneStore *Compiler::direct_store(int value) const {
  const Extent wanted = extent(unit().values[static_cast<size_t>(value)]);
  for (const LaneStore &store : unit().stores) {
    if (store.value != value || draft_.buffers[static_cast<size_t>(store.view.buffer)].half) continue;
    const int axis = wanted == Extent::Rows ? axes_.rows : axes_.columns;
    if (axis >= 0 && wanted != Extent::One && store.view.strides[static_cast<size_t>(axis)] == 1) return &store;
  }
  return nullptr;
}

void Compiler::emit_move(const Place &from, const Place &to, bool from_half, bool to_half, bool rounds) {
  Move move = rounds ? Move::Round : Move::Copy;
  if (from_half) move = to_half ? Move::CopyHalves : Move::Widen;
  if (!from_half && to_half) move = Move::Narrow;
  Instruction instruction{Instruction::Kind::Move, {from}, to};
  instruction.move = kernels().move[static_cast<int>(move)];
  program_.instructions.push_back(instruction);
}

// Where a value can be read by a kernel, brought there if need be.
Place Compiler::use(int value, Extent wanted) {
  const LaneValue &source = unit().values[static_cast<size_t>(value)];
  const size_t index = static_cast<size_t>(value);
  if (!placed_[index]) {
    placed_[index] = true;
    if (source.origin == Origin::Scalar) {
      program_.scalars.push_back(source.scalar);
      places_[index] = {Place::Kind::Scalar, Extent::One, program_.scalars.size() - 1};
    } else {
      const size_t access = add_access(source.view);
      const Place memory{Place::Kind::Memory, extent(source), access};
      places_[index] = memory;
      if (!readable_in_place(source, program_.accesses[access])) {
        places_[index] = {Place::Kind::Register, memory.extent, take_register(memory.extent)};
        emit_move(memory, places_[index], program_.accesses[access].half, false, source.rounds);
      }
    }
  }
  if (wanted != Extent::Full || places_[index].extent == Extent::Full) return places_[index];
  // A reduction walks a full block even of what repeats.
  Instruction spread{Instruction::Kind::Lane, {places_[index]}, {Place::Kind::Register, Extent::Full, 0}};
  spread.to.index = take_register(Extent::Full);
  spread.lane = kernels().lane(LaneOp::Identity, false);
  program_.instructions.push_back(spread);
  return spread.to;
}

Place Compiler::result_place(int value) {
  const Extent wanted = extent(unit().values[static_cast<size_t>(value)]);
  if (const LaneStore *store = direct_store(value)) {
    return {Place::Kind::Memory, wanted, add_access(store->view)};
  }
  return {Place::Kind::Register, wanted, take_register(wanted)};
}

void Compiler::release(int value) {
  const size_t index = static_cast<size_t>(value);
  if (--uses_[index] == 0 && placed_[index]) give_back(places_[index]);
}

void Compiler::emit_op(const LaneNode &op) {
  const bool reduces = op.reduces();
  Instruction instruction{reduces ? Instruction::Kind::Reduce : Instruction::Kind::Lane, {}, {}};
  instruction.op = op.op;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    instruction.from[i] = use(op.inputs[i], reduces ? Extent::Full : Extent::One);
  }
  const size_t output = static_cast<size_t>(op.output);
  places_[output] = result_place(op.output);
  placed_[output] = true;
  instruction.to = places_[output];
  if (reduces) {
    instruction.reduce = kernels().reduce(op.reduction, axes_.reduces_rows);
  } else {
    instruction.lane = kernels().lane(op.op.lane, op.rounds());
  }
  program_.instructions.push_back(instruction);
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const Place &read = instruction.from[i];
    if (read.index != places_[static_cast<size_t>(op.inputs[i])].index) give_back(read);  // a spread copy
    release(op.inputs[i]);
  }
  emit_stores(op.output);
}

void Compiler::emit_stores(int value) {
  const LaneValue &source = unit().values[static_cast<size_t>(value)];
  const LaneStore *direct = source.origin == Origin::Result ? direct_store(value) : nullptr;
  for (const LaneStore &store : unit().stores) {
    if (store.value != value || &store == direct) continue;
    const size_t to = add_access(store.view);
    // What is written, which may repeat what is read.
    const Place target{Place::Kind::Memory, extent_of(store.view.strides), to};
    if (source.origin == Origin::Load) {  // straight from memory to memory
      const size_t from = add_access(source.view);
      emit_move({Place::Kind::Memory, target.extent, from}, target, program_.accesses[from].half,
                program_.accesses[to].half, source.rounds);
    } else {
      emit_move(use(value, Extent::One), target, false, program_.accesses[to].half, false);
    }
    release(value);
  }
}

void Compiler::count_uses() {
  uses_.assign(unit().values.size(), 0);
  for (const LaneNode &op : unit().ops) {
    for (int input : op.inputs) ++uses_[static_cast<size_t>(input)];
  }
  for (size_t value = 0; value < unit().values.size(); ++value) {
    const LaneStore *direct =
        unit().values[value].origin == Origin::Result ? direct_store(static_cast<int>(value)) : nullptr;
    for (const LaneStore &store : unit().stores) {
      uses_[value] += store.value == static_cast<int>(value) && &store != direct;
    }
  }
}

TileProgram Compiler::compile() {
  places_.resize(unit().values.size());
  placed_.assign(unit().values.size(), false);
  count_uses();
  for (size_t value = 0; value < unit().values.size(); ++value) {
    if (unit().values[value].origin != Origin::Result) emit_stores(static_cast<int>(value));
  }
  for (const LaneNode &op : unit().ops) emit_op(op);
  return std::move(program_);
}

}  // namespace

TileProgram compile_tiles(const LaneUnit &unit, const Draft &draft, bool sliced) {
  return Compiler(unit, draft, sliced).compile();
}

}  // namespace ane::fast
