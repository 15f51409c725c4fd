"""Reports of plans: what they say before anything is compiled is what the device says afterwards."""

from __future__ import annotations

import importlib
import json
from functools import cache

import numpy as np
import pytest

from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import LlamaBlock, Qwen3Block, build, qwen3_spec
from anetrain.device import Finding
from anetrain.graph.builder import Precision
from anetrain.lower import GRANULARITIES, LAYOUTS, Layout, describe, lower, plan_report
from anetrain.lower.plan import Dispatch, Granularity
from anetrain.lower.report import report
from anetrain.mil import Graph
from anetrain.mil.types import Array
from anetrain.pipeline import CompiledPlan, Layer, SurfacePool
from anetrain.spec import ModelSpec
from tests.block_runs import random_parameters
from tests.support import emulator

LLAMA = ModelSpec(dim=48, hidden=171, layers=1, heads=6, kv_heads=3, head_dim=8, vocab=11, seq=40)
QWEN = qwen3_spec(dim=48, hidden=72, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=11, seq=24, batch=3)
BLOCKS = {"llama": (LlamaBlock(), LLAMA), "qwen3": (Qwen3Block(), QWEN)}


@cache
def derived_block(name: str, precision: Precision = "fp16") -> Derived:
    return differentiate(build(*BLOCKS[name], precision=precision))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BLOCKS)
