#include "fold.h"

#include <algorithm>

#include "../../cpu/fp16.h"
#include "errors.h"
#include "limits.h"
#include "rounding.h"

namespace ane {
namespace {

bool is_floating(DType dtype) { return dtype == DType::Fp16 || dtype == DType::Fp32; }

[[noreturn]] void invalid(const NodeView &node, const std::string &problem) {
  invalid_program(node.node().pos, "'" + std::string(node.node().spec->name) + "': " + problem);
}

void require(bool valid, const NodeView &node, const char *argument, const char *expected) {
  if (!valid)
    invalid(node, format("%s is %s, expected %s", argument, type_text(node.type(argument)).c_str(), expected));
}

const Constant &constant(const NodeView &node, const char *argument) { return *node.value(argument).constant; }

// Where the elements of a tensor find theirs in a smaller one that has one element per block. Tables hold, for every
// index of a dimension, what it adds to the offset.
class BlockMap {
 public:
  // blocks[d] divides shape[d]; strides in elements of the smaller tensor.
  // Dimensions of size 1 are left out, so that the [O, I, 1, 1] of a conv has long rows.
  BlockMap(const Shape &shape, const Shape &blocks, const std::vector<int64_t> &strides) {
    for (size_t d = 0; d < shape.size(); d++) {
      if (shape[d] == 1) continue;
      shape_.push_back(shape[d]);
      std::vector<int64_t> &table = offsets_.emplace_back(static_cast<size_t>(shape[d]));
      const int64_t block = shape[d] / blocks[d];
      for (int64_t i = 0; i < shape[d]; i++) table[static_cast<size_t>(i)] = i / block * strides[d];
    }
  }

  // visit(element of the large tensor, element of the small one), in row-major order
  template <class Visit>
  void each(Visit visit) const {
    std::vector<size_t> index(shape_.size());
    const int64_t count = element_count(shape_), row = shape_.empty() ? 1 : shape_.back();
    for (int64_t start = 0; start < count; start += row) {
      int64_t base = 0;
      for (size_t d = 0; d + 1 < shape_.size(); d++) base += offsets_[d][index[d]];
      for (int64_t i = 0; i < row; i++) {
        visit(start + i, shape_.empty() ? base : base + offsets_.back()[static_cast<size_t>(i)]);
      }
      for (size_t d = shape_.size(); d-- > 1;) {  // the row above the last dimension moves on
        if (++index[d - 1] < static_cast<size_t>(shape_[d - 1])) break;
        index[d - 1] = 0;
      }
    }
  }

