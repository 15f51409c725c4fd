"""Each probe on every profile, at small scale: the verdict is the profile's rule, and turning the rule turns it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import device
from anetrain.isolate import Inline, place_of
from anetrain.mil import Graph
from anetrain.probe import Probe, catalogue, dialects
from anetrain.probe.features import FEATURES
from anetrain.probe.judging import combined, counted, phrase, worked
from anetrain.probe.matmul_ceiling import STEP
from anetrain.probe.run import Run, Settings
from anetrain.probe.samples import MARK, Sample, compared, observe
from anetrain.results import Experiment, Refusal, Verdict
from tests.support import emulator

ROOT = Path(__file__).parent.parent
UNLIMITED = 2**32 - 1
# The probes that need no raw calls, and what they say of an m4.
M4 = {
    "dialects": "yes", "blobs": "yes", "channels": "yes", "inputs": "yes", "widths": "yes", "strides": "unknown",
    "one-token": "yes", "compile-limit": "yes", "sdpa-mask": "yes", "op-forms": "unknown", "matmul-ceiling": "yes",
    "large-results": "yes", "subnormals": "no", "tile": "unknown",
}  # fmt: skip
PROBES = [catalogue.probe(name) for name in M4]
Rules = Mapping[str, bool | float]


def verdict_of(probe: Probe, profile: str, rules: Rules | None = None) -> Verdict:
    opened: dict[str, Any] = {"live_budget": UNLIMITED, "compile_budget": UNLIMITED, "rules": dict(rules or {})}
    settings = Settings({"kind": f"emulator:{profile}", **opened}, "small")
    return Run(settings, Inline(), command="anetrain probe").probe(probe)


# ---------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_says_what_it_is(probe: Probe) -> None:
    assert catalogue.PROBES[probe.name] == place_of(probe)
    assert probe.question.endswith("?")
    assert probe.hypothesis
    assert probe.source
    assert set(probe.rules) <= set(device.rule_table())
    for scale in ("small", "full"):
        names = [trial.name for trial in probe.trials(scale)]
        assert len(names) == len(set(names)) > 0


def test_an_unknown_probe_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"no probe 'tiles'; there are dialects, .*tile.*, all"):
        catalogue.probe("tiles")


# ---------------------------------------------------------------- profiles

# What the facts say of a chip, as verdicts; whatever is not named is as on an m4.
BEFORE_M4 = {"matmul-ceiling": "partly", "subnormals": "yes"}
OLD_DIALECT = {**BEFORE_M4, "dialects": "partly", "sdpa-mask": "unknown"}
ANSWERS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("m1", "m1ultra", "m2", "m2max", "m2ultra"), OLD_DIALECT),
    **dict.fromkeys(("m1pro", "m1max", "m3pro", "m3ultra"), BEFORE_M4),
    **{chip: {} for chip in ("m4", "m4pro", "m4max", "m5", "m5max")},
    # Every operation is exact there, and nothing is limited.
    "exact": {
        "compile-limit": "no", "sdpa-mask": "no", "op-forms": "yes", "matmul-ceiling": "no", "large-results": "no",
        "tile": "no",
    },
}  # fmt: skip


@pytest.mark.parametrize("profile", device.profiles())
def test_every_probe_on_every_profile(profile: str) -> None:
    verdicts = {probe.name: verdict_of(probe, profile) for probe in PROBES}
    answers = {name: verdict.answer for name, verdict in verdicts.items()}
    assert answers == {**M4, **ANSWERS[profile]}
    for verdict in verdicts.values():
        assert set(verdict.features) <= set(FEATURES)
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
        assert {made.status for made in verdict.experiments} <= {"done", "refused"}


def test_the_published_rows_are_filled() -> None:
    """Those of the community table, on the chips it speaks of."""
    rows = ("program(1.3) / ios18", "per-matrix weight blobs", "channel flexibility", "BLOBFILE offset references")
    for profile, first in (("m1pro", "partly"), ("m3pro", "yes"), ("m4", "yes"), ("m5", "yes")):
        filled: dict[str, str] = {}
        for name in ("dialects", "blobs", "channels"):
            filled |= verdict_of(catalogue.probe(name), profile).features
        assert [filled[row] for row in rows] == [first, "yes", "yes", "yes"]


# ---------------------------------------------------------------- rules

WITHOUT_EVIDENCE = {"evidence": False}
# Probe -> (profile, rules that are set anyway, the rule that is turned, to what).
TURNED: list[tuple[str, str, Rules, str, bool | float]] = [
    ("dialects", "m1", {}, "new-dialect", False),
    ("dialects", "m1pro", {"cast": False}, "border-fp32", False),
    ("dialects", "m1pro", {"border-fp32": False}, "cast", False),
    ("blobs", "m4", {}, "blobfile-per-weight", True),
    ("blobs", "m4", {}, "blob-metadata", False),
    ("channels", "m4", {}, "conv-fixed-channels", 512),
    ("inputs", "m4", {}, "declared-order", True),
    ("inputs", "m4", {}, "single-input", True),
    ("inputs", "m4", {}, "input-surface-uniform", True),
    ("inputs", "m4", {}, "output-surface-uniform", True),
    ("inputs", "m4", {}, "output-count", 2),
    ("widths", "m4", {}, "border-width", False),
    ("widths", "m4", {"border-width": False}, "oversize-dense-read", True),
    ("widths", "m4", {}, "minimum-surface", 49152),
    ("strides", "m4", {}, "border-width", False),
    ("strides", "m4", {"border-width": False}, "oversize-dense-read", True),
    ("one-token", "m4", {}, "border-width", False),
    ("one-token", "m4", {}, "softmax-power-of-two", True),
    ("compile-limit", "m4", {}, "live-program-limit", False),
    ("compile-limit", "m4", {}, "lifetime-compile-limit", 119),
    ("sdpa-mask", "m4", {}, "sdpa-mask-ignored", False),
    ("op-forms", "m4", {}, "concat", True),
    ("op-forms", "m4", WITHOUT_EVIDENCE, "rsqrt", True),
    ("op-forms", "m4", WITHOUT_EVIDENCE, "gelu", True),
    ("op-forms", "m4", {}, "reduce-mean", True),
    ("op-forms", "m4", {}, "evidence", False),
    ("matmul-ceiling", "m4", {"axis-limit": False, "channel-limit": False}, "contraction-limit", False),
    ("matmul-ceiling", "m4", {}, "axis-limit", 16384),
    ("matmul-ceiling", "m4", {}, "channel-limit", 16384),
    ("large-results", "m4", {}, "accumulator-overflow", False),
    ("large-results", "m3ultra", {}, "interior-partial-overflow", False),
    ("subnormals", "m3ultra", {}, "denormal-flush", False),
    ("tile", "m4", WITHOUT_EVIDENCE, "tile-poison", True),
    ("tile", "m4", {}, "evidence", False),
]


def test_every_rule_of_a_probe_is_turned() -> None:
    turned = {(name, rule) for name, _, _, rule, _ in TURNED}
    assert turned == {(probe.name, rule) for probe in PROBES for rule in probe.rules}


@pytest.mark.parametrize(("name", "profile", "anyway", "rule", "setting"), TURNED)
def test_turning_a_rule_turns_the_verdict(
    name: str, profile: str, anyway: Rules, rule: str, setting: bool | float
) -> None:
    probe = catalogue.probe(name)
    before, after = verdict_of(probe, profile, anyway), verdict_of(probe, profile, {**anyway, rule: setting})
    assert (before.answer, before.features) != (after.answer, after.features)
    assert before.sentence != after.sentence


@pytest.mark.parametrize("limit", [16384, 20000, 50000])
def test_halving_finds_a_ceiling(limit: int) -> None:
    verdict = verdict_of(catalogue.probe("matmul-ceiling"), "m4", {"channel-limit": limit})
    right = max(int(str(made.parameters["size"])) for made in verdict.experiments if _is_right_channel(made))
    assert limit - STEP["small"] < right <= limit
    assert verdict.features["65,536 channels"] == "no"


def _is_right_channel(made: Experiment) -> bool:
    return made.parameters["kind"] == "channels" and worked(made) == "yes"


def test_the_page_names_the_rules() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/probe.md").read_text().splitlines() if line.startswith("| `")]
    written = {row[1].strip(" `"): set(re.findall("`([a-z0-9-]+)`", row[3])) for row in rows}
    assert {name: written[name] for name in M4} == {probe.name: set(probe.rules) for probe in PROBES}


# ---------------------------------------------------------------- judging what was not seen on a device

REFUSAL = Refusal(error="CompileError", domain="d", code=1, text="_ANECompiler : ANECCompile() FAILED : err=()")


def all_as(probe: Probe, **how: Any) -> list[Experiment]:
    return [Experiment(name=t.name, parameters=dict(t.parameters), **how) for t in probe.trials("small")]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_nothing_seen_is_unknown(probe: Probe) -> None:
    for status in ("interrupted", "failed", "skipped"):
        assert probe.judge(all_as(probe, status=status, reason="for a test")).answer == "unknown"
    verdict = probe.judge([])
    assert verdict.answer == "unknown"
    assert set(verdict.features.values()) <= {"unknown"}
    assert verdict.sentence


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_crashes_and_hangs_never_speak_for_a_feature(probe: Probe) -> None:
    for status in ("crashed", "timed out"):
        verdict = probe.judge(all_as(probe, status=status, reason="signal 11"))
        assert "yes" not in verdict.features.values()
        assert status in verdict.sentence


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_any_part_of_the_experiments_can_be_judged(probe: Probe) -> None:
    made = verdict_of(probe, "m4").experiments
    for count in range(len(made)):
        interrupted = Experiment(name=made[count].name, parameters=made[count].parameters, status="interrupted")
        verdict = probe.judge([*made[:count], interrupted])
        assert len(verdict.experiments) == count + 1


def test_outcomes_in_words() -> None:
    def experiment(name: str = "a", status: Any = "done", **more: Any) -> Experiment:
        return Experiment(name=name, status=status, **more)

    right, zero = experiment(observed={"values": "right"}), experiment(observed={"values": "zero"})
    refused = experiment(status="refused", refusal=REFUSAL)
    unproven = experiment(status="refused", refusal=REFUSAL.model_copy(update={"rule": "evidence"}))
    failed = experiment(status="refused", refusal=REFUSAL.model_copy(update={"error": "EvalError", "text": "0x1d"}))
    crashed = experiment(status="crashed", reason="signal 11")
    seen = (right, zero, refused, unproven, failed, crashed, experiment(status="failed", reason="KeyError"), None)
    assert [worked(made) for made in seen] == ["yes", "no", "no", "unknown", "no", "no", "unknown", "unknown"]
    assert [phrase(made) for made in seen] == [
        "right",
        "values zero",
        "refused when compiled (err=())",
        "refused when compiled (err=(), rule evidence)",
        "refused when evaluated (0x1d)",
        "crashed (signal 11)",
        "failed (KeyError)",
        "not tried",
    ]
    widths = [experiment(str(n), observed={"values": "right" if n != 3 else "zero"}) for n in (1, 2, 3, 4, 8)]
    assert counted(widths, "widths") == "5 widths, 4: right (1 to 2, 4 to 8); 1: values zero (3)"
    assert combined(["yes", "yes"]) == "yes"
    assert combined(["yes", "no"]) == combined(["partly", "unknown"]) == "partly"
    assert combined(["no", "unknown"]) == "no"
    assert combined(["yes", "unknown"]) == combined([]) == "unknown"


# ---------------------------------------------------------------- comparing values


def test_wrong_values_are_told_apart() -> None:
    y = np.arange(1, 9, dtype=np.float16)
    sample = Sample({}, {"y": y}, {"doubled": {"y": 2 * y}})
    some = y.copy()
    some[3] = MARK
    infinite = y.copy()
    infinite[0] = np.inf
    cases = {
        "right": y,
        "not written": np.full(8, MARK),
        "doubled": 2 * y,
        "zero": np.zeros(8, np.float16),
        "those of the run before": y + 8,
        "partly not written": some,
        "not finite": infinite,
        "in other places": y[::-1],
        "wrong": y + 1,
    }
    for word, found in cases.items():
        assert compared({"y": found}, sample, before={"y": y + 8}) == word
    assert compared({"y": y + 1}, sample, allowed=0.125) == "right"
    assert compared({"y": infinite}, Sample({}, {"y": infinite})) == "right"
    for dtype in (np.float32, np.int16):
        marked = np.full(8, MARK).view(dtype)
        assert compared({"y": marked}, Sample({}, {"y": np.ones(marked.shape, dtype)})) == "not written"
    with pytest.raises(ValueError, match="is compared with"):
        compared({"y": y[:4]}, sample)


def test_swapped_outputs_are_in_other_places() -> None:
    one, two = np.arange(4, dtype=np.float16), np.arange(4, 8, dtype=np.float16)
    assert compared({"a": two, "b": one}, Sample({}, {"a": one, "b": two})) == "in other places"


def observed_with(run: Callable[[device.Surface, int], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a program that doubles, where `run` stands for the engine: it gets the output's surface, and the how-manieth
    run it is."""
    graph = Graph()
    graph.output("y", graph.input("a_x", (1, 4, 1, 32)) * 2.0)
    samples = [Sample({"a_x": x}, {"y": 2 * x}) for x in (np.full((1, 4, 1, 32), n, np.float16) for n in (1, 2))]
    runs = iter(range(9))

    class Engine:
        def __init__(self, outputs: Mapping[str, device.Surface]) -> None:
            self.run = lambda: run(outputs["y"], next(runs))

    monkeypatch.setattr(device.Program, "request", lambda program, inputs, outputs: Engine(outputs))
    return str(observe(emulator("m4"), graph.program("B"), samples)["values"])


