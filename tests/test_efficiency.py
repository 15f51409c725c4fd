"""anetrain.efficiency: a run's report. Sums and shares by a fake clock; figures of a device for a real one alone."""

from __future__ import annotations

from typing import Any

import pytest

from anetrain import events
from anetrain.chips import CHIPS, Peak
from anetrain.efficiency import DeviceWork, Totals, device_work, report_text
from anetrain.model import Model
from anetrain.pipeline import Pipeline
from anetrain.spec import ModelSpec
from tests.support import emulator
from tests.trainers import batches, pipeline_of, trainer_of

ANE = {"kind": "ane", "chip": "Apple M4 Max"}
EMULATOR = {"kind": "emulator", "profile": "m4"}
WORK = DeviceWork(2_000_000_000, 4_000_000_000, "Apple M4 Max", Peak(20.0, "20 TFLOPS, it is said"))
PARTS = {"forward_device": 0.2, "backward_device": 0.4, "update": 0.1, "restaging": 0.05, "saving": 0.05, "data": 0.1}


def update(number: int, **changes: Any) -> events.Update:
    fields: dict[str, Any] = {"update": number, "loss": 2.5, "lr": 1e-3, "norm": 1.0, "clipped": False}
    fields |= {"micro_steps": 4, "tokens": 64, "loss_scale": 1.0, "seconds": 1.0, "parts": PARTS}
    return events.Update(**fields | changes)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def run(clock: Clock | None = None) -> Totals:
    """8 s: 2 of compiling, 2 updates of 1 s, one that compiles for 0.5 s more, and other things."""
    clock = clock or Clock()
    totals = Totals(clock)
    totals(events.Compile("model", 10, 2.0, 10, 10, 0))
    totals(update(1))
    totals(events.Overflow(1, "x", 1, 1.0, 0.125))
    totals(events.Compile("weights", 3, 0.5, 13, 10, cache_loads=7))
    totals(update(2, seconds=1.5, parts=PARTS | {"compiling": 0.5}))
    totals(events.Validation(2, 2.0, 32, 0.75, True))
    totals(events.Checkpoint(2, "x", 100, 0.25))
    clock.now_s += 8.0
    return totals


def test_sums_and_shares() -> None:
    found = run().report(EMULATOR, None).figures
    assert (found["updates"], found["micro_steps"], found["tokens"], found["dropped_groups"]) == (2, 8, 128, 1)
    assert found["cache_loads"] == 7
    assert (found["compiles"], found["compile_s"], found["compile_percent"]) == (13, 2.5, 31.25)
    assert (found["wall_s"], found["train_s"], found["train_percent"]) == (8.0, 2.0, 25.0)
    assert (found["validation_s"], found["checkpoint_s"], found["dropped_s"]) == (0.75, 0.25, 0.125)
    assert found["tokens_per_s"] == 64.0
    assert (found["ms_per_update"], found["ms_per_step"]) == (1000.0, 250.0)
    assert found["ms_per_step_without_update"] == pytest.approx(200.0)
    assert found["update_ms"] == pytest.approx(100.0)
    assert "compiling_ms" not in found


def test_a_device_has_figures() -> None:
    """8 micro-steps of 6 GFLOP in 1.2 s of device time, of 2 s of training."""
    found = run().report(ANE, WORK).figures
    assert found["device"] == "ane (Apple M4 Max)"
    assert found["device_flops_per_step"] == 6_000_000_000
    assert found["device_tflops"] == pytest.approx(0.04)
    assert found["device_utilisation_percent"] == pytest.approx(0.2)
    assert found["device_utilisation_of"] == "Apple M4 Max: 20 TFLOPS, it is said"
    assert found["device_idle_percent"] == pytest.approx(40.0)
    assert "device_figures" not in found
    text = report_text(run().report(ANE, WORK))
    assert "0.04 TFLOPS while it computes (0.2 % of Apple M4 Max: 20 TFLOPS, it is said), idle for 40.0 %" in text


def test_an_emulator_has_none() -> None:
    report = run().report(EMULATOR, None)
    assert [name for name in report.figures if name.startswith("device")] == ["device", "device_figures"]
    assert report.figures["device_figures"] == "none: an emulator is not a device"
    assert "TFLOPS" not in report_text(report)
    assert "idle" not in report_text(report)
    assert device_work(pipeline_of().stack, emulator("m4").facts) is None


