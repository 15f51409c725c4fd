"""The bench of training: what is left out, what is added up, and that a run of it is a run of `anetrain train`."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import device, events
from anetrain import train as command
from anetrain.bench import Case, Lab
from anetrain.bench import train as bench_module
from anetrain.bench.train import Train
from anetrain.results import Measurement
from tests.support import emulator

BENCH = Train()


def case_of(name: str, scale: str = "small") -> Case:
    (case,) = (case for case in BENCH.cases(scale) if case.name == name)  # type: ignore[arg-type]
    return case


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, no_waiting: None, without_budgets: None) -> None:
    """Quicker, and without the budgets of a process."""

    def train(folder: Path, config: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        path = folder / "config.yaml"
        unlimited = {"live_budget": 10**6, "compile_budget": 10**6}
        path.write_text(json.dumps({**config, "device": {**config["device"], **unlimited}}))
        return subprocess.CompletedProcess([], command.main([str(path), "--out", str(folder / "run")]), "", "")

    monkeypatch.setattr(bench_module, "_train", train)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("profile", device.profiles())
@pytest.mark.parametrize("name", [case.name for case in BENCH.cases("small")])
def test_it_trains_on_every_chip(name: str, profile: str) -> None:
    measured = BENCH.measure(Lab(emulator(profile)), case_of(name))
    assert (measured.status, measured.reason) == ("measured", "")
    assert measured.timing is not None
    assert (len(measured.timing.samples_s), measured.timing.calls_per_sample, measured.timing.warm_up) == (2, 2, 2)
    assert float(measured.observed["covered_percent"] or 0) > 30  # of a step of 2 ms on a busy machine
    assert measured.observed["restarts"] == 0


def test_a_process_of_its_own_with_the_settings_of_the_published_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    honest = bench_module._train

    def noted(folder: Path, config: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        seen.append(dict(config))
        ids = np.fromfile(folder / "train.bin", "<u2")
        assert ids.size == 5000
        assert ids.max() < 512
        assert len(set(ids.tolist())) > 500  # uniform below the vocabulary
        return honest(folder, config)

    monkeypatch.setattr(bench_module, "_train", noted)
    assert BENCH.measure(Lab(emulator("m5"), seed=7), case_of("tiny-llama, static")).status == "measured"
    (config,) = seen
    assert config["train"] == {"updates": 3, "accumulation": 2, "seed": 7, "validate_every": None}
    assert config["device"] == {"kind": "emulator:m5", "executor": "fast"}
    assert config["pipeline"] == {"kind": "static"}
    full = case_of("stories110m, dynamic", "full").parameters
    assert (full["tokens"], full["updates"], full["accumulation"]) == (5_000_000, 3, 10)
    assert [case.name for case in BENCH.cases("full")] == [
        f"{model}, {pipeline}" for model in ("stories110m", "qwen3-0.6b") for pipeline in ("dynamic", "static")
    ]


# ---------------------------------------------------------------- arithmetic


def update(number: int, seconds: float, **parts: float) -> events.Update:
    return events.Update(number, 6.0, 1e-3, 1.0, False, 2, 100, 65536.0, seconds, parts)


def measured_of(*heard: events.Event, name: str = "tiny-llama, dynamic") -> Measurement:
    return BENCH._of_events(case_of(name), heard, vocab=512, parameters=7)


LOSS = math.log(512)
BEGIN = (events.Compile("model", 4, 0.5, 4, 4, 0), events.Step(1, LOSS, 50, 0.1))
FIRST = update(1, 100.0, forward_device=50.0)


def test_the_first_group_is_left_out_and_compiling_stands_beside() -> None:
    measured = measured_of(
        *BEGIN,
        FIRST,
        events.Compile("model", 8, 3.0, 12, 8, 0),
        update(2, 5.0, forward_device=1.0, backward_device=0.6, update=0.2, compiling=3.0),
        update(3, 4.2, forward_device=1.2, backward_device=0.8, compiling=2.0),
    )
    assert measured.figures == pytest.approx({"ms": 1e3 * (2.0 + 2.2) / 4})
    told = measured.observed
    expected = {
        "forward_device_ms": 1e3 * 2.2 / 4,
        "backward_device_ms": 1e3 * 1.4 / 4,
        "update_ms": 1e3 * 0.2 / 4,
        "compile_ms_per_update": 1e3 * 2.5,
        "covered_percent": 100 * 3.8 / 4.2,
        "compile_once_ms": 500.0,
    }
    assert {key: told[key] for key in expected} == pytest.approx(expected)
    assert (told["programs"], told["compiled_programs"], told["restarts"], told["dropped_groups"]) == (4, 12, 0, 0)
    assert told["vocabulary"] == "all 512 rows; not compacted"


def test_restarts_and_dropped_groups_are_counted() -> None:
    restart = events.Restart(1, "budget", "somewhere")
    overflow = events.Overflow(2, "layers.0", 3, 32768.0, 0.5)
    measured = measured_of(*BEGIN, FIRST, restart, BEGIN[0], overflow, update(2, 2.0), update(3, 2.0))
    told = measured.observed
    assert (told["restarts"], told["dropped_groups"], told["compiled_programs"], told["programs"]) == (1, 1, 8, 4)


@pytest.mark.parametrize(("loss", "status"), [(LOSS, "measured"), (1.1 * LOSS, "wrong"), (math.nan, "wrong")])
def test_a_loss_that_random_weights_do_not_give_has_no_times(loss: float, status: str) -> None:
    measured = measured_of(
        BEGIN[0], events.Step(1, LOSS, 50, 0.1), events.Step(2, loss, 50, 0.1), FIRST, update(2, 1.0)
    )
    first_is_wrong = measured_of(BEGIN[0], events.Step(1, loss, 50, 0.1), FIRST, update(2, 1.0))
    assert first_is_wrong.status == status
    assert measured.status == ("wrong" if math.isnan(loss) else "measured")


def test_findings_are_of_one_model() -> None:
    parts = {"forward_device": 0.5, "backward_device": 0.3}
    dynamic = measured_of(*BEGIN, FIRST, update(2, 2.0, **parts))
    static = measured_of(*BEGIN, FIRST, update(2, 4.0, compiling=2.5, **parts), name="tiny-llama, static")
    other = measured_of(*BEGIN, FIRST, update(2, 1.0, **parts), name="tiny-qwen3, static")
    found = {one.question: one for one in BENCH.findings([dynamic, static, other])}
    assert found["What share of a micro-step is the device's: tiny-llama, dynamic?"].figures == {"share": 0.4}
    pipelines = found["Which pipeline is quicker: tiny-llama?"]
    assert pipelines.figures == {"ratio": 0.75}
    assert "takes 0.75 times as long as one of the dynamic one, without the 2500 ms" in pipelines.answer
    assert len(found) == 4


# ---------------------------------------------------------------- what cannot be measured


def test_too_little_memory_or_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lab = Lab(emulator("m4"))
    monkeypatch.setitem(bench_module.MEMORY_BYTES, "tiny-llama", 1e15)
    skipped = BENCH.measure(lab, case_of("tiny-llama, dynamic"))
    assert (skipped.status, skipped.timing) == ("skipped", None)
    assert skipped.reason.startswith("needs 1000000 GB of memory, and this machine has ")
    monkeypatch.setattr(bench_module, "STATE_BYTES", 10**12)
    assert "of disk where temporary files go" in BENCH.measure(lab, case_of("tiny-qwen3, dynamic")).reason


def test_a_model_beyond_the_budget_is_refused_with_both_numbers() -> None:
    """As `anetrain train` does; nothing large is made for it."""
    refused = BENCH.measure(
        Lab(emulator("m4")), Case("q", {**case_of("qwen3-0.6b, static", "full").parameters, "tokens": 5000})
    )
    assert (refused.status, refused.timing) == ("refused", None)
    assert "112" in refused.reason
    assert "100" in refused.reason


def test_a_run_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "one line\n\nthe last words\n\n")
    monkeypatch.setattr(bench_module, "_train", lambda folder, config: failed)
    with pytest.raises(RuntimeError, match="anetrain train ended with exit code 1: the last words"):
        BENCH.measure(Lab(emulator("m4")), case_of("tiny-llama, dynamic"))