def test_programs_are_what_the_device_compiles(name: str, layout: Layout, granularity: Granularity) -> None:
    derived = derived_block(name)
    plan = lower(derived, layout, granularity)
    report = plan_report(plan)
    assert [program["label"] for program in report["programs"]] == [spec.label for spec in plan.programs]
    weights = {name: array.astype(np.float32) for name, array in random_parameters(derived.graph).items()}
    with CompiledPlan(emulator(), plan, weights) as compiled:
        for index, known in enumerate(report["programs"]):
            program = compiled.programs[index]
            for side, ports in (("input", program.inputs), ("output", program.outputs)):
                assert list(known[f"{side}s"]) == [port.name for port in ports]
                assert [tuple(port["shape"]) for port in known[f"{side}s"].values()] == [port.shape for port in ports]
                assert known[f"{side}_bytes"] == sum(port.bytes for port in ports)
            found = program.report
            assert known["flops"] == found["flops"]
            assert known["operations"] == found["operations"]
            assert 0 <= found["constant_bytes"] - known["constant_bytes"] <= 64 * found["operations"]  # begins, axes
            assert known["working_set_bytes"] >= known["input_bytes"] + known["output_bytes"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", BLOCKS)
def test_traffic_is_what_a_layer_moves(block: str, layout: Layout) -> None:
    derived = derived_block(block)
    plan = lower(derived, layout)
    report = plan_report(plan)
    parameters = {name: array.astype(np.float32) for name, array in random_parameters(derived.graph).items()}
    gradients = {name: np.zeros_like(array) for name, array in parameters.items()}
    with CompiledPlan(emulator(), plan, parameters) as compiled:
        layer = Layer(compiled, parameters, gradients, SurfacePool())
        layer.stage()
        assert layer.traffic.staged_bytes == report["staged_bytes"]
        steps = {
            "forward": lambda: layer.forward({"x": ones(derived, "x")}),
            "backward": lambda: layer.backward({"y": ones(derived, "d_y")}),
        }
        for side, run in steps.items():
            layer.traffic.clear()
            run()
            assert layer.traffic.dispatches == report["dispatches"][side]
            assert layer.traffic.sent_bytes == report["host_bytes"][side]["sent"]
            assert layer.traffic.received_bytes == report["host_bytes"][side]["received"]


def ones(derived: Derived, name: str) -> Array:
    (value,) = (value for value in derived.graph.inputs if value.name == name)
    return np.ones(value.shape, np.float32)


def test_products_counted_by_hand() -> None:
    """Forward: four products of attention, three of the FFN, and two of each head."""
    s, report = LLAMA, plan_report(lower(derived_block("llama")))
    q_rows, kv_rows = s.heads * s.head_dim, s.kv_heads * s.head_dim
    linear = 2 * s.tokens * s.dim * (2 * q_rows + 2 * kv_rows + 3 * s.hidden)
    attention = 2 * 2 * s.heads * s.seq * s.seq * s.head_dim
    lanes = report["flops"]["forward"] - linear - attention
    assert 0 < lanes < 0.05 * linear
    # Backward multiplies by the transposed weights; of attention each product becomes two.
    lanes = report["flops"]["backward"] - linear - 2 * attention
    assert 0 < lanes < 0.15 * linear


def test_what_is_kept() -> None:
    s, plan = LLAMA, lower(derived_block("llama"))
    report = plan_report(plan)
    assert sorted(report["saved"]) == sorted(
        [
            f"dense [1, {s.dim}, 1, {s.tokens}]",
            *2 * [f"dense [1, {s.kv_heads * s.head_dim}, 1, {s.tokens}]"],
            f"softmax [1, {s.heads}, {s.seq}, {s.seq}]",
            f"reshape [1, {s.dim}, 1, {s.tokens}]",
            *2 * [f"dense [1, {s.hidden}, 1, {s.tokens}]"],
        ]
    )
    rows = s.dim + 2 * s.kv_heads * s.head_dim + s.heads * s.seq + s.dim + 2 * s.hidden
    assert report["saved_bytes"] == 2 * rows * s.tokens
    assert any(item.startswith("silu ") for item in report["recomputed"])
    assert not any(item.startswith(("dense", "softmax")) for item in report["recomputed"])


def test_long_rows_are_recomputed() -> None:
    plan = lower(derived_block("llama"), save_probabilities_up_to=16)
    report = plan_report(plan)
    assert any(item.startswith("softmax ") for item in report["recomputed"])
    assert not any(item.startswith("softmax ") for item in report["saved"])


def test_weights_in_bytes() -> None:
    """Stacked, each weight once; baked, in the programs of forward and again in those of backward."""
    matrices = 2 * sum(
        known.shape[0] * known.shape[1]
        for known in derived_block("llama").graph.parameters.values()
        if len(known.shape) == 2
    )
    stacked, baked = (plan_report(lower(derived_block("llama"), layout)) for layout in ("stacked", "baked"))
    assert (stacked["staged_bytes"], stacked["baked_bytes"]) == (matrices, 0)
    assert (baked["staged_bytes"], baked["baked_bytes"]) == (0, 2 * matrices)
    assert stacked["surface_bytes"]["weights"] >= matrices
    assert baked["surface_bytes"]["weights"] == 0


def test_fp32_counts_four_bytes() -> None:
    half, full = (plan_report(lower(derived_block("llama", precision))) for precision in ("fp16", "fp32"))
    assert full["host_bytes"]["forward"]["sent"] == 2 * half["host_bytes"]["forward"]["sent"]
    assert full["saved_bytes"] == 2 * half["saved_bytes"]


def test_json() -> None:
    report = plan_report(lower(derived_block("qwen3")), ("m1", "m4"))
    assert json.loads(json.dumps(report)) == report


def test_profiles() -> None:
    report = plan_report(lower(derived_block("llama")), ("m1", "m4"))
    assert report["profiles"]["m4"] == {"refused": [], "noted": []}
    (refused,) = report["profiles"]["m1"]["refused"]
    assert refused["rule"] == "new-dialect"
    assert refused["programs"] == ["forward 0", "forward 1", "backward 2", "backward 3"]


def test_what_a_chip_takes_with_other_numbers() -> None:
    plan = lower(derived_block("llama"), "packed", dialect="A")
    checked = plan_report(plan, ("m1",))["profiles"]["m1"]
    assert checked["refused"] == []
    (noted,) = checked["noted"]  # many slices, one line
    assert noted["rule"] == "width-slice-saturation"
    assert noted["programs"] == ["forward 0", "forward 1", "backward 2", "backward 3"]
    assert "takes it; rule width-slice-saturation (forward 0, " in describe(plan, ("m1",))


def test_what_is_wrong_for_every_chip_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Finding("m4", "", "compile", False, "", "", "", "line 3: nothing to run", "", "", 3, 1)
    module = importlib.import_module("anetrain.lower.describe")  # the package has a function of that name
    monkeypatch.setattr(module, "check_programs", lambda *_: [("forward 0", found)])
    verdict = describe(lower(derived_block("llama")), ("m4",)).splitlines()[-1]
    assert verdict == "m4          refused: (forward 0) line 3: nothing to run"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_description_is_one_screen(name: str, layout: Layout) -> None:
    plan = lower(derived_block(name), layout)
    lines = describe(plan, ("m1", "m4")).splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 140
    assert lines[0].startswith(f"{layout}, fused: 4 dispatches, 2 forward and 2 backward; ")
    for spec in plan.programs:
        assert sum(line.startswith(spec.label) for line in lines) == 1
    (verdict,) = (line for line in lines if line.startswith("m4 "))
    assert verdict == "m4          takes it"
    assert any(line.startswith("m1 ") and "rule new-dialect" in line for line in lines)


def test_working_set() -> None:
    """Inputs and outputs all the time; a result as long as somebody reads it, be it through a reshape."""
    g = Graph()
    x = g.input("a_x", (1, 8, 1, 32))
    g.mul(x, x)  # nobody reads it
    a = g.exp(x)
    b = g.reshape(a, (1, 4, 2, 32))
    c = g.exp(g.concat((x, x), axis=1))
    total = g.add(g.reshape(g.exp(b), (1, 8, 1, 32)), g.reduce_max(c, axes=(1,), keep_dims=True))
    g.output("y", total)
    size = 8 * 32 * 2
    borders = 2 * size
    found = report(g)
    assert found.working_set_bytes == borders + size + 2 * size + 2 * size  # a, the concat, its exp
    assert found.operations == 8


def test_dispatches_are_counted_from_the_steps() -> None:
    plan = lower(derived_block("llama"), "stacked", "stage")
    counts = plan_report(plan)["dispatches"]
    assert counts == {
        side: sum(isinstance(step, Dispatch) for step in steps)
        for side, steps in (("forward", plan.forward), ("backward", plan.backward))
    }
    assert sum(counts.values()) == len(plan.programs)
