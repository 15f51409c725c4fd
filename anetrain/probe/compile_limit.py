"""What a process runs out of: compiles in its life, or programs that are loaded at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anetrain.bench.base import Lab, Scale
from anetrain.device import Device, Program
from anetrain.errors import ANEError, CompileError
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import named, phrase
from anetrain.probe.samples import Sample, observe_loaded, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

SHAPE = (1, 8, 1, 32)
PROGRAMS = {"small": 130, "full": 260}  # limits from 119 to 132 have been reported, and 226 loaded programs
ROUNDS, KEPT = "compiled, run and unloaded", "kept"


class CompileLimit(Probe):
    name = "compile-limit"
    question = "Is there a limit on loaded programs, and none on compiles in the life of a process?"
    hypothesis = (
        "a process may load about 119 to 132 programs at once; unloading one gives its place back, and compiles as "
        "such are not limited"
    )
    source = "trainers restart after about 119 compiles (C2); others see only resident programs limited, or 226 loaded"
    rules = ("live-program-limit", "lifetime-compile-limit")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        most = {"programs": PROGRAMS[scale]}
        return [Trial(name, most, timeout_s=900.0, alone=True, lifts_budgets=True) for name in (ROUNDS, KEPT)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        most = int(str(trial.parameters["programs"]))
        return _rounds(lab, most) if trial.name == ROUNDS else _kept(lab, most)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        rounds, kept = named(experiments, ROUNDS), named(experiments, KEPT)
        lifetime, live = _unlimited(rounds), _unlimited(kept)
        answer: Answer = "unknown"
        if lifetime == "no" or (lifetime, live) == ("yes", "yes"):
            answer = "no"
        elif (lifetime, live) == ("yes", "no"):
            answer = "yes" if kept is not None and kept.observed.get("freed_place_serves") else "partly"
        if lifetime == "no":  # what is kept was compiled: which of the limits was met cannot be told
            live = "unknown"
        sentence = f"{_said(rounds, ROUNDS)}; {_said(kept, KEPT)}"
        return self.verdict(
            experiments, answer, sentence, {features.LIFETIME_COMPILES: lifetime, features.LIVE_PROGRAMS: live}
        )


def _unlimited(made: Experiment | None) -> Answer:
    """A crash, and wrong values, are no limit: they are in the sentence."""
    if made is None or made.status != "done":
        return "unknown"
    if made.observed["refusal"] is not None:
        return "no"
    return "yes" if made.observed["values"] == "right" else "unknown"


def _said(made: Experiment | None, name: str) -> str:
    if made is None or made.status != "done":
        return f"{name}: {phrase(made)}"
    said = f"{made.observed['programs']} {name}"
    if made.observed["refusal"] is not None:
        said += f", then {made.observed['refusal']}"
        if "freed_place_serves" in made.observed:
            said += ", and a place that was freed " + ("served" if made.observed["freed_place_serves"] else "did not")
    elif made.observed["values"] != "right":
        said += f", values {made.observed['values']}"
    return said


def _rounds(lab: Lab, most: int) -> dict[str, Any]:
    for number in range(most):
        try:
            with _compile(lab.device, number) as program:
                values = _values(lab, program, number)
        except ANEError as error:
            return {"values": "refused", "programs": number, "refusal": _text(error)}
        if values != "right":
            return {"values": values, "programs": number + 1, "refusal": None}
    return {"values": "right", "programs": most, "refusal": None}


def _kept(lab: Lab, most: int) -> dict[str, Any]:
    """Each runs once more at the end: those of before must not have made room in secret."""
    programs: list[Program] = []
    refusal: str | None = None
    while len(programs) < most and refusal is None:
        try:
            programs.append(_compile(lab.device, len(programs)))
        except ANEError as error:
            refusal = _text(error)
    values = next((v for n, p in enumerate(programs) if (v := _values(lab, p, n)) != "right"), "right")
    seen = {"values": values if refusal is None else "refused", "programs": len(programs), "refusal": refusal}
    if refusal is not None and programs:
        programs[0].unload()
        seen |= {"freed_place_serves": _serves(lab, most), "values_of_kept": values}
    for program in programs:
        program.unload()
    return seen


def _serves(lab: Lab, number: int) -> bool:
    try:
        with _compile(lab.device, number) as program:
            return _values(lab, program, number) == "right"
    except CompileError:
        return False


def _compile(device: Device, number: int) -> Program:
    """Programs that differ, so that no cache stands in for a compile."""
    graph = Graph()
    graph.output("y", graph.input("a_x", SHAPE) * float(number + 1))
    return device.compile(graph.program(device.facts["dialect"]), label=f"program {number}")


def _values(lab: Lab, program: Program, number: int) -> str:
    x = whole_numbers(lab.random(), SHAPE)
    return str(observe_loaded(lab.device, program, [Sample({"a_x": x}, {"y": x * (number + 1)})])["values"])


def _text(error: ANEError) -> str:
    return error.text or error.detail
