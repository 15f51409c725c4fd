"""Tables of what benches found, as text. The device stands above them.

Of an emulator no rate is shown, and each column of times says whose times they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anetrain.bench.base import Bench
from anetrain.results import Check, Device, Measurement, Results, Scalar, Timing

MEBI = 1 << 20

TITLES = {
    "ms": "ms",
    "tflops": "TFLOPS",
    "tops": "TFLOPS, of int8 TOPS",
    "gb_per_s": "GB/s",
    "gflop": "GFLOP",
    "gop": "GFLOP, of int8 GOP",
    "weight_mib": "weights MiB",
    "activation_mib": "activations MiB",
    "act_mib": "activations MiB, one side",
    "total_mib": "total MiB",
    "gflops_per_mib": "GFLOPS/MiB of weights",
}
COUNTED: Mapping[str, Callable[[Measurement], float | None]] = {
    "gflop": lambda one: None if one.flops is None else one.flops / 1e9,
    "gop": lambda one: None if one.flops is None else one.flops / 1e9,
    "tops": lambda one: one.figures.get("tflops"),
    "weight_mib": lambda one: None if one.weight_bytes is None else one.weight_bytes / MEBI,
    "activation_mib": lambda one: None if one.activation_bytes is None else one.activation_bytes / MEBI,
    "total_mib": lambda one: None if one.bytes_moved is None else one.bytes_moved / MEBI,
    "gflops_per_mib": lambda one: gflops_per_mib(one),
}
RATES = {"tflops", "gflops", "tops", "gops"}
TIMES = {"ms", "us", "seconds", "ratio", "speedup"}
UNSTABLE = "*"
NOTHING = "-"


def gflops_per_mib(one: Measurement) -> float | None:
    """Operations a second for each MiB of weights."""
    if "tflops" not in one.figures or not one.weight_bytes:
        return None
    return 1e3 * one.figures["tflops"] / (one.weight_bytes / MEBI)


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[Measurement], str]


def text(results: Results, benches: Sequence[Bench]) -> str:
    """The tables of a file, below what they are of."""
    return "\n\n".join([head(results), *(of_bench(results, bench) for bench in benches)])


def head(results: Results) -> str:
    made = results.provenance
    small = "\nsmall sizes, for trying out: not to be compared with anything" if made.scale == "small" else ""
    partly = "" if results.complete else "\nincomplete: the run was interrupted"
    return f"{results.device.label}\n{made.command}, {made.started}, anetrain {made.anetrain}{small}{partly}"


def of_bench(results: Results, bench: Bench) -> str:
    """Its question, its table, why rows are empty, and what it found."""
    measured = [one for one in results.measurements if one.bench == bench.name]
    if not measured:
        return f"{bench.name}: nothing was measured"
    parts = [f"{bench.name}: {bench.question}", table(bench.columns, measured, results.device)]
    if any(one.timing is not None and not one.timing.stable for one in measured):
        parts.append(f"{UNSTABLE} times still fell when the warm-up had to end")
    parts += _reasons(measured)
    parts += [f"{found.question} {found.answer}" for found in results.findings if found.bench == bench.name]
    if results.device.kind == "emulator":
        parts.append("Nothing is concluded from times: they are of this machine's CPU.")
    return "\n".join(parts)


def _reasons(measured: Sequence[Measurement]) -> list[str]:
    """Why rows are empty. Cases with the same reason share a line."""
    cases: dict[str, list[str]] = {}
    for one in measured:
        if one.reason:  # which may begin with the program's label, the case
            cases.setdefault(f"{one.status}: {one.reason.removeprefix(f'{one.case}: ')}", []).append(one.case)
    return [f"{'; '.join(names)}: {why}" for why, names in cases.items()]


def table(columns: Sequence[str], measured: Sequence[Measurement], device: Device) -> str:
    rows = rows_of(columns, measured, device)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def rows_of(columns: Sequence[str], measured: Sequence[Measurement], device: Device) -> list[list[str]]:
    """The table's cells; the first row has the titles."""
    shown = _columns(columns, device)
    return [[column.title for column in shown], *([column.cell(one) for column in shown] for one in measured)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first to the left, numbers to the right."""
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _columns(names: Sequence[str], device: Device) -> list[_Column]:
    shown = [_Column("case", lambda one: one.case)]
    for name in names:
        if (title := title_of(name, device)) is not None:
            shown.append(_Column(title, _asked(name)))
        if name == "ms":
            shown.append(_Column("its p10", _timed(lambda timing: 1e3 * timing.p10_s)))
            shown.append(_Column("its p90", _timed(lambda timing: 1e3 * timing.p90_s)))
    return [
        *shown,
        _Column("samples", _samples),
        _Column("error / allowed", lambda one: error_of(one.check) if one.check else NOTHING),
        _Column("status", lambda one: one.status),
    ]


def title_of(name: str, device: Device) -> str | None:
    """None: not shown of such a device."""
    title, words = TITLES.get(name, name.replace("_", " ")), set(name.split("_"))
    rate = bool(words & RATES) or name.endswith("per_s")
    if device.kind == "ane":
        return title
    if rate:
        return None
    return f"{title} of this CPU" if words & TIMES else title


def _asked(name: str) -> Callable[[Measurement], str]:
    """A count, a figure, a parameter, or what was observed: whichever has the name."""

    def cell(one: Measurement) -> str:
        if name in COUNTED:
            return _scalar(COUNTED[name](one))
        for known in (one.figures, one.parameters, one.observed):
            if name in known:
                return _scalar(known[name])
        return NOTHING

    return cell


def _timed(get: Callable[[Timing], float]) -> Callable[[Measurement], str]:
    return lambda one: NOTHING if one.timing is None else _scalar(get(one.timing))


def _samples(one: Measurement) -> str:
    if one.timing is None:
        return NOTHING
    each = "" if one.timing.calls_per_sample == 1 else f" x {one.timing.calls_per_sample}"
    return f"{len(one.timing.samples_s)}{each}{'' if one.timing.stable else UNSTABLE}"


def error_of(check: Check) -> str:
    found = "not finite" if check.largest_error is None else f"{check.largest_error:.2g}"
    return f"{found} / {check.allowed:.2g}"


def _scalar(value: Scalar) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
