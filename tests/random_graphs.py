"""Random programs over everything the fast executor fuses, for comparison with the reference executor.

Products are of small whole numbers only, whose sums fp32 holds exactly in any order: whole programs can then be
compared bit for bit, whatever BLAS does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from anetrain.mil.graph import Graph, Value

T = TypeVar("T")

MOST_ELEMENTS = 6000
MOST_WHOLE = 8  # magnitude of whole numbers that enter a product
FP16_WHOLE = 2048  # up to here every whole number is an fp16


@dataclass
class Known:
    """A value and what is known of its content."""

    value: Value
    whole: float | None  # its elements are whole numbers of at most this magnitude

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


class RandomGraph:
    def __init__(self, seed: int, operations: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph()
        self.inputs: dict[str, np.ndarray[Any, Any]] = {}
        self.known: list[Known] = []
        for i in range(self.between(1, 3)):
            self.add_input(f"a{i}")
        makers = [getattr(self, name) for name in dir(self) if name.startswith("make_")]
        while operations > 0:
            if makers[self.random.integers(len(makers))]():
                operations -= 1
        for i in range(self.between(1, 3)):
            self.add_output(f"y{i}", self.known[-1] if i == 0 else self.pick())

    # ------------------------------------------------------------ choices

    def between(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def choose(self, items: Sequence[T]) -> T:
        return items[int(self.random.integers(len(items)))]

    def pick(self, rank: int = 0) -> Known:
        """A value, mostly a recent one."""
        usable = [known for known in self.known if len(known.shape) >= rank]
        recent = usable[-4:] if self.chance(0.7) else usable
        return self.choose(recent)

    def keep(self, value: Value, whole: float | None = None) -> bool:
        self.known.append(Known(value, whole))
        return True

    def whole_constant(self, shape: tuple[int, ...], most: int = 3) -> Value:
        return self.graph.constant(self.random.integers(-most, most + 1, shape).astype(np.float16))

    def factor(self, count: int) -> tuple[int, ...]:
        """A random shape of `count` elements."""
        shape: list[int] = []
        while count > 1 and len(shape) < 4:
            divisors = [d for d in range(1, count + 1) if count % d == 0]
            shape.append(self.choose(divisors))
            count //= shape[-1]
        return (*shape, count)

    # ------------------------------------------------------------ borders

    def add_input(self, name: str) -> None:
        shape = (1, self.between(1, 24), 1, 32 * self.between(1, 2))
        array = self.random.integers(-4, 5, shape).astype(np.float32)
        self.inputs[name] = array
        self.keep(self.graph.input(name, shape), 4)

    def add_output(self, name: str, known: Known) -> None:
        count = math.prod(known.shape)
        flat = self.graph.reshape(known.value, (1, 1, 1, count))
        rest = -count % 32
        if rest:
            flat = self.graph.concat([flat, self.graph.constant(np.zeros((1, 1, 1, rest), np.float16))], axis=3)
        elif known.value.producer is None:
            flat = self.graph.add(flat, 0.0)  # an output may not be an input
        if self.chance(0.5):
            flat = self.graph.reshape(flat, (1, (count + rest) // 32, 1, 32))
        self.graph.output(name, flat)

    # ------------------------------------------------------------ elementwise

    def make_unary(self) -> bool:
        x = self.pick()
        name = self.choose(
            ["relu", "abs", "square", "sigmoid", "tanh", "silu", "exp", "sqrt", "softplus", "floor", "erf"]
        )
        g, value = self.graph, x.value
        if name in ("exp", "square", "softplus"):
            value = g.clip(value, alpha=-4.0, beta=4.0)
        if name == "sqrt":
            value = g.abs(value)
        whole = x.whole if name in ("relu", "abs", "floor") else None
        return self.keep(getattr(g, name)(value), whole)

    def make_parametric(self) -> bool:
        x, g = self.pick(), self.graph
        alpha, beta = (float(np.float16(v)) for v in self.random.normal(size=2))
        kind = self.between(0, 5)
        if kind == 0:
            return self.keep(g.clip(x.value, alpha=min(alpha, beta), beta=max(alpha, beta)))
        if kind == 1:
            return self.keep(g.leaky_relu(x.value, alpha=alpha))
        if kind == 2:
            return self.keep(g.linear_activation(x.value, alpha=alpha, beta=beta))
        if kind == 3:
            return self.keep(g.rsqrt(g.abs(x.value), epsilon=0.5))
        if kind == 4 and len(x.shape) >= 3:
            return self.keep(g.prelu(x.value, g.constant(self.random.normal(size=x.shape[1]).astype(np.float16))))
        return self.keep(g.pow(x.value, 2.0) if (x.whole or 99) <= 16 else g.mul(x.value, alpha))

    def operand_like(self, shape: tuple[int, ...]) -> Known:
        """Something that broadcasts to `shape`: a value, a constant, a row, a column, a scalar."""
        same = [known for known in self.known if known.shape == shape]
        if same and self.chance(0.5):
            return self.choose(same)
        smaller = tuple(1 if self.chance(0.5) else size for size in shape)
        matching = [k for k in self.known if len(k.shape) == len(shape) and self.broadcasts(k.shape, shape)]
        if matching and self.chance(0.5):
            return self.choose(matching)
        if self.chance(0.3):
            return Known(self.graph.constant(np.float16(self.between(-3, 3))), 3)
        return Known(self.whole_constant(smaller[self.between(0, len(shape) - 1) :]), 3)

    @staticmethod
    def broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
        return all(a in (1, b) for a, b in zip(small, large, strict=True))

    def make_binary(self) -> bool:
        x = self.pick()
        y = self.operand_like(x.shape)
        name = self.choose(["add", "sub", "mul", "maximum", "minimum", "real_div"])
        g = self.graph
        left, right = (x.value, y.value) if self.chance(0.5) else (y.value, x.value)
        if name == "real_div":
            right = g.add(g.abs(right), 1.0)
        whole = None
        if x.whole is not None and y.whole is not None and name != "real_div":
            whole = x.whole * y.whole if name == "mul" else x.whole + y.whole
        return self.keep(getattr(g, name)(left, right), whole if (whole or 0) <= FP16_WHOLE else None)

    def make_select(self) -> bool:
        x = self.pick()
        y, z = self.operand_like(x.shape), self.operand_like(x.shape)
        g = self.graph
        name = self.choose(["greater", "less_equal", "equal", "not_equal"])
        condition = getattr(g, name)(x.value, y.value)
        if self.chance(0.3):
            condition = g.logical_not(condition)
        return self.keep(g.select(condition, x.value, z.value))

    # ------------------------------------------------------------ rows

    def make_softmax(self) -> bool:
        x = self.pick()
        return self.keep(self.graph.softmax(x.value, axis=self.between(0, len(x.shape) - 1)))

    def make_reduction(self) -> bool:
        x, g = self.pick(2), self.graph
        name = self.choose(["sum", "mean", "max", "min", "l1_norm", "l2_norm", "sum_square"])
        first = self.between(0, len(x.shape) - 1)
        axes = list(range(first, self.between(first, len(x.shape) - 1) + 1))
        if self.chance(0.1):
            axes = sorted({0, len(x.shape) - 1})
        keep_dims = self.chance(0.7) or len(axes) == len(x.shape)
        value = g.clip(x.value, alpha=-8.0, beta=8.0)
        return self.keep(getattr(g, f"reduce_{name}")(value, axes=axes, keep_dims=keep_dims))

    def make_normalisation(self) -> bool:
        """Centred and scaled by its own row: what fuses into one pass."""
        x, g = self.pick(), self.graph
        axis = self.between(0, len(x.shape) - 1)
        value = g.clip(x.value, alpha=-8.0, beta=8.0)
        centred = g.sub(value, g.reduce_mean(value, axes=[axis], keep_dims=True))
        scale = g.rsqrt(g.reduce_mean(g.mul(centred, centred), axes=[axis], keep_dims=True), epsilon=0.125)
        return self.keep(g.mul(centred, scale))

    # ------------------------------------------------------------ layout

    def make_reshape(self) -> bool:
        x = self.pick()
        return self.keep(self.graph.reshape(x.value, self.factor(math.prod(x.shape))), x.whole)

    def make_transpose(self) -> bool:
        x = self.pick(2)
        permutation = [int(i) for i in self.random.permutation(len(x.shape))]
        return self.keep(self.graph.transpose(x.value, permutation), x.whole)

    def make_expand_or_squeeze(self) -> bool:
        x = self.pick()
        ones = [axis for axis, size in enumerate(x.shape) if size == 1]
        if ones and len(x.shape) > 1 and self.chance(0.5):
            return self.keep(self.graph.squeeze(x.value, axes=[self.choose(ones)]), x.whole)
        if len(x.shape) >= 5:
            return False
        return self.keep(self.graph.expand_dims(x.value, axes=[self.between(0, len(x.shape))]), x.whole)

    def make_slice(self) -> bool:
        x, g = self.pick(), self.graph
        begin = [self.between(0, size - 1) for size in x.shape]
        end = [self.between(b + 1, size) for b, size in zip(begin, x.shape, strict=True)]
        if self.chance(0.6):
            size = [e - b for b, e in zip(begin, end, strict=True)]
            return self.keep(g.slice_by_size(x.value, begin, size), x.whole)
        stride = [self.between(1, 3) for _ in x.shape]
        mask = [self.chance(0.3) for _ in x.shape]
        return self.keep(g.slice_by_index(x.value, begin=begin, end=end, stride=stride, begin_mask=mask), x.whole)

    def make_split(self) -> bool:
        x = self.pick()
        choices = [(axis, n) for axis, size in enumerate(x.shape) for n in (2, 3, 4) if size % n == 0]
        if not choices:
            return False
        axis, parts = self.choose(choices)
        for part in self.graph.split(x.value, num_splits=parts, axis=axis):
            self.keep(part, x.whole)
        return True

    def make_concat(self) -> bool:
        x, g = self.pick(), self.graph
        if math.prod(x.shape) > MOST_ELEMENTS // 3:
            return False
        axis = self.between(0, len(x.shape) - 1)
        alike = [
            known
            for known in self.known
            if len(known.shape) == len(x.shape)
            and all(a == b for i, (a, b) in enumerate(zip(known.shape, x.shape, strict=True)) if i != axis)
        ]
        parts = [self.choose(alike) for _ in range(self.between(2, 3))]
        if self.chance(0.2):
            shape = list(x.shape)
            shape[axis] = self.between(1, 3)
            parts.append(Known(self.whole_constant(tuple(shape)), 3))
        if sum(math.prod(part.shape) for part in parts) > MOST_ELEMENTS:
            return False
        whole = None if any(p.whole is None for p in parts) else max(p.whole or 0 for p in parts)
        return self.keep(g.concat([part.value for part in parts], axis=axis), whole)

    def make_rotary(self) -> bool:
        """Half-split rotation on an axis: slices, products, a concat."""
        x, g = self.pick(), self.graph
        axes = [axis for axis, size in enumerate(x.shape) if size % 2 == 0]
        if not axes:
            return False
        axis = self.choose(axes)
        first, second = g.split(x.value, num_splits=2, axis=axis)
        angle = self.random.normal(size=first.shape).astype(np.float16)
        cos, sin = g.constant(np.cos(angle)), g.constant(np.sin(angle))
        turned = [g.sub(g.mul(first, cos), g.mul(second, sin)), g.add(g.mul(second, cos), g.mul(first, sin))]
        return self.keep(g.concat(turned, axis=axis))

    def make_rare(self) -> bool:
        """Operations that run through the reference's meaning."""
        x, g = self.pick(), self.graph
        kind = self.between(0, 3)
        if kind == 0 and math.prod(x.shape) * 2 < MOST_ELEMENTS:
            reps = [1] * len(x.shape)
            reps[self.between(0, len(reps) - 1)] = 2
            return self.keep(g.tile(x.value, reps), x.whole)
        if kind == 1:
            return self.keep(g.reverse(x.value, axes=[self.between(0, len(x.shape) - 1)]), x.whole)
        if kind == 2 and math.prod(x.shape) * 2 < MOST_ELEMENTS and 2 <= len(x.shape) <= 4:
            return self.keep(g.stack([x.value, x.value], axis=self.between(0, len(x.shape))), x.whole)
        if kind == 3 and len(x.shape) == 4 and min(x.shape[2:]) >= 2:
            pooled = g.max_pool(x.value, kernel_sizes=[2, 2], strides=[1, 1], pad_type="valid", pad=[0, 0, 0, 0])
            return self.keep(pooled, x.whole)
        return False

    # ------------------------------------------------------------ products

    def whole_operand(self, x: Known) -> Value:
        """The value in whole numbers small enough for exact sums."""
        g = self.graph
        if x.whole is not None and x.whole <= MOST_WHOLE:
            return x.value
        finite = g.select(g.less(g.abs(x.value), 30000.0), x.value, 1.0)  # NaN has no place in a product
        return g.clip(g.floor(finite), alpha=-float(MOST_WHOLE), beta=float(MOST_WHOLE))

    def make_matmul(self) -> bool:
        x, g = self.pick(2), self.graph
        transpose_x, transpose_y, swapped = (self.chance(0.5) for _ in range(3))
        inner = x.shape[-2] if transpose_x != swapped else x.shape[-1]  # of x as the left, or as the right operand
        partners = [k for k in self.known if len(k.shape) == len(x.shape) and k.shape[:-2] == x.shape[:-2]]
        partners = [k for k in partners if k.shape[-1 if transpose_y else -2] == inner] if not swapped else []
        if partners and self.chance(0.7):
            y = self.whole_operand(self.choose(partners))
        else:
            outer = self.between(1, 20)
            inner_first = not transpose_y if not swapped else transpose_x
            if swapped:
                inner = x.shape[-1] if transpose_y else x.shape[-2]
            matrix = (inner, outer) if inner_first else (outer, inner)
            batch = tuple(1 if self.chance(0.5) else size for size in x.shape[:-2])
            y = self.whole_constant((*batch, *matrix) if self.chance(0.7) else matrix)
        rows = x.shape[-1] if transpose_x else x.shape[-2]
        if math.prod(x.shape[:-2]) * max(rows, x.shape[-1]) * 20 > 20 * MOST_ELEMENTS:
            return False
        left, right = self.whole_operand(x), y
        if swapped:
            left, right = right, left
        value = g.matmul(left, right, transpose_x=transpose_x, transpose_y=transpose_y)
        if math.prod(value.shape) > MOST_ELEMENTS:
            return False
        most = MOST_WHOLE * MOST_WHOLE * inner
        return self.keep(value, most if most <= FP16_WHOLE else None)

    def make_linear(self) -> bool:
        x, g = self.pick(), self.graph
        if len(x.shape) > 3:
            return False
        features = self.between(1, 12)
        bias = self.whole_constant((features,)) if self.chance(0.5) else None
        return self.keep(g.linear(self.whole_operand(x), self.whole_constant((features, x.shape[-1])), bias))

    def make_conv(self) -> bool:
        x, g = self.pick(), self.graph
        if len(x.shape) != 4:
            return False
        n, channels, height, width = x.shape
        groups = self.choose([d for d in (1, 2, 3) if channels % d == 0])
        kernel = (1, 1) if self.chance(0.5) else (min(3, height), min(3, width))
        out = groups * self.between(1, 6)
        if n * out * height * width > MOST_ELEMENTS:
            return False
        weight = self.whole_constant((out, channels // groups, *kernel))
        bias = self.whole_constant((out,)) if self.chance(0.3) else None
        strides = (1, 1) if self.chance(0.6) else (min(2, height), 2)
        pad_type = self.choose(["valid", "same", "custom"])
        pad = [self.between(0, 1) for _ in range(4)] if pad_type == "custom" else [0, 0, 0, 0]
        value = g.conv(self.whole_operand(x), weight, bias, strides=strides, pad_type=pad_type, pad=pad, groups=groups)
        return self.keep(value)
