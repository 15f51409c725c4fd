"""The report of one device: what it is, what was measured and found, and how that compares, like with like."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anetrain import chips
from anetrain.bench import catalogue, table
from anetrain.report import cells, published
from anetrain.report.document import Block, Cell, Column, Items, Kind, Line, Paragraph, Section, Table
from anetrain.report.figures import Interval
from anetrain.report.inputs import Entry, Run
from anetrain.report.marks import Marks
from anetrain.report.published import Published
from anetrain.results import Finding, Health, Measurement, Verdict

COMPARED = ("tflops", "sustained_tflops", "ms", "fp16_tflops", "fp16_ms", "int8_tops", "int8_ms", "step_ms")
STATUS: dict[str, Kind] = {"measured": "yes", "ok": "yes", "warning": "partly", "failed": "no", "skipped": "unknown"}
COLUMNS = ("ms", "tflops")  # of a bench that this version does not have


@dataclass(frozen=True)
class Subject:
    """One device in one machine, as one person measured it."""

    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        device, machine = self.runs[0].results.device, self.runs[0].results.machine
        by = f", by {self.runs[0].contributor}" if self.runs[0].contributor else ""
        return f"{device.chip or 'unknown chip'} ({machine.model or 'unknown model'}{by})"


def subjects(runs: Iterable[Run]) -> list[Subject]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        device = run.results.device.model_dump(mode="json", exclude={"facts"})
        who = [device, run.results.machine.model_dump(mode="json"), run.contributor]
        groups.setdefault(json.dumps(who, sort_keys=True), []).append(run)
    return [Subject(tuple(group)) for group in groups.values()]


def section(subject: Subject, entries: Sequence[Entry], figures: Published, marks: Marks) -> Section:
    parts = [
        _hardware(subject),
        *(_bench(name, subject.runs) for name in benches(subject.runs)),
        _probes(subject.runs),
        _health(subject.runs),
        _speed_ups(subject, entries, figures, marks),
        _published_of(subject, entries, figures, marks),
    ]
    return Section(subject.title, sections=tuple(part for part in parts if part is not None))


# ---------------------------------------------------------------- what it is


def _hardware(subject: Subject) -> Section:
    device, machine = subject.runs[0].results.device, subject.runs[0].results.machine
    chip = chips.known(device.chip)
    known = {
        "device": device.label,
        "chip": device.chip,
        "aneSubType": device.sub_type,
        "engine": ", ".join(
            f"{what}: {count}"
            for count, what in ((device.engines, "engines"), (device.cores, "cores"))
            if count is not None
        ),
        "engine's architecture": device.architecture,
        "model": machine.model,
        "CPU": f"{machine.processor}, {_cores(machine.performance_cores)} performance and "
        f"{_cores(machine.efficiency_cores)} efficiency cores",
        "memory": f"{machine.memory_bytes / (1 << 30):.4g} GiB",
        "system": f"{machine.system}, {machine.kernel}, {machine.architecture}",
        "utilisation is of": chip.peak.source if chip else "nothing: no fp16 rate of this chip is known",
        "contributor": "; ".join(dict.fromkeys(run.contributor for run in subject.runs if run.contributor)),
        "cooling": "; ".join(dict.fromkeys(run.cooling for run in subject.runs if run.cooling)),
        "notes": "; ".join(dict.fromkeys(run.notes for run in subject.runs if run.notes)),
        "runs": ", ".join(run.name for run in subject.runs),
    }
    return Section("Hardware", (Items(tuple((name, said) for name, said in known.items() if said)),))


def _cores(count: int | None) -> str:
    return "unknown" if count is None else str(count)


# ---------------------------------------------------------------- what was measured


def benches(runs: Iterable[Run]) -> list[str]:
    """In the order of the catalogue; others after it."""
    found = {one.bench for run in runs for one in run.results.measurements}
    return [name for name in catalogue.BENCHES if name in found] + sorted(found - catalogue.BENCHES.keys())


def question_of(bench: str) -> str:
    return catalogue.bench(bench).question if bench in catalogue.BENCHES else "A bench that this version does not know."


def _bench(name: str, runs: Sequence[Run]) -> Section:
    blocks: list[Block] = [Paragraph(question_of(name))]
    for run in runs:
        measured = [one for one in run.results.measurements if one.bench == name]
        if not measured:
            continue
        if not run.results.complete:
            blocks.append(Paragraph(f"{run.name} was interrupted: this is what there was by then.", "warning"))
        blocks.append(_measurements(name, run, measured))
        blocks += reasons(measured)
        blocks += findings(name, run, measured)
    return Section(f"Bench {name}", tuple(blocks))


def findings(name: str, run: Run, measured: Sequence[Measurement], *, times: bool = True) -> list[Block]:
    """Computed again from the measurements; a file that says something else is told of. `times`: also those that rest
    on times."""
    said = [one for one in run.results.findings if one.bench == name and (times or not one.from_times)]
    if name not in catalogue.BENCHES:
        return _answers(said)
    try:
        computed = [one for one in catalogue.bench(name).findings(measured) if times or not one.from_times]
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        text = f"Nothing can be computed from these measurements: they are not of this version's bench ({error})."
        return [Paragraph(text, "warning")]
    answers = {one.answer for one in computed}
    other = [one for one in said if one.answer not in answers]
    text = "The file says something else, which its measurements do not give:"
    return [*_answers(computed), *([Paragraph(text, "warning"), *_answers(other)] if other else [])]


def _answers(found: Sequence[Finding]) -> list[Block]:
    return [Items(tuple((one.question, one.answer) for one in found))] if found else []


def _measurements(name: str, run: Run, measured: Sequence[Measurement]) -> Table:
    columns = catalogue.bench(name).columns if name in catalogue.BENCHES else COLUMNS
    device, machine = run.results.device, run.results.machine
    where = f"{device.label}, {machine.model}, {machine.system}"
    caption = f"{name}, {run.name}: {where}, {run.results.provenance.started[:10]}"
    unstable = any(one.timing is not None and not one.timing.stable for one in measured)
    note = f"{table.UNSTABLE} times still fell when the warm-up had to end" if unstable else ""
    return measurement_table(caption, table.rows_of(columns, measured, device), note)


def measurement_table(caption: str, rows: Sequence[Sequence[str]], note: str = "") -> Table:
    """The last column says whether it was measured."""
    titles, *others = rows
    columns = (Column(titles[0]), *(Column(title, numbers=title != "status") for title in titles[1:]))
    lines = tuple(
        Line((*(Cell(text) for text in cells_), Cell(status, STATUS.get(status, "no")))) for *cells_, status in others
    )
    return Table(caption, columns, lines, note)


def reasons(measured: Sequence[Measurement]) -> list[Items]:
    found = tuple((one.case, f"{one.status}: {one.reason}") for one in measured if one.reason)
    return [Items(found)] if found else []


def verdict_table(caption: str, verdicts: Sequence[tuple[Run, Verdict]]) -> Table:
    lines = [
        Line(
            (
                Cell(verdict.probe, note=run.name),
                Cell(verdict.question),
                Cell(verdict.hypothesis, note=f"from: {verdict.source}"),
                Cell(verdict.answer, verdict.answer),
                Cell(verdict.sentence),
            )
        )
        for run, verdict in verdicts
    ]
    titles = ("probe", "question", "hypothesis", "does it hold?", "evidence")
    return Table(caption, tuple(Column(title) for title in titles), tuple(lines))


def _probes(runs: Sequence[Run]) -> Section | None:
    found = [(run, verdict) for run in runs for verdict in run.results.verdicts]
    if not found:
        return None
    label = runs[0].results.device.label
    return Section("Probes", (verdict_table(f"Verdicts of probes: {label}", found),))


def health_table(caption: str, asked: Sequence[tuple[Run, Health]]) -> Table:
    lines = [
        Line(
            (
                Cell(one.name, note=run.name),
                Cell(one.question),
                Cell(one.status, STATUS[one.status]),
                Cell(one.sentence, note="; ".join(one.advice)),
            )
        )
        for run, one in asked
    ]
    return Table(caption, tuple(Column(title) for title in ("what", "question", "status", "found")), tuple(lines))


def _health(runs: Sequence[Run]) -> Section | None:
    found = [(run, one) for run in runs for one in run.results.health]
    if not found:
        return None
    return Section("Health", (health_table(f"Questions of the doctor: {runs[0].results.device.label}", found),))


# ---------------------------------------------------------------- how it compares


def _speed_ups(subject: Subject, entries: Sequence[Entry], figures: Published, marks: Marks) -> Section | None:
    """Ratios of the same figure of the same benchmark in the same configuration, and no others."""
    own = [entry for entry in entries if entry.run in subject.runs]
    others = [entry for entry in entries if entry.run not in subject.runs]
    lines = [
        _ratio_line(entry, other, name, figures, marks)
        for entry in own
        for name in COMPARED
        for other in cells.ordered(others)
        if entry.row.identity == other.row.identity and entry.row.interval(name) and other.row.interval(name)
    ]
    if not lines:
        return None
    columns = (
        Column("benchmark"),
        Column("figure"),
        Column("this chip", numbers=True),
        Column("other chip"),
        Column("its figure", numbers=True),
        Column("this chip is faster by", "times", numbers=True),
        Column("source of the other"),
    )
    note = "Below 1 the other chip is the faster one. A range where a figure is a range or is printed with few digits."
    return Section("Speed-ups", (Table("Ratios of one benchmark in one configuration", columns, tuple(lines), note),))


def _ratio_line(own: Entry, other: Entry, name: str, figures: Published, marks: Marks) -> Line:
    quantity = figures.quantities[name]
    above, below = (other.row, own.row) if quantity.better == "lower" else (own.row, other.row)
    return Line(
        (
            Cell(own.row.benchmark, note=cells.settings(own.row.configuration)),
            Cell(cells.TITLES.get(name, name), note=quantity.unit),
            cells.figure(own.row, name, marks),
            cells.chip_cell(other, marks, (name,)),
            cells.figure(other.row, name, marks),
            ratio_cell(published.ratio(above, below, name)),
            cells.source_cell(other),
        )
    )


def ratio_cell(ratio: Interval) -> Cell:
    """Two decimals; both ends where they differ by more than that."""
    low, high = f"{ratio.low:.2f}", f"{ratio.high:.2f}"
    if float(high) - float(low) > 0.015:
        return Cell(f"{low}-{high}", "range")
    return Cell(f"{ratio.middle:.2f}", "value")


def _published_of(subject: Subject, entries: Sequence[Entry], figures: Published, marks: Marks) -> Section | None:
    """All that others have published of the same chip."""
    chip = subject.runs[0].results.device.chip.removeprefix("Apple ")
    found = [entry for entry in entries if entry.run is None and chip in entry.row.chips]
    if not found:
        return None
    lines = []
    for entry in found:
        names = [name for name in entry.row.figures if name in figures.quantities]
        for place, name in enumerate(names):
            lines.append(
                Line(
                    (
                        Cell(entry.row.benchmark, marks=() if place else marks.of_row(entry.row.id, names)),
                        Cell(cells.settings(entry.row.configuration)),
                        Cell(figures.quantities[name].what),
                        cells.figure(entry.row, name, marks),
                        Cell(figures.quantities[name].unit),
                        cells.source_cell(entry),
                    )
                )
            )
    columns = (
        *(Column(title) for title in ("benchmark", "configuration", "what")),
        Column("figure", numbers=True),
        Column("unit"),
        Column("source"),
    )
    return Section("Published of this chip", (Table(f"What others have published of {chip}", columns, tuple(lines)),))
