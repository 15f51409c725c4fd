"""Other weights and another spec for the same function: what stands between the conventions of two formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from anetrain.cpu import half_split_order, interleaved_order
from anetrain.formats.tensors import Floats, Tensors, changed, parameters
from anetrain.spec import ModelSpec, Rope

Weights = Mapping[str, Floats]


def with_rope(spec: ModelSpec, weights: Weights, rope: Rope) -> tuple[ModelSpec, Weights]:
    """RoPE pairs as neighbouring rows ("interleaved") or half a head apart ("half"): rows are moved, values stay.

    Whatever turns with the rows (norms and biases of q and k) moves with them.
    """
    if spec.rope == rope:
        return spec, weights
    if "none" in (spec.rope, rope):
        raise ValueError(f"rope is {spec.rope!r}: no order of rows makes it {rope!r}")
    paired = parameters(replace(spec, rope="interleaved"))
    order = half_split_order if rope == "half" else interleaved_order

    def change(name: str, array: Floats) -> Floats:
        head_dim = paired[name].paired_head if name in paired else 0
        return array[order(len(array), head_dim)] if head_dim else array

    return replace(spec, rope=rope), changed(weights, change)


def without_residual_scale(spec: ModelSpec, weights: Weights) -> tuple[ModelSpec, Weights]:
    """x + scale * (W y) is x + (scale * W) y: the scale goes into the last matrices of attention and ffn. They are
    rounded once more, so the function is the same to fp32 rounding only."""
    scale = np.float32(spec.residual_scale)
    if spec.residual_scale == 1.0:
        return spec, weights

    def change(name: str, array: Floats) -> Floats:
        return array * scale if name.endswith((".attention.wo", ".ffn.w2")) else array

    return replace(spec, residual_scale=1.0), changed(weights, change)


def with_kv_order(spec: ModelSpec, weights: Weights, *, theirs: bool) -> Tensors:
    """Query heads in an order in which head h reads kv head h div ratio (ours), or h mod kv_heads (`theirs`).

    Their head h is our head (h mod kv_heads) * ratio + h div kv_heads: the rows of Wq and the columns of Wo move.
    """
    ratio = spec.heads // spec.kv_heads
    grid = (spec.kv_heads, ratio) if theirs else (ratio, spec.kv_heads)  # of the heads as they come

    def change(name: str, array: Floats) -> Floats:
        if name.endswith(".attention.wq"):
            rows = array.reshape(*grid, spec.head_dim, -1)
            return np.ascontiguousarray(rows.swapaxes(0, 1)).reshape(array.shape)
        if name.endswith(".attention.wo"):
            columns = array.reshape(-1, *grid, spec.head_dim)
            return np.ascontiguousarray(columns.swapaxes(1, 2)).reshape(array.shape)
        return array

    return changed(weights, change)
