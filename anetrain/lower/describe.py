"""What a plan costs, for people (`describe`) and for programs (`plan_report`): nothing is compiled for it."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from anetrain.lower.check import check_programs, checkable
from anetrain.lower.plan import Plan, ProgramSpec, Receive, Send, Step, dispatched
from anetrain.mil.text import Program
from anetrain.mil.types import dtype

LINE = 140  # columns of a description


def plan_report(plan: Plan, profiles: Sequence[str] = ()) -> dict[str, Any]:
    """All numbers, ready for JSON. `profiles`: the chips under whose rules the programs are checked."""
    precision = plan.derived.graph.precision
    item = dtype(precision).bits // 8
    programs = checkable(plan) if profiles else []
    return {
        "layout": plan.layout,
        "granularity": plan.granularity,
        "dispatches": {"forward": len(dispatched(plan.forward)), "backward": len(dispatched(plan.backward))},
        "programs": [_program(spec) for spec in plan.programs],
        "flops": {"forward": plan.flops(plan.forward), "backward": plan.flops(plan.backward)},
        "host_bytes": {"forward": _host_bytes(plan.forward, item), "backward": _host_bytes(plan.backward, item)},
        "saved_bytes": plan.saved_bytes // 2 * item,
        "saved": plan.saved,
        "recomputed": plan.recomputed,
        "staged_bytes": sum(place.region.rows * place.region.columns for place in plan.weights if place.region) * item,
        "baked_bytes": sum(_baked(spec) for spec in plan.programs) * item,
        "surface_bytes": {
            "weights": sum(spec.channels * spec.width for spec in plan.surfaces.values() if spec.weights) * item,
            "kept": sum(spec.channels * spec.width for spec in _activations(plan) if spec.kept) * item,
            "scratch": sum(spec.channels * spec.width for spec in _activations(plan) if not spec.kept) * item,
        },
        "profiles": {profile: _checked(programs, profile) for profile in profiles},
    }


def describe(plan: Plan, profiles: Sequence[str] = ()) -> str:
    """The report as a table of one screen."""
    report = plan_report(plan, profiles)
    dispatches, flops, host = report["dispatches"], report["flops"], report["host_bytes"]
    both = sum(dispatches.values())
    surfaces = report["surface_bytes"]
    lines = [
        f"{plan.layout}, {plan.granularity}: {both} dispatches, {dispatches['forward']} forward and "
        f"{dispatches['backward']} backward; {_number(flops['forward'])}FLOP forward, "
        f"{_number(flops['backward'])}FLOP backward",
        "",
        *_table(report["programs"]),
        "",
        *_paragraph("kept", f"{_bytes(report['saved_bytes'])} for backward: {_counted(report['saved'])}"),
        *_paragraph("recomputed", _counted(report["recomputed"])),
        *_paragraph("weights", f"{_bytes(report['staged_bytes'])} staged, {_bytes(report['baked_bytes'])} baked in"),
        *(
            f"{name:<12}{_bytes(host[name]['sent'])} sent, {_bytes(host[name]['received'])} received by the host"
            for name in ("forward", "backward")
        ),
        f"surfaces    {_bytes(surfaces['weights'])} of weights and {_bytes(surfaces['kept'])} kept for each layer, "
        f"{_bytes(surfaces['scratch'])} shared by all",
        *(line for name, checked in report["profiles"].items() for line in _paragraph(name, _verdict(checked))),
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- numbers


def _program(spec: ProgramSpec) -> dict[str, Any]:
    known = spec.report
    return {
        "label": spec.label,
        "inputs": {port: {"shape": list(shape), "surface": spec.inputs[port]} for port, shape in known.inputs.items()},
        "outputs": {
            port: {"shape": list(shape), "surface": spec.outputs[port]} for port, shape in known.outputs.items()
        },
        "input_bytes": known.input_bytes,
        "output_bytes": known.output_bytes,
        "constant_bytes": known.constant_bytes,
        "flops": known.flops,
        "operations": known.operations,
        "working_set_bytes": known.working_set_bytes,
    }


def _host_bytes(steps: Sequence[Step], item: int) -> dict[str, int]:
    """What the host writes to surfaces and reads from them, in bytes of the device's elements."""
    moved = {Send: 0, Receive: 0}
    for step in steps:
        if isinstance(step, Send | Receive):
            moved[type(step)] += step.region.rows * step.region.columns * item
    return {"sent": moved[Send], "received": moved[Receive]}


