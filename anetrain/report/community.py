"""The community's JSON of benchmark results, read into rows and written from rows.

A file has `training_results`, an entry for each machine, and `neural_engine_specs`. What has no place on the other
side is kept under `extra` where we read, and told in words where we write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from anetrain.report import flags, published
from anetrain.report.figures import About, Exact, Fail, Figure, NotDisclosed, NotMeasured, Number, Range
from anetrain.report.published import Benchmark, Published, Row, Setting, Source
from anetrain.results import ResultsError
from anetrain.results.store import problems_of

SOURCE = "community JSON"
STATIC: dict[str, Setting] = {"model": "stories110m", "pipeline": "static", "program": "train_large"}
PEAK: dict[str, Setting] = {"layers": 128, "channels": 512, "spatial": 64}
NOT_SAID = {
    "peak, shape not said": "the most that was seen, in some shape",
    "sustained, shape not said": "on end, in some shape",
}
PEAK_NOT_SAID, SUSTAINED_NOT_SAID = NOT_SAID

# Their field -> our figure, and the power of ten that theirs is multiplied by.
PAIRS = {
    "ms_per_step": ("step_ms", 0),
    "ane_ms": ("forward_device_ms", 0),
    "compile_ms": ("compile_per_ten_s", -3),
    "ane_tflops": ("ane_tflops", 0),
    "ane_util_pct": ("utilisation_percent", 0),
}
NUMBERS = {
    "peak_tflops_inmem": ("conv stack", "tflops"),
    "peak_tflops": (PEAK_NOT_SAID, "tflops"),
    "sustained_tflops": (SUSTAINED_NOT_SAID, "sustained_tflops"),
    "sustained_util_pct": (SUSTAINED_NOT_SAID, "utilisation_percent"),
}
MACHINE = {"cores": "cores", "ram_gb": "ram_gb", "macos": "macos"}
FAILED = "benchmarks_pass is false"


def _ordered(pair: list[int | float]) -> list[int | float]:
    if pair[0] > pair[1]:
        raise ValueError(f"{pair}; expected the smaller one first")
    return pair


Pair = Annotated[list[Number], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class _Theirs(BaseModel):
    """Fields that are not named here are kept."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Entry(_Theirs):
    chip: str = Field(min_length=1)
    contributor: str | None = None
    notes: str | None = None
    ms_per_step: Pair | None = None
    ane_ms: Pair | None = None
    compile_ms: Pair | None = None
    ane_tflops: Pair | None = None
    ane_util_pct: Pair | None = None
    peak_tflops_inmem: Number | None = None
    peak_tflops: Number | None = None
    sustained_tflops: Number | None = None
    sustained_util_pct: Number | None = None
    benchmarks_pass: bool | None = None
    channel_constraint: str | None = None


class Specs(_Theirs):
    ne_cores: Annotated[int, Field(gt=0, le=10**6)] | None = None
    rated_tops: Number | None = None
    estimated_tops: Number | None = None
    note: str | None = None


class Community(_Theirs):
    report_date: str = ""
    source: str = ""
    training_results: list[Entry]
    neural_engine_specs: dict[str, Specs] = Field(default_factory=dict)


def is_community(document: object) -> bool:
    return isinstance(document, dict) and "training_results" in document and "schema" not in document


# ---------------------------------------------------------------- from theirs


def from_community(content: bytes, name: str) -> tuple[Published, list[str]]:
    """As published figures whose known inconsistencies are those that are found; and what could not be said."""
    try:
        theirs = Community.model_validate_json(content)
        rows = [row for number, entry in enumerate(theirs.training_results) for row in _rows_of(number, entry)]
        rows += [_rating(chip, specs) for chip, specs in theirs.neural_engine_specs.items()]
        found = document(rows, {SOURCE: Source(what=theirs.source, date=theirs.report_date)}, theirs.model_extra or {})
    except ValidationError as error:
        raise ResultsError(f"{name}: not the community's results: {'; '.join(problems_of(error)[:5])}") from error
    unsaid = [
        f"entry {number} ({entry.chip}): {doubt}"
        for number, entry in enumerate(theirs.training_results)
        for doubt in _doubts(entry)
    ]
    return found.model_copy(update={"known": flags.as_known(found)}), unsaid


