"""The CPU numerics of csrc/cpu on numpy arrays: fp16 conversions and fp32 matrix products, on one pool of threads.

    half = cpu.to_half(x)                  # float32 -> float16: nearest even, overflow to infinity
    cpu.to_float(half.T, out=y)            # any strides up to two dimensions; writes into y
    c = cpu.matmul(a, b.T)                 # transposed views are not copied
    cpu.matmul(dy, x.T, out=dw, beta=1.0)  # dw += dy @ x.T

Arrays are used where they are: a wrong dtype or layout is an error, never a hidden copy. The GIL is free meanwhile.
"""

from __future__ import annotations

from anetrain.cpu.conversion import fp16_version, to_float, to_half
from anetrain.cpu.machine import cpu_features, set_threads, threads
from anetrain.cpu.products import blas_name, matmul

__all__ = [
    "blas_name",
    "cpu_features",
    "fp16_version",
    "matmul",
    "set_threads",
    "threads",
    "to_float",
    "to_half",
]