def test_a_chip_without_a_figure_has_no_utilisation() -> None:
    work = DeviceWork(1, 1, "Apple M2", None)
    report = run().report({"kind": "ane", "chip": "Apple M2"}, work)
    assert "device_utilisation_percent" not in report.figures
    assert "(no figure is known for Apple M2)" in report_text(report)


def test_text() -> None:
    text = report_text(run().report(EMULATOR, None))
    assert "2 updates, 8 micro-steps, 128 tokens in 8.0 s" in text
    assert "13 compiles in 2.5 s (31.2 %), training 2.0 s (25.0 %)" in text
    assert "250.0 ms per micro-step with its share of the update, 200.0 without" in text
    assert "1000.0 ms per update: backward device 400.0, forward device 200.0, " in text


def test_a_run_of_nothing() -> None:
    assert "nothing was measured" in report_text(Totals().report(ANE, WORK))


def test_a_process_goes_on_from_another() -> None:
    clock = Clock()
    first, alone = run(), run(clock)
    second = Totals(clock)
    second.load_state(first.state())
    for event in (events.Compile("model", 10, 2.0, 10, 10, 0), update(3)):
        second(event)
        alone(event)
    clock.now_s += 3.0
    found, expected = (totals.report(EMULATOR, None).figures for totals in (second, alone))
    assert (found.pop("processes"), expected.pop("processes")) == (2, 1)
    assert found == expected
    assert found["wall_s"] == 11.0


# ---------------------------------------------------------------- what a device computes


@pytest.mark.parametrize(("layers", "batch"), [(1, 1), (3, 2)])
def test_flops_are_those_of_the_products(layers: int, batch: int) -> None:
    """Counted by hand; what the rest of a block's operations add is small at this width."""
    spec = ModelSpec(
        dim=256, hidden=512, layers=layers, heads=2, kv_heads=1, head_dim=128, vocab=1024, seq=32, batch=batch
    )
    found = device_work(Pipeline(emulator(), Model(spec)).stack, ANE)
    assert found is not None
    tokens = batch * spec.seq
    linears = 2 * tokens * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    attention = 2 * 2 * tokens * spec.seq * 256
    forward = layers * (linears + attention)  # the classifier is the CPU's
    backward = layers * (linears + 2 * attention)  # and so are weight gradients
    assert forward <= found.forward_flops <= 1.05 * forward
    assert backward <= found.backward_flops <= 1.05 * backward
    assert found.flops == found.forward_flops + found.backward_flops
    assert found.peak is CHIPS["M4 Max"].peak


def test_peaks_are_of_the_chip() -> None:
    stack = pipeline_of().stack
    for chip, tflops in (
        ("Apple M1 Pro", 11.0),
        ("Apple M2", 15.8),
        ("Apple M3 Ultra", 31.6),
        ("Apple M4", 19.0),
        ("Apple M5 Max", 19.27),
    ):
        found = device_work(stack, {"kind": "ane", "chip": chip})
        assert found is not None
        assert found.peak is not None
        assert found.peak.tflops == tflops
        assert f"{tflops:g} TFLOPS" in found.peak.source
    for facts in ({"kind": "ane"}, {"kind": "ane", "chip": "Apple M9"}, {"kind": "ane", "chip": "Apple M1 (Virtual)"}):
        found = device_work(stack, facts)
        assert found is not None
        assert found.peak is None


def test_baked_programs_are_compiles_of_an_update() -> None:
    heard: list[Any] = []
    trainer = trainer_of(pipeline_of(layout="baked"), listeners=[heard.append])
    trainer.step(batches(3))
    compiled = [event for event in heard if isinstance(event, events.Compile)]
    found = next(event for event in heard if isinstance(event, events.Update))
    # 2 layers, 2 programs each way
    assert [(event.label, event.programs) for event in compiled] == [("weights", 8)]
    assert sum(event.seconds for event in compiled) == pytest.approx(found.parts["compiling"])
    assert 0.0 < found.parts["compiling"] < found.seconds
    assert compiled[-1].compiles == trainer.pipeline.device.counters().compiles