def document(
    rows: Sequence[Row], sources: dict[str, Source], extra: Mapping[str, Any] = MappingProxyType({})
) -> Published:
    """With the quantities and benchmarks that the rows need, as our own file names them."""
    ours = published.load()
    quantities, benchmarks = {name for row in rows for name in row.figures}, {row.benchmark for row in rows}
    known = ours.benchmarks | {name: Benchmark(what=what) for name, what in NOT_SAID.items()}
    return Published(
        sources=sources,
        quantities={name: what for name, what in ours.quantities.items() if name in quantities},
        benchmarks={name: what for name, what in known.items() if name in benchmarks},
        rows=tuple(rows),
        extra=dict(extra),
    )


def _rows_of(number: int, entry: Entry) -> Iterator[Row]:
    """One for each benchmark; what is of the entry, and what has no place, goes with the first."""
    given = entry.model_dump(exclude_unset=True)
    by_benchmark: dict[str, dict[str, Figure]] = {}
    for field, (figure, power) in PAIRS.items():
        if given.get(field) is not None:
            by_benchmark.setdefault("training", {})[figure] = _pair(given.pop(field), power)
    for field, (benchmark, figure) in NUMBERS.items():
        if given.get(field) is not None:
            by_benchmark.setdefault(benchmark, {})[figure] = Exact(given.pop(field))
    if given.get("benchmarks_pass") is False and "tflops" not in by_benchmark.get("conv stack", {}):
        del given["benchmarks_pass"]
        by_benchmark.setdefault("conv stack", {})["tflops"] = Fail(fail=FAILED)
    machine = {ours: given.pop(field) for field, ours in MACHINE.items() if _is_setting(given.get(field))}
    contributor, note = (given.pop(field) if given.get(field) else "" for field in ("contributor", "notes"))
    stated = {} if given.get("channel_constraint") is None else {"channels": given.pop("channel_constraint")}
    del given["chip"]
    for benchmark, figures in (by_benchmark or {PEAK_NOT_SAID: {}}).items():
        yield Row(
            id=f"{SOURCE} {number}/{benchmark}",
            benchmark=benchmark,
            configuration={"training": STATIC, "conv stack": PEAK}.get(benchmark, {}),
            chip=entry.chip,
            machine=machine,
            figures=figures,
            stated=stated,
            source=SOURCE,
            contributor=contributor,
            note=note,
            extra=given,
        )
        stated, note, given = {}, "", {}


def _is_setting(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0)


def _doubts(entry: Entry) -> Iterator[str]:
    """What a reader cannot know."""
    if entry.peak_tflops is not None or entry.sustained_tflops is not None:
        yield "peak_tflops and sustained_tflops are of a shape that no field says"
    if entry.ane_util_pct is not None or entry.sustained_util_pct is not None:
        yield "utilisations are of a denominator that no field says"
    for field in PAIRS:
        pair = getattr(entry, field)
        if pair is not None and pair[0] == pair[1]:
            yield f"{field} is one value twice: it may have been exact, or about"
    unknown = sorted((entry.model_extra or {}).keys() - MACHINE.keys())
    if unknown:
        yield f"no place for {', '.join(unknown)}; kept under extra"


def _pair(pair: list[int | float], power: int) -> Figure:
    low, high = (scaled(number, power) for number in pair)
    return Exact(low) if low == high else Range(low=low, high=high)


def scaled(number: int | float, power: int) -> int | float:
    """Times a power of ten, to the digit."""
    result = Decimal(repr(number)).scaleb(power)
    return int(result) if result == result.to_integral_value() else float(result)


def _rating(chip: str, specs: Specs) -> Row:
    given = specs.model_dump(exclude_unset=True)
    figures: dict[str, Figure] = {}
    if given.get("ne_cores") is not None:
        figures["engine_cores"] = Exact(given.pop("ne_cores"))
    if given.get("rated_tops") is not None:
        figures["rated_tops"] = Exact(given.pop("rated_tops"))
    elif "rated_tops" in given:
        estimate = given.pop("estimated_tops") if given.get("estimated_tops") is not None else None
        figures["rated_tops"] = NotDisclosed(not_disclosed="", estimate=estimate)
        del given["rated_tops"]
    note = given.pop("note") if given.get("note") else ""
    return Row(
        id=f"{SOURCE} specs/{chip}",
        benchmark="rating",
        configuration={"precision": "int8"} if "int8" in note.lower() else {},
        chip=chip.replace("_", " "),
        figures=figures,
        source=SOURCE,
        note=note,
        extra=given,
    )


# ---------------------------------------------------------------- to theirs


