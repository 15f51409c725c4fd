"""Training as the published reports measured it, and as users do: `anetrain train` on random tokens, random weights.

30 micro-steps in 3 updates; the first 10 are a warm-up and left out. A micro-step's time is that of its update,
optimizer and restaging included, by the micro-steps of the update; compiling, which the static pipeline does at every
update, is not in it, and stands beside it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from anetrain import events
from anetrain.bench.base import Bench, Case, Lab, Scale
from anetrain.model import Model
from anetrain.results import Check, Finding, Measurement, Scalar, Timing, this_machine

IDS = 5000  # as published: tokens are uniform below it
ALLOWED = 0.05
MEMORY_BYTES = {"stories110m": 4e9, "qwen3-0.6b": 14e9}  # weights, gradients, optimizer, activations
STATE_BYTES = 12  # of a parameter in a checkpoint: the weight and two means
REFUSED = 2  # exit code of `anetrain train` for what cannot be begun


@dataclass(frozen=True)
class _Sizes:
    models: tuple[str, ...]
    tokens: int
    updates: int
    accumulation: int


SIZES: Mapping[Scale, _Sizes] = {
    "full": _Sizes(("stories110m", "qwen3-0.6b"), 5_000_000, 3, 10),
    "small": _Sizes(("tiny-llama", "tiny-qwen3"), 5_000, 3, 2),
}


class Train(Bench):
    name = "train"
    question = "How long does a micro-step of training take, and where does the time go?"
    columns: ClassVar[tuple[str, ...]] = (
        "ms",
        "forward_device_ms",
        "backward_device_ms",
        "update_ms",
        "compile_once_ms",
        "compile_ms_per_update",
    )

    def cases(self, scale: Scale) -> Sequence[Case]:
        sizes = SIZES[scale]
        return [
            Case(
                f"{model}, {pipeline}",
                {
                    "model": model,
                    "pipeline": pipeline,
                    "tokens": sizes.tokens,
                    "updates": sizes.updates,
                    "accumulation": sizes.accumulation,
                },
                timeout_s=3600.0,
            )
            for model in sizes.models
            for pipeline in ("dynamic", "static")
        ]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        model = Model.preset(str(case.parameters["model"]))
        with tempfile.TemporaryDirectory(prefix="anetrain-bench-") as name:
            folder = Path(name)
            if lacking := _lacking(case, folder, model.parameter_count):
                return self._without_times(case, "skipped", lacking)
            _write_tokens(folder / "train.bin", case, model.spec.vocab, lab)
            run = _train(folder, _config(lab, case, folder))
            if run.returncode == REFUSED:
                return self._without_times(case, "refused", _last_line(run.stderr))
            if run.returncode != 0:
                raise RuntimeError(f"anetrain train ended with exit code {run.returncode}: {_last_line(run.stderr)}")
            heard = [event for _, event in events.read_json_lines(folder / "run" / "events.jsonl")]
        return self._of_events(case, heard, vocab=model.spec.vocab, parameters=model.parameter_count)

    def _without_times(self, case: Case, status: Any, reason: str) -> Measurement:
        parameters = dict(case.parameters)
        return Measurement(bench=self.name, case=case.name, parameters=parameters, status=status, reason=reason)

    def _of_events(self, case: Case, heard: Sequence[events.Event], *, vocab: int, parameters: int) -> Measurement:
        updates = [event for event in heard if isinstance(event, events.Update)]
        expected = math.log(vocab)
        losses = [event.loss for event in heard if isinstance(event, events.Step)]
        error = abs(losses[0] / expected - 1)
        check = Check(
            against="the logarithm of the vocabulary, which is the loss of random weights",
            largest_error=error if np.all(np.isfinite(losses)) else None,
            allowed=ALLOWED,
            of="it",
            elements=len(losses),
        )
        observed: dict[str, Scalar] = {
            "parameters": parameters,
            "vocabulary": f"all {vocab} rows; not compacted",
            "first_loss": events.plain(losses[0]),
            "last_loss": events.plain(losses[-1]),
            "dropped_groups": sum(isinstance(event, events.Overflow) for event in heard),
            **_compiles(heard),
            **_breakdown(updates[1:]),
        }
        timing = Timing.of(
            tuple(update.seconds - update.parts.get("compiling", 0.0) for update in updates[1:]),
            warm_up=updates[0].micro_steps,
            stable=True,
            calls_per_sample=int(case.parameters["accumulation"] or 1),
        )
        return self.timed(case, check, lambda: timing, observed=observed)

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        timed = {one.case: one for one in measured if one.timing is not None}
        found = [_share_of_the_device(one) for one in timed.values()]
        for case, dynamic in timed.items():
            static = timed.get(case.replace(", dynamic", ", static"))
            if static is not None and static is not dynamic:
                found.append(_pipelines(dynamic, static))
        return found


def _share_of_the_device(one: Measurement) -> Finding:
    device_ms = sum(float(one.observed.get(f"{way}_device_ms") or 0.0) for way in ("forward", "backward"))
    share = device_ms / one.figures["ms"]
    return Finding(
        bench=Train.name,
        question=f"What share of a micro-step is the device's: {one.case}?",
        answer=f"{100 * share:.0f} %: {device_ms:.1f} of {one.figures['ms']:.1f} ms, forward and backward.",
        figures={"share": share},
        basis=(one.case,),
    )


def _pipelines(dynamic: Measurement, static: Measurement) -> Finding:
    ratio = static.figures["ms"] / dynamic.figures["ms"]
    return Finding(
        bench=Train.name,
        question=f"Which pipeline is quicker: {dynamic.parameters['model']}?",
        answer=f"A micro-step of the static one takes {ratio:.2f} times as long as one of the dynamic one, without the "
        f"{static.observed['compile_ms_per_update']:.0f} ms that it compiles at each update.",
        figures={"ratio": ratio},
        basis=(dynamic.case, static.case),
    )


# ---------------------------------------------------------------- a run


def _lacking(case: Case, folder: Path, parameters: int) -> str:
    """What the machine has too little of; "" if nothing."""
    needed = MEMORY_BYTES.get(str(case.parameters["model"]), 0.0)
    have = this_machine().memory_bytes
    if have < needed:
        return f"needs {needed / 1e9:.0f} GB of memory, and this machine has {have / 1e9:.0f}"
    disk, free = 3 * STATE_BYTES * parameters, shutil.disk_usage(folder).free  # a checkpoint, the next, room
    if free < disk:
        return f"needs {disk / 1e9:.1f} GB of disk where temporary files go, and there are {free / 1e9:.1f}"
    return ""


def _write_tokens(path: Path, case: Case, vocab: int, lab: Lab) -> None:
    ids = lab.random().integers(0, min(IDS, vocab), int(case.parameters["tokens"] or 0))
    path.write_bytes(ids.astype("<u2").tobytes())


def _config(lab: Lab, case: Case, folder: Path) -> dict[str, Any]:
    facts, known = lab.device.facts, case.parameters
    device: dict[str, Any] = {"kind": "ane" if facts["kind"] == "ane" else f"emulator:{facts['profile']}"}
    if facts["kind"] == "emulator":
        device["executor"] = facts["executor"]
    return {
        "model": {"preset": known["model"]},
        "data": {"path": str(folder / "train.bin")},
        "train": {
            "updates": known["updates"],
            "accumulation": known["accumulation"],
            "seed": lab.seed,
            "validate_every": None,
        },
        "pipeline": {"kind": known["pipeline"]},
        "device": device,
    }


def _train(folder: Path, config: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))  # YAML takes JSON
    command = [sys.executable, "-m", "anetrain.train", str(path), "--out", str(folder / "run")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


# ---------------------------------------------------------------- what it says of itself


def _compiles(heard: Sequence[events.Event]) -> dict[str, Scalar]:
    """`compile_once_ms`: of the first process, before its first micro-step."""
    compiled = [event for event in heard if isinstance(event, events.Compile)]
    begun = next(index for index, event in enumerate(heard) if isinstance(event, events.Step))
    first = [event for event in heard[:begun] if isinstance(event, events.Compile)]
    return {
        "compile_once_ms": 1e3 * sum(event.seconds for event in first),
        "programs": sum(event.programs for event in first),
        "compiled_programs": sum(event.programs for event in compiled),
        "restarts": sum(isinstance(event, events.Restart) for event in heard),
    }


def _breakdown(updates: Sequence[events.Update]) -> dict[str, Scalar]:
    """Milliseconds of a micro-step by part, means over the updates; what the parts do not cover is told, not spread."""
    steps = sum(update.micro_steps for update in updates)
    names = sorted({name for update in updates for name in update.parts} - {"compiling"})
    parts = {name: sum(update.parts.get(name, 0.0) for update in updates) for name in names}
    compiling = sum(update.parts.get("compiling", 0.0) for update in updates)
    whole = sum(update.seconds for update in updates) - compiling
    return {
        **{f"{name}_ms": 1e3 * seconds / steps for name, seconds in parts.items()},
        "compile_ms_per_update": 1e3 * compiling / len(updates),
        "covered_percent": 100 * sum(parts.values()) / whole,
    }
