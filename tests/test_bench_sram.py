"""The bench of on-chip memory: the published rows, sweeps that change one thing, and what they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from anetrain import device
from anetrain.bench import table
from anetrain.bench.convolutions import Stack
from anetrain.bench.sram import SWEEPS, Sram, act_mib
from anetrain.results import Finding, Measurement
from tests.bench_runs import made_up, small_run

# M5 Max: channels, positions, MB of weights, of activations, of all, ms, TFLOPS
PUBLISHED = [
    (256, 64, "0.1", "0.03", "0.2", 0.212, 0.04),
    (512, 64, "0.5", "0.06", "0.6", 0.085, 0.40),
    (1024, 64, "2.0", "0.12", "2.2", 0.335, 0.40),
    (2048, 64, "8.0", "0.25", "8.5", 0.141, 3.80),
    (3072, 64, "18.0", "0.38", "18.8", 0.204, 5.92),
    (4096, 64, "32.0", "0.50", "33.0", 0.300, 7.17),
    (5120, 64, "50.0", "0.62", "51.2", 0.432, 7.76),
    (6144, 64, "72.0", "0.75", "73.5", 0.565, 8.56),
    (8192, 32, "128.0", "0.50", "129.0", 0.965, 4.45),
]


def made(sweep: str, ms_of: Callable[[Stack], float]) -> list[Measurement]:
    """All full cases of a sweep, as if measured."""
    random = np.random.default_rng(0)
    found = []
    for case in Sram().cases("full"):
        if case.parameters["sweep"] == sweep:
            stack = Stack.of(case.parameters)
            ms = (ms_of(stack) * (1 + 0.01 * random.random(20))).tolist()
            observed = {"act_mib": act_mib(stack)}
            found.append(made_up("sram", case.name, ms, case.parameters, observed=observed, **stack.counts))
    return found


def weight_mib(stack: Stack) -> float:
    return stack.weight_bytes / 2**20


def as_published() -> list[Measurement]:
    ms = {channels: ms for channels, *_, ms, _ in PUBLISHED}
    return made("published", lambda stack: ms[stack.channels] / 1.005)


def finding(measured: list[Measurement], of: str) -> Finding:
    (found,) = (one for one in Sram().findings(measured) if of in one.question)
    return found


@pytest.mark.parametrize("row", range(9))
def test_the_published_rows(row: int) -> None:
    channels, positions, weights, act, total, _, tflops = PUBLISHED[row]
    stack, one = SWEEPS["full"]["published"][row], as_published()[row]
    assert stack == Stack(channels, 1, positions)
    cells = {name: table.COUNTED[name](one) for name in ("weight_mib", "total_mib")}
    assert (f"{cells['weight_mib']:.1f}", f"{act_mib(stack):.2f}", f"{cells['total_mib']:.1f}") == (weights, act, total)
    assert one.figures["tflops"] == pytest.approx(tflops, abs=0.015 * tflops + 0.005)
    assert table.gflops_per_mib(one) == pytest.approx(1e3 * one.figures["tflops"] / weight_mib(stack))


def test_only_the_last_published_row_changes_two_things() -> None:
    cases = [case for case in Sram().cases("full") if case.parameters["sweep"] == "published"]
    assert [case.parameters["changes"] for case in cases] == ["channels"] * 8 + ["channels, positions"]
    others = {case.parameters["changes"] for case in Sram().cases("full") if case not in cases}
    assert others == {"layers", "channels", "positions"}


@pytest.mark.parametrize("scale", ["full", "small"])
def test_each_sweep_changes_one_thing(scale: str) -> None:
    depth, matrix, positions = (SWEEPS[scale][name] for name in ("depth", "matrix", "positions"))  # type: ignore[index]
    assert {(one.channels, one.spatial, one.activation_bytes) for one in depth} == {
        (depth[0].channels, 64, depth[0].activation_bytes)
    }
    assert {one.flops / one.weight_bytes for one in [*depth, *matrix]} == {64}
    assert {(one.layers, one.spatial) for one in matrix} == {(1, 64)}
    assert {one.weight_bytes for one in positions} == {positions[0].weight_bytes}
    assert len({one.flops / one.activation_bytes for one in positions}) == 1
    for stacks in (depth, matrix, positions):
        assert len(stacks) >= 6
        assert stacks == sorted(stacks, key=lambda one: (one.weight_bytes, one.activation_bytes))
        assert all(one.spatial % 32 == 0 for one in stacks)


def test_the_sweeps_pass_the_sizes_that_are_talked_of() -> None:
    """2 and 4.72 MB of activations, 32 MB of weights; and no axis beyond what every chip takes."""
    full = SWEEPS["full"]
    assert min(map(weight_mib, full["depth"])) <= 2
    assert max(map(weight_mib, full["depth"])) == max(map(weight_mib, full["matrix"])) == 128
    assert act_mib(full["positions"][0]) < 0.1
    assert act_mib(full["positions"][-1]) == 16
    assert max(one.spatial for one in full["positions"]) <= 16384


@pytest.mark.parametrize("profile", device.profiles())
def test_every_profile(profile: str) -> None:
    found = small_run("sram", profile)
    assert {one.status for one in found.measurements} == {"measured"}
    assert len(found.measurements) == len({one.case for one in found.measurements}) == 22
    assert not found.findings  # they rest on times, and those are of a CPU


# ---------------------------------------------------------------- findings


def test_a_cliff_of_weights() -> None:
    measured = made("depth", lambda stack: 0.09 + weight_mib(stack) * (0.0105 if weight_mib(stack) > 32 else 0.0075))
    found = finding(measured, "weights in equal layers")
    assert found.answer == (
        "A cliff between 32 and 36 MiB of weights in equal layers: 1.37 times the time at 128 MiB "
        "(in 100% of 500 resamplings of 18 sizes)."
    )
    assert (found.figures["cliff_low_mib"], found.figures["cliff_high_mib"]) == (32, 36)
    assert (found.from_times, len(found.basis)) == (True, 18)


def test_no_cliff_of_activations() -> None:
    found = finding(made("positions", lambda stack: 0.09 + 0.02 * act_mib(stack)), "activations")
    assert found.answer == ("No cliff seen up to 16 MiB of activations (in 100% of 500 resamplings of 13 sizes).")


def test_a_cliff_of_activations() -> None:
    found = finding(
        made("positions", lambda stack: 0.09 + 0.02 * act_mib(stack) * (2 if act_mib(stack) > 4.72 else 1)),
        "activations",
    )
    assert (found.figures["cliff_low_mib"], found.figures["cliff_high_mib"]) == (4, 6)


def test_what_was_refused_is_left_out() -> None:
    measured = made("depth", lambda stack: 0.09 + 0.0075 * weight_mib(stack))
    refused = [
        Measurement(bench="sram", case=one.case, parameters=one.parameters, status="refused", reason="too many")
        for one in measured[9:]
    ]
    found = finding(measured[:9] + refused, "weights in equal layers")
    assert found.answer.startswith("No cliff seen up to 28 MiB of weights in equal layers")
    assert len(found.basis) == 9
    few = finding(measured[:4] + refused, "weights in equal layers")
    assert few.answer == "Cannot be told: 4 sizes of weights in equal layers measured, at least 6 needed."
    assert not Sram().findings(refused)


def test_the_last_published_row_is_no_cliff() -> None:
    """On the M5 Max its TFLOPS fall to a half, and weights stream as fast as before."""
    found = finding(as_published(), "last published row")
    assert found.answer == (
        "It does 0.52 of the operations a second of the row before, and takes 1.04 of the weight bytes a second: "
        "each weight has 0.50 of the operations."
    )
    assert found.basis == ("published: 6144ch sp64", "published: 8192ch sp32")
    assert not [one for one in Sram().findings(as_published()[:-1]) if "last" in one.question]
