"""Checks of a program that need no device: the first look before one is compiled.

The device, real or emulated, has the last word; the chip's own rules live there. What is here has the names of
`anetrain.device.rule_table()`, and a little advice on top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from anetrain.mil.graph import Graph
from anetrain.mil.ops import OPS
from anetrain.mil.text import DIALECTS, Program
from anetrain.mil.types import TensorType, dtype

ROW_BYTES = 64  # a row of a surface is padded to this
BORDER_TYPES = ("fp16", "fp32", "int8", "uint8", "int16", "uint16")
_STATEMENT = re.compile(r"^ +[^=]+ = (\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One thing that a device refuses, or (`advice`) that often goes wrong: the rule, and what stands against what."""

    rule: str
    subject: str  # the port or the op
    value: str
    limit: str
    advice: bool = False

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject} is {self.value}, expected {self.limit}"


def check(program: Program | Graph, allow_unproven: bool = False) -> list[Finding]:
    """What stands against a program; an empty list is no promise that a chip takes it."""
    if isinstance(program, Graph):
        program = program.program()
    findings = [
        *_check_order(program),
        *(finding for ports in (program.inputs, program.outputs) for item in ports.items() for finding in _port(*item)),
        *(
            Finding("input-as-output", name, "an input", "a result")
            for name in program.outputs
            if name in program.inputs
        ),
    ]
    for op_name in dict.fromkeys(_STATEMENT.findall(program.text)):
        op = OPS[op_name]
        opset = DIALECTS[program.dialect].opset
        if op.opset > opset:
            findings.append(Finding("opset", op_name, f"of {op.opset}", f"of {opset} or older"))
        if op.evidence.level != "direct" and not allow_unproven:
            findings.append(Finding("evidence", op_name, op.evidence.level, "direct"))
    return findings


def _check_order(program: Program) -> list[Finding]:
    """The hardware binds surfaces to names in ASCII order, whatever the order of declaration."""
    findings = []
    for side, ports in (("inputs", program.inputs), ("outputs", program.outputs)):
        names = list(ports)
        if names != sorted(names):
            declared, bound = ", ".join(names), ", ".join(sorted(names))
            findings.append(Finding("sorted-names", side, f"declared {declared}", f"{bound}, as bound", advice=True))
    return findings


def _port(name: str, type_: TensorType) -> list[Finding]:
    if type_.dtype not in BORDER_TYPES:
        return [Finding("border-dtype", name, type_.dtype, f"one of {', '.join(BORDER_TYPES)}")]
    findings = []
    if type_.rank != 4:
        findings.append(Finding("border-rank", name, str(type_), "rank 4"))
    elif (type_.shape[0], type_.shape[2]) != (1, 1):
        findings.append(Finding("border-shape", name, str(type_), "[1, C, 1, W]"))
    multiple = ROW_BYTES * 8 // dtype(type_.dtype).bits
    width = type_.shape[-1] if type_.rank else 1
    if width % multiple:
        findings.append(Finding("border-width", name, f"{width} wide", f"a multiple of {multiple}"))
    return findings
