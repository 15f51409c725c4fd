// Strided windows on buffers: what reshape, transpose, slice and broadcast become when nothing has to move.
#ifndef ANETRAIN_FAST_VIEW_H
#define ANETRAIN_FAST_VIEW_H

#include <cstdint>
#include <optional>
#include <vector>

#include "../types.h"

namespace ane::fast {

struct View {
  int buffer = -1;
  int64_t offset = 0;  // elements
  Shape sizes;
  Shape strides;  // elements; 0 where the size is 1 or the value is repeated

  size_t rank() const { return sizes.size(); }
  int64_t count() const;
  bool operator==(const View &other) const = default;
};

View dense_view(int buffer, const Shape &sizes);
// Row-major and without gaps from its offset on: the order of its elements is the order of memory.
bool is_dense(const View &view);
// Every element of the buffer window is one element of the view: no repeats.
bool is_one_to_one(const View &view);

View permuted(const View &view, const std::vector<int64_t> &permutation);
View sliced(const View &view, size_t axis, int64_t begin, int64_t size, int64_t step = 1);
// Numpy's broadcasting: axes are added in front, sizes of one are repeated.
View broadcast(const View &view, const Shape &sizes);
// The same elements in the same row-major order under other sizes; nothing where strides cannot say that.
std::optional<View> reshaped(const View &view, const Shape &sizes);

// The coarsest shape of which both are coarsenings, ones dropped: [6,4] and [2,3,4] -> [2,3,4]; [6,4] and [4,6] ->
// nothing but where their boundaries nest.
std::optional<Shape> common_refinement(const Shape &a, const Shape &b);

// [first, last] element touched, relative to the buffer.
struct Footprint {
  int64_t first, last;
};
Footprint footprint(const View &view);

}  // namespace ane::fast
#endif
