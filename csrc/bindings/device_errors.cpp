// Errors as exceptions: which class, and how it reads, is decided in anetrain/errors.py. And the way back to the GIL.
#include <unistd.h>

#include <cstring>

#include "device_bindings.h"

namespace anetrain {

void take_gil(PyThreadState *thread) {
  try {
    PyEval_RestoreThread(thread);
  } catch (...) {  // it throws nothing: this is the end of the thread
    for (;;) pause();
  }
}

py::object readable(const char *bytes) {
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(bytes, static_cast<Py_ssize_t>(strlen(bytes)), "replace"));
}

void raise(const ane_error &error) {
  const py::object make = py::module_::import("anetrain.errors").attr("from_record");
  const py::object exception =
      make(static_cast<int>(error.status), error.code, readable(error.domain), readable(error.text),
           readable(error.detail), readable(error.rule), error.line, error.column, readable(error.label));
  PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

void raise_argument(const std::string &detail) {
  ane_error error{};
  error.status = ANE_BAD_ARGUMENT;
  strncpy(error.detail, detail.c_str(), sizeof error.detail - 1);
  raise(error);
}

}  // namespace anetrain
