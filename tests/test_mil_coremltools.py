"""The op table against coremltools: names, arguments, required flags, shapes, and values where it computes them."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from anetrain.mil import Graph, Value
from anetrain.mil.meaning import evaluate
from anetrain.mil.ops import OPS
from anetrain.mil.types import dtype
from tests.format_differences import LEFT_OUT, REQUIRED_BY_THE_ENGINE
from tests.op_cases import Case, cases
from tests.support import need


@pytest.fixture(scope="module")
def coremltools() -> Any:
    need(importlib.util.find_spec("coremltools"), "coremltools is not installed")
    logging.disable(logging.WARNING)  # it looks for parts that exist on macOS only
    import coremltools as ct
    import coremltools.converters.mil.mil.ops.registry

    return ct


def newest_class(ct: Any, op: str) -> Any:
    versions = ct.converters.mil.mil.ops.registry.SSAOpRegistry.core_ops[op]
    return versions[max(versions, key=lambda target: target.value)]


@pytest.mark.parametrize("op", OPS)
def test_arguments(coremltools: Any, op: str) -> None:
    theirs = newest_class(coremltools, op).input_spec.input_types
    ours = {arg.name: arg for arg in OPS[op].args}
    assert set(ours) | {name for kind, name in LEFT_OUT if kind == op} == set(theirs)
    for name, arg in ours.items():
        assert arg.required == (not theirs[name].optional or (op, name) in REQUIRED_BY_THE_ENGINE), name
        if theirs[name].const:  # what it wants constant, we want constant
            assert arg.is_const or name == "val", name


@pytest.mark.parametrize("op", [op for op in OPS if OPS[op].opset != "ios16"])
def test_first_opset(coremltools: Any, op: str) -> None:
    """constexpr_lut_to_dense and constexpr_sparse_to_dense had other arguments before."""
    versions = coremltools.converters.mil.mil.ops.registry.SSAOpRegistry.core_ops[op]
    names = {arg.name for arg in OPS[op].args}
    fitting = [target for target, cls in versions.items() if names <= set(cls.input_spec.input_types)]
    assert (
        min(fitting, key=lambda target: target.value).name.lower() == OPS[op].opset or op == "constexpr_sparse_to_dense"
    )


# ---------------------------------------------------------------- shapes and values


def build(ct: Any, case: Case, constant: bool) -> list[Any]:
    """The op in coremltools' builder: operands as placeholders, or all as fp32 constants so that it computes."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

    op = OPS[case.op]
    operands: dict[str, np.ndarray] = {}
    for arg in op.args:
        given = case.arguments.get(arg.name)
        if arg.kind == "tensors":
            operands |= {f"{arg.name}.{i}": item for i, item in enumerate(given)}
        elif arg.is_tensor and given is not None and not case.is_constant(arg.name):
            operands[arg.name] = given
    placeholders = {} if constant else operands
    names = {"float16": types.fp16, "bool": types.bool, "int8": types.int8, "uint8": types.uint8}
    specs = [Builder.TensorSpec(array.shape, dtype=names[array.dtype.name]) for array in placeholders.values()]
    specs = specs or [Builder.TensorSpec((1,), dtype=types.fp16)]
    found: list[Any] = []

    def body(*variables: Any) -> Any:
        by_name = dict(zip(placeholders, variables, strict=False))

        def value(arg: Any, name: str, given: Any) -> Any:
            if given is None:
                return None
            if name in by_name:
                return by_name[name]
            if isinstance(given, np.ndarray):
                kind = case.kind_of(arg.name, given)
                if kind == "fp16":
                    return given.astype(np.float32) if constant and case.op != "constexpr_cast" else given
                if dtype(kind).is_sub_byte:
                    return given.astype(types.nptype_from_builtin(types.string_to_builtin(kind)))
                return given
            if arg.kind == "fp":
                return np.float32(given) if constant else np.float16(given)
            if arg.kind == "uint32":
                return np.uint32(given)
            return list(given) if isinstance(given, tuple) else given

        arguments = {}
        for arg in op.args:
            given = case.arguments.get(arg.name)
            if given is None:
                given = arg.default
            if arg.kind == "tensors":
                arguments[arg.name] = tuple(value(arg, f"{arg.name}.{i}", item) for i, item in enumerate(given))
            elif (made := value(arg, arg.name, given)) is not None:
                arguments[arg.name] = made
        result = getattr(Builder, case.op)(**arguments)
        found.extend(result if isinstance(result, (tuple, list)) else [result])
        return found[0]

    # The builder counts the parameters of the function it is given.
    by_count = [lambda a: body(a), lambda a, b: body(a, b), lambda a, b, c: body(a, b, c)]
    by_count.append(lambda a, b, c, d: body(a, b, c, d))
    Builder.program(input_specs=specs, opset_version=ct.target.iOS18)(by_count[len(specs) - 1])
    return found


def ours(case: Case) -> tuple[list[tuple[int, ...]], list[np.ndarray]]:
    """Shapes and unrounded values of the results."""
    g = Graph()
    feeds: dict[str, np.ndarray] = {}

    def feed(name: str, array: np.ndarray, kind: str) -> Value:
        feeds[name] = array
        return g.input(name, array.shape, kind)

    outputs = [g.output(f"result{i}", value) for i, value in enumerate(case.apply(g, feed))]
    values = evaluate(g, feeds, rounded=False)
    return [value.shape for value in outputs], [values[value.name] for value in outputs]


NOT_IN_ITS_BUILDER = {"const", "identity"}  # identity gives back the operand
# It infers only the shapes of these.
NO_VALUES = {
    "silu", "max_pool", "avg_pool", "upsample_nearest_neighbor", "upsample_bilinear", "resize_nearest_neighbor",
    "resize_bilinear", "affine", "crop", "pixel_shuffle", "pixel_unshuffle", "space_to_depth", "depth_to_space", "conv",
    "conv_transpose", "batch_norm", "instance_norm", "local_response_norm", "dequantize",
}  # fmt: skip
relaxed = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("op", [op for op in OPS if op not in NOT_IN_ITS_BUILDER])
def test_shapes(coremltools: Any, op: str) -> None:
    @relaxed
    @given(cases(op))
    def run(case: Case) -> None:
        theirs = build(coremltools, case, constant=False)
        assert [tuple(int(n) for n in var.shape) for var in theirs] == ours(case)[0]

    run()


@pytest.mark.parametrize("op", [op for op in OPS if op not in NOT_IN_ITS_BUILDER])
def test_values(coremltools: Any, op: str) -> None:
    @relaxed
    @given(cases(op))
    def run(case: Case) -> None:
        assume(not case.arguments.get("interleave"))  # its value of concat ignores it
        expected = ours(case)[1]
        for var, value in zip(build(coremltools, case, constant=True), expected, strict=True):
            theirs = var.op.materialized_val_inference() if OPS[op].folded else var.val
            assert (theirs is None) == (op in NO_VALUES)
            if theirs is not None:
                np.testing.assert_allclose(np.asarray(theirs, np.float64), value, rtol=1e-5, atol=2e-6)

    run()
