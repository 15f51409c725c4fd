"""The static checker: the device's own rules, all of them at once, without a device."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from anetrain import device
from anetrain.device import Finding, check
from anetrain.errors import ArgumentError, CompileError, EvalError
from anetrain.mil import BuildError, Graph
from anetrain.mil.text import Program
from tests.random_graphs import RandomGraph
from tests.rule_programs import CHANGED, FAILING, REFUSED, RuleCase, one_op, several_weights
from tests.support import emulator

RULES = device.rule_table()
# On in `exact`, off here: each test switches on the rules it is about.
BARE: dict[str, bool | float] = {"blob-metadata": False, "border-dtype": False, "border-width": False, "opset": False}

# What is found and what is allowed, in words; one for each rule that refuses.
SAID = {
    "evidence": ("e5rt only", "proven operations"),
    "border-dtype": ("tensor<int32, [1, 4, 1, 32]>", "fp16 (or fp32, int8, uint8, int16, uint16)"),
    "border-fp32": ("tensor<fp32, [1, 4, 1, 32]>", "fp16"),
    "border-rank": ("of rank 3", "rank 4"),
    "border-shape": ("[1, 4, 2, 32]", "[1, C, 1, W]"),
    "border-width": ("a row of 96 bytes", "a multiple of 64 (a width that is a multiple of 32)"),
    "new-dialect": ("program(1.3) with ios18", "program(1.0) with ios16"),
    "opset": ("the function says ios16", "ios18 or newer"),
    "channel-limit": ("65 elements on the channel axis", "at most 64"),
    "axis-limit": ("96 elements on the width or height axis", "at most 64"),
    "contraction-limit": ("32 elements", "at most 31"),
    "conv-input-channels": ("64 input channels", "less than 64"),
    "conv-kernel-width": ("a kernel of width 5", "at most 4"),
    "conv-fixed-channels": ("64 input and 64 output channels", "512 of both"),
    "blobfile-weights": ("3 files of weights", "at most 2"),
    "blob-metadata": ("524288 bytes", "8192, for tensor<fp16, [64, 64, 1, 1]>"),
    "blobfile-per-weight": ("3 weights in 1 files", "one file for each weight"),
    "wide-rows": ("rows of 128 elements", "at most 127"),
    "conv-bias": ("a 'bias'", "none"),
    "runtime-conv-batch": ("batch 2", "batch 1"),
    "zero-product": ("a reduction times the constant 0", "anything else"),
    "square-fusion": ("width 96, which is 96 mod 128", "at most 64"),
    "width-rope": ("concatenated along the width", "another axis"),
    "width-slice-concat": ("2 width slices", "at most one"),
    "topk-three-four": ("k = 3", "another k"),
    "fp32-compute": ("tensor<fp32, [1, 4, 1, 32]>", "fp16"),
    "constexpr-weights": ("as int8", "fp16"),
    "constexpr-reshape": ("it reshapes the compressed weight", "the shape it is used in"),
    "slice-of-input": ("input 'x'", "slice_by_size"),
    "runtime-matmul": ("both operands are inputs", "a constant weight"),
    "batch-broadcast": ("[4, 4, 1, 32] with [1, 4, 1, 32]", "equal batches"),
    **dict.fromkeys(
        ("trigonometry", "cast", "quantize", "concat", "rsqrt", "gelu", "reduce-mean", "layer-norm"),
        ("this chip's compiler refuses it", "another operation"),
    ),
}
LOADED: dict[str, tuple[float, str, str]] = {  # the number that several_weights breaks: 3 x 8192 bytes and parameters
    "program-weight-bytes": (24_000, "24604 bytes", "at most 24000"),
    "weight-window-bytes": (24_000, "24604 bytes", "at most 24000"),
    "live-program-limit": (0.5, "0 programs loaded before this one", "at most 0"),
    "lifetime-compile-limit": (0.5, "0 programs compiled before this one", "at most 0"),
}


def bare(program: Program, rules: dict[str, bool | float] | None = None, **options: bool) -> list[Finding]:
    return check(program, profile="exact", rules={**BARE, **(rules or {})}, **options)


def refusals(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.advice and finding.stage in ("compile", "load")]


def compile_error(dev: device.Device, program: Program) -> CompileError | None:
    try:
        dev.compile(program).unload()
    except CompileError as error:
        return error
    return None


def assert_as_compiled(findings: list[Finding], error: CompileError | None) -> None:
    """Compile stops at the first of the refusals, and says the same."""
    first = refusals(findings)[:1]
    expected = [(f.rule, f.detail + (f" (profile {f.profile})" if f.rule else ""), f.line, f.column) for f in first]
    assert expected == [(e.rule, e.detail, e.line, e.column) for e in [error] if e]


def built(build: Callable[[Graph], None]) -> Program:
    return RuleCase(build).program()


# ---------------------------------------------------------------- each rule


def test_every_rule_that_refuses_has_a_bad_program() -> None:
    assert {*REFUSED} == {*SAID} == {rule for rule in RULES if RULES[rule]["stage"] == "compile"}
    refuses_nothing = {"compiled-model-cache"}
    assert {*LOADED} | refuses_nothing == {rule for rule in RULES if RULES[rule]["stage"] == "load"}


@pytest.mark.parametrize("rule", REFUSED)
def test_compile_rule(rule: str) -> None:
    case = REFUSED[rule]
    assert refusals(bare(case.program())) == []
    findings = bare(case.program(), {rule: case.on})
    assert {finding.rule for finding in refusals(findings)} == {rule}
    finding, (value, limit) = refusals(findings)[0], SAID[rule]
    assert value in finding.value
    assert limit in finding.limit
    assert finding.subject
    assert f"{finding.subject}: {finding.value}; expected {finding.limit}" in finding.detail
    assert (finding.stage, finding.advice, finding.profile) == ("compile", False, "exact")
    assert (finding.summary, finding.source) == (RULES[rule]["summary"], RULES[rule]["source"])
    assert str(finding) == f"profile exact, rule {rule}: {finding.detail}"
    assert_as_compiled(findings, compile_error(emulator("exact", rules={**BARE, rule: case.on}), case.program()))


@pytest.mark.parametrize("rule", LOADED)
def test_load_rule(rule: str) -> None:
    number, value, limit = LOADED[rule]
    program = built(several_weights)
    (finding,) = bare(program, {rule: number})
    assert (finding.rule, finding.stage, finding.advice) == (rule, "load", False)
    assert value in finding.value
    assert finding.limit == limit
    assert_as_compiled([finding], compile_error(emulator("exact", rules={**BARE, rule: number}), program))


@pytest.mark.parametrize("rule", FAILING)
def test_evaluate_rule(rule: str) -> None:
    """Refused by every evaluation; or, where larger surfaces would do, advice."""
    case = FAILING[rule]
    assert bare(case.program()) == []
    findings = bare(case.program(), {rule: case.on})
    assert {(finding.rule, finding.stage, finding.advice) for finding in findings} == {
        (rule, "evaluate", rule.endswith(("surface-uniform", "minimum-surface")))
    }
    program = emulator("exact", rules={**BARE, rule: case.on}).compile(case.program())
    with pytest.raises(EvalError) as failed:
        program.run({port.name: np.zeros(port.shape, np.float16) for port in program.inputs})
    assert failed.value.detail == findings[0].detail + " (profile exact)"


@pytest.mark.parametrize(
    ("rule", "value", "limit"),
    [
        ("sdpa-mask-ignored", "its attn_mask is not applied", "no attn_mask"),
        ("width-slice-saturation", "it slices the width at an offset", "magnitudes of at most 4094"),
        ("oversize-dense-read", "rows of 32 bytes", "a multiple of 64"),
    ],
)
def test_rules_that_change_values_are_advice(rule: str, value: str, limit: str) -> None:
    program = CHANGED[rule].program()
    assert [f for f in bare(program) if f.stage == "numerics"] == []
    finding = next(f for f in bare(program, {rule: True}) if f.stage == "numerics")
    assert (finding.rule, finding.advice, finding.limit) == (rule, True, limit)
    assert finding.value.startswith(value)
    assert str(finding).startswith(f"advice, profile exact, rule {rule}: ")


def test_long_narrow_sums_are_advice() -> None:
    def total(width: int) -> Program:
        return built(one_op("reduce_sum", (1, 4, 1, width), axes=(3,), keep_dims=True))

    (finding,) = bare(total(96), {"narrow-reduce-sum": True})
    assert (finding.rule, finding.value, finding.limit, finding.advice) == (
        "narrow-reduce-sum", "it adds 96 terms in fp16", "at most 64", True,
    )  # fmt: skip
    assert bare(total(64), {"narrow-reduce-sum": True}) == []


# ---------------------------------------------------------------- programs


def test_two_broken_rules_are_both_reported() -> None:
    def build(g: Graph) -> None:
        x = g.input("x", (1, 4, 1, 96))
        g.output("y", g.erf(g.topk(x, k=3, axis=1)[0]))

    findings = bare(built(build), {"axis-limit": 64, "topk-three-four": True, "evidence": True})
    # Each tensor once, although y0 is written by one operation and read by another.
    assert [f.rule for f in findings].count("axis-limit") == len({f.subject for f in findings if "tensor" in f.subject})
    assert {f.rule for f in findings} == {"axis-limit", "topk-three-four", "evidence"}


def test_wrong_blobs_do_not_hide_the_rules() -> None:
    program = REFUSED["blob-metadata"].program()
    findings = bare(program, {"blob-metadata": True, "blobfile-weights": 2})
    assert [finding.rule for finding in findings] == ["blob-metadata", "blobfile-weights"]


def test_place_in_the_text() -> None:
    program = built(one_op("sin"))
    (finding,) = bare(program, {"trigonometry": True})
    assert program.text.splitlines()[finding.line - 1][finding.column - 1 :].startswith("sin(")
    assert finding.detail.startswith(f"line {finding.line}, column {finding.column}: sin '")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("tanh(", "tanhh("), "did you mean 'tanh'"),
        (("program(", "pogrom("), "program"),
        (("-> (y)", "-> (x)"), "the output 'x' is directly an input"),
    ],
)
def test_a_wrong_text_is_one_finding(edit: tuple[str, str], said: str) -> None:
    program = RuleCase(one_op("tanh"), edit=edit).program()
    (finding,) = check(program, profile="m4")
    assert (finding.rule, finding.stage, finding.advice) == ("", "compile", False)
    assert said in finding.detail
    assert finding.line > 0
    assert str(finding) == f"profile m4: {finding.detail}"
    assert_as_compiled([finding], compile_error(emulator("m4"), program))


def test_any_bytes_are_a_text() -> None:
    (finding,) = check(b"program(1.3)\xff\x00", {}, profile="m4")
    assert (finding.rule, finding.line) == ("", 1)
    assert check(b"", profile="m4")


def test_a_missing_blob_is_one_finding() -> None:
    program = built(several_weights)
    (finding,) = check(program.text, {}, profile="m4")
    assert "there is no such blob among the 0 given" in finding.detail
    assert check(program.text.encode(), program.blobs, profile="m4") == []


def test_order_of_names_is_advice() -> None:
    def unsorted(g: Graph) -> None:
        g.output("y", g.input("x", (1, 8, 1, 64)) + g.input("W", (1, 8, 1, 64)))

    (finding,) = check(built(unsorted), profile="m4")
    assert (finding.rule, finding.subject, finding.advice) == ("sorted-names", "the inputs", True)
    assert (finding.value, finding.limit) == ("declared 'x', 'W'", "'W', 'x', as they are bound")
    assert compile_error(emulator("m4"), built(unsorted)) is None


def test_evidence_can_be_lifted_to_advice() -> None:
    program = built(one_op("erf"))
    (refused,) = check(program, profile="m4")
    (advice,) = check(program, profile="m4", allow_unproven=True)
    assert (refused.rule, refused.advice, advice.advice) == ("evidence", False, True)
    assert dataclasses.replace(refused, advice=True) == advice


def test_fp32_mode_has_no_fp16_rules() -> None:
    program = REFUSED["fp32-compute"].program()
    assert "fp32-compute" in {finding.rule for finding in check(program, profile="m4")}
    assert check(program, profile="m4", fp32=True) == []
    narrow = built(one_op("tanh", (1, 4, 1, 16)))  # rows of 32 bytes, or 64 as fp32
    assert {finding.rule for finding in check(narrow, profile="m4")} == {"border-width"}
    assert check(narrow, profile="m4", fp32=True) == []


def test_findings_are_plain_data() -> None:
    (finding,) = check(built(one_op("erf")), profile="m4")
    assert pickle.loads(pickle.dumps(finding)) == finding


def test_at_most_a_thousand() -> None:
    def build(g: Graph) -> None:
        x = g.input("x", (1, 4, 1, 32))
        for _ in range(1200):
            x = g.sin(x)
        g.output("y", x)

    assert len(bare(built(build), {"trigonometry": True})) == 1000


# ---------------------------------------------------------------- profiles


@pytest.mark.parametrize("profile", device.profiles())
def test_a_clean_program_has_no_findings(profile: str) -> None:
    def build(g: Graph) -> None:
        x = g.reshape(g.input("a_x", (1, 64, 1, 32)), (1, 1, 64, 32))
        w1, w2 = (g.reshape(g.input(name, (1, 64, 1, 64)), (1, 1, 64, 64)) for name in ("b_w", "c_w"))
        hidden = g.matmul(w1, x)
        g.output("y", g.reshape(g.matmul(w2, hidden * g.sigmoid(hidden)), (1, 64, 1, 32)))

    dialect = emulator(profile).facts["dialect"]
    assert check(RuleCase(build, dialect=dialect).program(), profile=profile) == []


@pytest.mark.parametrize("profile", device.profiles())
def test_what_check_refuses_compile_refuses(profile: str) -> None:
    dev = emulator(profile, executor="reference")
    taken = 0
    for case in (*REFUSED.values(), *FAILING.values(), *CHANGED.values()):
        programs = [case.program()]
        if dev.facts["dialect"] == "A":
            with contextlib.suppress(BuildError):  # a few operations are newer than the dialect
                programs.append(RuleCase(case.build, dialect="A").program())
        for program in programs:
            error = compile_error(dev, program)
            assert_as_compiled(check(program, profile=profile), error)
            taken += error is None
    assert 10 < taken < 80  # of 66 and more, up to 130 in dialect A


@pytest.mark.parametrize("seed", range(20))
def test_random_programs(seed: int) -> None:
    program = RandomGraph(seed, 12).graph.program("B")
    for profile in ("exact", "m4"):
        assert_as_compiled(check(program, profile=profile), compile_error(emulator(profile), program))


def test_a_profile_of_ones_own(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.profile"
    path.write_text("base = m4\nchip = mine\naxis-limit = 64\n")
    findings = check(built(one_op("tanh", (1, 4, 1, 96))), profile=str(path))
    assert [(f.rule, f.profile) for f in findings] == [("axis-limit", str(path))] * 2  # x and y


# ---------------------------------------------------------------- the call


def test_nothing_is_counted() -> None:
    program = built(several_weights)
    with device.open("emulator", "m4", live_budget=1, compile_budget=2**32 - 1) as dev:
        before = dev.counters()
        for _ in range(150):  # past every budget and limit
            assert check(program, profile="m4") == []
        check(built(one_op("erf")), profile="m4")
        assert dev.counters() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "m44"}, "did you mean 'm4'"),
        ({"profile": ""}, "the profile has no name"),
        ({"profile": None}, "profile is None"),
        ({"profile": "m4", "rules": {"axis-limt": 3}}, "did you mean 'axis-limit'"),
        ({"profile": "m4", "blobs": {}}, "brings its own blobs"),
        ({"profile": "m4", "text": 3}, "the text is of type int"),
    ],
)
def test_wrong_arguments(options: dict[str, object], said: str) -> None:
    arguments: dict[str, object] = {"text": built(one_op("tanh")), **options}
    with pytest.raises(ArgumentError, match=said):
        check(**arguments)  # type: ignore[arg-type]
