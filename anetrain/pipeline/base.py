"""A model on a device: programs compiled once and shared by layers, weights staged after an update and only then.

    pipeline = Pipeline(device, model, seed=0)
    loss = pipeline.micro_step(ids, targets, loss_scale=2.0**16)   # adds to pipeline.gradients
    ...                                                            # an optimizer changes pipeline.weights in place
    pipeline.stage()                                               # the device sees the new weights
    pipeline.clear_gradients()

A micro-step that fails, whatever fails in it, leaves all gradients zero: its accumulation group is dropped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import Block, Classifier, Embedding, build, build_embedding, build_loss
from anetrain.device import Device
from anetrain.graph import BlockGraph, Place
from anetrain.graph.builder import Precision
from anetrain.lower import Layout
from anetrain.lower.ladder import Choice, choose
from anetrain.lower.memory import LadderMemory
from anetrain.lower.weights import padded
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline.errors import PlanError
from anetrain.pipeline.lane import Lane
from anetrain.pipeline.layer import Traffic
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.same import signature
from anetrain.pipeline.stack import Part, Stack
from anetrain.spec import ModelSpec


class Pipeline:
    """weights, gradients   fp32 arrays by name; a tied embedding is one array. Changed in place, never replaced
    choices                 by block: how its programs were cut, and why (anetrain.lower.ladder)
    overlap                 weight gradients beside the device; by default on a real one only
    trains                  False: forward only, no gradients are kept
    """

    def __init__(
        self,
        device: Device,
        model: Model,
        weights: Mapping[str, npt.NDArray[np.float32]] | None = None,
        *,
        seed: int = 0,
        layout: Layout = "stacked",
        norms: Place = "host",
        precision: Precision = "fp16",
        save_probabilities_up_to: int = 512,
        memory: LadderMemory | None = None,
        overlap: bool | None = None,
        trains: bool = True,
    ) -> None:
        self.device, self.model, self.layout, self.trains = device, model, layout, trains
        self.spec = _padded(model)
        self.weights = model.initial(seed) if weights is None else dict(weights)
        model.check_weights(self.weights)
        self.gradients = {name: np.zeros_like(array) for name, array in self.weights.items()} if trains else {}
        self.choices: dict[str, Choice[CompiledPlan]] = {}
        self.lane = Lane(device.facts["kind"] == "ane" if overlap is None else overlap)
        self._options = {"layout": layout, "memory": memory, "save_probabilities_up_to": save_probabilities_up_to}
        self._parts = self._build(norms, precision)
        self.stack = Stack(self._parts, self.lane)
        self._is_staged = False
        self.stage()

    # ------------------------------------------------------------ the step

    def micro_step(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, *, loss_scale: float = 2.0**16, weight: float = 1.0
    ) -> float:
        """The mean loss of [batch, seq] ids and what should follow each (-1: does not count); adds `weight` times its
        gradients. Gradients travel through the device times loss_scale."""
        if not self.trains:
            raise PlanError("this pipeline was made to run forward only (trains=False)")
        try:
            loss = self._forward(ids, targets, loss_scale)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss}: weights or activations have left the range of fp16")
            self.stack.backward(alpha=weight / loss_scale)
            self.lane.wait()
        except BaseException:
            self.lane.drain()
            self.clear_gradients()
            raise
        return loss

    def evaluate(self, ids: npt.ArrayLike, targets: npt.ArrayLike) -> float:
        """The mean loss."""
        return self._forward(ids, targets, 1.0)

    def stage(self) -> None:
        """The weights, as they are now, to the device. Programs with baked weights are compiled again."""
        for layer, (_, _, weights, _) in zip(self.stack.layers, self._parts, strict=True):
            plan = layer.compiled.plan
            if any(program.constants for program in plan.programs) and self._is_staged:
                layer.compiled.unload()
                layer.load(CompiledPlan(self.device, plan, weights, backward=self.trains, name=layer.compiled.name))
            layer.stage()
        self._is_staged = True

    def clear_gradients(self) -> None:
        for gradient in self.gradients.values():
            gradient.fill(0.0)

    def unload(self) -> None:
        """Gives the engine's places back; afterwards nothing here runs."""
        self.lane.close()
        for layer in self.stack.layers:
            layer.compiled.unload()

    # ------------------------------------------------------------ counts

    @property
    def traffic(self) -> Traffic:
        """Dispatches, and bytes over the border, of all layers."""
        return self.stack.traffic

    @property
    def largest_output(self) -> float:
        """The largest magnitude that backward had from the device since this was last asked: limits the loss scale."""
        found = max(layer.largest_received for layer in self.stack.layers)
        for layer in self.stack.layers:
            layer.largest_received = 0.0
        return found

    # ------------------------------------------------------------ inside

    def _forward(self, ids: npt.ArrayLike, targets: npt.ArrayLike, scale: float) -> float:
        inputs = {
            "ids": self._tokens("ids", ids, 0),
            "targets": self._tokens("targets", targets, -1),
            "scale": np.array([scale], np.float32),
        }
        return float(self.stack.forward(inputs)["loss"][0])

    def _tokens(self, what: str, given: npt.ArrayLike, filler: int) -> Array:
        """[batch * padded seq]"""
        tokens = np.asarray(given)
        batch, seq = self.model.spec.batch, self.model.spec.seq
        if tokens.dtype.kind not in "iu" or tokens.size != batch * seq:
            raise PlanError(f"{what} is {tokens.dtype} {list(tokens.shape)}, expected whole numbers [{batch}, {seq}]")
        wide = np.full((batch, self.spec.seq), filler, np.int32)
        wide[:, :seq] = tokens.reshape(batch, seq)
        return wide.reshape(-1)

    def _build(self, norms: Place, precision: Precision) -> list[Part]:
        known: dict[object, tuple[Derived, CompiledPlan]] = {}
        parts: list[Part] = []
        for prefix, block in self.model.parts:
            graph = _graph(block, self.spec, norms, precision)
            key = signature(graph)
            names = {item.name: prefix + item.name for item in graph.parameters.values()}
            weights = {own: self.weights[name] for own, name in names.items()}
            gradients = {own: self.gradients[name] for own, name in names.items()} if self.trains else None
            label = prefix.rstrip(".") or type(block).__name__.lower()
            if key not in known or self.layout == "baked":
                derived = known[key][0] if key in known else differentiate(graph)
                known[key] = (derived, self._compiled(label, derived, weights))
            parts.append((label, known[key][1], weights, gradients))
        return parts

    def _compiled(self, label: str, derived: Derived, weights: Mapping[str, Array]) -> CompiledPlan:
        options: dict[str, Any] = self._options
        choice = choose(
            derived,
            self.device,
            lambda plan: CompiledPlan(self.device, plan, weights, backward=self.trains, name=label),
            backward=self.trains,
            **options,
        )
        self.choices[label] = choice
        return choice.compiled


def _padded(model: Model) -> ModelSpec:
    """Sequences are a multiple of 32 long on the device. What is added counts for nothing, and comes last."""
    spec = model.spec
    return dataclasses.replace(spec, seq=padded(spec.seq)) if model.causal else spec


def _graph(block: Block | Embedding | Classifier, spec: ModelSpec, norms: Place, precision: Precision) -> BlockGraph:
    if isinstance(block, Embedding):
        return build_embedding(spec)
    if isinstance(block, Classifier):
        return build_loss(block, spec, norms=norms, precision=precision)
    return build(block, spec, norms=norms, precision=precision)
