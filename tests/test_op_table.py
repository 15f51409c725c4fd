"""The emulator's operation table: names, arguments and shape rules.

Its arguments are compared with coremltools' registry and with the Python table. Its shape rules are compared with the
Python ones on random cases, which test_mil_coremltools compares with coremltools on the same cases; wrong shapes have
a table of their own here.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from anetrain import device
from anetrain.errors import CompileError
from anetrain.mil import Graph, Value
from anetrain.mil.ops import OPS
from tests.format_differences import LEFT_OUT, REQUIRED_BY_THE_ENGINE
from tests.op_cases import Case, cases
from tests.support import emulator, need

TABLE = device.operation_table()


def arguments(op: str) -> dict[str, dict[str, Any]]:
    return {argument["name"]: argument for argument in TABLE[op]["arguments"]}


@pytest.fixture(scope="module")
def registry() -> Any:
    need(importlib.util.find_spec("coremltools"), "coremltools is not installed")
    logging.disable(logging.WARNING)  # it looks for parts that exist on macOS only
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return SSAOpRegistry.core_ops


@pytest.mark.parametrize("op", TABLE)
def test_arguments_against_coremltools(registry: Any, op: str) -> None:
    newest = registry[op][max(registry[op], key=lambda target: target.value)]
    theirs = newest.input_spec.input_types
    assert {(op, name) for name in set(theirs) ^ set(arguments(op))} <= LEFT_OUT
    for name, argument in arguments(op).items():
        assert argument["required"] == (not theirs[name].optional or (op, name) in REQUIRED_BY_THE_ENGINE), name
        assert not theirs[name].const or "const" in argument["kinds"], name


def test_same_operations_as_the_python_table() -> None:
    assert set(TABLE) == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_same_as_the_python_table(op: str) -> None:
    ours, theirs = arguments(op), {arg.name: arg for arg in OPS[op].args}
    assert list(ours) == list(theirs)
    assert {name for name, arg in ours.items() if arg["required"]} == {n for n, arg in theirs.items() if arg.required}
    assert {name: arg["type"] for name, arg in ours.items()} == {
        name: "" if arg.is_tensor else arg.kind for name, arg in theirs.items()
    }
    assert TABLE[op]["evidence"] == OPS[op].evidence.level
    assert TABLE[op]["since_ios"] == int(OPS[op].opset.removeprefix("ios")) or OPS[op].opset == "ios16"


def test_evidence_names_its_source() -> None:
    assert all(entry["source"].startswith("ANE_FACTS 3.3") for entry in TABLE.values())


# ---------------------------------------------------------------- shape rules

# Any shape at the border: the rules of shapes are what is looked at.
RELAXED = {"border-width": False, "border-dtype": False}


@pytest.mark.parametrize("op", [op for op in OPS if not OPS[op].folded])
def test_shapes_are_the_python_tables(op: str) -> None:
    dev = emulator("exact", rules=RELAXED, executor="reference")

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cases(op))
    def run(case: Case) -> None:
        g = Graph()

        def feed(name: str, array: np.ndarray, kind: str) -> Value:
            return g.input(name, array.shape, kind)

        for i, result in enumerate(case.apply(g, feed)):
            g.output(f"result{i}", result)
        dev.compile(g.program("B")).unload()  # the text declares what Python inferred; the emulator infers again

    run()


def refused(parameters: str, statement: str) -> CompileError:
    """The error of one wrong statement that makes `y`."""
    text = (
        'program(1.3)\n[buildInfo = dict<string, string>({{"coremlc-version", "3505.4.1"}})]\n{\n'
        f'func main<ios18>({parameters}) {{\n{statement}[name = string("y")];\n}} -> (y);\n}}\n'
    )
    with pytest.raises(CompileError) as failed:
        emulator("exact", rules=RELAXED, executor="reference").compile(text)
    return failed.value


X = "tensor<fp16, [1, 8, 4, 32]> x"
PAIR = "tensor<int32, [2]>"
WRONG = {
    "conv channels": (
        X + ", tensor<fp16, [16, 4, 1, 1]> w",
        "y = conv(x = x, weight = w)",
        "'conv': argument 'weight' is [16, 4, 1, 1]: 4 input channels for each of 1 groups; expected 8",
    ),
    "pool padding": (
        X,
        'y = avg_pool(x = x, kernel_sizes = tensor<int32, [2]>([2, 2]), pad_type = string("custom"), '
        "pad = tensor<int32, [4]>([2, 2, 0, 0]), exclude_padding_from_average = bool(true))",
        "'avg_pool': argument 'kernel_sizes' has windows of 2 that lie wholly outside of the 4 elements of x",
    ),
    "pool steps": (
        "tensor<fp16, [1, 8, 5, 32]> x",
        'y = max_pool(x = x, kernel_sizes = tensor<int32, [2]>([1, 1]), pad_type = string("valid"), '
        "strides = tensor<int32, [2]>([3, 1]), ceil_mode = bool(true))",
        "'max_pool': argument 'kernel_sizes' has windows of 1 that lie wholly outside of the 5 elements of x",
    ),
    "conv groups": (
        X + ", tensor<fp16, [16, 4, 1, 1]> w",
        "y = conv(x = x, weight = w, groups = int32(3))",
        "argument 'groups' is 3; expected a divisor of the 8 channels of x",
    ),
    "conv window": (
        X + ", tensor<fp16, [16, 8, 5, 1]> w",
        "y = conv(x = x, weight = w)",
        "4 elements and 0 + 0 of padding under a window of 5",
    ),
    "conv strides": (
        X + ", tensor<fp16, [16, 8, 1, 1]> w",
        f"y = conv(x = x, weight = w, strides = {PAIR}([0, 1]))",
        "argument 'strides' is [0, 1]; expected numbers of 1 and more",
    ),
    "conv pad type": (
        X + ", tensor<fp16, [16, 8, 1, 1]> w",
        'y = conv(x = x, weight = w, pad_type = string("full"))',
        "argument 'pad_type' is \"full\"; expected one of valid, custom, same, same_lower",
    ),
    "matmul inner": (
        X + ", tensor<fp16, [1, 8, 4, 32]> z",
        "y = matmul(x = x, y = z)",
        "'matmul': argument 'y' is [1, 8, 4, 32] with transpose_y = false and x is [1, 8, 4, 32]",
    ),
    "matmul rank": (X + ", tensor<fp16, [32]> z", "y = matmul(x = x, y = z)", "of rank 1; expected rank 2 to 5"),
    "broadcast": (
        X + ", tensor<fp16, [3, 32]> z",
        "y = add(x = x, y = z)",
        "argument 'y' has shape [3, 32], which does not broadcast with [1, 8, 4, 32]",
    ),
    "mixed types": (
        X + ", tensor<fp32, [32]> z",
        "y = add(x = x, y = z)",
        "argument 'y' is fp32, 'x' is fp16; expected one element type",
    ),
    "softmax axis": (X, "y = softmax(x = x, axis = int32(4))", "axis = 4 is outside of a tensor of rank 4"),
    "reduce twice": (
        X,
        f"y = reduce_sum(x = x, axes = {PAIR}([1, -3]))",
        "argument 'axes' is [1, -3]; expected each axis once",
    ),
    "reshape": (
        X,
        f"y = reshape(x = x, shape = {PAIR}([100, -1]))",
        "argument 'shape' is [100, -1]; expected positive",
    ),
    "transpose": (X, f"y = transpose(x = x, perm = {PAIR}([0, 1]))", "argument 'perm' has 2 elements; expected 4"),
    "slice": (
        X,
        "y = slice_by_size(x = x, begin = tensor<int32, [4]>([0, 0, 0, 1]), size = tensor<int32, [4]>([1, 8, 4, 32]))",
        "argument 'begin' [0, 0, 0, 1] with size [1, 8, 4, 32] leaves [1, 8, 4, 32] on axis 3",
    ),
    "empty slice": (
        X,
        "y = slice_by_index(x = x, begin = tensor<int32, [4]>([0, 4, 0, 0]), end = tensor<int32, [4]>([1, 4, 4, 32]))",
        "argument 'end' takes nothing of axis 1: 4:4:1 of 8 elements",
    ),
    "concat": (
        X + ", tensor<fp16, [1, 8, 3, 32]> z",
        "y = concat(values = (x, z), axis = int32(1), interleave = bool(false))",
        "expected one element type and equal sizes outside axis 1",
    ),
    "concat without interleave": (
        X,
        "y = concat(values = (x, x), axis = int32(1))",
        "required argument 'interleave' is missing",
    ),
    "split": (
        X,
        "y = split(x = x, num_splits = int32(3), axis = int32(1))",
        "'num_splits' is 3; expected a divisor of 8",
    ),
    "squeeze": (X, "y = squeeze(x = x, axes = tensor<int32, [1]>([1]))", "names axis 1 of [1, 8, 4, 32]"),
    "huge tile": (
        X,
        "y = tile(x = x, reps = tensor<int32, [4]>([2000000000, 2000000000, 2000000000, 2000000000]))",
        "is tensor<fp16, [2000000000, 16000000000,",
    ),
    "topk": (X, "y = topk(x = x, k = int32(9), axis = int32(1))", "'k' is 9; expected 1 to 8"),
    "gelu mode": (X, 'y = gelu(x = x, mode = string("FAST"))', "expected one of EXACT, TANH_APPROXIMATION"),
    "rsqrt without epsilon": (X, "y = rsqrt(x = x)", "required argument 'epsilon' is missing"),
    "pixel shuffle": (X, "y = pixel_shuffle(x = x, upscale_factor = int32(3))", "whose square divides the 8 channels"),
    "einsum": (
        X,
        'y = einsum(values = (x, x), equation = string("ij,jk->ik"))',
        'expected "nchw,nwhu->nchu", the only one',
    ),
    "attention": (
        X + ", tensor<fp16, [1, 8, 4, 16]> z",
        "y = scaled_dot_product_attention(query = x, key = z, value = z)",
        "argument 'key' has shape [1, 8, 4, 16]; expected [1, 8, 4, 32]",
    ),
    "quantize scale": (
        X,
        'y = quantize(input = x, scale = tensor<fp16, [2]>([1, 2]), output_dtype = string("int8"))',
        "argument 'axis' is missing; expected one, since 'scale' is a vector",
    ),
    "crop": (
        X,
        f"y = crop(x = x, crop_height = {PAIR}([2, 2]), crop_width = {PAIR}([0, 0]))",
        "'crop_height' is [2, 2]; expected to leave some of 4",
    ),
    "unknown operation": (X, "y = sofmax(x = x)", "did you mean 'softmax'"),
    "unknown argument": (X, "y = softmax(x = x, axes = int32(1))", "unknown argument 'axes'"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_shapes_say_what_was_found_and_expected(mistake: str) -> None:
    parameters, statement, message = WRONG[mistake]
    error = refused(parameters, f"tensor<fp16, [1]> {statement}")
    assert message in error.detail
    assert error.text == "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)"
    assert error.line == 5
