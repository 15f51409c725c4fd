"""Published figures of ANEs: rows with their sources, as a file, and what may be compared with what.

A row is one benchmark in one configuration on one chip from one source. `flags.py` finds what does not agree among
the rows; `known` lists the findings that are there, so that a change of any number shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anetrain.report.figures import Figure, Interval
from anetrain.results import ResultsError
from anetrain.results.store import problems_of

SCHEMA = "anetrain-published/1"

Setting = bool | Annotated[int, Field(ge=0, le=10**12)] | Annotated[float, Field(ge=0, le=1e12)] | str


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


class Source(Part):
    what: str = Field(description="in words")
    date: str = ""


class Quantity(Part):
    unit: str
    better: Literal["lower", "higher", ""] = ""
    what: str


class Benchmark(Part):
    what: str
    sweep: str = Field(default="", description="the one entry of the configuration that changes from row to row")


class Parts(Part):
    """What a figure of the row is said to be made of."""

    of: str
    figures: dict[str, Annotated[int | float, Field(ge=0, le=1e15)]]
    all: bool = Field(default=False, description="the source adds them up to the whole")


class Row(Part):
    id: str
    benchmark: str
    configuration: dict[str, Setting] = Field(default_factory=dict)
    chip: str = Field(description='such as "M4 Pro", or "not stated"')
    chip_according_to: dict[str, str] = Field(
        default_factory=dict, description="source -> chip, where the row's own source does not name it"
    )
    machine: dict[str, Setting] = Field(default_factory=dict, description="ram_gb, macos, model: what is given")
    figures: dict[str, Figure] = Field(default_factory=dict)
    stated: dict[str, str] = Field(default_factory=dict, description="what is no number")
    parts: Parts | None = None
    source: str
    quotes: str = Field(default="", description="the source that the row's source says it has this from")
    date: str = ""
    contributor: str = ""
    note: str = ""
    extra: dict[str, Any] = Field(default_factory=dict, description="fields of another format that have no place here")

    @property
    def identity(self) -> tuple[str, frozenset[tuple[str, Setting]]]:
        """What was done. Only figures of one identity make a ratio."""
        return self.benchmark, frozenset(self.configuration.items())

    def interval(self, figure: str) -> Interval | None:
        """None where there is no value."""
        return self.figures[figure].interval if figure in self.figures else None

    @property
    def chips(self) -> frozenset[str]:
        """All that it may be of."""
        return frozenset(self.chip_according_to.values()) or frozenset({self.chip})


class Reference(Part):
    row: str
    figure: str


class RatioClaim(Part):
    """A source says: `above` is so many times `below`."""

    claim: Literal["ratio"]
    id: str
    ratio: Figure
    above: Reference
    below: Reference
    source: str


class LargestClaim(Part):
    """A source says: of its rows of this benchmark and chip, none has a larger figure."""

    claim: Literal["largest"]
    id: str
    figure: Reference
    source: str


Claim = Annotated[RatioClaim | LargestClaim, Field(discriminator="claim")]


class Compatibility(Part):
    feature: str
    answers: dict[str, Literal["yes", "no", "partly", "unknown"]] = Field(description="by chip family or system")
    source: str
    note: str = ""


class Known(Part):
    """An inconsistency that is there."""

    rule: str
    rows: tuple[str, ...] = Field(min_length=1, description="rows, or a claim")
    finding: str = Field(description="the sentence, numbers and all: whatever changes them shows")


class Published(Part):
    schema_: Literal["anetrain-published/1"] = Field(default="anetrain-published/1", alias="schema")
    sources: dict[str, Source]
    quantities: dict[str, Quantity]
    benchmarks: dict[str, Benchmark]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    compatibility: tuple[Compatibility, ...] = ()
    known: tuple[Known, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict, description="fields of another format that have no place here")

    @model_validator(mode="after")
    def _names(self) -> Published:
        """Whatever is named is there, and named once."""
        ids = [row.id for row in self.rows] + [claim.id for claim in self.claims]
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise ValueError(f"more than one row or claim is called {', '.join(sorted(twice))}")
        for where, kind, name in self._named():
            there: Mapping[str, object] = getattr(self, kind)
            if name not in there:
                raise ValueError(f"{where}: there is nothing called {name!r} in {kind}; there are {', '.join(there)}")
        for claim in self.claims:
            for reference in (claim.above, claim.below) if isinstance(claim, RatioClaim) else (claim.figure,):
                self.figure(reference)
        for known in self.known:
            for name in known.rows:
                if name not in ids:
                    raise ValueError(f"known {known.rule}: there is no row or claim {name!r}")

        for row in self.rows:
            sweep = self.benchmarks[row.benchmark].sweep
            if sweep and row.interval("ms") and not isinstance(row.configuration.get(sweep), int):
                raise ValueError(f"row {row.id}: {sweep} is what changes in {row.benchmark}; expected a number of it")
        return self

    def _named(self) -> Iterator[tuple[str, str, str]]:
        for row in self.rows:
            yield f"row {row.id}", "sources", row.source
            yield f"row {row.id}", "benchmarks", row.benchmark
            for source in (*row.chip_according_to, *([row.quotes] if row.quotes else [])):
                yield f"row {row.id}", "sources", source
            for name in (*row.figures, *([row.parts.of] if row.parts else [])):
                yield f"row {row.id}", "quantities", name
        for entry in (*self.claims, *self.compatibility):
            yield f"{type(entry).__name__}", "sources", entry.source

    def row(self, name: str) -> Row:
        for row in self.rows:
            if row.id == name:
                return row
        raise ValueError(f"there is no row {name!r}")

    def figure(self, reference: Reference) -> Figure:
        row = self.row(reference.row)
        if reference.figure not in row.figures:
            raise ValueError(f"row {row.id} has no {reference.figure}; it has {', '.join(row.figures)}")
        return row.figures[reference.figure]

    def of(self, benchmark: str, **configuration: Setting) -> list[Row]:
        """Rows of a benchmark whose configuration has these entries, among others."""
        return [
            row
            for row in self.rows
            if row.benchmark == benchmark and configuration.items() <= row.configuration.items()
        ]


def ratio(above: Row, below: Row, figure: str) -> Interval:
    """Of the same figure of the same benchmark in the same configuration; anything else is refused: a
    figure of one benchmark over that of another says nothing of two chips."""
    if above.identity != below.identity:
        raise ValueError(f"{above.id} and {below.id} are not the same benchmark in the same configuration: no ratio")
    over, under = above.interval(figure), below.interval(figure)
    if over is None or under is None:
        raise ValueError(f"{(above if over is None else below).id} has no value of {figure}: no ratio")
    return over.over(under)


def load() -> Published:
    """The figures that come with anetrain."""
    return parse(resources.files("anetrain.report").joinpath("data/published.json").read_bytes(), "published.json")


def read(path: Path) -> Published:
    return parse(path.read_bytes(), str(path))


def text_of(made: Published) -> str:
    """The same bytes for the same rows. What is as it is where nothing is said, is left out."""
    content = made.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps({"schema": SCHEMA} | content, indent=1, ensure_ascii=False) + "\n"


def parse(content: bytes, name: str) -> Published:
    try:
        return Published.model_validate_json(content)
    except ValidationError as error:
        raise ResultsError(
            f"{name}: not a file of published figures ({SCHEMA}): {'; '.join(problems_of(error)[:5])}"
        ) from error
