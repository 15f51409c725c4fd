"""The lines of JSON that earlier trainers for the ANE wrote, so that what reads theirs reads ours: step, batch, perf.

    work = device_work(trainer.pipeline.stack, device.facts)
    trainer.events.add(Telemetry(sys.stdout, short_name(device.facts), work))

Their keys keep their names; further ones say what was left out there. docs/telemetry.md has all of them, and what each
meant and means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TextIO

from anetrain import events
from anetrain.efficiency import AFTER_MICRO_STEPS, DeviceWork, device_seconds

# Milliseconds of a micro-step by key, and the part of the account they are.
TIMES = {
    "t_ane": "forward_device",
    "t_io": "forward_conversion",
    "t_cls": "forward_classifier",
    "t_elem": "forward_host",
    "t_rms": "forward_norms",
    "t_cblas_wait": "waiting",
    "t_ane_bwd": "backward_device",
    "t_io_bwd": "backward_conversion",
    "t_cls_bwd": "backward_classifier",
    "t_elem_bwd": "backward_host",
    "t_rms_bwd": "backward_norms",
    "t_dw": "weight_gradients",
    "t_data": "data",
}


class Telemetry:
    """A listener. `device`: its name, in each line. `work`: None where it is an emulator, of whose performance nothing
    is said."""

    def __init__(self, stream: TextIO, device: str, work: DeviceWork | None) -> None:
        self._stream, self._device, self._work = stream, device, work
        self._compiles, self._compile_s = 0, 0.0

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Compile):
            self._compiles, self._compile_s = event.compiles, self._compile_s + event.seconds
        elif isinstance(event, events.Step):
            self._step(event)
        elif isinstance(event, events.Update):
            self._batch(event)
            if self._work is not None:
                self._perf(event, self._work)

    def _step(self, event: events.Step) -> None:
        times = {key: _ms(event.parts.get(part, 0.0)) for key, part in TIMES.items()}
        self._write(
            {"type": "step", "step": event.micro_step, "loss": round(event.loss, 6)}
            | times
            | {"t_step": _ms(event.seconds), "tokens": event.tokens, "compiles": self._compiles}
        )

    def _batch(self, event: events.Update) -> None:
        compile_s, self._compile_s = self._compile_s, 0.0
        train_s = event.seconds - event.parts.get("compiling", 0.0)
        behind = {name: event.parts.get(name, 0.0) for name in AFTER_MICRO_STEPS}
        self._write(
            {
                "type": "batch",
                "batch": event.micro_steps,
                "compile_ms": _ms(compile_s, 1),
                "train_ms": _ms(train_s, 1),
                "ms_per_step": _ms(train_s / event.micro_steps, 1),
                "ms_per_step_without_update": _ms((train_s - sum(behind.values())) / event.micro_steps, 1),
                "update": event.update,
                "loss": round(event.loss, 6),
                "lr": event.lr,
            }
            | {f"{name}_ms": _ms(seconds, 1) for name, seconds in behind.items()}
        )

    def _perf(self, event: events.Update, work: DeviceWork) -> None:
        seconds = device_seconds(event.parts)
        if seconds <= 0.0:
            return
        tflops = work.tflops(event.micro_steps, seconds)
        line: dict[str, Any] = {"type": "perf", "ane_tflops": round(tflops, 3)}
        if (found := work.utilisation(tflops)) is not None:
            percent, line["ane_util_of"] = found
            line["ane_util_pct"] = round(percent, 2)
        self._write(line | {"ane_idle_pct": round(100.0 * (1.0 - seconds / event.seconds), 2)})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(events.plain({**line, "device": self._device}), allow_nan=False) + "\n")
        self._stream.flush()


def _ms(seconds: float, digits: int = 3) -> float:
    return round(1e3 * seconds, digits)
