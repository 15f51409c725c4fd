// anetrain._device: the C interface of csrc/device/ane.h and ane_raw.h for Python. Converts types and releases the GIL;
// policy is Python.
#include "device_bindings.h"

PYBIND11_MODULE(_device, module) {
  module.doc() = "The device interface (csrc/device/ane.h)";
  module.attr("version") = ane_version();
  anetrain::bind_surface(module);
  anetrain::bind_program(module);
  anetrain::bind_device(module);
  anetrain::bind_raw(module);
}
