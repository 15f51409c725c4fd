"""What stands against a plan under a chip's profile, before anything is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import anetrain.device
from anetrain.device import Device, Finding, check, profiles, rule_table
from anetrain.lower.plan import Plan, ProgramSpec
from anetrain.mil.blobs import write_blob
from anetrain.mil.text import Program
from anetrain.mil.types import Array, dtype


def check_plan(plan: Plan, profile: str, **options: Any) -> list[tuple[str, Finding]]:
    """(label of the program, finding), in the order of the programs; the options are those of `device.check`.

    A finding that is no advice keeps its program from compiling, loading or ever being evaluated.
    """
    return check_programs(checkable(plan), profile, **options)


def checkable(plan: Plan) -> list[tuple[str, Program]]:
    """Label and program, with zeros for the weights that are baked into it only when it is compiled."""
    return [(spec.label, with_weights(plan, spec, np.zeros)) for spec in plan.programs]


def with_weights(plan: Plan, spec: ProgramSpec, make: Callable[[tuple[int, ...]], Array]) -> Program:
    """A program of the plan that can be compiled: weights that are baked into it are made of their shapes."""
    precision = plan.derived.graph.precision
    made = {
        path: write_blob(make(place.shape).astype(dtype(precision).numpy), precision)
        for path, place in spec.constants.items()
    }
    return dataclasses.replace(spec.program, blobs={**spec.program.blobs, **made})


def check_programs(programs: Iterable[tuple[str, Program]], profile: str, **options: Any) -> list[tuple[str, Finding]]:
    return [(label, found) for label, program in programs for found in check(program, profile=profile, **options)]


def check_on_device(plan: Plan, device: Device) -> list[tuple[str, Finding]]:
    """What is known to stand against a plan on this very device: nothing, if no profile describes its chip."""
    facts = device.facts
    if facts["kind"] != "emulator":
        profile = profile_of_chip(facts.get("chip", ""))  # what is proven is no question of the chip
        return check_plan(plan, profile, allow_unproven=True) if profile else []
    rules = {rule: facts["rules"].get(rule, False) for rule in rule_table()}
    profile = facts["profile"] if facts["profile"] in profiles() else "exact"  # of a file: the rules say it all
    return check_plan(plan, profile, rules=rules, allow_unproven=facts["allow_unproven"], fp32=facts["fp32"])


def limit_on_device(device: Device, rule: str, unknown: int) -> int:
    """The number of a rule on this device; `unknown` where it has no such rule, or no profile describes its chip."""
    facts = device.facts
    if facts["kind"] != "emulator":
        profile = profile_of_chip(facts.get("chip", ""))
        facts = anetrain.device.open("emulator", profile).facts if profile else {"rules": {}}
    return int(facts["rules"].get(rule) or unknown)


def profile_of_chip(chip: str) -> str:
    """The profile "m4pro" for the chip "Apple M4 Pro"; "" for a chip that no profile describes."""
    name = chip.lower().removeprefix("apple").replace(" ", "")
    return name if name in profiles() else ""
