// Arguments of Python as the C interface wants them.
#ifndef ANETRAIN_DEVICE_ARGUMENTS_H
#define ANETRAIN_DEVICE_ARGUMENTS_H

#include <deque>
#include <string>
#include <vector>

#include "device_bindings.h"

namespace anetrain {

// Blob files; the Python buffers stay locked for the length of the call.
class Blobs {
 public:
  explicit Blobs(const py::dict &blobs) {
    for (const auto &[path, data] : blobs) {
      paths_.push_back(py::cast<std::string>(path));
      buffers_.push_back(py::reinterpret_borrow<py::buffer>(data).request());
      const py::buffer_info &buffer = buffers_.back();
      if (PyBuffer_IsContiguous(buffer.view(), 'C') == 0)
        raise_argument("blob '" + paths_.back() + "' is not contiguous: copy it to bytes");
      list_.push_back({paths_.back().c_str(), buffer.ptr, static_cast<size_t>(buffer.size * buffer.itemsize)});
    }
  }
  const ane_blob *data() const { return list_.data(); }
  size_t size() const { return list_.size(); }

 private:
  std::deque<std::string> paths_;  // addresses must not change
  std::deque<py::buffer_info> buffers_;
  std::vector<ane_blob> list_;
};

inline std::vector<ane_surface *> handles(const py::list &surfaces) {
  std::vector<ane_surface *> list;
  for (const auto &surface : surfaces) list.push_back(py::cast<const Surface &>(surface).handle.get());
  return list;
}

}  // namespace anetrain
#endif
