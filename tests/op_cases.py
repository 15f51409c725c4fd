"""Random arguments for every op of the table: hypothesis strategies, one per op, shared by the tests of meaning.

Values are fp16, inside the range where an op has a finite result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from anetrain.mil import Graph, Value
from anetrain.mil.ops import OPS
from anetrain.mil.types import dtype
from tests.op_values import (
    Draw,
    axis_of,
    broadcast_partner,
    distinct,
    half,
    integers,
    maybe,
    scalar,
    scale_of,
    shape_of,
    some_axes,
)


@dataclass
class Case:
    """Arrays for tensors (a list of them for variadic ones), Python values for parameters. `kinds` names the MIL types
    that the array's own type does not say, `constants` the operands that could be computed and are constants here."""

    op: str
    arguments: dict[str, Any]
    kinds: dict[str, str] = field(default_factory=dict)
    constants: frozenset[str] = frozenset()

    def is_constant(self, name: str) -> bool:
        return name in self.constants or OPS[self.op].arg(name).is_const

    def kind_of(self, name: str, array: np.ndarray) -> str:
        return self.kinds.get(name, {"float16": "fp16"}.get(array.dtype.name, array.dtype.name))

    def apply(self, g: Graph, feed: Callable[[str, np.ndarray, str], Value]) -> tuple[Value, ...]:
        """The op in a graph: `feed` makes the computed operands, constants are made here."""
        if self.op == "const":
            return (g.constant(self.arguments["val"]),)
        arguments: dict[str, Any] = {}
        for arg in OPS[self.op].args:
            given = self.arguments.get(arg.name)
            if arg.kind == "tensors":
                arguments[arg.name] = [feed(f"{arg.name}{i}", item, "fp16") for i, item in enumerate(given)]
            elif arg.is_tensor and given is not None:
                kind = self.kind_of(arg.name, given)
                constant = self.is_constant(arg.name)
                arguments[arg.name] = g.constant(given, dtype=kind) if constant else feed(arg.name, given, kind)
            else:
                arguments[arg.name] = given
        return g.apply(self.op, **arguments)


# ---------------------------------------------------------------- one strategy per op

Maker = Callable[[Draw], dict[str, Any]]
MAKERS: dict[str, Maker] = {}


def maker(*names: str) -> Callable[[Maker], Maker]:
    def register(function: Maker) -> Maker:
        for name in names:
            MAKERS[name] = function
        return function

    return register


# One operand: the range of x where the result is finite and the op is smooth enough for its tolerance.
UNARY_RANGES: dict[str, tuple[float, float]] = {
    "square": (-200, 200), "sqrt": (0, 60000), "abs": (-60000, 60000), "sign": (-10, 10), "exp": (-18, 11),
    "exp2": (-24, 15.5), "floor": (-1000, 1000), "ceil": (-1000, 1000), "round": (-1000, 1000), "sin": (-30, 30),
    "cos": (-30, 30), "atan": (-1000, 1000), "erf": (-5, 5), "relu": (-60000, 60000), "relu6": (-10, 10),
    "sigmoid": (-20, 20), "tanh": (-10, 10), "softplus": (-15, 1000), "softsign": (-1000, 1000), "silu": (-20, 1000),
    "identity": (-60000, 60000),
}  # fmt: skip
for _name, (_low, _high) in UNARY_RANGES.items():
    MAKERS[_name] = lambda draw, low=_low, high=_high: {"x": half(draw, shape_of(draw), low, high)}


@maker("rsqrt", "inverse", "log")
def with_epsilon(draw: Draw) -> dict[str, Any]:
    return {"x": half(draw, shape_of(draw), 0.0, 1000.0), "epsilon": scalar(draw, 2**-10, 1.0)}


@maker("gelu")
def gelu(draw: Draw) -> dict[str, Any]:
    modes = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    return {"x": half(draw, shape_of(draw), -4.0, 1000.0), "mode": draw(st.sampled_from(modes))}


@maker("elu", "leaky_relu", "threshold", "thresholded_relu")
def with_alpha(draw: Draw) -> dict[str, Any]:
    return {"x": half(draw, shape_of(draw)), "alpha": scalar(draw, 0.125, 2.0)}


