"""The cost model: its formula by hand, its constants from what they were fitted to; it is always called an estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import device
from anetrain.cli import main as anetrain
from anetrain.estimate import CHIPS, ChipCosts, Input, cost_of, costs_of, estimate, profile_of, share_of_lanes
from anetrain.lower import plan_report
from anetrain.model import Model
from anetrain.pipeline.places import part_plans
from scripts.estimate_docs import STACKS, stack_ms
from tests.runs import ROOT

HAND = ChipCosts("hand", Input(100, ""), Input(10, ""), Input(50, ""))  # us, TFLOPS, GB/s


@pytest.mark.parametrize(
    ("flops", "weights", "activations", "us", "bound"),
    [
        (5_000_000_000, 1_000_000, 1_000_000, 100 + 500, "compute"),
        (1_000_000_000, 20_000_000, 1_000_000, 100 + 400, "weights"),
        (1_000_000_000, 1_000_000, 10_000_000, 100 + 200, "activations"),
        (500_000_000, 1_000_000, 1_000_000, 100 + 50, "floor"),
    ],
)
def test_a_dispatch_by_hand(flops: int, weights: int, activations: int, us: float, bound: str) -> None:
    cost = cost_of(HAND, flops, weights, activations)
    assert (cost.seconds * 1e6, cost.bound) == (pytest.approx(us), bound)


def test_lanes_that_idle_are_charged() -> None:
    assert [share_of_lanes(64, 64), share_of_lanes(512, 2048)] == [1.0, 1.0]
    assert share_of_lanes(512, 32) == 0.5
    assert share_of_lanes(96, 256) == 0.75
    assert cost_of(HAND, 10**10, 0, 0, 0.5).seconds == pytest.approx(100e-6 + 2e-3)


@pytest.mark.parametrize("chip", STACKS)
def test_floor_and_peak_are_the_fit_that_they_say_they_are(chip: str) -> None:
    rows = STACKS[chip]
    flops = np.array([count * 2 * channels**2 * 64 for count, channels in rows], np.float64)
    seconds = np.array(list(rows.values())) * 1e-3
    equations = np.stack([1 / seconds, flops / seconds], 1)  # of relative errors
    (floor_s, per_flop), *_ = np.linalg.lstsq(equations, np.ones(len(rows)), rcond=None)
    assert CHIPS[chip].floor_us.value == pytest.approx(floor_s * 1e6, rel=0.01)
    assert CHIPS[chip].peak_tflops.value == pytest.approx(1e-12 / per_flop, rel=0.01)


def test_published_stacks_of_the_m4_come_back_within_five_percent() -> None:
    for (count, channels), ms in STACKS["M4"].items():
        assert stack_ms("M4", count, channels) == pytest.approx(ms, rel=0.05)


@pytest.mark.parametrize("layout", ["stacked", "baked"])
def test_programs_are_those_of_the_plans(layout: Any) -> None:
    model = Model.preset("stories15m")
    with device.open("emulator:m4") as opened:
        compiled = opened.counters().compiles
        found = estimate(model, CHIPS["M4"], opened, layout=layout)
        plans = [plan for _, plan in part_plans(model, opened, layout=layout)]
        assert opened.counters().compiles == compiled
    reports = [plan_report(plan) for plan in plans]
    for name in ("forward", "backward"):
        programs = [program for program in found.programs if program.backward == (name == "backward")]
        assert sum(p.dispatches for p in programs) == sum(report["dispatches"][name] for report in reports)
        assert sum(p.dispatches * p.cost.flops for p in programs) == sum(report["flops"][name] for report in reports)
    assert found.forward_s + found.backward_s == pytest.approx(sum(p.seconds for p in found.programs))
    moved = sum(sum(report["host_bytes"][name].values()) for report in reports for name in ("forward", "backward"))
    assert found.host_bytes == moved
    assert found.conversion_s == (moved / 10e9, moved / 2e9)


def test_weights_are_the_same_bytes_baked_and_staged() -> None:
    """Of matrices; RoPE's tables and the mask are constants in both."""
    model = Model.preset("stories15m")
    with device.open("emulator:m4") as opened:
        found = [estimate(model, CHIPS["M4"], opened, layout=layout) for layout in ("stacked", "baked")]
    sums = [[p.cost.weight_bytes for p in each.programs] for each in found]
    for program, (staged, baked) in enumerate(zip(*sums, strict=True)):
        assert baked == pytest.approx(staged, rel=0.05), program


@pytest.mark.parametrize("chip", CHIPS)
def test_every_chip_has_a_profile_and_sources(chip: str) -> None:
    costs = costs_of(f"Apple {chip}".upper())
    assert costs is CHIPS[chip]
    assert profile_of(costs) in device.profiles()
    for given in (costs.floor_us, costs.peak_tflops, costs.bandwidth_gb_per_s):
        assert given.source
        assert given.value > 0


def test_the_command_calls_it_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(ROOT / "configs" / "stories110m.yaml")
    assert anetrain(["estimate", config, "--chip", "m4"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("An estimate for the engine of the M4, not a measurement: ")
    for name in ("floor_us", "peak_tflops", "bandwidth_gb_per_s"):
        assert getattr(CHIPS["M4"], name).source in text
    assert "estimated on the device, a micro-step: forward 5.17 ms, backward 5.33 ms" in text
    assert anetrain(["estimate", config, "--chip", "m4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["estimate"], found["layout"], len(found["programs"])) == (True, "stacked", 4)
    assert found["forward_s"] == pytest.approx(5.17e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["configs/stories110m.yaml", "--chip", "m9"],
            "no figures are known for the chip 'm9'; there are some",
        ),
        (["nowhere.yaml", "--chip", "m4"], "nowhere.yaml"),
        (["configs/stories110m.yaml", "--chip", "m4", "--set", "model.dimm=3"], "did you mean 'dim'"),
    ],
)
def test_what_cannot_be_priced_is_a_sentence(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert anetrain(["estimate", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("anetrain estimate: ")
    assert complaint in told
    assert told.count("\n") == 1


def test_a_static_config_has_baked_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert anetrain(["estimate", str(ROOT / "configs" / "stories110m-static.yaml"), "--chip", "M5 Max"]) == 0
    assert "layout baked" in capsys.readouterr().out.splitlines()[0]
