"""A health check of a machine's engine, or of the emulated one, in minutes: `anetrain doctor`. docs/doctor.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anetrain.doctor.advice import advice
from anetrain.doctor.questions import Question, all_questions
from anetrain.isolate import Runner
from anetrain.results import Device, Health, Machine, Results, provenance

__all__ = ["Question", "advice", "all_questions", "examine"]

CHECKS = "anetrain.doctor.checks"


def examine(
    device: Mapping[str, Any],
    runner: Runner,
    *,
    command: str,
    keep: Callable[[Results], None],
    asked: Callable[[Question], None] = lambda question: None,
) -> Results:
    """Asks all questions; `keep` gets the results after each. Raises RuntimeError where not even the first one can be
    answered: then there is nothing to write down."""
    first, *others = all_questions()
    asked(first)
    outcome = runner.run(f"{CHECKS}:{first.check}", {"device": dict(device)}, timeout_s=first.timeout_s)
    if outcome.status != "done":
        raise RuntimeError(f"the device does not open: {outcome.reason}")
    machine = Machine.model_validate(outcome.value["machine"])
    found = Device.model_validate(outcome.value["device"])
    settled = {**device, "kind": found.kind if device["kind"] == "auto" else device["kind"]}
    told = tuple(advice(machine, found, translated=outcome.value["translated"]))
    health = [first.health(outcome).model_copy(update={"advice": told})]
    results = Results(
        provenance=provenance(command, seed=0, scale="full"),
        machine=machine,
        device=found,
        complete=False,
        health=tuple(health),
    )
    keep(results)
    for question in others:
        asked(question)
        health.append(_answer(question, settled, runner, found))
        results = results.model_copy(update={"health": tuple(health), "complete": question is others[-1]})
        keep(results)
    return results


def _answer(question: Question, device: Mapping[str, Any], runner: Runner, found: Device) -> Health:
    if question.real_only and found.kind != "ane":
        return question.skipped("there is no such framework on this machine")
    runner.renew()  # each has the compiler's budget of a process to itself
    arguments = {"device": dict(device), **question.arguments}
    return question.health(runner.run(f"{CHECKS}:{question.check}", arguments, timeout_s=question.timeout_s))