@maker("sigmoid_hard", "scaled_tanh", "clamped_relu", "linear_activation", "clip")
def with_alpha_beta(draw: Draw) -> dict[str, Any]:
    return {"x": half(draw, shape_of(draw)), "alpha": scalar(draw, 0.125, 2.0), "beta": scalar(draw, 2.5, 4.0)}


@maker("prelu")
def prelu(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw, 4))  # of other ranks coremltools takes only equal alphas
    return {"x": x, "alpha": half(draw, x.shape[1:2], -1.0, 1.0)}


@maker("add", "sub", "mul", "maximum", "minimum")
def two_operands(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    pair = half(draw, shape, -100, 100), half(draw, broadcast_partner(draw, shape), -100, 100)
    return dict(zip(("x", "y"), draw(st.permutations(pair)), strict=True))


@maker("real_div", "floor_div")
def division(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    sign = draw(st.sampled_from((1, -1)))
    return {"x": half(draw, shape, -100, 100), "y": sign * half(draw, broadcast_partner(draw, shape), 0.125, 100)}


@maker("pow")
def power(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    return {"x": half(draw, shape, 0.125, 8), "y": half(draw, broadcast_partner(draw, shape), -3, 3)}


@maker("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
def comparison(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    return {"x": np.round(half(draw, shape, -2, 2)), "y": np.round(half(draw, broadcast_partner(draw, shape), -2, 2))}


@maker("logical_not")
def boolean(draw: Draw) -> dict[str, Any]:
    return {"x": half(draw, shape_of(draw), -1, 1) > 0}


@maker("cast")
def cast(draw: Draw) -> dict[str, Any]:
    kind = draw(st.sampled_from(("fp16", "fp32", "int8", "uint8", "int32", "bool")))
    low, high = {"int8": (-100, 100), "uint8": (0, 200)}.get(kind, (-1000, 1000))
    return {"x": half(draw, shape_of(draw), low, high), "dtype": kind}


@maker("select")
def select(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    cond = half(draw, broadcast_partner(draw, shape), -1, 1) > 0
    return {"cond": cond, "a": half(draw, shape), "b": half(draw, broadcast_partner(draw, shape))}


# ---------------------------------------------------------------- linear algebra


def windowed(draw: Draw, kernel: tuple[int, int], dilations: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """Strides, padding, and a height and width at least as large as the window."""
    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = tuple(draw(st.integers(span, span + 5)) for span in window)
    return {
        "size": size,
        "strides": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "pad_type": draw(st.sampled_from(("valid", "custom", "same", "same_lower"))),
        "pad": tuple(draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))),
    }


def convolution(draw: Draw) -> dict[str, Any]:
    groups, per_group_in, per_group_out = (draw(st.integers(1, 3)) for _ in range(3))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilations = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    options = windowed(draw, kernel, dilations)
    size = options.pop("size")
    batch = draw(st.integers(1, 2))
    return {
        "x": half(draw, (batch, groups * per_group_in, *size), -2, 2),
        "weight": (groups, per_group_in, per_group_out, kernel),
        "bias": maybe(draw, lambda: half(draw, (groups * per_group_out,), -2, 2)),
        "dilations": dilations,
        "groups": groups,
        **options,
    }


@maker("conv")
def conv(draw: Draw) -> dict[str, Any]:
    arguments = convolution(draw)
    groups, inputs, outputs, kernel = arguments["weight"]
    computed = arguments["x"].shape[0] == 1 and arguments["dilations"] == (1, 1) and draw(st.booleans())
    return {
        **arguments,
        "weight": half(draw, (groups * outputs, inputs, *kernel), -1, 1),
        "constants": ("bias",) if computed else ("weight", "bias"),
    }


@maker("conv_transpose")
def conv_transpose(draw: Draw) -> dict[str, Any]:
    arguments = convolution(draw)
    groups, inputs, outputs, kernel = arguments["weight"]
    if arguments["pad_type"] == "same_lower":
        arguments["pad_type"] = "same"  # all that is known of conv_transpose
    # Padding cuts the result here: keep something of it.
    pads = [
        min(pad, (k - 1) * d // 2)
        for pad, k, d in zip(arguments["pad"][::2], kernel, arguments["dilations"], strict=True)
    ]
    arguments["pad"] = (pads[0], pads[0], pads[1], pads[1])
    weight = half(draw, (groups * inputs, outputs, *kernel), -1, 1)
    return {**arguments, "weight": weight, "constants": ("weight", "bias")}


@maker("matmul")
def matmul(draw: Draw) -> dict[str, Any]:
    rows, inner, columns = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 9))
    batch = shape_of(draw, 1, 2, 3) if draw(st.booleans()) else ()
    other = broadcast_partner(draw, batch) if batch and draw(st.booleans()) else batch
    transpose_x, transpose_y = draw(st.booleans()), draw(st.booleans())
    x = half(draw, (*batch, inner, rows) if transpose_x else (*batch, rows, inner), -2, 2)
    y = half(draw, (*other, columns, inner) if transpose_y else (*other, inner, columns), -2, 2)
    return {"x": x, "y": y, "transpose_x": transpose_x, "transpose_y": transpose_y}


@maker("linear")
def linear(draw: Draw) -> dict[str, Any]:
    features, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 9))
    x = half(draw, (*shape_of(draw, 1, 2, 5)[: draw(st.integers(0, 2))], features), -2, 2)
    return {
        "x": x,
        "weight": half(draw, (outputs, features), -1, 1),
        "bias": maybe(draw, lambda: half(draw, (outputs,), -1, 1)),
    }


@maker("einsum")
def einsum(draw: Draw) -> dict[str, Any]:
    n, c, h, w, u = (draw(st.integers(1, 4)) for _ in range(5))
    return {"values": [half(draw, (n, c, h, w), -2, 2), half(draw, (n, w, h, u), -2, 2)], "equation": "nchw,nwhu->nchu"}


@maker("scaled_dot_product_attention")
def attention(draw: Draw) -> dict[str, Any]:
    lead = shape_of(draw, 1, 2, 3)
    queries, keys, features, values = (draw(st.integers(1, 6)) for _ in range(4))
    mask = maybe(draw, lambda: half(draw, (*broadcast_partner(draw, (*lead, queries)), keys), -4, 4))
    return {
        "query": half(draw, (*lead, queries, features), -2, 2),
        "key": half(draw, (*lead, keys, features), -2, 2),
        "value": half(draw, (*lead, keys, values), -2, 2),
        "attn_mask": mask,
    }


# ---------------------------------------------------------------- rows


@maker("softmax")
def softmax(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    return {"x": x, "axis": axis_of(draw, x.ndim)}


@maker(*(name for name in OPS if name.startswith("reduce_") and name != "reduce_argmax"))
def reduction(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw), 0.125, 8)  # positive: reduce_log_sum wants it
    return {"x": x, "axes": maybe(draw, lambda: some_axes(draw, x.ndim)), "keep_dims": draw(st.booleans())}


@maker("reduce_argmax")
def argmax(draw: Draw) -> dict[str, Any]:
    x = distinct(draw, shape_of(draw))
    return {"x": x, "axis": axis_of(draw, x.ndim), "keep_dims": draw(st.booleans())}


@maker("topk")
def topk(draw: Draw) -> dict[str, Any]:
    x = distinct(draw, shape_of(draw))
    axis = axis_of(draw, x.ndim)
    return {"x": x, "k": draw(st.integers(1, x.shape[axis])), "axis": axis, "ascending": draw(st.booleans())}


@maker("layer_norm")
def layer_norm(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw, 2))
    axes = some_axes(draw, x.ndim)
    shape = tuple(x.shape[axis] for axis in sorted(axis % x.ndim for axis in axes))
    affine = draw(st.booleans())
    return {
        "x": x,
        "axes": axes,
        "gamma": half(draw, shape, 0.5, 2) if affine else None,
        "beta": half(draw, shape, -1, 1) if affine else None,
        "epsilon": scalar(draw, 2**-6, 1.0),
    }


@maker("instance_norm")
def channel_norm(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw, 3))
    return {
        "x": x,
        "gamma": maybe(draw, lambda: half(draw, x.shape[1:2], 0.5, 2)),
        "beta": maybe(draw, lambda: half(draw, x.shape[1:2], -1, 1)),
        "epsilon": scalar(draw, 2**-6, 1.0),
    }


