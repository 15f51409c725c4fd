"""Models: a stack of blocks between an embedding and a classifier, with the names and first values of all parameters.

    model = Model.preset("stories15m")
    model = Model(spec)                  # Llama or Qwen3 layers, as the spec has norms of q and k or not
    model = Model(spec, MyBlock())       # a block of the user's own in every layer; or a list, one for each
    weights = model.initial(seed=0)      # {"embedding": ..., "layers.0.attention.wq": ...}

What a model computes is in its blocks; how it is run and trained is the business of anetrain.pipeline.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain import cpu
from anetrain.blocks import Block, Classifier, Embedding, LlamaBlock, Qwen3Block
from anetrain.graph import Parameter
from anetrain.graph.parameters import named
from anetrain.spec import ModelSpec

Arrays = dict[str, npt.NDArray[np.float32]]

_LLAMA_2 = ModelSpec(dim=288, hidden=768, layers=6, heads=6, kv_heads=6, head_dim=48, vocab=32_000, seq=256)
_QWEN3 = ModelSpec(
    dim=1024,
    hidden=3072,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    vocab=151_936,
    seq=256,
    norm_eps=1e-6,
    rope="half",
    rope_base=1e6,
    qk_norm=True,
)
PRESETS: dict[str, ModelSpec] = {
    "stories15m": _LLAMA_2,
    "stories42m": replace(_LLAMA_2, dim=512, hidden=1376, layers=8, heads=8, kv_heads=8, head_dim=64),
    "stories110m": replace(_LLAMA_2, dim=768, hidden=2048, layers=12, heads=12, kv_heads=12, head_dim=64),
    "qwen3-0.6b": _QWEN3,
    "tiny-llama": replace(_LLAMA_2, dim=64, hidden=176, layers=2, heads=4, kv_heads=4, head_dim=16, vocab=512, seq=64),
    "tiny-qwen3": replace(_QWEN3, dim=64, hidden=192, layers=2, heads=4, kv_heads=2, head_dim=32, vocab=512, seq=64),
}


class Model:
    """`layers`: the block of all layers, or one for each. `causal`: no token depends on later ones, so a sequence may
    be padded behind its end; False for blocks that look ahead."""

    def __init__(
        self,
        spec: ModelSpec,
        layers: Block | Sequence[Block] | None = None,
        *,
        embedding: Embedding | None = None,
        classifier: Classifier | None = None,
        causal: bool = True,
    ) -> None:
        self.spec, self.causal = spec, causal
        if layers is None:
            layers = Qwen3Block() if spec.qk_norm else LlamaBlock()
        self.layers = [layers] * spec.layers if isinstance(layers, Block) else list(layers)
        for number, block in enumerate(self.layers):
            if not isinstance(block, Block):
                raise TypeError(f"layer {number} is {block!r}, expected a Block")
        if len(self.layers) != spec.layers:
            raise ValueError(f"{len(self.layers)} blocks for the {spec.layers} layers of the spec")
        self.embedding = embedding or Embedding()
        self.classifier = classifier or Classifier()
        self.parameters = self._named_parameters()

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Model:
        """One of PRESETS; changes are fields of ModelSpec: Model.preset("stories110m", seq=512, batch=2)."""
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"no preset {name!r}{hint}; there are {', '.join(PRESETS)}")
        return cls(replace(PRESETS[name], **changes))

    @property
    def parts(self) -> list[tuple[str, Block | Embedding | Classifier]]:
        """Blocks in order, with the prefix of their parameters' names. A tied classifier has the embedding's name."""
        layers = [(f"layers.{number}.", block) for number, block in enumerate(self.layers)]
        return [("", self.embedding), *layers, ("", self.classifier)]

    @property
    def parameter_count(self) -> int:
        return sum(parameter.size for parameter in self.parameters.values())

    def has_parameters_of(self, spec: ModelSpec) -> bool:
        """Whether the same blocks have parameters of the same shapes for another spec."""
        return all(
            self.parameters[item.name].shape == item.shape
            for prefix, part in self.parts
            for item in named(part.weights(spec), prefix)
        )

    def initial(self, seed: int) -> Arrays:
        """First values. Each tensor has a random stream of its own, so that it does not depend on the others."""
        weights = cpu.zeros_by_name({name: item.shape for name, item in self.parameters.items()})
        for name, item in self.parameters.items():
            np.copyto(weights[name], item.initial(_stream(seed, name)))
        return weights

    def check_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raises ValueError unless there is exactly one fp32 array of the right shape for each parameter."""
        missing = [name for name in self.parameters if name not in weights]
        unknown = [name for name in weights if name not in self.parameters]
        if missing or unknown:
            raise ValueError(
                f"weights do not fit the model: missing {', '.join(missing) or 'none'}; "
                f"unknown {', '.join(unknown) or 'none'}"
            )
        for name, item in self.parameters.items():
            array = weights[name]
            if array.shape != item.shape or array.dtype != np.float32:
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected float32 {list(item.shape)}")

    def _named_parameters(self) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for prefix, block in self.parts:
            for item in named(block.weights(self.spec), prefix):
                known = found.setdefault(item.name, item)
                if known.shape != item.shape:
                    raise ValueError(
                        f"two parameters {item.name!r}, of shapes {list(known.shape)} and {list(item.shape)}"
                    )
        return found


def _stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")])
