"""Any stack of blocks as something to train: the public face for custom models.

model = Trainable(device, [Embedding(), *[MyBlock()] * 2, Classifier()], spec, seed=0)
loss = model.step(ids, targets)                    # model.gradients are those of this loss
for name, parameter in model.parameters.items():   # "embedding", "layers.0.attention.wq", "final_norm"
    parameter -= 0.1 * model.gradients[name]
model.stage()                                      # the device sees the new weights
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import Block, Classifier, Embedding, build, build_embedding, build_loss
from anetrain.device import Device
from anetrain.errors import CompileError
from anetrain.graph import BlockGraph, Place, Value
from anetrain.graph.builder import Precision
from anetrain.lower import GRANULARITIES, Granularity, Layout, Plan, lower
from anetrain.mil.types import Array
from anetrain.pipeline.errors import NonFiniteError, PlanError
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.stack import Part, Stack
from anetrain.spec import ModelSpec

AnyBlock: TypeAlias = Block | Embedding | Classifier

_log = logging.getLogger(__name__)


class Trainable:
    """`blocks`: an Embedding, blocks, a Classifier. Blocks of equal graphs share their programs.

    parameters, gradients   fp32 arrays by name; a tied embedding is one array
    loss_scale              gradients travel through the device times this
    """

    def __init__(
        self,
        device: Device,
        blocks: Sequence[AnyBlock],
        spec: ModelSpec,
        *,
        seed: int = 0,
        layout: Layout = "stacked",
        granularity: Granularity = "fused",
        norms: Place = "host",
        precision: Precision = "fp16",
        loss_scale: float = 2.0**16,
    ) -> None:
        _check_order(blocks)
        self.device, self.spec, self.loss_scale = device, spec, loss_scale
        self.parameters: dict[str, Array] = {}
        random = np.random.default_rng(seed)
        prefixes = [f"layers.{index - 1}." if isinstance(b, Block) else "" for index, b in enumerate(blocks)]
        graphs = _derived([_graph(block, spec, norms, precision) for block in blocks])
        for prefix, derived in zip(prefixes, graphs, strict=True):
            for known in derived.graph.parameters.values():
                if prefix + known.name not in self.parameters:
                    self.parameters[prefix + known.name] = known.initial(random)
        self.gradients = {name: np.zeros_like(array) for name, array in self.parameters.items()}

        known_plans: dict[int, CompiledPlan] = {}  # by derived graph
        parts: list[Part] = []
        for prefix, derived, block in zip(prefixes, graphs, blocks, strict=True):
            parameters, kind = _part(self.parameters, prefix, derived), type(block).__name__
            compiled = known_plans.get(id(derived))
            if compiled is None or layout == "baked":
                compiled = compile_block(device, derived, parameters, layout, granularity, name=kind)
                known_plans[id(derived)] = compiled
            parts.append(
                (prefix.rstrip(".") or kind.lower(), compiled, parameters, _part(self.gradients, prefix, derived))
            )
        self._weights = [parameters for _, _, parameters, _ in parts]
        self.stack = Stack(parts)
        self.stack.stage()

    # ------------------------------------------------------------ training

    def step(self, ids: npt.ArrayLike, targets: npt.ArrayLike) -> float:
        """The loss, and its gradients. Where they overflow fp16, once more with half the loss scale."""
        while True:
            self.clear_gradients()
            try:
                return self.accumulate(ids, targets)
            except NonFiniteError:
                if self.loss_scale < 2.0:
                    raise
                self.loss_scale /= 2.0
                _log.warning("gradients overflow; the loss scale is now %g", self.loss_scale)

    def accumulate(self, ids: npt.ArrayLike, targets: npt.ArrayLike, weight: float = 1.0) -> float:
        """Adds `weight` times the gradients of one batch. If it fails, all gradients are zero: the group is dropped."""
        try:
            loss = self.evaluate(ids, targets)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss}: weights or activations have left the range of fp16")
            self.stack.backward(alpha=weight / self.loss_scale)
        except BaseException:
            self.clear_gradients()
            raise
        return loss

    def evaluate(self, ids: npt.ArrayLike, targets: npt.ArrayLike) -> float:
        """The mean loss of [batch, seq] ids and what should follow each of them, -1 where nothing counts."""
        inputs = {
            "ids": self._tokens("ids", ids),
            "targets": self._tokens("targets", targets),
            "scale": np.array([self.loss_scale], np.float32),
        }
        return float(self.stack.forward(inputs)["loss"][0])

    def stage(self) -> None:
        """The parameters, as they are now, to the device. Programs with baked weights are compiled again."""
        for layer, weights in zip(self.stack.layers, self._weights, strict=True):
            plan = layer.compiled.plan
            if any(program.constants for program in plan.programs):
                layer.compiled.unload()
                layer.load(CompiledPlan(self.device, plan, weights, name=layer.compiled.name))
            layer.stage()

    def unload(self) -> None:
        """Gives the engine's places back; afterwards nothing here runs."""
        for layer in self.stack.layers:
            layer.compiled.unload()

    def clear_gradients(self) -> None:
        for gradient in self.gradients.values():
            gradient.fill(0.0)

    def _tokens(self, what: str, given: npt.ArrayLike) -> Array:
        tokens = np.asarray(given)
        if tokens.dtype.kind not in "iu" or tokens.size != self.spec.tokens:
            raise PlanError(
                f"{what} is {tokens.dtype} {list(tokens.shape)}, expected whole numbers "
                f"[{self.spec.batch}, {self.spec.seq}]"
            )
        return tokens.reshape(-1).astype(np.int32)