@maker("batch_norm")
def batch_norm(draw: Draw) -> dict[str, Any]:
    arguments = channel_norm(draw)
    channels = arguments["x"].shape[1:2]
    return {**arguments, "mean": half(draw, channels, -1, 1), "variance": half(draw, channels, 0.5, 2)}


@maker("l2_norm")
def l2_norm(draw: Draw) -> dict[str, Any]:
    return {"x": half(draw, shape_of(draw, 3)), "epsilon": scalar(draw, 2**-6, 1.0)}


@maker("local_response_norm")
def local_response_norm(draw: Draw) -> dict[str, Any]:
    return {
        "x": half(draw, shape_of(draw, 3)),
        "size": draw(st.sampled_from((1, 3, 5))),  # where the middle of an even window lies is not known
        "alpha": scalar(draw, 0.125, 1.0),
        "beta": scalar(draw, 0.25, 1.0),
        "k": scalar(draw, 0.5, 2.0),
    }


# ---------------------------------------------------------------- layout


@maker("concat")
def concat(draw: Draw) -> dict[str, Any]:
    shape = list(shape_of(draw))
    axis = axis_of(draw, len(shape))
    interleave = draw(st.booleans())
    values = []
    for _ in range(draw(st.integers(1, 4))):
        if not interleave:
            shape[axis] = draw(st.integers(1, 4))
        values.append(half(draw, tuple(shape)))
    return {"values": values, "axis": axis, "interleave": interleave}


