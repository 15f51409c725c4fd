"""Cross-entropy from logits, by log-sum-exp, with its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import Floats, Ids, checked, checked_ids, matrix, output


def cross_entropy(
    logits: Floats | Sequence[Floats],
    targets: Ids,
    scale: float = 1.0,
    dlogits: Floats | Sequence[Floats] | None = None,
    ignore: int = -1,
) -> tuple[float, int]:
    """(mean over the counted tokens of -log softmax(logits)[target], how many are counted), for logits [V, T].

    dlogits, when given, becomes scale * (softmax - onehot) / count; it may be the logits themselves. A token whose
    target is `ignore` is not counted and its column of dlogits is 0; without any counted token the loss is 0.
    Logits that come in several arrays of rows, [V1, T], [V2, T], ..., are given as a list, and so is dlogits then.
    """
    chunks = [logits] if isinstance(logits, np.ndarray) else list(logits)
    gradients: list[Floats] | list[None] = [None] * len(chunks)
    if dlogits is not None:
        gradients = [dlogits] if isinstance(dlogits, np.ndarray) else list(dlogits)
    if not chunks:
        raise ValueError("logits is an empty list; expected at least one array")
    if len(gradients) != len(chunks):
        raise ValueError(f"dlogits has {len(gradients)} arrays; expected {len(chunks)}, as many as logits")
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale}; expected a finite number")
    checked("targets", targets, np.int32)
    described = _described(chunks, gradients, targets.size)
    vocabulary = sum(chunk.shape[0] for chunk in chunks)
    targets_at = checked_ids("targets", targets, targets.size, vocabulary, ignored=ignore)
    loss, count = ffi.new("double *"), ffi.new("size_t *")
    if not lib.anecpu_cross_entropy(described, len(chunks), targets.size, targets_at, ignore, scale, loss, count):
        raise MemoryError(f"no memory for the partial sums of {targets.size} columns")
    return loss[0], count[0]


def _described(chunks: list[Floats], gradients: list[Floats] | list[None], tokens: int) -> Any:
    """The arrays for C. They must outlive it."""
    described = ffi.new("AnecpuLogits[]", len(chunks))
    for i, (chunk, gradient) in enumerate(zip(chunks, gradients, strict=True)):
        index = f"[{i}]" if len(chunks) > 1 else ""
        checked(f"logits{index}", chunk, np.float32)
        described[i].logits, described[i].logits_stride = matrix(f"logits{index}", chunk)
        described[i].rows = chunk.shape[0]
        if chunk.shape[1] != tokens:
            raise ValueError(f"logits{index} has shape {chunk.shape}; expected {tokens} columns, one for each target")
        if gradient is not None:
            others = [a for j in range(len(chunks)) if j != i for a in (chunks[j], gradients[j]) if a is not None]
            output(gradient, chunk.shape, np.float32, *others, name=f"dlogits{index}", replaces=[chunk])
            described[i].gradient, described[i].gradient_stride = matrix(f"dlogits{index}", gradient)
    return described
