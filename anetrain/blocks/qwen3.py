"""The layer of Qwen3: that of Llama with half-split RoPE, a norm of each head of q and k, and a head_dim of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.blocks.llama import LlamaBlock
from anetrain.spec import ModelSpec

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree

PUBLISHED = {"rope": "half", "rope_base": 1e6, "norm_eps": 1e-6, "qk_norm": True}  # by every Qwen3 base model


def qwen3_spec(**sizes: Any) -> ModelSpec:
    """A spec with what the published Qwen3 models have in common; `sizes` are the other fields, and have precedence."""
    return ModelSpec(**{**PUBLISHED, **sizes})


class Qwen3Block(LlamaBlock):
    def weights(self, s: ModelSpec) -> WeightTree:
        for name in ("rope", "qk_norm"):
            found, expected = getattr(s, name), PUBLISHED[name]
            if found != expected:
                raise ValueError(f"Qwen3Block: {name} is {found!r}, expected {expected!r}; see qwen3_spec")
        return super().weights(s)