@maker("stack")
def stack(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    values = [half(draw, shape) for _ in range(draw(st.integers(1, 4)))]
    return {"values": values, "axis": axis_of(draw, len(shape) + 1)}


@maker("split")
def split(draw: Draw) -> dict[str, Any]:
    shape = list(shape_of(draw))
    axis = axis_of(draw, len(shape))
    if draw(st.booleans()):
        parts = draw(st.integers(1, 3))
        shape[axis] = parts * draw(st.integers(1, 3))
        return {"x": half(draw, tuple(shape)), "num_splits": parts, "axis": axis}
    sizes = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    shape[axis] = sum(sizes)
    return {"x": half(draw, tuple(shape)), "split_sizes": sizes, "axis": axis}


@maker("slice_by_size")
def slice_by_size(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    begin = tuple(draw(st.integers(0, n - 1)) for n in x.shape)
    size = tuple(
        -1 if draw(st.booleans()) else draw(st.integers(1, n - b)) for n, b in zip(x.shape, begin, strict=True)
    )
    return {"x": x, "begin": begin, "size": size}


@maker("slice_by_index")
def slice_by_index(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    begin, end, stride, begin_mask, end_mask, squeeze_mask = [], [], [], [], [], []
    backwards = draw(st.booleans())
    for n in x.shape:
        low = draw(st.integers(0, n - 1))
        high = draw(st.integers(low + 1, n))
        down = backwards and low > 0 and draw(st.booleans())  # from high - 1 to low
        first, last = (high - 1, low - 1) if down else (low, high)
        negative = draw(st.booleans())
        begin.append(first - n if negative else first)
        end.append(last - n if negative and last < n else last)
        stride.append(draw(st.integers(1, 3)) * (-1 if down else 1))
        begin_mask.append(draw(st.booleans()))
        end_mask.append(draw(st.booleans()))
        squeeze_mask.append(draw(st.integers(0, 4)) == 0)
    if all(squeeze_mask):
        squeeze_mask[0] = False
    arguments = {"x": x, "begin": tuple(begin), "end": tuple(end)}
    optional = {"stride": stride, "begin_mask": begin_mask, "end_mask": end_mask, "squeeze_mask": squeeze_mask}
    given = {name: tuple(values) for name, values in optional.items() if backwards or draw(st.booleans())}
    return arguments | given


@maker("reshape")
def reshape(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    shape = list(draw(st.permutations(x.shape)))
    if len(shape) > 1 and draw(st.booleans()):
        shape = [shape[0] * shape[1], *shape[2:]]
    if draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    return {"x": x, "shape": tuple(shape)}


@maker("transpose")
def transpose(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    return {"x": x, "perm": tuple(draw(st.permutations(range(x.ndim))))}


@maker("squeeze")
def squeeze(draw: Draw) -> dict[str, Any]:
    shape = (*shape_of(draw, 1, 3), 1)
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = draw(st.lists(st.sampled_from(ones), min_size=1, unique=True))
    if len(axes) == len(shape):
        axes = axes[1:] or [0]
        shape = (*shape, 2)
    return {"x": half(draw, shape), "axes": tuple(axes)}


@maker("expand_dims")
def expand_dims(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw, 1, 3))
    count = draw(st.integers(1, 5 - x.ndim))
    axes = draw(st.lists(st.integers(0, x.ndim + count - 1), min_size=count, max_size=count, unique=True))
    return {"x": x, "axes": tuple(axes)}


@maker("flatten2d")
def flatten2d(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw, 2))
    return {"x": x, "axis": draw(st.integers(1, x.ndim - 1))}


@maker("tile")
def tile(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw, side=4))
    return {"x": x, "reps": tuple(draw(st.integers(1, 3)) for _ in x.shape)}


@maker("reverse")
def reverse(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    return {"x": x, "axes": maybe(draw, lambda: some_axes(draw, x.ndim))}


@maker("pad")
def pad(draw: Draw) -> dict[str, Any]:
    x = half(draw, shape_of(draw))
    mode = draw(st.sampled_from(("constant", "reflect", "replicate")))
    last = x.ndim if mode == "constant" else min(x.ndim, 2)  # reflect and replicate are known for two axes
    sides = []
    for n in x.shape[-last:]:
        limit = n - 1 if mode == "reflect" else n
        sides += [draw(st.integers(0, min(limit, 3))), draw(st.integers(0, min(limit, 3)))]
    return {"x": x, "pad": tuple(sides), "mode": mode, "constant_val": scalar(draw, -2, 2)}


@maker("crop")
def crop(draw: Draw) -> dict[str, Any]:
    cuts = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2)]
    lead = shape_of(draw, 1, 2, 3)
    x = half(draw, (*lead, *(sum(cut) + draw(st.integers(1, 4)) for cut in cuts)))
    return {"x": x, "crop_height": cuts[0], "crop_width": cuts[1]}


def _pixels(argument: str, to_space: bool) -> Maker:
    def make(draw: Draw) -> dict[str, Any]:
        f = draw(st.integers(2, 3))
        n, c, h, w = (draw(st.integers(1, 3)) for _ in range(4))
        return {"x": half(draw, (n, c * f * f, h, w) if to_space else (n, c, h * f, w * f)), argument: f}

    return make


MAKERS["pixel_shuffle"] = _pixels("upscale_factor", to_space=True)
MAKERS["depth_to_space"] = _pixels("block_size", to_space=True)
MAKERS["pixel_unshuffle"] = _pixels("downscale_factor", to_space=False)
MAKERS["space_to_depth"] = _pixels("block_size", to_space=False)


# ---------------------------------------------------------------- images


@maker("max_pool")
def pool(draw: Draw) -> dict[str, Any]:
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    options = windowed(draw, kernel)
    ceil_mode = not options["pad_type"].startswith("same") and draw(st.booleans())
    top, left = (min(pad, k // 2) for pad, k in zip(options["pad"][::2], kernel, strict=True))
    size = options.pop("size")
    return {
        "x": half(draw, (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size)),
        "kernel_sizes": kernel,
        **options,
        # With larger steps a window of ceil_mode may lie wholly outside.
        "strides": tuple(min(stride, k) for stride, k in zip(options["strides"], kernel, strict=True)),
        "pad": (top, top, left, left),
        "ceil_mode": ceil_mode,
    }


@maker("avg_pool")
def avg_pool(draw: Draw) -> dict[str, Any]:
    return {**pool(draw), "exclude_padding_from_average": draw(st.booleans())}


def image(draw: Draw) -> np.ndarray:
    return half(draw, (*shape_of(draw, 1, 2, 3), draw(st.integers(1, 5)), draw(st.integers(1, 5))))


@maker("upsample_nearest_neighbor")
def upsample_nearest(draw: Draw) -> dict[str, Any]:
    factors = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {"x": image(draw), "scale_factor_height": factors[0], "scale_factor_width": factors[1]}


@maker("upsample_bilinear")
def upsample_bilinear(draw: Draw) -> dict[str, Any]:
    factors = (float(draw(st.integers(1, 3))) for _ in range(2))
    return {
        "x": image(draw),
        **dict(zip(("scale_factor_height", "scale_factor_width"), factors, strict=True)),
        "align_corners": draw(st.booleans()),
    }


@maker("resize_nearest_neighbor")
def resize(draw: Draw) -> dict[str, Any]:
    targets = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return {"x": image(draw), "target_size_height": targets[0], "target_size_width": targets[1]}


@maker("resize_bilinear")
def resize_bilinear(draw: Draw) -> dict[str, Any]:
    modes = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")
    return {**resize(draw), "sampling_mode": draw(st.sampled_from(modes))}


@maker("affine")
def affine(draw: Draw) -> dict[str, Any]:
    x = half(draw, (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *(draw(st.integers(2, 6)) for _ in range(2))))
    return {
        "x": x,
        "transform_matrix": half(draw, (draw(st.sampled_from((1, x.shape[0]))), 6), -1.5, 1.5),
        "output_height": draw(st.integers(2, 6)),
        "output_width": draw(st.integers(2, 6)),
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "padding_value": 0.0,
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": True,
    }


# ---------------------------------------------------------------- quantisation


def quantisation(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    axis = draw(st.integers(0, len(shape) - 1)) if draw(st.booleans()) else None
    vector = () if axis is None else (shape[axis],)
    kind = draw(st.sampled_from(("int8", "uint8")))
    return {
        "scale": scale_of(draw, vector),
        "zero_point": maybe(draw, lambda: integers(draw, vector, kind)),
        "axis": axis,
        "shape": shape,
        "kind": kind,
    }


@maker("quantize")
def quantize(draw: Draw) -> dict[str, Any]:
    arguments = quantisation(draw)
    x = half(draw, arguments.pop("shape"), -20, 20)
    return {"input": x, "output_dtype": arguments.pop("kind"), **arguments}


@maker("dequantize")
def dequantize(draw: Draw) -> dict[str, Any]:
    arguments = quantisation(draw)
    return {"input": integers(draw, arguments.pop("shape"), arguments.pop("kind")), **arguments}


@maker("const")
def const(draw: Draw) -> dict[str, Any]:
    return {"val": half(draw, shape_of(draw))}


@maker("constexpr_affine_dequantize")
def affine_dequantize(draw: Draw) -> dict[str, Any]:
    shape = shape_of(draw)
    axis = axis_of(draw, len(shape))
    kind = draw(st.sampled_from(("int8", "uint8")))
    vector = (shape[axis],)
    return {
        "quantized_data": integers(draw, shape, kind),
        "zero_point": integers(draw, draw(st.sampled_from(((), vector))), kind),
        "scale": scale_of(draw, draw(st.sampled_from(((), vector)))),
        "axis": axis,
    }


@maker("constexpr_blockwise_shift_scale")
def blockwise(draw: Draw) -> dict[str, Any]:
    blocks = shape_of(draw, side=3)
    shape = tuple(n * draw(st.integers(1, 3)) for n in blocks)
    kind = draw(st.sampled_from(("int4", "uint4", "int8", "uint8")))
    offset = maybe(draw, lambda: integers(draw, blocks, kind))
    return {
        "data": integers(draw, shape, kind),
        "scale": scale_of(draw, blocks),
        "offset": offset,
        "kinds": {"data": kind, "offset": kind},
    }


@maker("constexpr_lut_to_dense")
def lut_to_dense(draw: Draw) -> dict[str, Any]:
    groups = shape_of(draw, side=2)
    shape = tuple(n * draw(st.integers(1, 3)) for n in groups)
    kind = draw(st.sampled_from(("uint1", "uint2", "uint3", "uint4", "uint6", "uint8")))
    vector = draw(st.sampled_from((1, 1, 2, 3)))
    return {
        "indices": integers(draw, shape, kind),
        "lut": half(draw, (*groups, 2 ** dtype(kind).bits, vector)),
        "vector_axis": axis_of(draw, len(shape)) if vector > 1 else None,
        "kinds": {"indices": kind},
    }


@maker("constexpr_sparse_to_dense")
def sparse_to_dense(draw: Draw) -> dict[str, Any]:
    mask = integers(draw, shape_of(draw), "uint1")
    mask.flat[0] = 1  # at least one value
    return {"nonzero_data": half(draw, (int(mask.sum()),), 0.5, 8), "mask": mask, "kinds": {"mask": "uint1"}}


@maker("constexpr_cast")
def constexpr_cast(draw: Draw) -> dict[str, Any]:
    return {"source_val": half(draw, shape_of(draw)), "output_dtype": "fp32"}


@st.composite
def cases(draw: Draw, op: str) -> Case:
    arguments = dict(MAKERS[op](draw))
    kinds, constants = arguments.pop("kinds", {}), arguments.pop("constants", ())
    return Case(op, arguments, kinds, frozenset(constants))
