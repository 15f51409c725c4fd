"""The checker: a finding for each mistake, none for a good program, and only rules that devices have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anetrain.mil import Graph
from anetrain.mil.checker import Finding, check

NOT_PROFILE_RULES = {"sorted-names", "input-as-output"}  # advice; and what every front end refuses


def good() -> Graph:
    g = Graph()
    x = g.input("a_x", (1, 8, 1, 64))
    g.output("y", x + g.input("b_y", (1, 8, 1, 64)))
    return g


def unsorted() -> Graph:
    g = Graph()
    x = g.input("x", (1, 8, 1, 64))
    g.output("y", x + g.input("W", (1, 8, 1, 64)))
    return g


def one_input(shape: tuple[int, ...], dtype: str = "fp16") -> Graph:
    g = Graph()
    x = g.input("x", shape, dtype)
    g.output("y", g.cast(x, "fp16") if dtype == "int32" else g.mul(x, 2.0))
    return g


def passed_through() -> Graph:
    g = Graph()
    g.output("x", g.input("x", (1, 8, 1, 64)))
    return g


def unproven() -> Graph:
    g = Graph()
    g.output("y", g.erf(g.input("x", (1, 8, 1, 64))))
    return g


MISTAKES: dict[str, tuple[Callable[[], Graph], Finding]] = {
    "order": (unsorted, Finding("sorted-names", "inputs", "declared x, W", "W, x, as bound", advice=True)),
    "width": (lambda: one_input((1, 8, 1, 48)), Finding("border-width", "x", "48 wide", "a multiple of 32")),
    "fp32 width": (
        lambda: one_input((1, 8, 1, 24), "fp32"),
        Finding("border-width", "x", "24 wide", "a multiple of 16"),
    ),
    "rank": (lambda: one_input((8, 32)), Finding("border-rank", "x", "fp16 [8, 32]", "rank 4")),
    "shape": (lambda: one_input((1, 8, 2, 32)), Finding("border-shape", "x", "fp16 [1, 8, 2, 32]", "[1, C, 1, W]")),
    "dtype": (
        lambda: one_input((1, 8, 1, 32), "int32"),
        Finding("border-dtype", "x", "int32", "one of fp16, fp32, int8, uint8, int16, uint16"),
    ),
    "input as output": (passed_through, Finding("input-as-output", "x", "an input", "a result")),
    "evidence": (unproven, Finding("evidence", "erf", "e5rt", "direct")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_found(name: str) -> None:
    build, finding = MISTAKES[name]
    assert finding in check(build())
    assert finding in check(build().program("A"))


def test_a_good_program_has_no_findings() -> None:
    assert check(good()) == []
    assert check(unproven(), allow_unproven=True) == []


def test_rule_names_are_those_of_the_device() -> None:
    from anetrain import device

    known = set(device.rule_table())
    for _, finding in MISTAKES.values():
        assert finding.rule in known | NOT_PROFILE_RULES
        assert finding.rule not in known & NOT_PROFILE_RULES
