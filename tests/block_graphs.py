"""Small graphs of blocks, differentiated, beside the same graphs that were not: what tests of derivatives share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anetrain import reference
from anetrain.autodiff import Derived, differentiate
from anetrain.graph import BlockGraph, Node, Value, bias, gain, matrix
from anetrain.mil.meaning import compute
from anetrain.spec import ModelSpec
from tests.gradients import directions, slope

Build = Callable[[BlockGraph], object]  # adds inputs, parameters, ops, outputs
TOLERANCE = 1e-6  # relative, in float64
STEP = 1e-5  # short, so that it seldom meets the kink of a relu


def spec(**changes: Any) -> ModelSpec:
    sizes = {"dim": 6, "hidden": 9, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 4, "vocab": 7, "seq": 5}
    return ModelSpec(**{**sizes, **changes})


def graph_of(build: Build, s: ModelSpec | None = None, **options: Any) -> BlockGraph:
    g = BlockGraph(s or spec(), **{"precision": "fp32", **options})
    build(g)
    return g


@dataclass
class Case:
    """`plain` never saw autodiff: it gives the values whose differences judge the gradients of `derived`."""

    plain: BlockGraph
    derived: Derived
    inputs: dict[str, np.ndarray]  # with the seeds
    parameters: dict[str, np.ndarray]
    result: reference.Result

    def loss(self, name: str, array: np.ndarray) -> float:
        """Outputs times seeds, with one input or parameter replaced."""
        given = {**self.inputs, **self.parameters, name: array}
        sources = {value: given[value.name] for value in self.plain.inputs}
        sources |= {value: given[known.name] for value, known in self.plain.parameters.items()}
        values = compute(self.plain, sources, rounded=False, exact=True)
        seeds = {
            out: given.get(f"d_{out.name}", given.get("scale")) for out in self.plain.outputs
        }  # a loss has a scale
        return sum(float(np.sum(values[out] * seed)) for out, seed in seeds.items())

    def check(self) -> None:
        """Every gradient against differences along eight random directions, and along each entry of small tensors."""
        random = np.random.default_rng(7)
        inputs = {name: self.inputs[name] for name in self.result.gradients}
        found = {**self.result.gradients, **self.result.parameters}
        for name, array in {**inputs, **self.parameters}.items():
            gradient = found[name]
            assert gradient.shape == array.shape, name
            for direction in directions(array.shape, random, entries_up_to=12):
                true = slope(lambda at, name=name: self.loss(name, at), array, direction, STEP)
                size = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(direction.size)
                error = abs(np.sum(gradient * direction) - true)
                assert error <= TOLERANCE * (size + abs(true)) + 1e-8, f"{name}: off by {error:.1e} of {true:.3g}"


def random_parameters(graph: BlockGraph, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Gains from U(0.2, 3), never 1."""
    return {
        known.name: random.uniform(0.2, 3.0, known.shape) if known.init == "ones" else random.normal(size=known.shape)
        for known in graph.parameters.values()
    }


