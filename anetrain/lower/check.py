"""What stands against a plan under a chip's profile, before anything is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from anetrain.device import Device, Finding, check, profiles, rule_table
from anetrain.lower.plan import Plan, ProgramSpec
from anetrain.mil.blobs import write_blob
from anetrain.mil.text import Program


def check_plan(
    plan: Plan,
    profile: str,
    *,
    allow_unproven: bool = False,
    fp32: bool = False,
    rules: Mapping[str, bool | int | float] | None = None,
) -> list[tuple[str, Finding]]:
    """(label of the program, finding), in the order of the programs; the options are those of `device.check`."""
    return [
        (spec.label, finding)
        for spec in plan.programs
        for finding in check(
            _filled(plan, spec), profile=profile, allow_unproven=allow_unproven, fp32=fp32, rules=rules
        )
    ]


def refuses(finding: Finding) -> bool:
    """Does it keep a program from compiling, loading or ever being evaluated?"""
    return not finding.advice and finding.stage != "numerics"


def check_on_device(plan: Plan, device: Device) -> list[tuple[str, Finding]]:
    """What is known to stand against a plan on this very device: nothing, if no profile describes its chip."""
    facts = device.facts
    if facts["kind"] != "emulator":
        profile = profile_of_chip(facts.get("chip", ""))  # what is proven is no question of the chip
        return check_plan(plan, profile, allow_unproven=True) if profile else []
    rules = {rule: facts["rules"].get(rule, False) for rule in rule_table()}
    profile = facts["profile"] if facts["profile"] in profiles() else "exact"  # of a file: the rules say it all
    return check_plan(plan, profile, rules=rules, allow_unproven=facts["allow_unproven"], fp32=facts["fp32"])


def profile_of_chip(chip: str) -> str:
    """The profile "m4pro" for the chip "Apple M4 Pro"; "" for a chip that no profile describes."""
    name = chip.lower().removeprefix("apple").replace(" ", "")
    return name if name in profiles() else ""


def _filled(plan: Plan, spec: ProgramSpec) -> Program:
    """The program with zeros for the weights that are baked into it only when it is compiled."""
    precision = plan.derived.graph.precision
    zeros = {path: write_blob(np.zeros(place.shape), precision) for path, place in spec.constants.items()}
    return dataclasses.replace(spec.program, blobs={**zeros, **spec.program.blobs})
