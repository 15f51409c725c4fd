"""Fused against separate, and attention: values by their own oracle, counts as the device counts, findings by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from anetrain import device
from anetrain.bench import Bench, Case, Lab
from anetrain.bench import attention as attention_bench
from anetrain.bench import fused as fused_bench
from anetrain.bench.attention import FORMS, Attention, Shape
from anetrain.bench.fused import Fused
from anetrain.bench.linked import Linked
from anetrain.errors import CompileError
from anetrain.mil import Graph
from anetrain.results import Check, Measurement, Meter, Timing
from tests.support import emulator

QUICK = Meter(least_samples=2, least_s=0.0, most_s=0.2, most_warm_up=10)
RIGHT = Check(against="numpy", largest_error=0.0, allowed=0.01, elements=1)
BENCHES: list[Bench] = [Fused(), Attention()]
CASES = [pytest.param(bench, case, id=case.name) for bench in BENCHES for case in bench.cases("small")]


def case_of(bench: Bench, name: str, scale: str = "small") -> Case:
    (case,) = (case for case in bench.cases(scale) if case.name == name)  # type: ignore[arg-type]
    return case


@pytest.mark.parametrize("profile", device.profiles())
@pytest.mark.parametrize(("bench", "case"), CASES)
def test_values_are_right_or_the_device_says_why_not(bench: Bench, case: Case, profile: str) -> None:
    lab = Lab(emulator(profile), QUICK)
    if case.parameters.get("form") == FORMS[2] and lab.device.facts["rules"].get("new-dialect"):
        with pytest.raises(CompileError, match="rule new-dialect"):
            bench.measure(lab, case)
        return
    measured = bench.measure(lab, case)
    assert (measured.status, measured.reason) == ("measured", "")
    assert measured.check is not None
    assert measured.check.largest_error is not None
    assert measured.check.largest_error < measured.check.allowed / 2  # there is room on another engine


@pytest.mark.parametrize(("bench", "case"), CASES)
def test_counts_are_the_devices(bench: Bench, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which counts the operations beside products, too: a few of a hundred."""
    made: list[Linked] = []
    honest = Linked.of.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Linked], *arguments: object, **options: object) -> Linked:
        made.append(honest(cls, *arguments, **options))
        return made[-1]

    monkeypatch.setattr(Linked, "of", classmethod(noted))
    measured = bench.measure(Lab(emulator("m4"), QUICK), case)
    (linked,) = made
    counted = sum(program.report["flops"] for program in linked.programs)
    assert measured.flops is not None
    assert measured.flops <= counted <= 1.25 * measured.flops
    assert measured.observed.get("dispatches", 1) == len(linked.programs)


def test_full_sizes_are_those_of_the_models() -> None:
    bench = Fused()
    measured = {case.name: case.parameters for case in bench.cases("full")}
    assert measured["QKV, fused"] == {
        "work": "qkv", "way": "fused", "dim": 768, "hidden": 2048, "heads": 12, "positions": 256,
    }  # fmt: skip
    assert [name for name in measured if name.startswith("chain")] == [
        "chain of 1, fused",
        *(f"chain of {n}, {way}" for n in (2, 4, 8, 16, 32) for way in ("fused", "separate")),
    ]
    shape = Shape(12, 12, 64, 256)
    assert shape.flops == 2 * 2 * 12 * 256 * 256 * 64
    assert shape.bytes_moved == 4 * 768 * 256 * 2
    assert (Shape(16, 8, 128, 256).group, Shape(16, 8, 128, 256).name) == (2, "16/8 heads of 128, 256 positions")


@pytest.mark.parametrize("causal", [True, False])
def test_the_oracle_of_attention_is_pytorchs(causal: bool) -> None:
    torch = pytest.importorskip("torch")
    shape = Shape(4, 2, 32, 64)
    arrays = attention_bench.random_inputs(shape, np.random.default_rng(3))
    q, k, v = (
        torch.from_numpy(array.astype(np.float64)).reshape(1, -1, 32, 64).transpose(2, 3) for array in arrays.values()
    )
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    expected = y.transpose(2, 3).reshape(1, 128, 1, 64).numpy()
    np.testing.assert_allclose(attention_bench.attention(shape, arrays, causal=causal), expected, atol=1e-12)


# ---------------------------------------------------------------- what is wrong is seen


