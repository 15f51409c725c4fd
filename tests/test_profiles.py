"""Profiles: every rule of the catalogue has a program that shows it, and every profile is complete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from anetrain import device
from anetrain.errors import ArgumentError, CompileError, EvalError
from anetrain.mil import Graph
from tests.raw_cases import RAW
from tests.rule_programs import CHANGED, FAILING, REFUSED, RuleCase, ValueCase, several_weights
from tests.support import emulator

RULES = device.rule_table()
PROFILES = (
    "exact", "m1", "m1pro", "m1max", "m1ultra", "m2", "m2max", "m2ultra", "m3pro", "m3ultra", "m4", "m4pro", "m4max",
    "m5", "m5max",
)  # fmt: skip
FIELDS = ("name", "chip", "architecture", "sub_type", "cores", "engines", "dialect")
# On in `exact`, off here: each test switches on the one rule it is about.
BARE = {"blob-metadata": False, "border-dtype": False, "border-width": False, "opset": False}
LOAD_RULES = ("live-program-limit", "lifetime-compile-limit", "program-weight-bytes", "weight-window-bytes")
CACHE = "compiled-model-cache"
RAW_REFUSALS = ("chaining-unavailable", "no-performance-stats")
DOMAIN = "com.apple.appleneuralengine"
FP16 = np.arange(65536, dtype=np.uint16).view(np.float16)


def bare(rules: Mapping[str, bool | float] | None = None, executor: str = "reference") -> device.Device:
    return emulator("exact", executor=executor, rules={**BARE, **(rules or {})})


def run_zeros(program: device.Program) -> None:
    program.run({port.name: np.zeros(port.shape, np.float16) for port in program.inputs})


# ---------------------------------------------------------------- rules


def test_every_rule_has_a_case() -> None:
    assert {*REFUSED, *FAILING, *CHANGED, *LOAD_RULES, CACHE, *RAW} == set(RULES)


@pytest.mark.parametrize("rule", REFUSED)
def test_compile_rule(rule: str) -> None:
    case = REFUSED[rule]
    assert RULES[rule]["stage"] == "compile"
    bare().compile(case.program()).unload()
    with pytest.raises(CompileError) as refused:
        bare({rule: case.on}).compile(case.program(), label="block 3")
    assert refused.value.rule == rule
    assert refused.value.text == RULES[rule]["error"]
    assert refused.value.text.startswith("_ANECompiler : ANECCompile() FAILED : err=(")
    assert (refused.value.domain, refused.value.code, refused.value.label) == (DOMAIN + ".compiler", 1, "block 3")


def test_operations_name_their_place() -> None:
    with pytest.raises(CompileError) as refused:
        bare({"trigonometry": True}).compile(REFUSED["trigonometry"].program())
    line = REFUSED["trigonometry"].program().text.split("\n")[refused.value.line - 1]
    assert "= sin(" in line


def test_evidence_can_be_lifted_to_a_warning() -> None:
    dev = emulator("exact", rules={"evidence": True}, allow_unproven=True, executor="reference")
    with dev.compile(REFUSED["evidence"].program()) as program:
        assert any("'erf'" in warning for warning in program.report["warnings"])


def test_folded_weights_are_judged_too() -> None:
    """They leave no operation behind, only a constant."""

    def looked_up(g: Graph) -> None:
        indices = g.constant(np.arange(4, dtype=np.uint8).reshape(1, 4, 1, 1) % 2, dtype="uint1")
        lut = g.constant(np.array([1, 2], np.float16).reshape(1, 1, 1, 1, 2, 1))
        g.output("y", g.input("x", (1, 4, 1, 32)) * g.constexpr_lut_to_dense(indices, lut))

    for rule in ("evidence", "opset"):
        program = RuleCase(looked_up, edit=("<ios18>", "<ios16>")).program()
        bare().compile(program).unload()
        with pytest.raises(CompileError, match="'constexpr_lut_to_dense'") as refused:
            bare({rule: True}).compile(program)
        assert refused.value.rule == rule


def test_run_time_conv_weight_is_unproven() -> None:
    case = RuleCase(REFUSED["runtime-conv-batch"].build)
    with pytest.raises(CompileError, match=r"3\.4g") as refused:
        bare({"evidence": True}).compile(case.program())
    assert refused.value.rule == "evidence"


def test_scalar_operand_takes_a_weight_slot() -> None:
    def scaled(g: Graph) -> None:
        several_weights(g)
        g.output("z", g.outputs[0] * 2.0)

    bare({"blobfile-weights": 3}).compile(RuleCase(several_weights).program())
    with pytest.raises(CompileError, match="at most 2"):
        bare({"blobfile-weights": 3}).compile(RuleCase(scaled).program())


def test_one_file_of_several_weights_is_one_file() -> None:
    bare({"blobfile-weights": 1}).compile(RuleCase(several_weights, single_blob=True).program())


@pytest.mark.parametrize("rule", FAILING)
def test_evaluate_rule(rule: str) -> None:
    case = FAILING[rule]
    assert RULES[rule]["stage"] == "evaluate"
    run_zeros(bare().compile(case.program()))
    dev = bare({rule: case.on})
    program = dev.compile(case.program())
    with pytest.raises(EvalError) as failed:
        run_zeros(program)
    assert failed.value.rule == rule
    assert failed.value.text == RULES[rule]["error"]
    assert "status=0x1d : statusType=0x9 : Program Inference error" in failed.value.text
    assert (failed.value.domain, failed.value.code) == (DOMAIN, 8)


def test_tile_poisons_later_evaluations() -> None:
    dev = bare({"tile-poison": True})
    harmless = dev.compile(REFUSED["trigonometry"].program())
    run_zeros(harmless)
    with pytest.raises(EvalError):
        run_zeros(dev.compile(FAILING["tile-poison"].program()))
    with pytest.raises(EvalError, match="0x1d"):
        run_zeros(harmless)


def loads(dev: device.Device, count: int) -> list[device.Program]:
    return [dev.compile(RuleCase(several_weights).program()) for _ in range(count)]  # 24 KB of weights each


@pytest.mark.parametrize(
    ("rule", "limit", "fit", "code"),
    [
        ("live-program-limit", 2, 2, 4),
        ("program-weight-bytes", 24_000, 0, 6),
        ("weight-window-bytes", 50_000, 2, 6),
    ],
)
def test_load_rule(rule: str, limit: int, fit: int, code: int) -> None:
    loads(bare(), 3)
    dev = bare({rule: limit})
    programs = loads(dev, fit)
    with pytest.raises(CompileError) as refused:
        loads(dev, 1)
    assert (refused.value.rule, refused.value.domain, refused.value.code) == (rule, DOMAIN, code)
    assert refused.value.text == RULES[rule]["error"]
    assert str(limit) in refused.value.detail
    for program in programs:
        program.unload()
    assert len(loads(dev, fit)) == fit  # unloading gives the place back


def test_compiled_model_cache() -> None:
    """By text and weights; what was refused was not compiled; another device has not compiled it."""
    text, blobs = RuleCase(several_weights).program().text, RuleCase(several_weights).program().blobs
    others = {path: data[:-1] + bytes([data[-1] ^ 1]) for path, data in blobs.items()}
    bad = RuleCase(several_weights).program().text.replace("program(", "programme(")
    for cached, dev in ((0, bare()), (1, bare({CACHE: True})), (1, bare({CACHE: True}))):
        before = dev.counters()
        for given, weights, from_cache in (
            (text, blobs, False),
            (text, others, False),
            (text, blobs, True),
            (text + "\n", blobs, False),
            (text, others, True),
        ):
            program = dev.compile(given, weights)
            assert program.report["from_cache"] is (from_cache and bool(cached))
            program.unload()
        for _ in range(2):
            with pytest.raises(CompileError):
                dev.compile(bad, blobs)
        after = dev.counters()
        assert after.cache_loads - before.cache_loads == 2 * cached
        assert after.compiles - before.compiles == 7 - 2 * cached


def test_what_is_in_the_cache_takes_no_compile() -> None:
    dev = bare({CACHE: True, "lifetime-compile-limit": 1, "live-program-limit": 2})
    (program,) = loads(dev, 1)
    dev.inject_fault("compile")
    (second,) = loads(dev, 1)
    with pytest.raises(CompileError) as refused:
        loads(dev, 1)
    assert refused.value.rule == "live-program-limit"  # a place it takes all the same
    assert program.report["from_cache"] is False
    assert second.report["from_cache"] is True


def test_lifetime_compile_limit() -> None:
    for program in loads(bare(), 3):
        program.unload()
    dev = bare({"lifetime-compile-limit": 2})
    for program in loads(dev, 2):
        program.unload()
    with pytest.raises(CompileError) as refused:
        loads(dev, 1)
    assert (refused.value.rule, refused.value.domain) == ("lifetime-compile-limit", DOMAIN + ".compiler")
    assert refused.value.text == "_ANECompiler : ANECCompile() FAILED : err=()"


def first_values(case: ValueCase, executor: str, rules: Mapping[str, bool | float]) -> list[float]:
    program = bare(rules, executor).compile(case.program())
    (result,) = program.run(case.inputs).values()
    return [float(value) for value in result.reshape(-1)[: len(case.off)]]


@pytest.mark.parametrize(
    ("rule", "executor"), [(rule, executor) for rule, case in CHANGED.items() for executor in case.executors]
)
def test_numerics_rule(rule: str, executor: str) -> None:
    case = CHANGED[rule]
    assert RULES[rule]["stage"] == "numerics"
    np.testing.assert_array_equal(first_values(case, executor, {}), case.off)
    np.testing.assert_array_equal(first_values(case, executor, {rule: case.on}), case.changed)


def test_fp32_mode_has_no_fp16_rules() -> None:
    dev = emulator("m1", fp32=True)
    rules = dev.facts["rules"]
    assert not {"sigmoid-table", "accumulator-overflow", "border-fp32", "fp32-compute", "cast"} & set(rules)
    assert {"sdpa-mask-ignored", "border-width", "new-dialect"} <= set(rules)


# ---------------------------------------------------------------- tables


def published(x: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """The true functions, and the largest errors of the engine (ANE_FACTS 6)."""
    erf = np.vectorize(math.erf)
    return {
        "sigmoid": (1 / (1 + np.exp(-x)), 3.4e-3),
        "tanh": (np.tanh(x), 1.7e-3),
        "gelu": (0.5 * x * (1 + erf(x / np.sqrt(2))), 5.9e-3),
    }


@pytest.mark.parametrize("op", ["sigmoid", "tanh", "gelu"])
def test_table_errors_are_the_published_ones(op: str) -> None:
    # Beyond 16 a gelu is its input, or 0, and what is left is the rounding of fp16.
    x = FP16[np.isfinite(FP16) & (np.abs(FP16) < 16)]
    x = np.pad(x, (0, -len(x) % 32)).reshape(1, -1, 1, 32)

    def build(g: Graph) -> None:
        mode = {"mode": "EXACT"} if op == "gelu" else {}
        g.output("y", g.apply(op, x=g.input("x", x.shape), **mode)[0])

    y = bare({f"{op}-table": True}).compile(RuleCase(build).program()).run({"x": x})["y"]
    expected, largest = published(x.astype(np.float64))[op]
    assert np.abs(y - expected).max() == pytest.approx(largest, rel=0.1)


# ---------------------------------------------------------------- profiles


def test_names() -> None:
    assert sorted(device.profiles()) == sorted(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_is_complete(profile: str) -> None:
    facts = emulator(profile).facts
    assert all(facts[field] not in (None, "") for field in FIELDS)
    assert facts["name"] == facts["profile"] == profile
    assert facts["dialect"] in ("A", "B")
    assert set(facts["rules"]) <= set(RULES)
    for rule, value in facts["rules"].items():
        assert isinstance(value, bool) == (RULES[rule]["kind"] == "switch")


@pytest.mark.parametrize("profile", PROFILES)
def test_usual_programs_compile_everywhere(profile: str) -> None:
    """A feed-forward block with run-time weights: what every working code base runs."""

    def build(g: Graph) -> None:
        x = g.reshape(g.input("a_x", (1, 64, 1, 32)), (1, 1, 64, 32))
        w1, w2 = (g.reshape(g.input(name, (1, 64, 1, 64)), (1, 1, 64, 64)) for name in ("b_w", "c_w"))
        hidden = g.matmul(w1, x)
        g.output("y", g.reshape(g.matmul(w2, hidden * g.sigmoid(hidden)), (1, 64, 1, 32)))

    dev = emulator(profile)
    case = RuleCase(build, dialect=dev.facts["dialect"])
    run_zeros(dev.compile(case.program()))


def test_chips_differ_where_the_evidence_does() -> None:
    rules = {profile: emulator(profile).facts["rules"] for profile in PROFILES}
    assert [p for p in PROFILES if "tile-of-four" in rules[p]] == ["m1", "m1pro", "m1max", "m1ultra"]
    assert [p for p in PROFILES if "width-rope" in rules[p]] == ["m3ultra"]
    assert [p for p in PROFILES if "quantize" in rules[p]] == ["m5"]
    assert rules["m3ultra"]["interior-partial-overflow"] == 2
    assert (rules["m1"]["axis-limit"], rules["m4"]["axis-limit"]) == (16384, 65536)
    assert (rules["m1"]["conv-kernel-width"], rules["m5"]["conv-kernel-width"]) == (13, 15)
    assert "denormal-flush" not in rules["m5"]
    assert [p for p in PROFILES if rules[p].get("shared-events") == 2] == ["m3pro", "m3ultra"]
    assert all(set(RAW) <= set(rules[p]) for p in PROFILES if p != "exact")
    assert not set(RAW) & set(rules["exact"])
    disputed = {"concat", "rsqrt", "gelu", "reduce-mean", "lifetime-compile-limit", *FAILING}
    assert not any(disputed & set(on) for on in rules.values())


def test_every_line_of_a_profile_has_a_source() -> None:
    folder = Path(__file__).parent.parent / "csrc/device/emulator/profiles"
    for path in folder.glob("*.profile"):
        for line in path.read_text().splitlines():
            name = line.split("=")[0].strip()
            if name in RULES:
                assert line.partition("#")[2].strip(), f"{path.name}: {line}"


def test_profile_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.profile"
    path.write_text("base = m4\nchip = mine\nlive-program-limit = 7  # a guess\nevidence = off\n")
    facts = emulator(str(path)).facts
    assert (facts["chip"], facts["architecture"]) == ("mine", "h16g")
    assert facts["rules"]["live-program-limit"] == 7
    assert "evidence" not in facts["rules"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chip = x\n", "'architecture' is missing"),
        ("base = m4\nnonsense\n", "line 2.*no '='"),
        ("base = m9\n", "no base profile 'm9'"),
        ("base = m4\nborder-widht = on\n", "line 2.*no rule 'border-widht'.*did you mean 'border-width'"),
        ("base = m4\nconcat = 3\n", "rule 'concat' is set to '3'; expected on, off"),
        ("base = m4\naxis-limit = many\n", "expected on, off or a number \\(elements"),
        ("base = m4\naxis-limit = nan\n", "expected on, off or a number"),
    ],
)
def test_wrong_profile(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.profile"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        emulator(str(path))


def test_a_profile_cannot_be_its_own_base(tmp_path: Path) -> None:
    path = tmp_path / "loop.profile"
    path.write_text(f"base = {path}\n")
    with pytest.raises(ArgumentError, match="no base profile"):
        emulator(str(path))


def test_unknown_profile_lists_the_known() -> None:
    with pytest.raises(ArgumentError, match=r"no profile 'm44'.*did you mean 'm4'.*'m3ultra'"):
        emulator("m44")
    with pytest.raises(ArgumentError, match="no profile 'apple-common'"):
        emulator("apple-common")
    with pytest.raises(ArgumentError, match="cannot read the profile file"):
        emulator("/nowhere/x.profile")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"no-such": True}, "no rule 'no-such'"),
        ({"concat": 2}, "expected on, off"),
        ({"axis-limit": 0}, "above 0"),
        ({"live-program-limit": -1}, "above 0"),
        ({"program-weight-bytes": 1e30}, "at most 2\\^53"),
        ({"denormal-flush": 0}, "not 0"),
        ({"axis-limit": "off"}, "'axis-limit' is set to 'off'; expected True, False or a number"),
    ],
)
def test_wrong_switch(rules: dict[str, bool | float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        emulator("m4", rules=rules)


@pytest.mark.parametrize("rule", RULES)
def test_rule_explains_itself(rule: str) -> None:
    entry = RULES[rule]
    assert 10 < len(entry["summary"]) < 140
    assert not entry["summary"].endswith(".")
    assert entry["source"].startswith("ANE_FACTS")
    refuses = rule in RAW_REFUSALS if entry["stage"] == "raw" else entry["stage"] != "numerics" and rule != CACHE
    assert bool(entry["error"]) == refuses
    assert (entry["kind"] == "number") == bool(entry["unit"])
