"""What the machine has: threads and instruction sets."""

from __future__ import annotations

from anetrain._cpu import ffi, lib


def threads() -> int:
    """How many threads work together, here and in the emulated device."""
    return int(lib.anecpu_threads())


def set_threads(count: int | None) -> None:
    """Sets the number of threads; None means the CPUs this process may use."""
    if count is not None and count < 1:
        raise ValueError(f"{count} threads; expected at least 1, or None for the CPUs this process may use")
    lib.anecpu_set_threads(0 if count is None else count)


def cpu_features() -> str:
    """The instruction sets found that the native code makes use of."""
    return str(ffi.string(lib.anecpu_cpu_features()).decode())
