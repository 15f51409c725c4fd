// The planner's working form of a program: buffers, and units of work that read and write views of them.
//
// Every value that something computes starts with a buffer of its own and every layout op with a view; fusion then
// finds that most buffers are never needed. Values are floats whatever their type: what is fp16 holds fp32 values that
// fp16 could hold, booleans are 0 and 1, integers are whole numbers. Surfaces alone hold fp16 bits.
#ifndef ANETRAIN_FAST_UNIT_H
#define ANETRAIN_FAST_UNIT_H

#include <memory>
#include <string>
#include <vector>

#include "../elementwise.h"
#include "../ir.h"
#include "view.h"

namespace ane::fast {

enum class Storage : uint8_t {
  Temporary,   // in the arena
  Constant,    // floats, made with each program
  Input,       // a surface, as it is
  InputImage,  // the fp32 image of an fp16 surface: what a GEMM reads
  Output,      // a surface
};

struct Buffer {
  Storage storage = Storage::Temporary;
  bool half = false;            // elements are fp16 bits
  bool raw = false;             // unrounded sums of a GEMM: whoever reads them rounds
  int64_t count = 0;            // elements
  int port = -1;                // Input, InputImage, Output
  ConstantPtr constant;         // Constant
  std::vector<Footprint> read;  // InputImage: what units read of it
};

enum class UnitKind : uint8_t { Lanes, Gemm, Conv, Generic };

// One or several nodes that run as one step. `reads` and `writes` say everything about memory that passes need.
struct Unit {
  explicit Unit(UnitKind k) : kind(k) {}
  virtual ~Unit() = default;
  virtual std::vector<const View *> reads() const = 0;
  virtual std::vector<const View *> writes() const = 0;
  const UnitKind kind;
};
using Units = std::vector<std::unique_ptr<Unit>>;

// ---- lanes: elementwise operations, reductions and softmax over one domain, fused

struct LaneValue {
  enum class Origin : uint8_t { Load, Scalar, Result } origin = Origin::Load;
  View view;            // Load: its sizes are the domain's
  bool rounds = false;  // Load: of unrounded sums
  float scalar = 0;
  Shape spans;  // per axis of the domain: 1 where the value differs along it, else 0
};

struct LaneNode {
  ElementwiseOp op;                  // its output type says whether the result is rounded
  OpKind reduction = OpKind::Count;  // a reduction or softmax instead
  std::vector<int> inputs;           // indices of values
  int output = -1;
  bool reduces() const { return reduction != OpKind::Count; }
  bool rounds() const { return op.output == DType::Fp16; }
};

struct LaneStore {
  int value;
  View view;
};

struct LaneUnit : Unit {
  LaneUnit() : Unit(UnitKind::Lanes) {}
  std::vector<const View *> reads() const override;
  std::vector<const View *> writes() const override;

  Shape domain;
  std::vector<LaneValue> values;
  std::vector<LaneNode> ops;
  std::vector<LaneStore> stores;
  // Axes [first, last) of the domain that reductions and softmax run along; empty: elementwise only.
  size_t reduced_first = 0, reduced_last = 0;
  bool reduces() const { return reduced_first < reduced_last; }
};

// ---- products: c[..., m, n] = a[..., m, k] b[..., k, n]; the last two axes of each have a unit stride among them

struct GemmUnit : Unit {
  GemmUnit() : Unit(UnitKind::Gemm) {}
  std::vector<const View *> reads() const override { return {&a, &b}; }
  std::vector<const View *> writes() const override { return {&c}; }
  View a, b, c;
};

struct ConvAxis {
  int64_t kernel = 1, stride = 1, dilation = 1, pad_before = 0;
};

// x[n, groups * ci, h, w], weight[groups, co, ci * kh * kw] -> y[n, groups * co, oh, ow]
struct ConvUnit : Unit {
  ConvUnit() : Unit(UnitKind::Conv) {}
  std::vector<const View *> reads() const override { return {&x, &weight}; }
  std::vector<const View *> writes() const override { return {&y}; }
  View x, weight, y;
  int64_t groups = 1;
  ConvAxis rows, columns;
};

// Anything else: the reference executor's meaning on dense copies.
struct GenericUnit : Unit {
  GenericUnit() : Unit(UnitKind::Generic) {}
  std::vector<const View *> reads() const override;
  std::vector<const View *> writes() const override;
  int node = -1;
  std::vector<int> input_values;  // value ids of the graph, as the views stand
  std::vector<View> inputs, outputs;
};

struct Draft {
  std::vector<Buffer> buffers;
  Units units;  // in an order in which they can run
  int add_buffer(Buffer buffer) {
    buffers.push_back(std::move(buffer));
    return static_cast<int>(buffers.size()) - 1;
  }
};

}  // namespace ane::fast
#endif
