// What the shape rules of all families share: their complaints, and the arithmetic of shapes.
#ifndef ANETRAIN_EMULATOR_OPS_SHAPE_RULES_H
#define ANETRAIN_EMULATOR_OPS_SHAPE_RULES_H

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "../errors.h"
#include "../ir.h"

namespace ane {

// "'conv': argument 'weight' <what>", an invalid_program at the place of the node.
[[noreturn]] void wrong_argument(const NodeView &node, const char *argument, const std::string &what);

std::string list_text(const std::vector<int64_t> &values);  // "[1, 2]"

void require_rank(const NodeView &node, const char *argument, size_t lowest, size_t highest);
// All of them that are there have one element type; the first is there and is what the others are compared with.
void require_one_dtype(const NodeView &node, std::initializer_list<const char *> arguments);
void require_text(const NodeView &node, const char *argument, std::initializer_list<const char *> allowed);
void require_shape(const NodeView &node, const char *argument, const Shape &expected, const char *because);

// A 1-D parameter of a given length, every element at least `lowest`.
std::vector<int64_t> list_of(const NodeView &node, const char *argument, size_t length, int64_t lowest = INT64_MIN);
// Axes made positive, each once; all axes of the rank where the argument is absent.
std::vector<int64_t> axes_of(const NodeView &node, const char *argument, size_t rank);

// As MIL and numpy broadcast; `argument` is blamed.
Shape broadcast(const NodeView &node, const char *argument, const Shape &a, const Shape &b);

int64_t product(int64_t a, int64_t b);  // stays at 2^62 instead of overflowing: element_count refuses such shapes
int64_t element_product(const Shape &shape, size_t from, size_t to);

// Padding, strides and windows of conv and pools over [N, C, H, W].
struct Window {
  int64_t span[2];  // the kernel with its dilations
  int64_t stride[2];
  std::pair<int64_t, int64_t> pad[2];  // before, after
};
// `size` is [H, W]. Reads strides, pad_type, pad and, where the operation has them, dilations.
Window window_of(const NodeView &node, const int64_t *size, const std::vector<int64_t> &kernel);
std::vector<int64_t> window_positions(const NodeView &node, const int64_t *size, const Window &window, bool ceil_mode);

// Families; each file gives its part of the table.
std::vector<OpSpec> linear_ops();
std::vector<OpSpec> elementwise_ops();
std::vector<OpSpec> row_ops();
std::vector<OpSpec> layout_ops();
std::vector<OpSpec> image_ops();
std::vector<OpSpec> attention_ops();
std::vector<OpSpec> quantization_ops();

// Arguments as the tables spell them.
constexpr unsigned kAnyTensor = ArgTensor | ArgBoolTensor | ArgIntTensor;
inline ArgSpec tensor(const char *name, unsigned kinds = ArgTensor, bool required = true) {
  return {name, kinds, "", required, ""};
}
inline ArgSpec required(const char *name, const char *type) { return {name, ArgConst, type, true, ""}; }
// An empty default leaves the argument out.
inline ArgSpec optional(const char *name, const char *type, const char *value = "") {
  return {name, ArgConst, type, false, value};
}

}  // namespace ane
#endif
