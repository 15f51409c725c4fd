"""The fused attention op."""

from __future__ import annotations

import math

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient, sum_over
from anetrain.mil.ops.base import Op, broadcast, direct, mismatch, one_type, rank_between, tensor
from anetrain.mil.types import Array, TensorType


class ScaledDotProductAttention(Op):
    name = "scaled_dot_product_attention"
    derivative_note = "The mask counts, as in the meaning."
    args = (tensor("query"), tensor("key"), tensor("value"), tensor("attn_mask", required=False))
    evidence = direct("MAD test_ane_sdpa5, M0")
    shape_rule = (
        "query [B, ..., L, E], key [B, ..., S, E], value [B, ..., S, EV] of rank 3 to 5 and equal leading axes, "
        "attn_mask broadcast to [B, ..., L, S] -> [B, ..., L, EV]: softmax(query key^T / sqrt(E) + attn_mask) value."
    )
    limits = (
        "attn_mask compiles and is ignored on chips, whatever it is (C6): compose it of matmul and softmax.",
        "Routed to the engine only for 64 heads or more, S about 496 or more, E = 64 (C5).",
    )
    opset = "ios18"

    @staticmethod
    def infer(query: TensorType, key: TensorType, value: TensorType, attn_mask: TensorType | None) -> TensorType:
        rank_between("query", query, 3, 5)
        one_type(query, key=key, value=value, attn_mask=attn_mask)
        for name, other in (("key", key), ("value", value)):
            if other.shape[:-2] != query.shape[:-2]:
                mismatch(name, f"has leading axes {list(other.shape[:-2])}, query has {list(query.shape[:-2])}")
        if key.shape[-1] != query.shape[-1]:
            mismatch("key", f"has {key.shape[-1]} features, query has {query.shape[-1]}")
        if value.shape[-2] != key.shape[-2]:
            mismatch("value", f"has {value.shape[-2]} positions, key has {key.shape[-2]}")
        if attn_mask is not None:
            scores = (*query.shape[:-1], key.shape[-2])
            if broadcast("attn_mask", attn_mask.shape, scores) != scores:
                mismatch("attn_mask", f"{list(attn_mask.shape)} is larger than the scores {list(scores)}")
        return TensorType(query.dtype, (*query.shape[:-1], value.shape[-1]))

    @staticmethod
    def meaning(query: Array, key: Array, value: Array, attn_mask: Array | None) -> Array:
        scores = np.matmul(query, np.swapaxes(key, -1, -2)) / math.sqrt(query.shape[-1])
        if attn_mask is not None:
            scores = scores + attn_mask
        powers = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
        return np.asarray(np.matmul(powers / np.sum(powers, axis=-1, keepdims=True), value))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        # With P the probabilities: dV = P^T u, dS = P (u V^T - rowsum(u y)), dQ = dS K / sqrt(E), dK = dS^T Q / sqrt(E)
        g, u, y = backward.graph, backward.gradient, backward.output
        query, key, value = (backward.operand(name) for name in ("query", "key", "value"))
        shrink = 1.0 / math.sqrt(query.shape[-1])
        small_query = query * shrink
        scores = g.matmul(small_query, key, transpose_y=True)
        if backward.node.tensors["attn_mask"] is not None:
            scores = scores + backward.operand("attn_mask")
        p = g.softmax(scores, axis=-1)

        found = backward.gradients(value=lambda: g.matmul(p, u, transpose_x=True))
        if any(backward.wants(name) for name in ("query", "key", "attn_mask")):
            ds = p * (g.matmul(u, value, transpose_y=True) - sum_over(g, u * y, (-1,)))
            found |= backward.gradients(
                query=lambda: g.matmul(ds, key) * shrink,
                key=lambda: g.matmul(ds, small_query, transpose_x=True),
                attn_mask=lambda: ds,
            )
        return found
