// Surface: locks with views, and blocks between host arrays and the surface. Any object with the buffer protocol serves
// as a host array, so numpy is not needed here.
#include <pybind11/stl.h>

#include <cstring>
#include <optional>

#include "device_bindings.h"

namespace anetrain {

// The memory of a locked surface as a buffer. It keeps the surface, so a view may outlive the lock and the Surface.
struct View {
  ane_surface *surface;
  void *base;
  bool write;
  View(ane_surface *surface, void *base, bool write) : surface(surface), base(base), write(write) {
    ane_surface_retain(surface);
  }
  View(const View &) = delete;
  ~View() { ane_surface_release(surface); }
};

static std::unique_ptr<View> lock(const Surface &surface, bool write) {
  void *base = nullptr;
  call([&](ane_error *error) { return ane_surface_lock(surface.handle.get(), write, &base, error); });
  return std::make_unique<View>(surface.handle.get(), base, write);
}

static void unlock(const Surface &surface, bool write) {
  call([&](ane_error *error) { return ane_surface_unlock(surface.handle.get(), write, error); });
}

static py::buffer_info view_buffer(View &view) {
  return py::buffer_info(static_cast<uint8_t *>(view.base), static_cast<py::ssize_t>(ane_surface_bytes(view.surface)),
                         !view.write);
}

// A host array for the length of one call.
class HostArray {
 public:
  HostArray(const py::object &array, bool writable) {
    if (!PyObject_CheckBuffer(array.ptr()))
      raise_argument(std::string("a host array must hold float32 or float16 values; this is of type ") +
                     Py_TYPE(array.ptr())->tp_name);
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(array.ptr(), &view_, flags) != 0) throw py::error_already_set();
    // The destructor does not run when a constructor throws.
    const std::string problem = check();
    if (problem.empty()) return;
    PyBuffer_Release(&view_);
    raise_argument(problem);
  }
  HostArray(const HostArray &) = delete;
  ~HostArray() { PyBuffer_Release(&view_); }

  bool is_half() const { return half_; }
  void *data() const { return view_.buf; }

  // The last axis is the columns; all others together are the rows.
  ane_block block(size_t offset, std::optional<size_t> row_stride) const {
    ane_block block{};
    block.rows = rows_;
    block.columns = columns_;
    block.offset = offset;
    block.row_stride = row_stride.value_or(columns_);
    block.host_row_stride = row_step_;
    block.host_column_stride = column_step_;
    return block;
  }

 private:
  std::string check() {
    const char *format = view_.format ? view_.format : "B";
    while (*format == '@' || *format == '=' || *format == '<') format++;
    half_ = !strcmp(format, "e");
    if (!half_ && strcmp(format, "f") != 0)
      return "a host array must hold float32 or float16 values, in native byte order; this one has the buffer format "
             "'" +
             std::string(view_.format ? view_.format : "B") + "'";
    const auto step = [&](int axis) { return view_.strides[axis] / view_.itemsize; };
    bool aligned = reinterpret_cast<uintptr_t>(view_.buf) % static_cast<size_t>(view_.itemsize) == 0;
    for (int axis = 0; axis < view_.ndim; axis++) aligned = aligned && view_.strides[axis] % view_.itemsize == 0;
    if (!aligned) return "the elements of the host array are not aligned to their size: copy it first";
    if (view_.ndim == 0) return "";
    columns_ = static_cast<size_t>(view_.shape[view_.ndim - 1]);
    column_step_ = step(view_.ndim - 1);
    for (int axis = view_.ndim - 2; axis >= 0; axis--) {
      const auto count = static_cast<size_t>(view_.shape[axis]);
      if (rows_ == 1) {
        row_step_ = step(axis);
      } else if (count != 1 && step(axis) != row_step_ * static_cast<ptrdiff_t>(rows_)) {
        return "the rows of the host array (all axes but the last) are not one distance apart: copy it with "
               "numpy.ascontiguousarray";
      }
      rows_ *= count;
    }
    return "";
  }

  Py_buffer view_{};
  bool half_ = false;
  size_t rows_ = 1, columns_ = 1;
  ptrdiff_t row_step_ = 0, column_step_ = 1;
};

static void write_block(const Surface &surface, const py::object &array, size_t offset,
                        std::optional<size_t> row_stride) {
  const HostArray host(array, false);
  const ane_block block = host.block(offset, row_stride);
  call([&](ane_error *error) {
    return host.is_half()
               ? ane_surface_write_f16(surface.handle.get(), &block, static_cast<const uint16_t *>(host.data()), error)
               : ane_surface_write_f32(surface.handle.get(), &block, static_cast<const float *>(host.data()), error);
  });
}

static void read_block(const Surface &surface, const py::object &array, size_t offset,
                       std::optional<size_t> row_stride) {
  const HostArray host(array, true);
  const ane_block block = host.block(offset, row_stride);
  call([&](ane_error *error) {
    return host.is_half()
               ? ane_surface_read_f16(surface.handle.get(), &block, static_cast<uint16_t *>(host.data()), error)
               : ane_surface_read_f32(surface.handle.get(), &block, static_cast<float *>(host.data()), error);
  });
}

void bind_surface(py::module_ &module) {
  py::class_<View>(module, "View", py::buffer_protocol()).def_buffer(view_buffer);
  py::class_<Surface>(module, "Surface")
      .def_property_readonly("nbytes", [](const Surface &surface) { return ane_surface_bytes(surface.handle.get()); })
      .def_property_readonly("seed", [](const Surface &surface) { return ane_surface_seed(surface.handle.get()); })
      .def("lock", lock)
      .def("unlock", unlock)
      .def("write", write_block)
      .def("read", read_block);
}

}  // namespace anetrain