 private:
  Shape shape_;
  std::vector<std::vector<int64_t>> offsets_;
};

// Exact: no type that is folded has more than 24 significant bits.
std::vector<float> floats(const Constant &source) {
  std::vector<float> values(static_cast<size_t>(source.count()));
  switch (source.type.dtype) {
    case DType::Fp16: anecpu_floats_from_halves(source.as<uint16_t>(), values.data(), values.size()); break;
    case DType::Fp32: std::copy_n(source.as<float>(), values.size(), values.data()); break;
    case DType::Int4:
    case DType::Int8: std::copy_n(source.as<int8_t>(), values.size(), values.data()); break;
    default: std::copy_n(source.as<uint8_t>(), values.size(), values.data()); break;
  }
  return values;
}

// On the way to `dtype`, fp16 or fp32: packing what this returns rounds no second time.
float narrowed(double value, DType dtype) {
  return dtype == DType::Fp16 ? round_to_odd(value) : static_cast<float>(value);
}

ConstantPtr packed(const Type &type, const std::vector<float> &values) {
  auto result = std::make_shared<Constant>();
  result->type = type;
  result->writable().resize(values.size() * dtype_bytes(type.dtype));
  if (type.dtype == DType::Fp16) {
    anecpu_halves_from_floats(values.data(), reinterpret_cast<uint16_t *>(result->writable().data()), values.size());
  } else {
    std::copy_n(values.data(), values.size(), reinterpret_cast<float *>(result->writable().data()));
  }
  return result;
}

// ---------------------------------------------------------------- scale * (data - offset)

// `shift` may be empty: none.
ConstantPtr shift_and_scale(const Constant &data, const BlockMap &map, const std::vector<float> &scale,
                            const std::vector<float> &shift, DType dtype) {
  std::vector<float> values = floats(data);
  map.each([&](int64_t i, int64_t block) {
    const auto at = static_cast<size_t>(i), b = static_cast<size_t>(block);
    const double shifted = double{values[at]} - (shift.empty() ? 0.0 : double{shift[b]});
    values[at] = narrowed(scale[b] * shifted, dtype);
  });
  return packed({dtype, data.type.shape}, values);
}

// A scalar for all, or one value per index of `axis`, spread to that length.
std::vector<float> per_axis(const NodeView &node, const char *argument, int64_t length) {
  std::vector<float> values = floats(constant(node, argument));
  const Shape &shape = node.shape(argument);
  if (shape.empty() || (shape.size() == 1 && shape[0] == 1)) {
    values.resize(static_cast<size_t>(length), values[0]);
  } else if (shape.size() != 1 || shape[0] != length) {
    invalid(node, format("%s has shape %s, expected a scalar or [%lld], the size of the axis", argument,
                         shape_text(shape).c_str(), static_cast<long long>(length)));
  }
  return values;
}

ConstantPtr affine_dequantize(const NodeView &node) {
  const Type &data = node.type("quantized_data"), &scale = node.type("scale"), &zero = node.type("zero_point");
  require(data.dtype == DType::Int8 || data.dtype == DType::UInt8, node, "quantized_data", "int8 or uint8");
  require(!data.shape.empty(), node, "quantized_data", "a tensor, not a scalar");
  require(is_floating(scale.dtype), node, "scale", "fp16 or fp32");
  require(zero.dtype == data.dtype, node, "zero_point", "the type of quantized_data");
  const auto axis = static_cast<size_t>(node.axis("axis", static_cast<int>(data.shape.size())));
  const int64_t length = data.shape[axis];
  Shape blocks(data.shape.size(), 1);
  blocks[axis] = length;
  const BlockMap map(data.shape, blocks, row_major_strides(blocks));
  return shift_and_scale(constant(node, "quantized_data"), map, per_axis(node, "scale", length),
                         per_axis(node, "zero_point", length), scale.dtype);
}

void require_blocks(const NodeView &node, const Shape &shape, const char *argument, const Shape &blocks) {
  for (size_t d = 0; d < shape.size(); d++) {
    if (shape[d] % blocks[d] != 0) {
      invalid(node, format("%s %s does not divide %s into whole blocks along dimension %zu", argument,
                           shape_text(blocks).c_str(), shape_text(shape).c_str(), d));
    }
  }
}

ConstantPtr blockwise_shift_scale(const NodeView &node) {
  const Type &data = node.type("data"), &scale = node.type("scale");
  const bool small = data.dtype == DType::Int4 || data.dtype == DType::UInt4 || data.dtype == DType::Int8 ||
                     data.dtype == DType::UInt8;
  require(small || is_floating(data.dtype), node, "data", "int4, uint4, int8, uint8, fp16 or fp32");
  require(is_floating(scale.dtype), node, "scale", "fp16 or fp32");
  require(scale.shape.size() == data.shape.size() && !data.shape.empty(), node, "scale",
          "the rank of data, at least 1");
  require_blocks(node, data.shape, "scale", scale.shape);
  std::vector<float> shift;
  if (node.has("offset")) {
    const Type &offset = node.type("offset");
    require(offset.shape == scale.shape, node, "offset", "the shape of scale");
    require(offset.dtype == data.dtype || is_floating(offset.dtype), node, "offset", "the type of data, fp16 or fp32");
    shift = floats(constant(node, "offset"));
  }
  const BlockMap map(data.shape, scale.shape, row_major_strides(scale.shape));
  return shift_and_scale(constant(node, "data"), map, floats(constant(node, "scale")), shift, scale.dtype);
}

// ---------------------------------------------------------------- lookup tables

// indices [d0, ..., dk]; lut [b0, ..., bk, palettes, vector]: each block of indices has a table of its own, whose rows
// are laid along vector_axis: result [d0, ..., d_axis * vector, ..., dk].
ConstantPtr lut_to_dense(const NodeView &node) {
  const Type &indices = node.type("indices"), &lut = node.type("lut");
  const size_t rank = indices.shape.size(), bits = dtype_bits(indices.dtype);
  const bool index_type =
      (indices.dtype >= DType::UInt1 && indices.dtype <= DType::UInt6) || indices.dtype == DType::UInt8;
  require(index_type, node, "indices", "uint1, uint2, uint3, uint4, uint6 or uint8");
  require(rank > 0, node, "indices", "a tensor, not a scalar");
  require(is_floating(lut.dtype) || lut.dtype == DType::Int8 || lut.dtype == DType::UInt8, node, "lut",
          "fp16, fp32, int8 or uint8");
  require(lut.shape.size() == rank + 2, node, "lut", "two dimensions more than indices: [..., palettes, vector size]");
  const int64_t palettes = lut.shape[rank], vector = lut.shape[rank + 1];
  require(palettes == int64_t{1} << bits, node, "lut", "2^bits palettes in its last dimension but one");
  require_blocks(node, indices.shape, "lut", lut.shape);
  if (vector > 1 && !node.has("vector_axis"))
    invalid(node, "vector_axis is needed when the last dimension of lut is not 1");
  const size_t axis =
      node.has("vector_axis") ? static_cast<size_t>(node.axis("vector_axis", static_cast<int>(rank))) : rank - 1;

  auto result = std::make_shared<Constant>();
  result->type = {lut.dtype, indices.shape};
  result->type.shape[axis] *= vector;
  const size_t element = dtype_bytes(lut.dtype);
  if (result->count() > limits::kFoldedBytes / static_cast<int64_t>(element)) {
    invalid(node, "the result " + type_text(result->type) + " is too large");
  }
  result->writable().resize(static_cast<size_t>(result->count()) * element);

  int64_t inner = 1;  // elements after the axis
  for (size_t d = axis + 1; d < rank; d++) inner *= indices.shape[d];
  const uint8_t *index = constant(node, "indices").bytes().data(), *table = constant(node, "lut").bytes().data();
  const BlockMap map(indices.shape, lut.shape, row_major_strides(lut.shape));
  map.each([&](int64_t i, int64_t block) {
    const uint8_t *row = table + static_cast<size_t>(block + index[i] * vector) * element;
    uint8_t *target = result->writable().data() + static_cast<size_t>(i / inner * vector * inner + i % inner) * element;
    for (int64_t v = 0; v < vector; v++) {
      std::copy_n(row + static_cast<size_t>(v) * element, element, target + static_cast<size_t>(v * inner) * element);
    }
  });
  return result;
}

// ---------------------------------------------------------------- sparse and cast

ConstantPtr sparse_to_dense(const NodeView &node) {
  const Type &data = node.type("nonzero_data"), &mask = node.type("mask");
  require(data.shape.size() == 1, node, "nonzero_data", "one dimension");
  require(mask.dtype == DType::UInt1, node, "mask", "uint1");
  require(!mask.shape.empty(), node, "mask", "a tensor, not a scalar");
  const std::vector<uint8_t> &present = constant(node, "mask").bytes();
  const auto ones = static_cast<int64_t>(std::count(present.begin(), present.end(), uint8_t{1}));
  if (ones != data.shape[0]) {
    invalid(node, format("mask has %lld ones, but nonzero_data has %lld values", static_cast<long long>(ones),
                         static_cast<long long>(data.shape[0])));
  }
  auto result = std::make_shared<Constant>();
  result->type = {data.dtype, mask.shape};
  const size_t element = dtype_bytes(data.dtype);
  result->writable().assign(present.size() * element, 0);
  const uint8_t *next = constant(node, "nonzero_data").bytes().data();
  for (size_t i = 0; i < present.size(); i++) {
    if (!present[i]) continue;
    std::copy_n(next, element, result->writable().data() + i * element);
    next += element;
  }
  return result;
}

ConstantPtr cast(const NodeView &node) {
  const Type &source = node.type("source_val");
  require(is_floating(source.dtype), node, "source_val", "fp16 or fp32");
  DType target;
  const std::string &name = node.text("output_dtype");
  if (!dtype_from_name(name, &target) || !is_floating(target))
    invalid(node, "output_dtype is '" + name + "', expected fp16 or fp32");
  return packed({target, source.shape}, floats(constant(node, "source_val")));
}

}  // namespace

bool is_constexpr(OpKind kind) { return kind >= OpKind::ConstexprAffineDequantize && kind <= OpKind::ConstexprCast; }

ConstantPtr fold_constexpr(const NodeView &node) {
  switch (node.kind()) {
    case OpKind::ConstexprAffineDequantize: return affine_dequantize(node);
    case OpKind::ConstexprBlockwiseShiftScale: return blockwise_shift_scale(node);
    case OpKind::ConstexprLutToDense: return lut_to_dense(node);
    case OpKind::ConstexprSparseToDense: return sparse_to_dense(node);
    case OpKind::ConstexprCast: return cast(node);
    default: break;
  }
  invalid(node, "is not an operation on constants");
}

}  // namespace ane
