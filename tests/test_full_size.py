"""One micro-step of models of published sizes, every parameter's gradient against transformers on the same weights."""

from __future__ import annotations

import importlib.util

import pytest

from anetrain.model import Model
from benchmarks import full_size
from benchmarks.full_size import Step
from tests.support import need

NORMS = 0.03  # how far a gradient's norm may be off


def need_transformers() -> None:
    for package in ("torch", "transformers"):
        need(importlib.util.find_spec(package), f"{package} is not installed")


def check(found: Step, expected: Step, distance: float, cosine: float) -> None:
    assert abs(found.loss - expected.loss) < 1e-3 * expected.loss
    assert found.gradients.keys() == expected.gradients.keys()
    for row in full_size.differences(found.gradients, expected.gradients):
        assert abs(row.norm - 1.0) <= NORMS, row
        assert row.distance <= distance, row
        assert row.cosine >= cosine, row


@pytest.fixture(scope="module")
def stories110m() -> Model:
    return Model.preset("stories110m")


@pytest.fixture(scope="module")
def expected(stories110m: Model) -> Step:
    need_transformers()
    return full_size.transformers_step(stories110m)


def test_stories110m(stories110m: Model, expected: Step) -> None:
    check(full_size.emulated_step(stories110m, "m4"), expected, 0.12, 0.993)


@pytest.mark.parametrize("chip", ["m1", "m4"])
def test_stories110m_as_a_chip_computes_it(stories110m: Model, expected: Step, chip: str) -> None:
    """The audit executor, at the loss scale that training starts with: no gradient is lost, nothing overflows, and on
    an M1 few products are flushed."""
    found = full_size.emulated_step(stories110m, chip, "audit")
    check(found, expected, 0.13, 0.992)
    assert len(found.counters) == 4
    for program, counters in found.counters.items():
        assert counters["overflowed_sums"] == counters["infinite_values"] == 0, program
        share = counters["flushed_products"] / counters["products"]
        assert 0 < share < 0.06 if chip == "m1" else share == 0, program


@pytest.mark.large
def test_qwen3() -> None:
    need_transformers()
    model = Model.preset("qwen3-0.6b")
    check(full_size.emulated_step(model, "m4"), full_size.transformers_step(model), 0.07, 0.998)
