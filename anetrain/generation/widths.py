"""A model's forward on a device for sequences of any length: programs for a few widths, compiled when first needed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from anetrain.autodiff import forward_only
from anetrain.blocks import Block, Classifier, Embedding
from anetrain.device import Device
from anetrain.graph import BlockGraph
from anetrain.graph.builder import Precision
from anetrain.lower.ladder import choose
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline import CompiledPlan, Stack
from anetrain.pipeline.same import signature
from anetrain.pipeline.stack import Part
from anetrain.spec import ModelSpec

ModelPart: TypeAlias = Block | Embedding | Classifier
GraphOf: TypeAlias = Callable[[ModelPart, ModelSpec, Precision], BlockGraph]

SMALLEST = 32


def width_for(tokens: int) -> int:
    """Multiples of 32 up to 256, then four widths for each doubling: few programs, and at most a quarter too wide."""
    step = SMALLEST
    while 8 * step < tokens:
        step *= 2
    return -(-tokens // step) * step


class WidthStacks:
    """Programs stay compiled for every width that was used. Surfaces and staged weights are there for the last width
    only, so that the weights are in memory once: another width stages them again.

    `graph_of`: the graph of one part of the model for a spec with batch 1 and the width as seq."""

    def __init__(
        self,
        device: Device,
        model: Model,
        parts: Sequence[tuple[str, ModelPart]],
        weights: Mapping[str, Array],
        graph_of: GraphOf,
    ) -> None:
        if not model.causal:
            raise ValueError("the model looks ahead (causal=False): it cannot continue a text")
        self.device, self.model, self.parts, self.weights = device, model, list(parts), weights
        longer = replace(model.spec, seq=model.spec.seq + SMALLEST)
        self.longest = None if model.has_parameters_of(longer) else model.spec.seq
        self._graph_of = graph_of
        self._precision: Precision = "fp32" if device.facts.get("fp32") else "fp16"  # a mode of the emulator
        self._compiled: dict[int, list[CompiledPlan]] = {}
        self._current: tuple[int, Stack] | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Those that programs were compiled for."""
        return tuple(sorted(self._compiled))

    def run(self, ids: Sequence[int]) -> Stack:
        """The layers with the outputs for these tokens; what follows behind them in an output means nothing."""
        if not ids:
            raise ValueError("no tokens; expected at least one")
        if self.longest is not None and len(ids) > self.longest:
            raise ValueError(f"{len(ids)} tokens; the model has weights for {self.longest} positions")
        stack = self._stack(width_for(len(ids)) if self.longest is None else self.longest)
        row = stack.layers[0].inputs["ids"]
        row[: len(ids)], row[len(ids) :] = ids, 0
        stack.forward({})
        return stack

    def unload(self) -> None:
        self._current = None
        for width in list(self._compiled):
            for compiled in self._compiled.pop(width):
                compiled.unload()

    def _stack(self, width: int) -> Stack:
        if self._current is None or self._current[0] != width:
            self._current = None  # its surfaces go before the next ones come
            if width not in self._compiled:
                self._compiled[width] = self._compile(width)
            stack = Stack([self._part(*item) for item in zip(self.parts, self._compiled[width], strict=True)])
            stack.stage()
            self._current = (width, stack)
        return self._current[1]

    def _part(self, part: tuple[str, ModelPart], compiled: CompiledPlan) -> Part:
        prefix, block = part
        names = [item.name for item in compiled.plan.derived.graph.parameters.values()]
        return prefix.rstrip(".") or type(block).__name__.lower(), compiled, self._own(prefix, names), None

    def _own(self, prefix: str, names: Sequence[str]) -> dict[str, Array]:
        return {name: self.weights[prefix + name] for name in names}

    def _compile(self, width: int) -> list[CompiledPlan]:
        """One for each part; equal parts share theirs."""
        spec = replace(self.model.spec, seq=width, batch=1)
        known: dict[object, CompiledPlan] = {}
        found = []
        try:
            for _, block in self.parts:
                graph = self._graph_of(block, spec, self._precision)
                key = signature(graph)
                if key not in known:
                    kind = type(block).__name__
                    compile = functools.partial(CompiledPlan, self.device, backward=False, name=f"{kind} of {width}")
                    known[key] = choose(forward_only(graph), self.device, compile, backward=False, name=kind).compiled
                found.append(known[key])
        except BaseException:
            for compiled in known.values():
                compiled.unload()
            raise
        return found
