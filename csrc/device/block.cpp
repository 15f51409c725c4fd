// Blocks: rows x columns copied between a host array and a surface, converted on the way.
#include <cstring>

#include "cpu/fp16.h"
#include "error.h"
#include "objects.h"

namespace ane {

// The largest element index of the host array must be representable; its true size is the caller's business.
static bool host_strides_overflow(const ane_block &block) {
  ptrdiff_t rows, columns, sum;
  if (block.rows > PTRDIFF_MAX || block.columns > PTRDIFF_MAX) return true;
  return __builtin_mul_overflow(static_cast<ptrdiff_t>(block.rows - 1), block.host_row_stride, &rows) ||
         __builtin_mul_overflow(static_cast<ptrdiff_t>(block.columns - 1), block.host_column_stride, &columns) ||
         __builtin_add_overflow(rows, columns, &sum) || __builtin_mul_overflow(sum, static_cast<ptrdiff_t>(8), &sum);
}

static ane_status check_block(const ane_surface &surface, const ane_block &block, ane_error *error) {
  const size_t element_bytes = surface.device->fp32 ? 4 : 2;
  const size_t capacity = surface.bytes / element_bytes;
  if (block.rows > 1 && block.row_stride < block.columns)
    return ane_fail(error, ANE_SURFACE_ERROR, "rows of %zu elements at a row stride of %zu would overlap",
                    block.columns, block.row_stride);
  size_t last_row, end;
  if (__builtin_mul_overflow(block.rows - 1, block.row_stride, &last_row) ||
      __builtin_add_overflow(last_row, block.offset, &end) || __builtin_add_overflow(end, block.columns, &end) ||
      end > capacity)
    return ane_fail(error, ANE_SURFACE_ERROR,
                    "a block of %zu rows x %zu columns at offset %zu with row stride %zu does not fit a surface of %zu "
                    "%s elements (%zu bytes)",
                    block.rows, block.columns, block.offset, block.row_stride, capacity,
                    surface.device->fp32 ? "fp32" : "fp16", surface.bytes);
  if (host_strides_overflow(block))
    return ane_fail(error, ANE_BAD_ARGUMENT, "host strides of %td and %td elements overflow", block.host_row_stride,
                    block.host_column_stride);
  return ANE_OK;
}

// Strides of a side, in elements.
struct Layout {
  ptrdiff_t row, column;
  bool is_dense(const ane_block &block) const {
    return column == 1 && (block.rows == 1 || row == static_cast<ptrdiff_t>(block.columns));
  }
};

template <class Element>
static void copy_2d(const Element *source, Layout from, Element *target, Layout to, const ane_block &block) {
  for (size_t r = 0; r < block.rows; r++) {
    const Element *row = source + static_cast<ptrdiff_t>(r) * from.row;
    Element *out = target + static_cast<ptrdiff_t>(r) * to.row;
    if (from.column == 1 && to.column == 1) {
      memcpy(out, row, block.columns * sizeof(Element));
      continue;
    }
    for (size_t c = 0; c < block.columns; c++)
      out[static_cast<ptrdiff_t>(c) * to.column] = row[static_cast<ptrdiff_t>(c) * from.column];
  }
}

static void convert(const float *source, Layout from, uint16_t *target, Layout to, const ane_block &block) {
  if (from.is_dense(block) && to.is_dense(block))
    anecpu_halves_from_floats(source, target, block.rows * block.columns);
  else
    anecpu_halves_from_floats_2d(source, from.row, from.column, target, to.row, to.column, block.rows, block.columns);
}
static void convert(const uint16_t *source, Layout from, float *target, Layout to, const ane_block &block) {
  if (from.is_dense(block) && to.is_dense(block))
    anecpu_floats_from_halves(source, target, block.rows * block.columns);
  else
    anecpu_floats_from_halves_2d(source, from.row, from.column, target, to.row, to.column, block.rows, block.columns);
}
template <class Element>
static void convert(const Element *source, Layout from, Element *target, Layout to, const ane_block &block) {
  copy_2d(source, from, target, to, block);
}

// Host arrays are `Host` (float, or halves as uint16_t), surface elements fp16 or, in fp32 mode, float.
template <class Host>
static ane_status transfer(ane_surface *surface, const ane_block *block, Host *host, bool write, ane_error *error) {
  if (!surface || !block || !host)
    return ane_fail(error, ANE_BAD_ARGUMENT, "block %s: `%s` is NULL", write ? "write" : "read",
                    !surface ? "surface"
                    : !block ? "block"
                             : "host");
  if (block->rows == 0 || block->columns == 0) return check_usable(*surface->device, error);
  if (const ane_status status = check_block(*surface, *block, error)) return status;
  void *base;
  if (const ane_status status = ane_surface_lock(surface, write, &base, error)) return status;
  const Layout inside{static_cast<ptrdiff_t>(block->row_stride), 1};
  const Layout outside{block->host_row_stride, block->host_column_stride};
  const auto move = [&](auto *elements) {
    elements += block->offset;
    if (write)
      convert(static_cast<const Host *>(host), outside, elements, inside, *block);
    else
      convert(static_cast<const std::remove_reference_t<decltype(*elements)> *>(elements), inside, host, outside,
              *block);
  };
  if (surface->device->fp32)
    move(static_cast<float *>(base));
  else
    move(static_cast<uint16_t *>(base));
  return ane_surface_unlock(surface, write, error);
}

}  // namespace ane

ane_status ane_surface_write_f32(ane_surface *surface, const ane_block *block, const float *host, ane_error *error) {
  return ane::guarded(error, [&] { return ane::transfer(surface, block, const_cast<float *>(host), true, error); });
}
ane_status ane_surface_read_f32(ane_surface *surface, const ane_block *block, float *host, ane_error *error) {
  return ane::guarded(error, [&] { return ane::transfer(surface, block, host, false, error); });
}
ane_status ane_surface_write_f16(ane_surface *surface, const ane_block *block, const uint16_t *host, ane_error *error) {
  return ane::guarded(error, [&] { return ane::transfer(surface, block, const_cast<uint16_t *>(host), true, error); });
}
ane_status ane_surface_read_f16(ane_surface *surface, const ane_block *block, uint16_t *host, ane_error *error) {
  return ane::guarded(error, [&] { return ane::transfer(surface, block, host, false, error); });
}
