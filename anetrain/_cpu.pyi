# Made by cffi from the headers of csrc/cpu (csrc/bindings/cpu_build.py); anetrain/cpu gives its functions their types.
from typing import Any

ffi: Any
lib: Any
