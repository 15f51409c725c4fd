"""What a run took, added up from its events, and what of it is the device's: the report at the end of a run.

    totals = Totals()
    trainer.events.add(totals)
    ...
    report = totals.report(device.facts, device_work(trainer.pipeline.stack, device.facts))

Times are those of the process, and of processes that this one goes on from. Figures of a device are given for a real
one alone: what an emulator takes says nothing of an ANE.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from anetrain import chips, events
from anetrain.chips import Peak
from anetrain.pipeline import Stack

Number = TypeVar("Number", int, float)
AFTER_MICRO_STEPS = ("saving", "update", "restaging")  # parts of an update that are not of its micro-steps

# ---------------------------------------------------------------- the device


@dataclass(frozen=True)
class DeviceWork:
    """What a real device computes in a micro-step. `peak`: None where there is no figure for the chip."""

    forward_flops: int
    backward_flops: int
    chip: str
    peak: Peak | None

    @property
    def flops(self) -> int:
        return self.forward_flops + self.backward_flops

    def tflops(self, micro_steps: int, busy_s: float) -> float:
        """While it computes."""
        return micro_steps * self.flops / busy_s / 1e12 if busy_s else 0.0

    def utilisation(self, tflops: float) -> tuple[float, str] | None:
        """Percent of what, in words; None where there is no figure for the chip."""
        return (self.peak.percent(tflops), f"{self.chip}: {self.peak.source}") if self.peak else None


def device_work(stack: Stack, facts: Mapping[str, Any]) -> DeviceWork | None:
    """None for an emulator. Operations are those of the programs as they were lowered, what backward computes again
    included (anetrain.lower.report)."""
    if facts["kind"] != "ane":
        return None
    plans = [layer.compiled.plan for layer in stack.layers]
    chip = str(facts.get("chip") or "an unknown chip")
    known = chips.known(chip)
    return DeviceWork(
        sum(plan.flops(plan.forward) for plan in plans),
        sum(plan.flops(plan.backward) for plan in plans),
        chip,
        known.peak if known else None,
    )


def device_seconds(parts: Mapping[str, float]) -> float:
    """Evaluations of forward and backward."""
    return parts.get("forward_device", 0.0) + parts.get("backward_device", 0.0)


def device_name(facts: Mapping[str, Any]) -> str:
    """For people."""
    if facts["kind"] == "ane":
        return f"ane ({facts.get('chip') or 'unknown chip'})"
    return f"{short_name(facts)} (times are of this CPU, not of an ANE)"


def short_name(facts: Mapping[str, Any]) -> str:
    """ "ane", or such as "emulator:m4"."""
    return "ane" if facts["kind"] == "ane" else f"emulator:{facts['profile']}"


# ---------------------------------------------------------------- the run


class Totals:
    """Listens to a run. Updates that a killed process had made after its last checkpoint are made again, and counted
    once."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, begin: float | None = None) -> None:
        self._clock, self._begin = clock, clock() if begin is None else begin
        self._counts: dict[str, int] = defaultdict(int, processes=1)
        self._seconds: dict[str, float] = defaultdict(float)
        self._parts: dict[str, float] = defaultdict(float)  # of updates

    def __call__(self, event: events.Event) -> None:
        counts, seconds = self._counts, self._seconds
        if isinstance(event, events.Update):
            _add(counts, {"updates": 1, "micro_steps": event.micro_steps, "tokens": event.tokens})
            seconds["updates"] += event.seconds
            _add(self._parts, event.parts)
        elif isinstance(event, events.Overflow):
            counts["dropped_groups"] += 1
            seconds["dropped"] += event.seconds
        elif isinstance(event, events.Compile):
            counts["compiles"] += event.programs
            counts["cache_loads"] += event.cache_loads
            seconds["compile"] += event.seconds
        elif isinstance(event, events.Checkpoint):
            seconds["checkpoint"] += event.seconds
        elif isinstance(event, events.Validation):
            seconds["validation"] += event.seconds
        elif isinstance(event, events.Restarted):  # the build is in the compile event
            seconds["restart"] += event.start_seconds + event.prepare_seconds + event.load_seconds

    def state(self) -> dict[str, dict[str, Any]]:
        """For a process that goes on from here."""
        seconds = dict(self._seconds) | {"wall": self._wall_s()}
        return {"counts": dict(self._counts), "seconds": seconds, "parts": dict(self._parts)}

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds what another process has given as its state."""
        _add(self._counts, state["counts"])
        _add(self._seconds, state["seconds"])
        _add(self._parts, state["parts"])

    def _wall_s(self) -> float:
        return self._seconds["wall"] + self._clock() - self._begin

    def report(self, facts: Mapping[str, Any], work: DeviceWork | None) -> events.Report:
        """`ms_per_...`: optimizer and restaging included unless the name says otherwise, compiling never.
        `forward_device_ms` and the like: the parts of an update."""
        counts, seconds, parts = self._counts, self._seconds, self._parts
        wall_s, updates, steps = self._wall_s(), max(counts["updates"], 1), max(counts["micro_steps"], 1)
        train_s = seconds["updates"] - parts["compiling"]
        behind_s = sum(parts[name] for name in AFTER_MICRO_STEPS)
        figures: dict[str, float | int | str] = {
            "device": device_name(facts),
            "processes": counts["processes"],
            "updates": counts["updates"],
            "micro_steps": counts["micro_steps"],
            "dropped_groups": counts["dropped_groups"],
            "tokens": counts["tokens"],
            "compiles": counts["compiles"],
            "cache_loads": counts["cache_loads"],
            "wall_s": wall_s,
            "compile_s": seconds["compile"],
            "compile_percent": _percent(seconds["compile"], wall_s),
            "train_s": train_s,
            "train_percent": _percent(train_s, wall_s),
            "dropped_s": seconds["dropped"],
            "validation_s": seconds["validation"],
            "checkpoint_s": seconds["checkpoint"],
            "restart_s": seconds["restart"],
            "tokens_per_s": counts["tokens"] / train_s if train_s else 0.0,
            "ms_per_step": 1e3 * train_s / steps,
            "ms_per_step_without_update": 1e3 * (train_s - behind_s) / steps,
            "ms_per_update": 1e3 * train_s / updates,
        }
        figures |= {f"{name}_ms": 1e3 * spent / updates for name, spent in parts.items() if name != "compiling"}
        return events.Report("end of run", figures | self._device_figures(work, train_s))

    def _device_figures(self, work: DeviceWork | None, train_s: float) -> dict[str, float | int | str]:
        if work is None:
            return {"device_figures": "none: an emulator is not a device"}
        busy_s = device_seconds(self._parts)
        tflops = work.tflops(self._counts["micro_steps"], busy_s)
        figures: dict[str, float | int | str] = {
            "device_flops_per_step": work.flops,
            "device_tflops": tflops,
            "device_idle_percent": _percent(train_s - busy_s, train_s),
            "device_utilisation_of": f"no figure is known for {work.chip}",
        }
        if (found := work.utilisation(tflops)) is not None:
            figures["device_utilisation_percent"], figures["device_utilisation_of"] = found
        return figures


def _add(sums: dict[str, Number], more: Mapping[str, Number]) -> None:
    for name, value in more.items():
        sums[name] += value


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


def report_text(report: events.Report) -> str:
    """A line for the run, for its time and for the device, and one for where the time of an update went, the largest
    part first."""
    found = report.figures
    parts = {name.removesuffix("_ms"): float(found[name]) for name in found if name.endswith("_ms")}
    whole = float(found["ms_per_update"])
    listed = ", ".join(
        f"{name.replace('_', ' ')} {size:.1f}"
        for name, size in sorted(parts.items(), key=lambda item: -item[1])
        if size >= 0.005 * whole and size > 0.0
    )
    return (
        f"{found['updates']} updates, {found['micro_steps']} micro-steps, {found['tokens']:,} tokens in "
        f"{float(found['wall_s']):.1f} s; {float(found['tokens_per_s']):,.0f} tok/s while training; "
        f"{found['dropped_groups']} groups dropped\n"
        f"{found['compiles']} compiles in {float(found['compile_s']):.1f} s ({float(found['compile_percent']):.1f} %), "
        f"training {float(found['train_s']):.1f} s ({float(found['train_percent']):.1f} %)\n"
        f"{float(found['ms_per_step']):.1f} ms per micro-step with its share of the update, "
        f"{float(found['ms_per_step_without_update']):.1f} without\n"
        f"device: {found['device']}{_device_text(found)}\n"
        f"{whole:.1f} ms per update: {listed or 'nothing was measured'}"
    )


def _device_text(found: Mapping[str, float | int | str]) -> str:
    if "device_tflops" not in found:
        return ""
    percent = found.get("device_utilisation_percent")
    share = f"{float(percent):.1f} % of " if percent is not None else ""
    return (
        f": {float(found['device_tflops']):.2f} TFLOPS while it computes ({share}{found['device_utilisation_of']}), "
        f"idle for {float(found['device_idle_percent']):.1f} % of training"
    )
