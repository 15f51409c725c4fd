"""What gives the logits of the next token: with keys and values kept, or by computing the whole text again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np

from anetrain.blocks import (
    Attention,
    Block,
    Classifier,
    Embedding,
    LlamaBlock,
    Qwen3Block,
    SwiGLU,
    build,
    build_embedding,
    build_logits,
)
from anetrain.cpu import half_split_order
from anetrain.cpu._arrays import Floats
from anetrain.device import Device
from anetrain.generation.cache import Cache
from anetrain.generation.decode import Decoder
from anetrain.generation.prefill import Prefill
from anetrain.generation.widths import ModelPart, WidthStacks
from anetrain.graph import BlockGraph
from anetrain.graph.builder import Precision
from anetrain.model import Model
from anetrain.spec import ModelSpec, Rope


class Engine(ABC):
    """Logits are the engine's own array: the next call overwrites them. `capacity`: tokens that a text may have."""

    capacity: int
    vocab: int
    stacks: WidthStacks

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens of the text so far."""

    def prompt(self, ids: Sequence[int]) -> Floats:
        """Begins a text anew; the logits [vocab] of what follows it."""
        if not 0 < len(ids) <= self.capacity:
            raise ValueError(f"a prompt of {len(ids)} tokens; expected 1 to {self.capacity}")
        self._check(ids)
        return self._prompt(ids)

    def append(self, token: int) -> Floats:
        """The logits [vocab] of what follows this token."""
        if self.length == 0:
            raise ValueError("append before prompt: there is no text to continue")
        if self.length >= self.capacity:
            raise ValueError(f"the text has {self.length} tokens already, all that there is room for")
        self._check([token])
        return self._append(token)

    def unload(self) -> None:
        """Gives the device's places back."""
        self.stacks.unload()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()

    def _check(self, ids: Sequence[int]) -> None:
        if min(ids) < 0 or max(ids) >= self.vocab:
            wrong = next(token for token in ids if not 0 <= token < self.vocab)
            raise ValueError(f"id {wrong} is not the model's: expected 0 to {self.vocab - 1}")

    @abstractmethod
    def _prompt(self, ids: Sequence[int]) -> Floats: ...

    @abstractmethod
    def _append(self, token: int) -> Floats: ...


class CachedEngine(Engine):
    """The prompt on the device, then each token on the CPU."""

    def __init__(self, device: Device, model: Model, weights: Mapping[str, Floats], capacity: int) -> None:
        if (why := why_not_cached(model)) is not None:
            raise ValueError(f"keys and values cannot be kept: {why}")
        spec, weights = _half_split(model, weights)
        self.capacity, self.vocab = capacity, spec.vocab
        self.cache = Cache(spec, capacity)
        self.decoder = Decoder(spec, weights, self.cache)
        self.prefill = Prefill(device, Model(spec, LlamaBlock()), weights)
        self.stacks = self.prefill.stacks

    @property
    def length(self) -> int:
        return self.cache.length

    def _prompt(self, ids: Sequence[int]) -> Floats:
        return self.decoder.logits(self.prefill.run(ids, self.cache))

    def _append(self, token: int) -> Floats:
        return self.decoder.step(token)


class RecomputingEngine(Engine):
    """The whole text on the device again for each token: slow, and right for any model that does not look ahead."""

    def __init__(self, device: Device, model: Model, weights: Mapping[str, Floats], capacity: int) -> None:
        self.stacks = WidthStacks(device, model, model.parts, weights, _graph_of)
        self.capacity = capacity if self.stacks.longest is None else min(capacity, self.stacks.longest)
        self.vocab = model.spec.vocab
        self._ids: list[int] = []
        self._logits = np.empty(self.vocab, np.float32)

    @property
    def length(self) -> int:
        return len(self._ids)

    def _prompt(self, ids: Sequence[int]) -> Floats:
        return self._run(list(ids))

    def _append(self, token: int) -> Floats:
        return self._run([*self._ids, token])

    def _run(self, ids: list[int]) -> Floats:
        outputs, begin = self.stacks.run(ids).outputs, 0
        self._ids = ids
        for chunk in outputs.values():  # [1, rows, 1, tokens], in the order of ids
            self._logits[begin : begin + chunk.shape[1]] = chunk[0, :, 0, len(ids) - 1]
            begin += chunk.shape[1]
        return self._logits


def open_engine(device: Device, model: Model, weights: Mapping[str, Floats], capacity: int) -> Engine:
    """With keys and values kept where that is known to be right; `why_not_cached` tells."""
    kind = CachedEngine if why_not_cached(model) is None else RecomputingEngine
    return kind(device, model, weights, capacity)


def why_not_cached(model: Model) -> str | None:
    """What of the model is not Llama's or Qwen3's, which the CPU's decoder computes; None where all is."""
    for part, known in ((model.embedding, Embedding), (model.classifier, Classifier)):
        if type(part) is not known:
            return f"{type(part).__name__} is not {known.__name__}"
    return next((why for block in model.layers if (why := _why_not(block)) is not None), None)


def _why_not(block: Block) -> str | None:
    if type(block) not in (LlamaBlock, Qwen3Block):
        return f"{type(block).__name__} is a block of its own"
    assert isinstance(block, LlamaBlock)
    for part, known in ((block.attention, Attention), (block.ffn, SwiGLU)):
        if type(part) is not known:
            return f"{type(part).__name__} stands in the place of {known.__name__}"
    attention = block.attention
    assert isinstance(attention, Attention)
    if attention.window is not None or attention.qkv_bias or attention.out_bias:
        return "its attention has a window or biases"
    return None


def _half_split(model: Model, weights: Mapping[str, Floats]) -> tuple[ModelSpec, dict[str, Floats]]:
    """Rows of q and k in one order, on the device, in the cache and on the CPU: RoPE pairs half a head apart."""
    moved = dict(weights)
    for name, item in model.parameters.items():
        if item.paired_head:
            moved[name] = moved[name][half_split_order(len(moved[name]), item.paired_head)]
    rope: Rope = "half" if model.spec.rope == "interleaved" else model.spec.rope
    return replace(model.spec, rope=rope), moved


def _graph_of(part: ModelPart, spec: ModelSpec, precision: Precision) -> BlockGraph:
    if isinstance(part, Embedding):
        return build_embedding(spec)
    if isinstance(part, Classifier):
        return build_logits(part, spec, precision=precision)
    return build(part, spec, precision=precision)
