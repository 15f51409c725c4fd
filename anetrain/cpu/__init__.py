"""The CPU numerics of csrc/cpu on numpy arrays, on one pool of threads.

    half = cpu.to_half(x)                  # float32 -> float16: nearest even, overflow to infinity
    cpu.to_float(half.T, out=y)            # any strides up to two dimensions; writes into y
    c = cpu.matmul(a, b.T)                 # transposed views are not copied
    cpu.matmul(dy, x.T, out=dw, beta=1.0)  # dw += dy @ x.T
    cpu.rms_norm(x, gain, 1e-5, out=y, rrms=r)
    cpu.rms_norm_backward(dy, x, gain, r, dx=dx, dgain=dgain)
    loss, count = cpu.cross_entropy(logits, targets, scale, dlogits=logits)
    cpu.adamw(tensors, step, lr=1e-3, factor=1 / math.sqrt(cpu.sum_of_squares(gradients)))

Arrays are used where they are: a wrong dtype or layout is an error, never a hidden copy. The GIL is free meanwhile.
Activations are channel-first, [channels, tokens]. docs/host_numerics.md has the formulas.
"""

from __future__ import annotations

from anetrain.cpu.activations import GeluMode, gelu, gelu_backward, silu, silu_backward
from anetrain.cpu.adamw import AdamWTensor, adamw, sum_of_squares
from anetrain.cpu.conversion import (
    HalfBlock,
    HalfCopies,
    HalfMoves,
    HalfTarget,
    fp16_version,
    half_split_order,
    interleaved_order,
    to_float,
    to_half,
)
from anetrain.cpu.decode import Decode, DecodeLayer, DecodeSizes
from anetrain.cpu.embedding import embedding, embedding_scatter
from anetrain.cpu.loss import cross_entropy
from anetrain.cpu.machine import cpu_features, set_threads, threads
from anetrain.cpu.memory import zeros_by_name
from anetrain.cpu.norms import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from anetrain.cpu.products import blas_name, gemv, matmul
from anetrain.cpu.rope import Pairing, rope, rope_tables
from anetrain.cpu.rows import add, largest, row_dot, row_sum, scale

__all__ = [
    "AdamWTensor",
    "Decode",
    "DecodeLayer",
    "DecodeSizes",
    "GeluMode",
    "HalfBlock",
    "HalfCopies",
    "HalfMoves",
    "HalfTarget",
    "Pairing",
    "adamw",
    "add",
    "blas_name",
    "cpu_features",
    "cross_entropy",
    "embedding",
    "embedding_scatter",
    "fp16_version",
    "gelu",
    "gelu_backward",
    "gemv",
    "half_split_order",
    "interleaved_order",
    "largest",
    "layer_norm",
    "layer_norm_backward",
    "matmul",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "rope_tables",
    "row_dot",
    "row_sum",
    "scale",
    "set_threads",
    "silu",
    "silu_backward",
    "sum_of_squares",
    "threads",
    "to_float",
    "to_half",
    "zeros_by_name",
]
