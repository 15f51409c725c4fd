"""A model on a device: the step, the weights and gradients by name, what is compiled and what is counted.

Here weights are inputs of programs that are compiled once and shared by layers; they are staged after an update, and
only then. StaticPipeline (static.py) bakes them into programs instead.

    pipeline = Pipeline(device, model, seed=0)
    loss = pipeline.micro_step(ids, targets, loss_scale=2.0**16)   # adds to pipeline.gradients
    for name, weight in pipeline.weights.items():                  # "embedding", "layers.0.attention.wq", "final_norm"
        weight -= 0.1 * pipeline.gradients[name]
    pipeline.stage()                                               # the device sees the new weights
    pipeline.clear_gradients()

A micro-step that fails, whatever fails in it, leaves all gradients zero: its accumulation group is dropped. What it
raises says what to do: NonFiniteError, the same group with half the loss scale; EvalError, the same group again;
DeviceUnavailable, save and exit; FloatingPointError, the weights or activations themselves have left fp16.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from anetrain import cpu
from anetrain.account import Account
from anetrain.autodiff import Derived, differentiate
from anetrain.device import Device
from anetrain.errors import ANEError, DeviceUnavailable
from anetrain.graph.builder import Precision
from anetrain.lower import Granularity, Layout
from anetrain.lower.ladder import Choice, choose
from anetrain.lower.memory import LadderMemory
from anetrain.lower.plan import Plan
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline.errors import PlanError
from anetrain.pipeline.extras import Extras, chosen
from anetrain.pipeline.graphs import PartGraph, padded_spec, part_graphs
from anetrain.pipeline.lane import Lane
from anetrain.pipeline.layer import Traffic
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.same import signature
from anetrain.pipeline.stack import Part, Stack
from anetrain.pipeline.weights import WeightCopies

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loss:
    """A sum, so that an average over several batches weighs each token alike: sum of sums over sum of counts."""

    sum: float
    count: int  # of the tokens whose target is not -1

    @property
    def mean(self) -> float:
        return self.sum / max(self.count, 1)


class Pipeline:
    """weights, gradients   fp32 arrays by name; a tied embedding is one array. Changed in place, never replaced
    choices                 by the first layer of each kind: how its programs were cut, and why (anetrain.lower.ladder)
    compiles                programs compiled so far, those that the ladder gave up and those baked anew included
    cache_loads             programs that the device had compiled before, and loaded without its compiler
    account                 where the time of a step goes; start and stop it around what is to be measured

    extras       what else runs on the device: "none", "all", or some of anetrain.pipeline.extras.EXTRAS
    overlap      weight gradients beside the device; by default on a real one only
    trains       False: forward only, no gradients are kept
    granularity  the largest programs to try: "fused", or "stage" or "linear" to see what those cost
    layout       how weights reach the device; by default the first of LAYOUTS
    memory       which rungs of the ladder devices took before
    rungs        those that this model had in a run that goes on, as `rungs` of its pipeline: tried first, with
                 only_rungs no others
    """

    LAYOUTS: ClassVar[tuple[Layout, ...]] = ("stacked", "separate", "packed")

    def __init__(
        self,
        device: Device,
        model: Model,
        weights: Mapping[str, npt.NDArray[np.float32]] | None = None,
        *,
        seed: int = 0,
        layout: Layout | None = None,
        granularity: Granularity = "fused",
        extras: Extras = "none",
        precision: Precision = "fp16",
        save_probabilities_up_to: int = 512,
        memory: LadderMemory | None = None,
        rungs: Mapping[str, Granularity] | None = None,
        only_rungs: bool = False,
        overlap: bool | None = None,
        trains: bool = True,
        account: Account | None = None,
    ) -> None:
        self.device, self.model, self.trains = device, model, trains
        self._compiled: list[CompiledPlan] = []
        self.layout = layout or self.LAYOUTS[0]
        if self.layout not in self.LAYOUTS:
            raise PlanError(
                f"layout is {layout!r}, and {type(self).__name__} has {', '.join(self.LAYOUTS)}: see make_pipeline"
            )
        self.spec = padded_spec(model)
        graphs = part_graphs(model, device, self.layout, chosen(extras), precision)
        keys = [signature(part.graph) for part in graphs]
        firsts = {key: differentiate(graphs[keys.index(key)].graph) for key in dict.fromkeys(keys)}
        self._options: dict[str, Any] = {
            "layout": self.layout,
            "first": granularity,
            "memory": memory,
            "only": only_rungs,
            "save_probabilities_up_to": save_probabilities_up_to,
        }
        self._fused: dict[str, Plan] = {}  # by label, from checking sizes until programs are chosen
        for key, derived in firsts.items():
            self._check_size(derived, graphs[keys.index(key)].label, keys.count(key))
        self.weights = model.initial(seed) if weights is None else dict(weights)
        model.check_weights(self.weights)
        shapes = {name: array.shape for name, array in self.weights.items()}
        self.gradients = cpu.zeros_by_name(shapes) if trains else {}
        self.choices: dict[str, Choice[CompiledPlan]] = {}
        self.account = account or Account()
        self.lane = Lane(device.facts["kind"] == "ane" if overlap is None else overlap, self.account)
        self._had = rungs or {}
        self.compiles = self.cache_loads = 0
        self._is_staged = False
        self._copies: WeightCopies | None = None
        self._made: WeightCopies | None = None  # what was entered since the last staging
        try:
            self._parts = self._build(graphs, keys, firsts)
            self.stack = Stack(self._parts, self.lane)
            self.stage()
            self._ids, self._targets = self._tokens_of(0, "ids"), self._tokens_of(-1, "targets")
            self._targets.fill(-1)  # what is added to a sequence counts for nothing
        except BaseException:
            self.unload()
            raise

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
        except BaseException:
            self.lane.drain()
            self.clear_gradients()
            raise
        return loss

    def evaluate(self, ids: npt.ArrayLike, targets: npt.ArrayLike) -> Loss:
        """The loss alone; gradients stay as they are."""
        mean = self._forward(ids, targets, 1.0)
        count = int(np.count_nonzero(self._targets >= 0))
        return Loss(mean * count, count)

    def stage(self, copied: bool = False) -> None:
        """The weights, as they are now, to the device. Should it fail, nothing runs until it was repeated.

        `copied`: nothing has changed since an update under `copies`, so only what these leave is staged.
        """
        copies, self._made = self._made, None
        if copied and (copies is None or not copies.made):
            raise PlanError("no update under copies was completed since the last stage(): stage all weights")
        self._is_staged = False
        self._stage(copied)
        self._is_staged = True

    @property
    def copies(self) -> WeightCopies | None:
        """For an optimizer that takes them: `optimizer.step(lr, count, copies=pipeline.copies)` stages weights as it
        updates them, and `pipeline.stage(copied=True)` the rest. If the update fails, or other weights change,
        `pipeline.stage()` stages all. None where weights are baked into programs."""
        if self._copies is None:
            stagings = [layer.staging for layer in self.stack.layers]
            self._copies = WeightCopies(stagings, self._unstage)
        return self._copies

    def can_stage(self) -> bool:
        """Whether `stage` is within what this process may still compile."""
        return True

    def baked_weights(self, staged: bool) -> dict[str, Array]:
        """What of the weights the next step's programs are made of, by name, where it is not the newest. Between steps;
        `staged`: `stage` was called since the last update."""
        return {}

    @property
    def compile_failure(self) -> ANEError | None:
        """Why programs of earlier weights than the last ones go on."""
        return None

    def clear_gradients(self) -> None:
        with self.account.part("update"):
            for gradient in self.gradients.values():
                gradient.fill(0.0)

    def unload(self) -> None:
        """Gives the engine's places back; afterwards nothing here runs."""
        self.lane.close()
        try:
            for compiled in reversed(self._compiled):
                compiled.unload()
        except DeviceUnavailable as error:  # not to hide what a trainer that saves and exits has to say
            _log.warning("programs of a lost device go with the process: %s", error)
        self._compiled.clear()

    @property
    def rungs(self) -> dict[str, Granularity]:
        """That were taken, by the first layer of each kind that has programs."""
        return {label: choice.plan.granularity for label, choice in self.choices.items() if choice.fused_dispatches}

    # ------------------------------------------------------------ counts

    @property
    def traffic(self) -> Traffic:
        """Dispatches, and bytes over the border, of all layers since `clear_traffic`."""
        return self.stack.traffic

    def clear_traffic(self) -> None:
        for layer in self.stack.layers:
            layer.traffic.clear()

    @property
    def largest_output(self) -> float:
        """The largest magnitude of a gradient from the device since this was last asked: limits the loss scale."""
        found = max(layer.largest_received for layer in self.stack.layers)
        for layer in self.stack.layers:
            layer.largest_received = 0.0
        return found

    # ------------------------------------------------------------ inside

    def _stage(self, copied: bool = False) -> None:
        self.stack.stage(copied)

    def _unstage(self) -> None:
        self._made = self._copies if self._is_staged else None  # weights that do not change are there
        self._is_staged = False
        for layer in self.stack.layers:
            layer.unstage()

    def _forward(self, ids: npt.ArrayLike, targets: npt.ArrayLike, scale: float) -> float:
        if not self._is_staged:
            raise PlanError("the weights are not on the device: the last stage() failed; repeat it")
        with self.account.part("data"):
            self._enter("ids", ids, self._ids, least=0)
            self._enter("targets", targets, self._targets, least=-1)
            self.stack.layers[-1].inputs["scale"][0] = scale
        return float(self.stack.forward({})["loss"][0])

    def _enter(self, what: str, given: npt.ArrayLike, tokens: Array, least: int) -> None:
        """To where the first or last layer reads them, [batch, padded seq]; what is behind a sequence stays."""
        found, most = np.asarray(given), self.spec.vocab - 1
        batch, seq = self.spec.batch, self.model.spec.seq
        if found.dtype.kind not in "iu" or found.size != batch * seq:
            raise PlanError(f"{what} is {found.dtype} {list(found.shape)}, expected whole numbers [{batch}, {seq}]")
        if found.min() < least or found.max() > most:
            raise PlanError(f"{what}: from {found.min()} to {found.max()}, expected {least} to {most}")
        tokens[:, :seq] = found.reshape(batch, seq)

    def _tokens_of(self, layer: int, name: str) -> Array:
        return self.stack.layers[layer].inputs[name].reshape(self.spec.batch, self.spec.seq)

    def _check_size(self, derived: Derived, label: str, layers: int) -> None:
        """Before memory is taken for the weights of so many equal layers, the first of them `label`."""

    def _build(self, graphs: list[PartGraph], keys: list[object], firsts: dict[object, Derived]) -> list[Part]:
        """`firsts`: of equal parts the first one, by key."""
        known: dict[object, CompiledPlan] = {}
        parts: list[Part] = []
        for part, key in zip(graphs, keys, strict=True):
            names = {item.name: part.prefix + item.name for item in part.graph.parameters.values()}
            weights = {own: self.weights[name] for own, name in names.items()}
            made_of = {own: self._made_of(name) for own, name in names.items()}
            gradients = {own: self.gradients[name] for own, name in names.items()} if self.trains else None
            if key in known:
                compiled = self._for_equal_layer(known[key], made_of)
            else:
                compiled = known[key] = self._chosen(part.label, part.kind, firsts[key], made_of, keys.count(key))
            parts.append((part.label, compiled, weights, gradients))
        return parts

    def _made_of(self, name: str) -> Array:
        """The weight of which the first programs are made, where weights are baked into them."""
        return self.weights[name]

    def _chosen(
        self, label: str, kind: str, derived: Derived, weights: Mapping[str, Array], layers: int
    ) -> CompiledPlan:
        def compile(plan: Plan) -> CompiledPlan:
            self._admit(plan, label, layers)
            return self._compile(plan, weights, kind)

        again = self._had.get(label)
        fused = self._fused.pop(label, None)
        choice = choose(
            derived, self.device, compile, backward=self.trains, name=kind, again=again, fused=fused, **self._options
        )
        self.choices[label] = choice
        return choice.compiled

    def _admit(self, plan: Plan, label: str, layers: int) -> None:
        """Before anything of a plan is compiled that so many layers share, the first of them `label`."""

    def _for_equal_layer(self, first: CompiledPlan, weights: Mapping[str, Array]) -> CompiledPlan:
        """The programs of another layer than the first that has this plan."""
        return first

    def _compile(
        self, plan: Plan, weights: Mapping[str, Array], name: str, like: CompiledPlan | None = None
    ) -> CompiledPlan:
        with self._counting():
            compiled = CompiledPlan(self.device, plan, weights, backward=self.trains, name=name, like=like)
        self._compiled.append(compiled)
        return compiled

    @contextmanager
    def _counting(self) -> Iterator[None]:
        before = self.device.counters()
        try:
            yield
        finally:
            after = self.device.counters()
            self.compiles += after.compiles - before.compiles
            self.cache_loads += after.cache_loads - before.cache_loads