def test_an_engine_that_does_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(value: float, surface: device.Surface) -> None:
        surface.write(np.full((4, 32), value, np.float32))

    assert observed_with(lambda y, n: None, monkeypatch) == "not written"
    assert observed_with(lambda y, n: fill(2, y) if n == 0 else None, monkeypatch) == "not written"
    assert observed_with(lambda y, n: fill(2, y), monkeypatch) == "those of the run before"
    assert observed_with(lambda y, n: fill(0, y), monkeypatch) == "zero"
    assert observed_with(lambda y, n: fill(2 * n + 2, y), monkeypatch) == "right"


# ---------------------------------------------------------------- the matrix

ALL_YES = {
    "program(1.0) / ios16", "single-blob weights", "per-matrix weight blobs", "BLOBFILE offset references",
    "channel flexibility", "several inputs", "surfaces in sorted order of names", "inputs of different sizes",
    "outputs of different sizes", "three outputs", "surfaces below 49,152 bytes", "sequence of 1, padded to 32",
    "softmax over no power of two", "more than 128 compiles in a process", "concat", "reduce_mean", "65,536 channels",
}  # fmt: skip
ALL_NO = {
    "legacy blob header", "width below 32", "width above 32, no multiple of 32", "sequence of 1",
    "more than 128 loaded programs", "matmul results of 32,768 and more",
}  # fmt: skip
ALL_UNKNOWN = {"rows padded to 64 bytes", "rsqrt with epsilon", "gelu with mode", "tile"}
OTHERS = (
    "program(1.3) / ios18", "mixed dialects", "fp32 inputs and outputs", "contraction over 65,536", "width of 65,536",
    "partial sums of 32,768 and more", "subnormal products", "mask of scaled_dot_product_attention",
)  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "others"),
    [
        ("m1", ("no", "partly", "no", "no", "no", "yes", "no", "unknown")),
        ("m3ultra", ("yes", "yes", "yes", "no", "no", "no", "no", "no")),
        ("m4", ("yes", "yes", "yes", "yes", "yes", "yes", "yes", "no")),
    ],
)
def test_rows_of_the_matrix(profile: str, others: tuple[str, ...]) -> None:
    filled: dict[str, str] = {}
    for probe in PROBES:
        filled |= verdict_of(probe, profile).features
    of_all = [dict.fromkeys(ALL_YES, "yes"), dict.fromkeys(ALL_NO, "no"), dict.fromkeys(ALL_UNKNOWN, "unknown")]
    assert filled == {**of_all[0], **of_all[1], **of_all[2], **dict(zip(OTHERS, others, strict=True))}


def test_declared_order_is_seen_in_inputs_and_outputs() -> None:
    verdict = verdict_of(catalogue.probe("inputs"), "m4", {"declared-order": True})
    assert verdict.features["surfaces in sorted order of names"] == "no"
    values = {made.name: made.observed.get("values") for made in verdict.experiments}
    assert values["surfaces 2 3 1"] == values["three outputs"] == "in declared order"


def test_mixed_dialects_are_mixed() -> None:
    weight = np.eye(dialects.CHANNELS, dtype=np.float16)
    texts = [dialects._source(name, weight, "fp16").text for name in dialects.MIXTURES]
    assert [text.split("\n")[0] for text in texts] == [f"program(1.{n})" for n in (0, 3, 0, 3)]
    assert ["fp16(0x1p+1)" in text for text in texts] == [True, False, False, True]
    assert [("main<ios16>" in text, "main<ios18>" in text) for text in texts] == [
        (True, False), (False, True), (False, True), (True, False),
    ]  # fmt: skip