def _baked(spec: ProgramSpec) -> int:
    return sum(math.prod(place.shape) for place in spec.constants.values())


def _activations(plan: Plan) -> list[Any]:
    return [spec for spec in plan.surfaces.values() if not spec.weights]


def _checked(programs: list[tuple[str, Program]], profile: str) -> dict[str, list[dict[str, Any]]]:
    """What a chip refuses, and (`noted`) what it takes although numbers change or advice is against it: each rule once,
    with its first finding and all programs that it is about."""
    by_rule: dict[tuple[str, str], dict[str, Any]] = {}
    for label, found in check_programs(programs, profile):
        kind = "noted" if found.advice else "refused"
        names = ("rule", "subject", "value", "limit", "detail")
        first = {name: getattr(found, name) for name in names}
        labels = by_rule.setdefault((kind, found.rule), {**first, "programs": []})["programs"]
        if label not in labels:
            labels.append(label)
    return {name: [entry for (kind, _), entry in by_rule.items() if kind == name] for name in ("refused", "noted")}


# ---------------------------------------------------------------- words


def _table(programs: list[dict[str, Any]]) -> list[str]:
    head = ("program", "inputs", "outputs", "in", "out", "constants", "working set", "ops", "FLOP")
    rows = [head, *map(_row, programs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = 3  # these columns are words
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(program: dict[str, Any]) -> tuple[str, ...]:
    return (
        program["label"],
        _ports(program["inputs"]),
        _ports(program["outputs"]),
        *(_bytes(program[name]) for name in ("input_bytes", "output_bytes", "constant_bytes", "working_set_bytes")),
        str(program["operations"]),
        _number(program["flops"]),
    )


def _ports(ports: dict[str, dict[str, Any]]) -> str:
    """Surface and size: "y0 [384, 32]"; many are only counted."""
    if len(ports) > 2:
        return f"{len(ports)} surfaces"
    return " ".join(f"{port['surface']} [{port['shape'][1]}, {port['shape'][3]}]" for port in ports.values())


def _counted(names: Sequence[str]) -> str:
    counts = Counter(names)
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items()) or "nothing"


def _verdict(checked: dict[str, list[dict[str, Any]]]) -> str:
    if checked["refused"]:
        return "refused: " + "; ".join(map(_broken, checked["refused"]))
    return "; ".join(["takes it", *map(_broken, checked["noted"])])


def _broken(entry: dict[str, Any]) -> str:
    where = ", ".join(entry["programs"])
    if not entry["rule"]:  # wrong for every profile
        return f"({where}) {entry['detail']}"
    return f"rule {entry['rule']} ({where}): {entry['subject']}: {entry['value']}, expected {entry['limit']}"


def _paragraph(name: str, words: str) -> list[str]:
    return textwrap.wrap(words, LINE, initial_indent=f"{name:<12}", subsequent_indent=" " * 12, break_on_hyphens=False)


def _bytes(count: int) -> str:
    return f"{_number(count)}B"


def _number(value: int) -> str:
    """Three digits and a prefix: "12.6 M"."""
    scaled, prefix = float(value), ""
    for next_prefix in "kMGT":
        if scaled < 999.5:
            break
        scaled, prefix = scaled / 1000, next_prefix
    digits = f"{scaled:.0f}" if scaled >= 99.95 or not prefix else f"{scaled:.3g}"
    return f"{digits} {prefix}"
