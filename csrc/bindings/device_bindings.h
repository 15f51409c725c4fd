// Shared by the files of anetrain._device: owned handles of ane.h, and errors as Python exceptions.
#ifndef ANETRAIN_DEVICE_BINDINGS_H
#define ANETRAIN_DEVICE_BINDINGS_H

#include <pybind11/pybind11.h>

#include <memory>

#include "device/ane.h"

namespace anetrain {

namespace py = pybind11;

// Raises the exception of anetrain.errors that belongs to the status.
[[noreturn]] void raise(const ane_error &error);
[[noreturn]] void raise_argument(const std::string &detail);
py::object readable(const char *bytes);  // a str of what may quote any bytes of a bad program

// Gives the GIL back to a thread that let go of it. Python 3.13 and older end a thread that asks for it while the
// interpreter is being taken down, by unwinding its stack: objects would be destroyed without the GIL, and one noexcept
// on the way ends the process. Such a thread sleeps here instead until the process is gone.
void take_gil(PyThreadState *thread);

// Calls a function of ane.h without the GIL: call([&](ane_error *error) { return ane_evaluate(request, error); })
template <class Body>
void call(Body &&body) {
  ane_error error;
  PyThreadState *thread = PyEval_SaveThread();
  const ane_status status = body(&error);  // no function of ane.h throws
  take_gil(thread);
  if (status != ANE_OK) raise(error);
}

template <auto Release>
struct Releaser {
  template <class Object>
  void operator()(Object *object) const {
    Release(object);
  }
};

// What Python holds: one reference each. The C side keeps whatever these still need.
struct Device {
  std::unique_ptr<ane_device, Releaser<ane_device_release>> handle;
};
struct Surface {
  std::unique_ptr<ane_surface, Releaser<ane_surface_release>> handle;
};
struct Program {
  std::unique_ptr<ane_program, Releaser<ane_program_release>> handle;
};
struct Request {
  std::unique_ptr<ane_request, Releaser<ane_request_release>> handle;
};

// One for each file; they add their classes and functions to the module.
void bind_device(py::module_ &module);
void bind_surface(py::module_ &module);
void bind_program(py::module_ &module);
void bind_raw(py::module_ &module);

}  // namespace anetrain
#endif
