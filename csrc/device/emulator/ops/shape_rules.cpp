#include "shape_rules.h"

#include <algorithm>
#include <set>

namespace ane {

namespace {

long long text(int64_t value) { return static_cast<long long>(value); }

std::pair<int64_t, int64_t> same_padding(int64_t size, int64_t span, int64_t stride, bool more_before) {
  const int64_t total = std::max<int64_t>(product((size + stride - 1) / stride - 1, stride) + span - size, 0);
  const int64_t smaller = total / 2, larger = total - smaller;
  return more_before ? std::pair{larger, smaller} : std::pair{smaller, larger};
}

}  // namespace

void wrong_argument(const NodeView &node, const char *argument, const std::string &what) {
  invalid_program(node.node().pos, format("'%s': argument '%s' %s", node.node().spec->name, argument, what.c_str()));
}

std::string list_text(const std::vector<int64_t> &values) { return shape_text(values); }

void require_rank(const NodeView &node, const char *argument, size_t lowest, size_t highest) {
  const size_t rank = node.shape(argument).size();
  if (rank >= lowest && rank <= highest) return;
  const std::string expected =
      lowest == highest ? std::to_string(lowest) : std::to_string(lowest) + " to " + std::to_string(highest);
  wrong_argument(
      node, argument,
      format("is %s, of rank %zu; expected rank %s", type_text(node.type(argument)).c_str(), rank, expected.c_str()));
}

void require_one_dtype(const NodeView &node, std::initializer_list<const char *> arguments) {
  const char *first = *arguments.begin();
  const DType dtype = node.type(first).dtype;
  for (const char *argument : arguments)
    if (node.has(argument) && node.type(argument).dtype != dtype)
      wrong_argument(node, argument,
                     format("is %s, '%s' is %s; expected one element type", dtype_name(node.type(argument).dtype),
                            first, dtype_name(dtype)));
}

void require_text(const NodeView &node, const char *argument, std::initializer_list<const char *> allowed) {
  const std::string &found = node.text(argument);
  std::string expected;
  for (const char *choice : allowed) {
    if (found == choice) return;
    expected += (expected.empty() ? "" : ", ") + std::string(choice);
  }
  wrong_argument(node, argument, "is \"" + found + "\"; expected one of " + expected);
}

void require_shape(const NodeView &node, const char *argument, const Shape &expected, const char *because) {
  if (node.has(argument) && node.shape(argument) != expected)
    wrong_argument(
        node, argument,
        "has shape " + shape_text(node.shape(argument)) + "; expected " + shape_text(expected) + ", " + because);
}

std::vector<int64_t> list_of(const NodeView &node, const char *argument, size_t length, int64_t lowest) {
  std::vector<int64_t> values = node.integers(argument);
  if (values.size() != length)
    wrong_argument(node, argument, format("has %zu elements; expected %zu", values.size(), length));
  if (std::any_of(values.begin(), values.end(), [&](int64_t value) { return value < lowest; }))
    wrong_argument(node, argument,
                   format("is %s; expected numbers of %lld and more", list_text(values).c_str(), text(lowest)));
  return values;
}

std::vector<int64_t> axes_of(const NodeView &node, const char *argument, size_t rank) {
  std::vector<int64_t> axes;
  if (!node.has(argument)) {
    for (size_t axis = 0; axis < rank; ++axis) axes.push_back(static_cast<int64_t>(axis));
    return axes;
  }
  const int64_t limit = static_cast<int64_t>(rank);
  for (int64_t axis : node.integers(argument)) {
    if (axis < -limit || axis >= limit)
      wrong_argument(
          node, argument,
          format("holds %lld; expected %lld to %lld for rank %zu", text(axis), text(-limit), text(limit - 1), rank));
    axes.push_back(axis < 0 ? axis + limit : axis);
  }
  if (std::set<int64_t>(axes.begin(), axes.end()).size() != axes.size())
    wrong_argument(node, argument, "is " + list_text(node.integers(argument)) + "; expected each axis once");
  return axes;
}

Shape broadcast(const NodeView &node, const char *argument, const Shape &a, const Shape &b) {
  Shape result(std::max(a.size(), b.size()));
  for (size_t i = 1; i <= result.size(); ++i) {
    const int64_t m = i <= a.size() ? a[a.size() - i] : 1, n = i <= b.size() ? b[b.size() - i] : 1;
    if (m != n && m != 1 && n != 1)
      wrong_argument(node, argument,
                     format("has shape %s, which does not broadcast with %s; expected equal sizes, or 1",
                            shape_text(b).c_str(), shape_text(a).c_str()));
    result[result.size() - i] = m == 1 ? n : m;
  }
  return result;
}

int64_t product(int64_t a, int64_t b) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  int64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) || result > kHuge ? kHuge : result;
}

int64_t element_product(const Shape &shape, size_t from, size_t to) {
  int64_t count = 1;
  for (size_t i = from; i < to; ++i) count = product(count, shape[i]);
  return count;
}

Window window_of(const NodeView &node, const int64_t *size, const std::vector<int64_t> &kernel) {
  require_text(node, "pad_type", {"valid", "custom", "same", "same_lower"});
  const std::string &pad_type = node.text("pad_type");
  const std::vector<int64_t> strides = list_of(node, "strides", 2, 1);
  const std::vector<int64_t> dilations =
      node.has("dilations") ? list_of(node, "dilations", 2, 1) : std::vector<int64_t>{1, 1};
  const std::vector<int64_t> custom = pad_type == "custom" ? list_of(node, "pad", 4, 0) : std::vector<int64_t>(4, 0);
  Window window;
  for (int i = 0; i < 2; ++i) {
    window.stride[i] = strides[i];
    window.span[i] = product(kernel[i] - 1, dilations[i]) + 1;
    window.pad[i] = pad_type.starts_with("same")
                        ? same_padding(size[i], window.span[i], strides[i], pad_type == "same_lower")
                        : std::pair{custom[2 * i], custom[2 * i + 1]};
  }
  return window;
}

std::vector<int64_t> window_positions(const NodeView &node, const int64_t *size, const Window &window, bool ceil_mode) {
  std::vector<int64_t> positions;
  for (int i = 0; i < 2; ++i) {
    const auto [before, after] = window.pad[i];
    const int64_t room = size[i] + before + after - window.span[i];
    if (room < 0)
      wrong_argument(node, "x",
                     format("has %lld elements and %lld + %lld of padding under a window of %lld; expected at "
                            "least as many",
                            text(size[i]), text(before), text(after), text(window.span[i])));
    int64_t count = (ceil_mode ? room + window.stride[i] - 1 : room) / window.stride[i] + 1;
    // A last window that would lie wholly in the padding is left out.
    if (ceil_mode && (before || after) && (count - 1) * window.stride[i] >= size[i] + before) --count;
    positions.push_back(count);
  }
  return positions;
}

}  // namespace ane
