"""A submission: results of one device on one machine, with who measured and how it was cooled, as one file.

Nothing is sent anywhere. What the head says of the device and the machine is taken from the results, and compared with
them whenever the file is read. Results of an emulator are taken only where they are asked for, and say so themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from anetrain import device, files
from anetrain.results import Results, ResultsError
from anetrain.results.schema import Part
from anetrain.results.store import problems_of

SCHEMA = "anetrain-submission/1"
LONGEST = {"contributor": 100, "cooling": 300, "notes": 4000}
GIB = 1 << 30


class Head(Part):
    """What a table of submissions is made of."""

    label: str = Field(description="which device it was")
    emulated: bool = Field(description="of an emulator: times are of a CPU, and belong in no table of devices")
    model: str = Field(description="such as Mac16,1")
    chip: str
    ane_sub_type: str = Field(description="such as h16")
    performance_cores: int | None
    efficiency_cores: int | None
    ram_gb: float
    system: str = Field(description="such as macOS 26.4.1")
    kernel: str = Field(description="such as Darwin 25.4.0")

    @classmethod
    def of(cls, results: Results) -> Head:
        machine, engine = results.machine, results.device
        return cls(
            label=engine.label,
            emulated=engine.kind == "emulator",
            model=machine.model,
            chip=engine.chip,
            ane_sub_type=engine.sub_type,
            performance_cores=machine.performance_cores,
            efficiency_cores=machine.efficiency_cores,
            ram_gb=round(machine.memory_bytes / GIB, 1),
            system=machine.system,
            kernel=machine.kernel,
        )


class Submission(Part):
    schema_: Literal["anetrain-submission/1"] = Field(default="anetrain-submission/1", alias="schema")
    head: Head
    contributor: str = Field(min_length=1)
    cooling: str = ""
    notes: str = ""
    anetrain: str = Field(description="the version that made the file")
    results: tuple[Results, ...] = Field(min_length=1, description="as they were measured, with their provenance")

    @field_validator("contributor", "cooling", "notes")
    @classmethod
    def _text(cls, text: str, field: Any) -> str:
        most = LONGEST[field.field_name]
        if len(text) > most:
            raise ValueError(f"{len(text)} characters; expected at most {most}")
        if not all(line.isprintable() for line in text.split("\n")) or (field.field_name != "notes" and "\n" in text):
            raise ValueError(f"{text!r} has characters that cannot be printed; expected plain text")
        return text

    @model_validator(mode="after")
    def _agrees(self) -> Submission:
        named = [(f"results {number}", results) for number, results in enumerate(self.results)]
        wrong = problems(named, emulator=self.head.emulated)
        if wrong:
            raise ValueError("; ".join(wrong))
        for name, expected in Head.of(self.results[0]).model_dump().items():
            found = getattr(self.head, name)
            if found != expected:
                raise ValueError(f"head.{name} is {found!r}, and in the results {expected!r}")
        return self


def problems(named: Sequence[tuple[str, Results]], *, emulator: bool) -> list[str]:
    """Why results cannot be submitted. `named`: each with what a reader knows it by."""
    found = []
    first_name, first = named[0]
    for index, (name, results) in enumerate(named):
        if not results.complete:
            found.append(f"{name}: it was interrupted; measure again, until the end")
        if results.provenance.scale != "full":
            found.append(f"{name}: its scale is {results.provenance.scale!r}; only full results are compared")
        if results.device.kind == "emulator" and not emulator:
            found.append(f"{name}: it is of an {results.device.label}; --emulator submits it, marked as such")
        if results.device.kind == "ane" and emulator:
            found.append(f"{name}: it is of the {results.device.label}, and not of an emulator")
        if not (results.measurements or results.verdicts or results.health):
            found.append(f"{name}: there is nothing in it")
        if _engine(results) != _engine(first):
            found.append(f"{name}: it is of {results.device.label}, and {first_name} of {first.device.label}")
        elif results.machine != first.machine:
            found.append(f"{name}: it is of another machine or system than {first_name}; submit each for itself")
        for earlier, other in named[:index]:
            if other == results:
                found.append(f"{name}: it is the same as {earlier}")
    return found


def _engine(results: Results) -> tuple[object, ...]:
    """Facts left aside: budgets and the like change from run to run."""
    engine = results.device
    return engine.kind, engine.name, engine.chip, engine.sub_type, engine.architecture, engine.cores, engine.engines


def submission(
    named: Sequence[tuple[str, Results]],
    *,
    contributor: str,
    cooling: str = "",
    notes: str = "",
    emulator: bool = False,
) -> Submission:
    """Refuses with every reason at once."""
    wrong = problems(named, emulator=emulator)
    if wrong:
        raise ValueError("; ".join(wrong))
    return Submission(
        head=Head.of(named[0][1]),
        contributor=contributor,
        cooling=cooling,
        notes=notes,
        anetrain=device.version(),
        results=tuple(results for _, results in named),
    )


def text_of(made: Submission) -> str:
    """The same bytes for the same results."""
    return json.dumps(made.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"


def write(made: Submission, path: Path, *, overwrite: bool = False) -> None:
    with files.replacing(path, overwrite=overwrite) as file:
        file.write(text_of(made).encode())


def read(path: Path) -> Submission:
    try:
        return Submission.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ResultsError(f"{path}: not a submission ({SCHEMA}): {'; '.join(problems_of(error)[:5])}") from error


def described(made: Submission) -> list[str]:
    """What is in it, for who is about to show it to others."""
    head = made.head
    measured = [one for results in made.results for one in results.measurements]
    benches = dict.fromkeys(one.bench for one in measured)
    probes = [verdict.probe for results in made.results for verdict in results.verdicts]
    health = sum(len(results.health) for results in made.results)
    cores = "/".join("?" if count is None else str(count) for count in (head.performance_cores, head.efficiency_cores))
    lines = [
        f"device: {head.label}",
        f"machine: {head.model or 'model unknown'}, {head.chip or 'chip unknown'}, aneSubType "
        f"{head.ane_sub_type or 'unknown'}, P/E cores {cores}, {head.ram_gb:g} GB, {head.system}, {head.kernel}",
        f"contributor: {made.contributor}",
        f"cooling: {made.cooling or 'nothing said'}",
        f"notes: {made.notes or 'none'}",
    ]
    for bench in benches:
        of_bench = [one for one in measured if one.bench == bench]
        good = sum(one.status == "measured" for one in of_bench)
        lines.append(f"bench {bench}: {good} of {len(of_bench)} cases measured")
    lines += [f"probes: {', '.join(probes)}"] if probes else []
    lines += [f"health: {health} questions"] if health else []
    started = [results.provenance.started for results in made.results]
    lines.append(f"measured: {min(started)} to {max(started)}, with anetrain {made.results[0].provenance.anetrain}")
    return lines
