"""cffi (API mode) builder of anetrain._cpu: the numerics of csrc/cpu for numpy arrays."""

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef("const char *ane_version(void);")
ffibuilder.set_source("anetrain._cpu", '#include "device/ane.h"\n')