def compile_block(
    device: Device,
    derived: Derived,
    weights: Mapping[str, Array],
    layout: Layout = "stacked",
    granularity: Granularity = "fused",
    *,
    name: str = "",
) -> CompiledPlan:
    """Lowers and compiles. What the device refuses is tried in smaller programs, and the log says so."""
    for tried in GRANULARITIES[GRANULARITIES.index(granularity) :]:
        plan: Plan = lower(derived, layout, tried, dialect=device.facts["dialect"])
        try:
            return CompiledPlan(device, plan, weights, name=name)
        except CompileError as error:
            if tried == GRANULARITIES[-1]:
                raise
            _log.warning("programs of granularity %r are refused, trying smaller ones: %s", tried, error)
    raise AssertionError("unreachable")


def _check_order(blocks: Sequence[AnyBlock]) -> None:
    names = ", ".join(type(block).__name__ for block in blocks)
    ends = len(blocks) >= 2 and isinstance(blocks[0], Embedding) and isinstance(blocks[-1], Classifier)
    if not ends or not all(isinstance(block, Block) for block in blocks[1:-1]):
        raise PlanError(f"the blocks are [{names}], expected an Embedding, any number of blocks, a Classifier")


def _graph(block: AnyBlock, spec: ModelSpec, norms: Place, precision: Precision) -> BlockGraph:
    if isinstance(block, Embedding):
        return build_embedding(spec)
    if isinstance(block, Classifier):
        return build_loss(block, spec, norms=norms, precision=precision)
    return build(block, spec, norms=norms, precision=precision)


def _derived(graphs: Sequence[BlockGraph]) -> list[Derived]:
    """One derived graph for all that are equal."""
    known: dict[object, Derived] = {}
    found = []
    for graph in graphs:
        key = _signature(graph)
        if key not in known:
            known[key] = differentiate(graph)
        found.append(known[key])
    return found


def _signature(graph: BlockGraph) -> object:
    """Equal for graphs that compute the same from parameters of the same names, and are cut in the same places."""
    numbers: dict[Value, int] = {}

    def reference(value: Value) -> object:
        if value.data is not None:
            return value.type, value.inline, value.data.tobytes()
        return numbers.setdefault(value, len(numbers))

    sources = [(reference(value), value.name, value.type) for value in graph.inputs]
    parameters = [(reference(value), known) for value, known in graph.parameters.items()]
    nodes = []
    for node in graph.nodes:
        operands = tuple(map(reference, node.operands))
        results = tuple(map(reference, node.outputs))
        nodes.append(
            (node.op, operands, tuple(node.tensors), tuple(node.parameters.items()), results, graph.stage_of[node])
        )
    outputs = [(reference(value), value.name) for value in graph.outputs]
    return tuple(sources), tuple(parameters), tuple(nodes), tuple(outputs)


def _part(arrays: Mapping[str, Array], prefix: str, derived: Derived) -> dict[str, Array]:
    """The arrays of one block, by its own names."""
    return {known.name: arrays[prefix + known.name] for known in derived.graph.parameters.values()}