def to_community(figures: Published) -> tuple[dict[str, Any], list[str]]:
    """An entry for each machine of each source; and what the layout has no field for."""
    entries: dict[object, dict[str, Any]] = {}
    specs: dict[str, dict[str, Any]] = {}
    unsaid = []
    for row in figures.rows:
        if row.benchmark == "rating":
            specs[row.chip.replace(" ", "_")] = _specs(row)
            continue
        fields, missing = _fields(row)
        unsaid += [f"{row.id}: {what}" for what in missing]
        if fields or row.extra or row.benchmark in NOT_SAID:
            entry = entries.setdefault(_owner(row), _head(row))
            unsaid += [f"{row.id}: {name} is there already, as {entry[name]}" for name in fields if name in entry]
            entry |= {name: value for name, value in (fields | _rest(row)).items() if name not in entry}
    sources = {row.source: figures.sources[row.source] for row in figures.rows}
    dates = sorted({source.date for source in sources.values() if source.date})
    theirs = {
        "report_date": dates[-1] if dates else "",
        "source": "; ".join(source.what for source in sources.values()),
        **figures.extra,
        "training_results": list(entries.values()),
        "neural_engine_specs": specs,
    }
    return theirs, unsaid


def _owner(row: Row) -> object:
    """Rows of one owner make an entry. What was read from such a file keeps its own entry."""
    if row.id.startswith(f"{SOURCE} "):
        return row.id.split("/")[0]
    return (
        row.source,
        row.chip,
        row.contributor,
        tuple(sorted((name, str(value)) for name, value in row.machine.items())),
    )


def _head(row: Row) -> dict[str, Any]:
    machine = {field: row.machine[ours] for field, ours in MACHINE.items() if ours in row.machine}
    return {"chip": row.chip, **machine, **({"contributor": row.contributor} if row.contributor else {})}


def _rest(row: Row) -> dict[str, Any]:
    stated = {"channel_constraint": row.stated["channels"]} if "channels" in row.stated else {}
    return {**stated, **({"notes": row.note} if row.note else {}), **row.extra}


def _fields(row: Row) -> tuple[dict[str, Any], list[str]]:
    """What of a row has a field, and why the rest has none."""
    if row.quotes:
        return {}, ["quoted from another source: left out"]
    known: dict[str, str] = {}
    if row.benchmark == "training" and row.configuration == STATIC:
        known = {ours: field for field, (ours, _) in PAIRS.items()}
    elif row.benchmark in NOT_SAID or (row.benchmark, row.configuration) == ("conv stack", PEAK):
        known = {ours: field for field, (benchmark, ours) in NUMBERS.items() if benchmark == row.benchmark}
    if not known:
        shape = ", ".join(f"{name} {value}" for name, value in row.configuration.items())
        return {}, [f"no field for {row.benchmark}{f' with {shape}' if shape else ''}"]
    power = {field: exponent for field, (_, exponent) in PAIRS.items()}
    fields: dict[str, Any] = {}
    missing = []
    for name, figure in row.figures.items():
        field = known.get(name)
        if field is None:
            missing.append(f"no field for {name}")
        elif isinstance(figure, Fail) and row.benchmark == "conv stack":
            fields["benchmarks_pass"] = False
            missing += [] if figure.fail == FAILED else [f"{field}: no field for the reason, {figure.fail}"]
        elif isinstance(figure, Fail | NotMeasured | NotDisclosed):
            missing.append(f"{field}: {figure.text} cannot be said; left out")
        else:
            low, high = (scaled(number, -power.get(field, 0)) for number in (figure.numbers[0], figure.numbers[-1]))
            fields[field] = [low, high] if field in PAIRS else high
            if isinstance(figure, About) or (isinstance(figure, Range) and field not in PAIRS):
                missing.append(f"{field}: {figure.text} is written as {fields[field]}")
    return fields, missing


def _specs(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in (("engine_cores", "ne_cores"), ("rated_tops", "rated_tops")):
        if name in row.figures:
            found[field] = next(iter(row.figures[name].numbers), None)
    rated = row.figures.get("rated_tops")
    if isinstance(rated, NotDisclosed) and rated.estimate is not None:
        found["estimated_tops"] = rated.estimate
    return found | ({"note": row.note} if row.note else {}) | row.extra


def text_of(theirs: Mapping[str, Any]) -> str:
    return json.dumps(theirs, indent=2, ensure_ascii=False) + "\n"
