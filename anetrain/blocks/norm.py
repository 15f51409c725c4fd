"""Norms over the channels of each token. On the host in fp32; on the device where the graph says norms="device"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.blocks.base import Block
from anetrain.graph import BlockGraph, Value, bias, gain

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec


class RMSNorm(Block):
    """x / sqrt(mean of x^2 + eps) * gain"""

    def weights(self, s: ModelSpec) -> WeightTree:
        return {"gain": gain(s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return g.rms_norm(x, w.gain, g.spec.norm_eps)


class LayerNorm(Block):
    """(x - mean) / sqrt(variance + eps) * gain + bias"""

    def weights(self, s: ModelSpec) -> WeightTree:
        return {"gain": gain(s.dim), "bias": bias(s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return g.layer_norm(x, w.gain, w.bias, g.spec.norm_eps)
