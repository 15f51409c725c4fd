"""One token at a time on the CPU: fp16 weights, read once per token, fp32 activations, keys and values kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anetrain import cpu
from anetrain.cpu._arrays import Floats, Halves
from anetrain.generation.cache import Cache
from anetrain.spec import ModelSpec


class Decoder:
    """Of layers of Llama or Qwen3 whose RoPE is "half" or "none". `cache` holds the tokens before."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, Floats], cache: Cache) -> None:
        if spec.rope == "interleaved":
            raise ValueError("rope is 'interleaved'; see anetrain.formats.equivalent.with_rope")
        self.spec, self.cache = spec, cache
        self._table = weights["embedding"]
        self._final_norm = weights["final_norm"]
        self._logits = np.empty(spec.vocab, np.float32)
        self._x = np.empty((spec.dim, 1), np.float32)
        *matrices, self._classifier = _in_one_place(_matrices(spec, weights))
        self.weight_bytes = sum(matrix.nbytes for matrix in (*matrices, self._classifier))
        layers = [_layer(spec, weights, cache, number, matrices[4 * number :]) for number in range(spec.layers)]
        sizes = cpu.DecodeSizes(
            *(spec.dim, spec.hidden, spec.heads, spec.kv_heads, spec.head_dim, cache.capacity),
            norm_eps=spec.norm_eps,
            residual_scale=spec.residual_scale,
        )
        self._layers = cpu.Decode(sizes, layers, *_tables(spec, cache.capacity))

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


def _matrices(spec: ModelSpec, weights: Mapping[str, Floats]) -> list[list[Floats]]:
    """In the order in which they are read; those that multiply the same vector together, row upon row."""
    groups = (("attention.wq", "attention.wk", "attention.wv"), ("attention.wo",), ("ffn.w1", "ffn.w3"), ("ffn.w2",))
    found = [[weights[f"layers.{i}.{name}"] for name in group] for i in range(spec.layers) for group in groups]
    return [*found, [weights["embedding" if spec.tied else "classifier"]]]


def _in_one_place(groups: Sequence[Sequence[Floats]]) -> list[Halves]:
    """In fp16, one behind the other: what a CPU fetches beyond the end of one is the begin of the next."""
    shapes = [(sum(map(len, matrices)), matrices[0].shape[1]) for matrices in groups]
    room = np.empty(sum(_aligned(rows * columns) for rows, columns in shapes), np.float16)
    found, begin = [], 0
    for matrices, (rows, columns) in zip(groups, shapes, strict=True):
        target = room[begin : begin + rows * columns].reshape(rows, columns)
        for matrix, part in zip(matrices, np.split(target, np.cumsum([len(item) for item in matrices])), strict=False):
            cpu.to_half(matrix, out=part)
        found.append(target)
        begin += _aligned(rows * columns)
    return found


def _aligned(count: int) -> int:
    """A multiple of 64 bytes of fp16."""
    return -(-count // 32) * 32


def _layer(
    spec: ModelSpec, weights: Mapping[str, Floats], cache: Cache, number: int, matrices: Sequence[Halves]
) -> cpu.DecodeLayer:
    def own(name: str) -> Floats:
        return weights[f"layers.{number}.{name}"]

    qkv, out, gate_up, down = matrices[:4]
    return cpu.DecodeLayer(
        *(own("attention_norm"), qkv, out, own("ffn_norm"), gate_up, down),
        keys=cache.keys[number],
        values=cache.values[number],
        q_norm=own("attention.q_norm") if spec.qk_norm else None,
        k_norm=own("attention.k_norm") if spec.qk_norm else None,
    )


def _tables(spec: ModelSpec, capacity: int) -> tuple[Floats | None, Floats | None]:
    """Cosines and sines [capacity, head_dim / 2]."""
    if spec.rope == "none":
        return None, None
    cos, sin = cpu.rope_tables(capacity, spec.head_dim, spec.rope_base)
    return np.ascontiguousarray(cos.T), np.ascontiguousarray(sin.T)
