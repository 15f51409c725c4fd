"""One token at a time on the CPU: fp16 weights, read once per token, fp32 activations, keys and values kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from anetrain import cpu
from anetrain.generation.cache import Cache, Floats
from anetrain.spec import ModelSpec

Halves = npt.NDArray[np.float16]


class Decoder:
    """Of layers of Llama or Qwen3 whose RoPE is "half" or "none". `cache` holds the tokens before."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, Floats], cache: Cache) -> None:
        if spec.rope == "interleaved":
            raise ValueError("rope is 'interleaved'; see anetrain.formats.equivalent.with_rope")
        self.spec, self.cache = spec, cache
        self._table = weights["embedding"]
        self._final_norm = weights["final_norm"]
        self._classifier = _half([weights["embedding" if spec.tied else "classifier"]])
        self._logits = np.empty(spec.vocab, np.float32)
        self._x = np.empty((spec.dim, 1), np.float32)
        layers = [_layer(spec, weights, cache, number) for number in range(spec.layers)]
        sizes = cpu.DecodeSizes(
            *(spec.dim, spec.hidden, spec.heads, spec.kv_heads, spec.head_dim, cache.capacity),
            norm_eps=spec.norm_eps,
            residual_scale=spec.residual_scale,
        )
        self._layers = cpu.Decode(sizes, layers, *_tables(spec, cache.capacity))
        self.weight_bytes = self._classifier.nbytes + sum(_matrix_bytes(layer) for layer in layers)

    def step(self, token: int) -> Floats:
        """The logits of what follows this token, which joins the cache. The next call overwrites them."""
        x = self._x.reshape(-1)
        x[:] = self._table[token]
        self._layers(x, self.cache.length)
        self.cache.length += 1
        return self._classified()

    def logits(self, x: Floats) -> Floats:
        """Of what the last layer makes of a token, [dim]."""
        self._x.reshape(-1)[:] = x
        return self._classified()

    def _classified(self) -> Floats:
        cpu.rms_norm(self._x, self._final_norm, self.spec.norm_eps, out=self._x)
        return cpu.gemv(self._classifier, self._x.reshape(-1), out=self._logits)


def _layer(spec: ModelSpec, weights: Mapping[str, Floats], cache: Cache, number: int) -> cpu.DecodeLayer:
    def own(name: str) -> Floats:
        return weights[f"layers.{number}.{name}"]

    return cpu.DecodeLayer(
        attention_norm=own("attention_norm"),
        qkv=_half([own("attention.wq"), own("attention.wk"), own("attention.wv")]),
        out=_half([own("attention.wo")]),
        ffn_norm=own("ffn_norm"),
        gate_up=_half([own("ffn.w1"), own("ffn.w3")]),
        down=_half([own("ffn.w2")]),
        keys=cache.keys[number],
        values=cache.values[number],
        q_norm=own("attention.q_norm") if spec.qk_norm else None,
        k_norm=own("attention.k_norm") if spec.qk_norm else None,
    )


def _half(matrices: Sequence[Floats]) -> Halves:
    """Row upon row, in fp16."""
    rows = np.empty((sum(map(len, matrices)), matrices[0].shape[1]), np.float16)
    begin = 0
    for matrix in matrices:
        cpu.to_half(matrix, out=rows[begin : begin + len(matrix)])
        begin += len(matrix)
    return rows


def _matrix_bytes(layer: cpu.DecodeLayer) -> int:
    return sum(matrix.nbytes for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down))


def _tables(spec: ModelSpec, capacity: int) -> tuple[Floats | None, Floats | None]:
    """Cosines and sines [capacity, head_dim / 2]."""
    if spec.rope == "none":
        return None, None
    cos, sin = cpu.rope_tables(capacity, spec.head_dim, spec.rope_base)
    return np.ascontiguousarray(cos.T), np.ascontiguousarray(sin.T)
