# Made by cffi from csrc/bindings/cpu_build.py; anetrain/cpu.py gives its functions their types.
from typing import Any

ffi: Any
lib: Any
