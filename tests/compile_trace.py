"""The order in which programs are compiled and unloaded, seen from above the device."""

from __future__ import annotations

from typing import Any

import pytest

from anetrain.device import Device, Program

Trace = list[tuple[str, str]]
LLAMA_PROGRAMS = [f"LlamaBlock {name}" for name in ("forward 0", "forward 1", "backward 2", "backward 3")]


def traced(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """("compile", label) for each compile with its load, and ("unload", label); as they happen, or fail."""
    calls: Trace = []
    compile, unload = Device.compile, Program.unload

    def traced_compile(self: Device, text: Any, blobs: Any = None, label: str = "") -> Program:
        calls.append(("compile", label))
        return compile(self, text, blobs, label)

    def traced_unload(self: Program) -> None:
        calls.append(("unload", self.label))
        unload(self)

    monkeypatch.setattr(Device, "compile", traced_compile)
    monkeypatch.setattr(Program, "unload", traced_unload)
    return calls
