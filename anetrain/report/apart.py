"""What may stand beside no device: results of emulators, and of small sizes. Values, counts and verdicts; no rates, and
times only under a title that says whose they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anetrain.bench import table
from anetrain.bench.catalogue import BENCHES, bench
from anetrain.report import chip, matrix
from anetrain.report.document import Block, Cell, Column, Line, Paragraph, Section, Table
from anetrain.report.inputs import Run
from anetrain.results import Measurement

COUNTED = ("gflop", "weight_mib", "activation_mib")
NONE = "-"
ALIKE = "Nothing in this section is compared with a device, and nothing here says how fast an ANE is."


def section(runs: Sequence[Run]) -> Section:
    groups = [
        (
            "Emulated ANE: times are of the CPU of the machine that ran it",
            [run for run in runs if run.results.device.kind == "emulator"],
        ),
        (
            "Small sizes on a real ANE: for trying out",
            [run for run in runs if run.results.device.kind == "ane"],
        ),
    ]
    parts = [_group(title, found) for title, found in groups if found]
    return Section("Not comparable: emulators and small sizes", (Paragraph(ALIKE, "warning"),), tuple(parts))


def _group(title: str, runs: Sequence[Run]) -> Section:
    columns = [(name_of(run), [run]) for run in runs]
    tables = matrix.of_runs(f"Answers of probes. {title}", columns)
    blocks: list[Block] = [*tables]
    if tables and runs[0].results.device.kind == "emulator":
        blocks.append(Paragraph("An emulator answers by the rules of its profile: it shows the rules, not a chip."))
    return Section(title, tuple(blocks), tuple(_run(run) for run in runs))


def name_of(run: Run) -> str:
    """Of the device, in a column's title."""
    device = run.results.device
    return device.name if device.kind == "emulator" else f"{device.chip or 'unknown chip'}, small sizes"


def whose(run: Run) -> str:
    """Titles of times."""
    return "ms of that CPU" if run.results.device.kind == "emulator" else "ms at small size"


def _run(run: Run) -> Section:
    found, made = run.results, run.results.provenance
    processor = found.machine.processor or "unknown processor"
    by = f", by {run.contributor}" if run.contributor else ""
    blocks: list[Block] = [
        Paragraph(
            f"{found.device.label}. Scale {made.scale}; on {processor}, {found.machine.system}; {made.started[:10]}, "
            f"anetrain {made.anetrain}{by}.",
            "warning",
        )
    ]
    if not found.complete:
        blocks.append(Paragraph("The run was interrupted: this is what there was by then.", "warning"))
    for name in chip.benches([run]):
        measured = [one for one in found.measurements if one.bench == name]
        blocks += [_measurements(name, run, measured), *chip.reasons(measured)]
        blocks += chip.findings(name, run, measured, times=False)
    if found.verdicts:
        verdicts = [(run, verdict) for verdict in found.verdicts]
        blocks.append(chip.verdict_table(f"Verdicts of probes: {name_of(run)}", verdicts))
    if found.health:
        blocks.append(
            chip.health_table(f"Questions of the doctor: {name_of(run)}", [(run, one) for one in found.health])
        )
    return Section(f"{name_of(run)} ({run.name})", tuple(blocks))


def _measurements(name: str, run: Run, measured: Sequence[Measurement]) -> Table:
    """Counts and checks for whatever bench it is. Rates are left out."""
    counts = [count for count in COUNTED if any(table.COUNTED[count](one) is not None for one in measured)]
    columns = (
        Column("case"),
        *(Column(table.TITLES[count], numbers=True) for count in counts),
        Column("error / allowed", numbers=True),
        Column(whose(run), numbers=True),
        Column("status"),
    )
    lines = [
        Line(
            (
                Cell(one.case),
                *(Cell(_number(table.COUNTED[count], one)) for count in counts),
                Cell(table.error_of(one.check) if one.check else NONE),
                Cell(f"{one.figures['ms']:.4g}" if "ms" in one.figures else NONE),
                Cell(one.status, chip.STATUS.get(one.status, "no")),
            )
        )
        for one in measured
    ]
    question = bench(name).question if name in BENCHES else ""
    return Table(f"{name}, {name_of(run)}: {question}", columns, tuple(lines))


def _number(count: Callable[[Measurement], float | None], one: Measurement) -> str:
    value = count(one)
    return NONE if value is None else f"{value:.4g}"
