"""What tests of `anetrain train` share: a small config, runs of it, what they leave, and a look at them from within."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anetrain import assembly, events
from anetrain.checkpoint import Checkpoint, find, load
from anetrain.train import main
from anetrain.trainer import Trainer

ROOT = Path(__file__).parent.parent
SIZES = {"dim": 16, "hidden": 24, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "seq": 32}
CONFIG = f"""
model: {{{", ".join(f"{name}: {size}" for name, size in SIZES.items())}, vocab: 2048}}
data: {{path: builtin, stories: 40, validation_tokens: 200}}
train: {{updates: 6, batch: 2, accumulation: 2, validate_every: 2}}
optim: {{lr: 1e-2}}
schedule: {{warmup: 2}}
device: {{kind: emulator, live_budget: 1000000, compile_budget: 1000000}}
checkpoint: {{every: 100, keep: 2}}
log: {{every: 2}}
"""


def run(config: Path, out: str | Path, *arguments: str) -> Path:
    """Trains, and gives the run's folder."""
    folder = config.parent / out
    assert main([str(config), "--out", str(folder), *arguments]) == 0
    return folder


def heard(folder: Path, kind: type[events.Event]) -> list[Any]:
    return [event for _, event in events.read_json_lines(folder / "events.jsonl") if isinstance(event, kind)]


def last(folder: Path) -> Checkpoint:
    return load(find(folder))


def check_same(first: Checkpoint, second: Checkpoint) -> None:
    """Weights, the optimizer's means all counts and what programs were made of, bit for bit."""
    assert (first.step, first.validation_loss) == (second.step, second.validation_loss)
    assert _without_times(first) == _without_times(second)
    for part in ("weights", "arrays", "baked"):
        one, other = getattr(first, part), getattr(second, part)
        assert set(one) == set(other)
        for name in one:
            assert one[name].tobytes() == other[name].tobytes(), name


def _without_times(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: value for name, value in checkpoint.values.items() if name != "totals"}


def changed(*changes: str) -> list[str]:
    return [argument for change in changes for argument in ("--set", change)]


def listen(monkeypatch: pytest.MonkeyPatch, listener: Callable[[Trainer, events.Event], object]) -> None:
    """To the trainers of runs in this process, before any other listener."""
    real = assembly.make_trainer

    def make(*arguments: Any, **options: Any) -> Trainer:
        trainer = real(*arguments, **options)
        first = events.Events()
        first.add(lambda event: listener(trainer, event), required=True)
        emit = trainer.events.emit
        trainer.events.emit = lambda event: (first.emit(event), emit(event))[1]  # type: ignore[method-assign]
        return trainer

    monkeypatch.setattr(assembly, "make_trainer", make)


class Terminal:
    """Text, as a terminal would get it."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True