def differentiated(
    build: Build,
    s: ModelSpec | None = None,
    *,
    seed: int = 0,
    arrays: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> Case:
    """`arrays`: inputs that are not just normal numbers."""
    random = np.random.default_rng(seed)
    derived = differentiate(graph_of(build, s, **options))
    inputs = {value.name: random.normal(size=value.shape) for value in derived.graph.inputs}
    inputs |= arrays or {}
    parameters = random_parameters(derived.graph, random)
    result = reference.run(derived, inputs, parameters)
    return Case(graph_of(build, s, **options), derived, inputs, parameters, result)


def checked(build: Build, s: ModelSpec | None = None, **options: Any) -> Case:
    case = differentiated(build, s, **options)
    case.check()
    return case


def nodes_of(graph: BlockGraph, op_name: str) -> list[Node]:
    return [node for node in graph.nodes if node.op.name == op_name]


def kinds(case: Case, parameter: str) -> list[str]:
    """The kinds of a parameter's records."""
    named = case.derived.graph.parameters
    return [record.kind for record in case.derived.records if named[record.parameter].name == parameter]


class RandomBlock:
    """A random graph of host and device ops, as a user might write one. Magnitudes stay near 1."""

    def __init__(self, seed: int, operations: int) -> None:
        self.seed, self.operations = seed, operations

    def __call__(self, g: BlockGraph) -> None:
        self.g, self.random = g, np.random.default_rng(self.seed)
        self.pool: list[Value] = [g.activation(name, 6) for name in ("x", "z")]
        w = g.weights(
            {"wide": matrix(9, 6), "square": matrix(6, 6), "norm": gain(6), "shift": bias(6), "raw": matrix(6, 5)}
        )
        self.w: Any = w
        makers = [getattr(self, name) for name in dir(self) if name.startswith("make_")]
        for _ in range(self.operations):
            self.pool.append(self.tame(makers[self.random.integers(len(makers))]()))
        for index, value in enumerate([self.pool[-1], *self.pool[-5:-3]]):
            g.output(f"y{index}", g.host_scale(g.to_host(value), 0.5 + index))

    # ------------------------------------------------------------ choices

    def pick(self) -> Value:
        """A value of the shape of an activation, mostly a recent one, on either side."""
        recent = self.pool[-4:] if self.random.random() < 0.6 else self.pool
        return recent[self.random.integers(len(recent))]

    def choose(self, items: Sequence[Any]) -> Any:
        return items[self.random.integers(len(items))]

    def tame(self, value: Value) -> Value:
        """Values neither grow nor vanish; now and then one crosses to the other side."""
        if self.random.random() < 0.3:
            value = self.g.to_host(value) if self.random.random() < 0.5 else self.g.to_device(value)
        return value * 0.6

    # ------------------------------------------------------------ ops

    def make_activation(self) -> Value:
        g, x = self.g, self.pick()
        return getattr(g, self.choose(["relu", "sigmoid", "tanh", "silu", "gelu"]))(x)

    def make_function(self) -> Value:
        g, x = self.g, self.pick()
        kind = self.random.integers(4)
        if kind == 0:
            return g.exp(g.tanh(x))
        positive = g.add(g.mul(x, x), 0.5)
        return g.sqrt(positive) if kind == 1 else g.pow(positive, -0.7) if kind == 2 else g.real_div(1.0, positive)

    def make_pair(self) -> Value:
        g, x, y = self.g, self.pick(), self.pick()
        name = self.choose(["add", "sub", "mul", "real_div", "residual"])
        if name == "real_div":
            return g.real_div(x, g.add(g.mul(y, y), 1.0))
        return g.residual(x, y, -0.3) if name == "residual" else getattr(g, name)(x, y)

    def make_reduction(self) -> Value:
        """A reduction, stretched again; also by way of a shape without the axis."""
        g, x = self.g, self.pick()
        axes = self.choose([(1,), (3,), (1, 3), (-1,)])
        name = self.choose(["reduce_sum", "reduce_mean", "reduce_max"])
        if name == "reduce_max":
            axes = axes[:1]
        keep = bool(self.random.integers(2))
        reduced = getattr(g, name)(x, axes=axes, keep_dims=keep)
        kept = [1 if axis in axes or axis - 4 in axes else n for axis, n in enumerate(x.shape)]
        reduced = reduced if keep else g.reshape(reduced, kept)
        return getattr(g, self.choose(["add", "sub", "mul"]))(g.to_device(self.pick()), g.mul(reduced, 0.4))

    def make_softmax(self) -> Value:
        return self.g.mul(self.g.softmax(self.pick(), axis=self.choose([1, 3, -1])), 3.0)

    def make_layout(self) -> Value:
        """Slices and a concat in another order, through a transpose and a reshape."""
        g, x = self.g, self.pick()
        axis = self.choose([1, 3])
        count = x.shape[axis]
        cut = int(self.random.integers(1, count))
        begin = [0, 0, 0, 0]
        low = g.slice_by_size(x, begin, [cut if i == axis else n for i, n in enumerate(x.shape)])
        begin[axis] = cut
        high = g.slice_by_index(x, begin, list(x.shape))
        turned = g.transpose(g.concat((high, low), axis=axis), (0, 3, 2, 1))
        again = g.reshape(g.transpose(turned, (3, 1, 2, 0)), (x.shape[1], x.shape[3]))
        return g.reshape(again, x.shape)

    def make_stride(self) -> Value:
        g, x = self.g, self.pick()
        even, odd = (g.slice_by_index(x, [0, i, 0, 0], list(x.shape), stride=[1, 2, 1, 1]) for i in (0, 1))
        return g.concat((g.mul(even, odd), g.sub(even, odd)), axis=1)

    def make_linear(self) -> Value:
        g, x = self.g, self.pick()
        if self.random.random() < 0.5:
            return g.mul(g.linear(x, self.w.square, self.w.shift), 0.5)
        back = g.matmul(self.w.wide, g.reshape(g.linear(x, self.w.wide), (9, 5)), transpose_x=True)  # tied
        return g.mul(g.reshape(back, x.shape), 0.1)

    def make_norm(self) -> Value:
        g, x = self.g, self.pick()
        x = g.to_host(x) if self.random.random() < 0.5 else x
        if self.random.random() < 0.5:
            return g.rms_norm(x, self.w.norm, 1e-2)
        return g.layer_norm(x, self.w.norm, self.w.shift, 1e-2)

    def make_vector(self) -> Value:
        g = self.g
        x = g.to_device(self.pick())
        kind = self.random.integers(4)
        if kind == 0:
            return x * self.w.norm
        if kind == 1:
            return x - self.w.shift
        if kind == 2:
            return g.scale(x, self.w.norm * 0.5 + 0.1)
        return g.mul(x, g.reshape(self.w.raw, (1, 6, 1, 5)))

    def make_constant(self) -> Value:
        g, x = self.g, self.pick()
        return g.add(x, self.random.normal(size=x.shape)) if self.random.random() < 0.5 else g.mul(x, -0.7)
