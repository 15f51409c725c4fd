"""How much may be one program: fused where a device takes it, else per stage, else per linear layer.

    choice = choose(derived, device, lambda plan: CompiledPlan(device, plan))
    choice.plan, choice.compiled
    choice.explain()        # "4 dispatches, fused", or why there are more

Only a program that does not compile (or is known beforehand not to) is a reason to step down.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from anetrain.autodiff import Derived
from anetrain.device import Device, Finding
from anetrain.errors import CompileError
from anetrain.lower.check import check_on_device
from anetrain.lower.lowering import GRANULARITIES, lower
from anetrain.lower.memory import Descent, LadderMemory, Remembered
from anetrain.lower.plan import Granularity, Layout, Plan, ProgramSpec, dispatched
from anetrain.lower.surfaces import Outputs

log = logging.getLogger("anetrain.lower")

Compiled = TypeVar("Compiled")


@dataclass
class Choice(Generic[Compiled]):
    plan: Plan
    compiled: Compiled
    descents: tuple[Descent, ...]  # why this is not the fused form: found now, or remembered
    dispatches: int
    fused_dispatches: int  # what the fused form would take
    otherwise: str = "asked for"  # why, where there are no descents

    def explain(self) -> str:
        """One sentence, with rule, value and limit of each rung that was left."""
        form = self.plan.granularity
        if form == "fused":
            return f"{self.dispatches} dispatches, fused"
        reasons = "; ".join(map(str, self.descents)) or self.otherwise
        return f"{self.dispatches} dispatches, per {form}, instead of {self.fused_dispatches}: {reasons}"


def lowered(
    derived: Derived,
    device: Device,
    layout: Layout,
    rung: Granularity = "fused",
    *,
    outputs: Outputs = "one",
    save_probabilities_up_to: int = 512,
) -> Plan:
    """A rung of the ladder, for this device."""
    dialect = device.facts.get("dialect", "B")
    return lower(
        derived, layout, rung, outputs=outputs, dialect=dialect, save_probabilities_up_to=save_probabilities_up_to
    )


def choose(
    derived: Derived,
    device: Device,
    compile: Callable[[Plan], Compiled],
    *,
    first: Granularity = "fused",
    layout: Layout = "stacked",
    outputs: Outputs = "one",
    save_probabilities_up_to: int = 512,
    backward: bool = True,
    memory: LadderMemory | None = None,
    again: Granularity | None = None,
    only: bool = False,
    fused: Plan | None = None,
    name: str = "",
) -> Choice[Compiled]:
    """Lowers and compiles at the highest rung that the device takes.

    compile    compiles all programs of a plan; when it raises it leaves none of them loaded
    first      the highest rung to try. Where it is not "fused" the memory is neither asked nor told
    backward   False: what only backward runs is not looked at, as `compile` leaves it out
    memory     what it says is tried first. It never makes a run fail: every other rung is tried after it
    again      the rung that a run has had, not above `first`: tried first, and alone if `only`. Then the memory is
               neither asked nor told
    fused      what `lowered` makes of the same, where it was asked before
    name       of the block, for the log
    """
    of_rung = partial(
        lowered, derived, device, layout, outputs=outputs, save_probabilities_up_to=save_probabilities_up_to
    )
    prefix = f"{name}: " if name else ""
    fused = of_rung() if fused is None else fused
    key = memory_key(device, _dispatched(fused, backward))
    if first != "fused" or again or not _dispatched(fused, backward):
        memory = None
    remembered = memory.recall(key) if memory else None
    rungs = (again,) if again and only else _order(again or (remembered.rung if remembered else first), first)
    descents: list[Descent] = []
    for rung in rungs:
        plan = fused if rung == "fused" else of_rung(rung)
        is_last = rung == rungs[-1]
        try:
            if not is_last:  # of the last one the device has to say it
                _refuse_what_cannot_pass(_dispatched(plan, backward), plan, device)
            compiled = compile(plan)
            break
        except CompileError as error:
            if again and only:
                raise
            descents.append(_descent(rung, error))
            if is_last:
                raise _nothing_passed(error, descents) from error
            log.warning("%snot taken: %s", prefix, descents[-1])
    reasons = _reasons(rung, remembered, descents)
    if memory:
        memory.remember(key, rung, reasons)
    dispatches, fused_dispatches = (len(_dispatched(form, backward)) for form in (plan, fused))
    choice = Choice(plan, compiled, reasons, dispatches, fused_dispatches, *(("as before",) if again else ()))
    log.info("%s%s", prefix, choice.explain())
    return choice


class KnownRefusalError(CompileError):
    """A program that does not pass, known before it is compiled."""

    def __init__(self, label: str, found: Finding) -> None:
        super().__init__(str(found), rule=found.rule, line=found.line, column=found.column, label=label)
        self.found = found


def _dispatched(plan: Plan, backward: bool) -> list[ProgramSpec]:
    return [plan.programs[index] for index in dispatched(plan.steps(backward=backward))]


def _refuse_what_cannot_pass(programs: list[ProgramSpec], plan: Plan, device: Device) -> None:
    labels = {spec.label for spec in programs}
    for label, found in check_on_device(plan, device):
        if label in labels and not found.advice:
            raise KnownRefusalError(label, found)


def _descent(rung: Granularity, error: CompileError) -> Descent:
    if isinstance(error, KnownRefusalError):
        found = error.found
        value = f"{found.subject}: {found.value}" if found.value else ""
        return Descent(rung, error.label, str(error), found.rule, value, found.limit)
    return Descent(rung, error.label, str(error), error.rule)


def _order(begin: Granularity, highest: Granularity) -> tuple[Granularity, ...]:
    """From `begin` downwards, then what is above it."""
    top, first = GRANULARITIES.index(highest), GRANULARITIES.index(begin)
    return GRANULARITIES[first:] + GRANULARITIES[top:first]


def _reasons(rung: Granularity, remembered: Remembered | None, descents: list[Descent]) -> tuple[Descent, ...]:
    """Why each higher rung is not taken: as found now, or as remembered."""
    known = {descent.rung: descent for descent in (*(remembered.descents if remembered else ()), *descents)}
    return tuple(known[higher] for higher in GRANULARITIES[: GRANULARITIES.index(rung)] if higher in known)


def _nothing_passed(last: CompileError, descents: list[Descent]) -> CompileError:
    """The last error, with what was tried before it."""
    at_last = f"{descents[-1].rung}: {last.label}: {last.detail}"
    detail = f"the device takes the block in no form: {'; '.join([*map(str, descents[:-1]), at_last])}"
    return CompileError(
        detail, code=last.code, domain=last.domain, text=last.text, rule=last.rule, line=last.line, column=last.column
    )


def memory_key(device: Device, fused: list[ProgramSpec]) -> str:
    """The device, its system, and what is compiled: sizes, layout and options all show in the text of the programs."""
    facts = device.facts
    names = ("kind", "profile", "chip", "os_build")
    words = [str(facts[name]) for name in names if facts.get(name)]
    if facts["kind"] == "emulator":  # its limits can be switched
        words.append(_digest([json.dumps({name: facts[name] for name in ("rules", "allow_unproven", "fp32")})]))
    return " ".join([*words, _digest(spec.program.text for spec in fused)])


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]