def status(bench: Bench, name: str) -> str:
    return bench.measure(Lab(emulator("m4"), QUICK), case_of(bench, name)).status


def test_a_missing_mask_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_bench, "HIDDEN", 0.0)
    assert status(Attention(), "2 heads of 32, 64 positions, causal") == "wrong"


def test_heads_in_another_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = attention_bench.weighted

    def swapped(graph: Graph, shape: Shape, probabilities: object, v: object) -> object:
        y = honest(graph, shape, probabilities, v)  # type: ignore[arg-type]
        half = shape.heads * shape.head_dim // 2
        one, other = (graph.slice_by_size(y, (0, begin, 0, 0), (1, half, 1, shape.positions)) for begin in (half, 0))
        return graph.concat([one, other], axis=1)

    monkeypatch.setattr(attention_bench, "weighted", swapped)
    assert status(Attention(), "4/2 heads of 32, 64 positions, causal") == "wrong"


def test_programs_in_another_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reversed, each works on what the run before has left, at first on zeros."""
    monkeypatch.setattr(Linked, "run", lambda self: [request.run() for request in reversed(self.requests)])
    assert status(Fused(), "chain of 4, separate") == "wrong"
    assert status(Fused(), "feed-forward, separate") == "wrong"


def test_a_stale_gate_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = fused_bench.linear
    monkeypatch.setattr(fused_bench, "linear", lambda g, x, w, name: honest(g, x, w[::-1] if name == "w3" else w, name))
    assert status(Fused(), "feed-forward, fused") == "wrong"


def test_borders_that_do_not_fit_are_refused() -> None:
    graphs = []
    for width in (64, 96):
        graph = Graph()
        graph.output(f"y{width}", graph.relu(graph.input("a_x", (1, 32, 1, width))))
        graphs.append(graph)
    with pytest.raises(ValueError, match=r"a_x is \(1, 32, 1, 96\) here, and was \(1, 32, 1, 64\)"):
        Linked.of(emulator("m4"), graphs, {}, "two widths")


# ---------------------------------------------------------------- findings


def took(bench: Bench, name: str, ms: float, **observed: int) -> Measurement:
    timing = Timing.of((ms / 1e3,), warm_up=1, stable=True)
    parameters = dict(case_of(bench, name, "full").parameters)
    return Measurement.of(bench.name, name, timing, RIGHT, parameters=parameters, observed=observed)


def answers(bench: Bench, measured: Sequence[Measurement]) -> dict[str, str]:
    return {found.question: found.answer for found in bench.findings(measured)}


def test_a_dispatch_is_the_difference_of_two_slopes() -> None:
    bench = Fused()
    chains = [took(bench, f"chain of {n}, fused", 0.09 + 0.01 * n) for n in (1, 2, 4, 8)]
    chains += [took(bench, f"chain of {n}, separate", 0.1 * n) for n in (2, 4, 8)]
    (found,) = bench.findings(chains)
    assert found.figures == pytest.approx({"dispatch_us": 90.0, "program_us": 100.0, "layer_us": 10.0})
    assert found.answer == "90 us: a program more takes 100 us, the same layer within a program takes 10 us."
    assert len(found.basis) == 7
    assert bench.findings(chains[:5]) == []  # a single point is no line


def test_savings_are_ratios_of_the_same_work() -> None:
    bench = Fused()
    measured = [took(bench, "QKV, fused", 0.1, dispatches=1), took(bench, "QKV, separate", 0.24, dispatches=3)]
    assert answers(bench, measured) == {
        "What does fusing save: QKV?": "3 programs take 0.240 ms, one takes 0.100 ms: 2.40 times faster."
    }
    assert answers(bench, [measured[0], took(bench, "attention, separate", 0.18, dispatches=3)]) == {}


def test_the_operation_is_compared_with_its_own_shape() -> None:
    bench = Attention()
    name = "12 heads of 64, 256 positions, all pairs"
    measured = [took(bench, name, 0.2), took(bench, f"{name}, one operation", 0.1)]
    (found,) = bench.findings(measured)
    assert found.figures == {"ratio": pytest.approx(0.5)}
    assert found.answer == f"It takes 0.50 times as long as products and softmax: {name}."
    longer = took(bench, "12 heads of 64, 512 positions, all pairs, one operation", 1.0)
    assert bench.findings([measured[0], longer]) == []
