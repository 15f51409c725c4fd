"""From experiments to answers and to the words that give their evidence. Nothing here knows a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anetrain.results import Answer, Experiment

UNPROVEN = "evidence"  # the emulator's rule for what nobody has seen: its refusal is no observation of an engine
USUAL = ("_ANECompiler : ANECCompile() FAILED : ", "ANEProgramProcessRequestDirect() Failed with ")


def named(experiments: Sequence[Experiment], name: str) -> Experiment | None:
    return next((made for made in experiments if made.name == name), None)


def worked(made: Experiment | None) -> Answer:
    """Did it run and give the right values? Unknown where that was not seen."""
    if made is None or made.status in ("failed", "interrupted", "skipped"):
        return "unknown"
    if made.status == "done":
        return "yes" if made.observed.get("values") == "right" else "no"
    if made.refusal is not None and made.refusal.rule == UNPROVEN:
        return "unknown"
    return "no"


def right_where_run(made: Experiment | None) -> Answer:
    """Of a property of values, which a refusal tells nothing about."""
    return worked(made) if made is not None and made.status == "done" else "unknown"


def opposite(answer: Answer) -> Answer:
    return {"yes": "no", "no": "yes"}.get(answer, answer)  # type: ignore[return-value]


def combined(answers: Iterable[Answer]) -> Answer:
    """Of a hypothesis that says all of it: one "no" is enough against it, one "unknown" leaves it open."""
    found = set(answers)
    if "partly" in found or {"yes", "no"} <= found:
        return "partly"
    return "no" if "no" in found else "yes" if found == {"yes"} else "unknown"


def phrase(made: Experiment | None) -> str:
    """What came of it, in a few words."""
    if made is None:
        return "not tried"
    if made.status == "done":
        values = str(made.observed.get("values", "done"))
        return values if values == "right" else f"values {values}"
    if made.status == "refused" and made.refusal is not None:
        stage = "evaluated" if made.refusal.error == "EvalError" else "compiled"
        how = made.refusal.text or made.refusal.detail
        for usual in USUAL:
            how = how.removeprefix(usual)
        rule = f", rule {made.refusal.rule}" if made.refusal.rule else ""
        return f"refused when {stage} ({how}{rule})"
    if made.status in ("crashed", "timed out", "failed"):
        return f"{made.status} ({made.reason})"
    return made.status


def evidence(experiments: Sequence[Experiment]) -> str:
    """Every experiment by name, those with the same outcome together: "a, b: right; c: values zero"."""
    groups: dict[str, list[str]] = {}
    for made in experiments:
        groups.setdefault(phrase(made), []).append(made.name)
    return "; ".join(f"{', '.join(names)}: {what}" for what, names in groups.items()) or "nothing was tried"


def counted(experiments: Sequence[Experiment], what: str) -> str:
    """Of experiments that are named by a number: "52 widths, 50: right (1 to 64, 80); 2: values zero (96, 128)"."""
    groups: dict[str, list[int]] = {}
    for made in experiments:
        groups.setdefault(phrase(made), []).append(int(made.name))
    parts = [f"{len(numbers)}: {how} ({_spans(numbers, experiments)})" for how, numbers in groups.items()]
    return f"{len(experiments)} {what}, " + ("; ".join(parts) or "none was tried")


def _spans(numbers: Sequence[int], experiments: Sequence[Experiment]) -> str:
    """Neighbours among those tried as "first to last"."""
    tried = sorted(int(made.name) for made in experiments)
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and tried.index(number) == tried.index(spans[-1][-1]) + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)
