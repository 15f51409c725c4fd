"""The doctor's questions: what to look at (`checks.py`), and when that is well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anetrain.isolate import Outcome
from anetrain.results import Health, anonymous

MODELS = ("stories110m", "qwen3-0.6b")
LAYOUTS = ("stacked", "separate", "packed", "baked")
SMALL_MODEL = "stories15m"  # for layouts: whether a form works is no question of size
# A chip's tables for sigmoid and the like err by up to 0.006; a wrong order of anything gives an average error near 1.
LARGEST_ERROR, RMS_ERROR = 0.1, 0.05
SELF_TEST_ERROR = 0.005
LEAK_ROUNDS = 30
LEAK_MB = 50.0  # allocators keep some

Status = Literal["ok", "warning", "failed", "skipped"]
Judged = tuple[Status, str]


@dataclass(frozen=True)
class Question:
    """`check`: a function of checks.py and its arguments; `judge` has what it returned."""

    name: str
    question: str
    check: str
    judge: Callable[[Mapping[str, Any]], Judged]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 120.0
    failing: Status = "failed"
    """What it is when the device refuses, or the process dies."""
    real_only: bool = False

    def health(self, outcome: Outcome) -> Health:
        if outcome.status == "done":
            status, sentence = self.judge(outcome.value)
            observed = outcome.value
        else:
            status, sentence, observed = self.failing, f"{outcome.status}: {anonymous(outcome.reason)}", {}
        return Health(
            name=self.name,
            question=self.question,
            status=status,
            sentence=sentence,
            observed=observed,
            seconds=outcome.seconds,
        )

    def skipped(self, why: str) -> Health:
        return Health(name=self.name, question=self.question, status="skipped", sentence=why)


def all_questions() -> list[Question]:
    """In the order in which they are asked."""
    return [
        Question("environment", "Is there what anetrain needs?", "environment", _environment),
        Question(
            "framework",
            "Has the system's framework the classes and methods that are used?",
            "framework",
            _framework,
            failing="warning",
            real_only=True,
        ),
        Question("self-test", "Does the device compute?", "self_test", _self_test),
        *(_programs(model) for model in MODELS),
        *(_layout(layout) for layout in LAYOUTS),
        _extras(),
        Question(
            "leaks",
            "Is everything given back?",
            "leaks",
            _leaks,
            {"rounds": LEAK_ROUNDS},
            timeout_s=300.0,
        ),
    ]


def _programs(model: str) -> Question:
    return Question(
        f"programs of {model}",
        f"Do all training programs of {model} compute what they should?",
        "programs",
        _errors,
        {"model": model, "layout": "stacked", "extras": "none"},
        timeout_s=600.0,
    )


def _layout(layout: str) -> Question:
    return Question(
        f"layout {layout}",
        f"Do weights reach programs in the layout {layout}?",
        "programs",
        _errors,
        {"model": SMALL_MODEL, "layout": layout, "extras": "none"},
        timeout_s=300.0,
        failing="failed" if layout == "stacked" else "warning",  # one is enough
    )


def _extras() -> Question:
    return Question(
        "extras",
        "Do norms and classifier work on the device?",
        "programs",
        _errors,
        {"model": SMALL_MODEL, "layout": "stacked", "extras": "all"},
        timeout_s=300.0,
        failing="warning",  # they are optional
    )


def _environment(seen: Mapping[str, Any]) -> Judged:
    real = seen["real_ane"]
    if seen["translated"]:
        return "failed", "this Python is for Intel: under Rosetta there is no engine"
    if real["usable"]:
        return "ok", f"the real ANE is usable: {real['why']}"
    return "warning", f"no real ANE: {real['why']}"


def _framework(seen: Mapping[str, Any]) -> Judged:
    differences = seen["differences"]
    if differences:
        return "warning", f"{len(differences)} things are other than expected: {'; '.join(differences)}"
    return "ok", f"{seen['classes']} classes, all methods as expected (version {seen['version']})"


def _self_test(seen: Mapping[str, Any]) -> Judged:
    error = seen["largest_error"]
    if error is None:
        return "failed", "a convolution gave values that are not finite"
    if error > SELF_TEST_ERROR:
        return (
            "failed",
            f"a convolution is wrong by {error:.2g} of its largest value; at most {SELF_TEST_ERROR:g} expected",
        )
    unverified = "; the device does not say how its ports lie" if seen["ports_verified"] == 0 else ""
    return "ok", f"a convolution is right to {error:.1g} of its largest value{unverified}"


def _errors(seen: Mapping[str, Any]) -> Judged:
    largest: Mapping[str, float | None] = seen["largest_errors"]
    wrong = []
    for name, error in largest.items():
        mean = seen["rms_errors"][name]
        if error is None or mean is None:
            wrong.append(f"{name} (not finite)")
        elif error > LARGEST_ERROR or mean > RMS_ERROR:
            wrong.append(f"{name} (off by {error:.2g} of the largest value, {mean:.2g} on average)")
    if wrong:
        return "failed", f"{len(wrong)} of {len(largest)} programs give wrong values: {', '.join(wrong)}"
    worst = max(error for error in largest.values() if error is not None)
    return "ok", f"{len(largest)} programs, within {worst:.1g} of the largest value of the exact emulator"


def _leaks(seen: Mapping[str, Any]) -> Judged:
    left = [f"{count:g} {name.replace('_', ' ')}" for name, count in seen["left"].items() if count]
    if seen["folders_left"]:
        left.append(f"{seen['folders_left']} folders of programs")
    if seen["memory_mb"] > LEAK_MB:
        left.append(f"{seen['memory_mb']:.0f} MB of memory")
    if left:
        return "failed", f"after {seen['rounds']} programs there are left: {', '.join(left)}"
    return "ok", f"{seen['rounds']} programs left nothing behind"
