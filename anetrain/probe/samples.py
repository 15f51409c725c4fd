"""Running a small program so that what comes back tells what the engine did.

Values are small whole numbers wherever the operations allow it: their products and sums are exact in every arithmetic
the engine is known to have, so right values are right bit for bit. Every byte of an output surface is marked before the
engine writes, and every program runs on two samples: what was not written, zero, left over from the run before, or in
other places is told apart from what is merely wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain.device import Device, Program, Surface, fetch, store
from anetrain.mil.text import Program as Source

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

MARK = np.float16(-777.0)  # of an output's elements that the engine has not written
SHOWN = 4  # first elements of an output that is not right, kept as evidence


@dataclass(frozen=True)
class Sample:
    """Inputs, the outputs they should give, and outputs that tell of known mistakes: name of the mistake -> outputs."""

    inputs: Arrays
    expected: Arrays
    mistakes: Mapping[str, Arrays] = field(default_factory=dict)


def whole_numbers(random: np.random.Generator, shape: Sequence[int], largest: int = 4) -> Array:
    """fp16, of either sign, none of them 0."""
    magnitudes = random.integers(1, largest + 1, shape)
    signs = random.choice((-1, 1), shape)
    return np.asarray(magnitudes * signs, np.float16)


def observe(
    device: Device,
    source: Source,
    samples: Sequence[Sample],
    *,
    allowed: float = 0.0,
    label: str = "",
    least_bytes: int = 0,
) -> dict[str, Any]:
    """Compiles the program, runs it on one sample after the other, and says what the values are: "right", or in what
    way they are not. `allowed` is a share of the largest magnitude expected; no surface is smaller than
    `least_bytes`."""
    with device.compile(source, label=label) as program:
        return observe_loaded(device, program, samples, allowed=allowed, least_bytes=least_bytes)


def observe_loaded(
    device: Device, program: Program, samples: Sequence[Sample], *, allowed: float = 0.0, least_bytes: int = 0
) -> dict[str, Any]:
    evaluate = evaluator(device, program, least_bytes)
    before: Arrays = {}
    for sample in samples:
        found = evaluate(sample.inputs)
        values = compared(found, sample, allowed, before)
        if values != "right":
            return {"values": values, "found": shown(found), "expected": shown(sample.expected)}
        before = sample.expected
    return {"values": "right"}


def evaluator(device: Device, program: Program, least_bytes: int = 0) -> Callable[[Arrays], Arrays]:
    """Inputs -> outputs, again and again on the same surfaces; what is not written shows as MARK."""
    inputs = {port.name: device.surface(max(port.bytes, least_bytes)) for port in program.inputs}
    outputs = {port.name: device.surface(max(port.bytes, least_bytes)) for port in program.outputs}
    request = program.request(inputs, outputs)

    def evaluate(arrays: Arrays) -> Arrays:
        for port in program.inputs:
            store(inputs[port.name], port, arrays[port.name])
        for surface in outputs.values():
            mark(surface)
        request.run()
        return {port.name: fetch(outputs[port.name], port) for port in program.outputs}

    return evaluate


def mark(surface: Surface) -> None:
    with surface.lock(write=True) as view:
        view[: view.size // 2 * 2].view(np.float16)[:] = MARK


def compared(found: Arrays, sample: Sample, allowed: float = 0.0, before: Arrays | None = None) -> str:
    """In a word or two, what the values are."""

    def same(expected: Arrays) -> bool:
        return all(_close(found[name], expected[name], allowed) for name in found)

    def every(test: npt.NDArray[np.bool_] | bool) -> bool:
        return bool(np.all(test))

    if same(sample.expected):
        return "right"
    if all(every(_is_mark(array)) for array in found.values()):
        return "not written"
    for mistake, outputs in sample.mistakes.items():
        if same(outputs):
            return mistake
    if all(every(array == 0) for array in found.values()):
        return "zero"
    if before and same(before):
        return "those of the run before"
    if any(np.any(_is_mark(array)) for array in found.values()):
        return "partly not written"
    if not all(every(np.isfinite(array)) for array in found.values()):
        return "not finite"
    if _permuted(found, sample.expected):
        return "in other places"
    return "wrong"


def shown(arrays: Arrays) -> dict[str, list[str]]:
    """The first elements, as text: JSON has no infinities."""
    return {name: [f"{float(value):g}" for value in array.reshape(-1)[:SHOWN]] for name, array in arrays.items()}


def _close(found: Array, expected: Array, allowed: float) -> bool:
    if found.shape != expected.shape:
        raise ValueError(f"an output of shape {found.shape} is compared with one of {expected.shape}")
    reference = expected.astype(np.float64)
    margin = allowed * float(np.max(np.abs(reference[np.isfinite(reference)]), initial=0.0))
    with np.errstate(invalid="ignore"):
        near = np.abs(found.astype(np.float64) - reference) <= margin
    return bool(np.all(near | (found == expected)))  # equal infinities


def _is_mark(array: Array) -> npt.NDArray[np.bool_]:
    """Whatever the type of the elements, marked bytes read as this."""
    pattern = np.full(8, MARK).view(array.dtype)[0]
    return np.asarray(array == pattern)


def _permuted(found: Arrays, expected: Arrays) -> bool:
    def elements(arrays: Arrays) -> Array:
        return np.sort(np.concatenate([arrays[name].reshape(-1).astype(np.float64) for name in sorted(arrays)]))

    return bool(np.array_equal(elements(found), elements(expected)))
