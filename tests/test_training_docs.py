"""The code of docs/training.md that trains something runs, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import account, compaction, data, errors, events, optim, pipeline, scaler, schedule, trainer
from anetrain.data import Sampler
from anetrain.trainer import Trainer
from tests.support import emulator

PAGE = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
PIECES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def piece(beginning: str) -> str:
    (found,) = [text for text in PIECES if text.startswith(beginning)]
    return str(found)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the first example has made, on the emulator."""
    made: dict[str, Any] = {"print": lambda *_: None, "emulator": emulator}
    example = piece("import numpy")
    assert 'anetrain.device.open("auto")' in example
    exec(example.replace('anetrain.device.open("auto")', "emulator()"), made)
    return made


def test_the_first_example(names: dict[str, Any]) -> None:
    assert len(piece("import numpy").strip().splitlines()) <= 17
    result = names["result"]
    assert (result.updates, result.dropped) == (60, 0)
    assert result.validation.loss < 1.0


def test_state_is_taken_and_loaded(names: dict[str, Any]) -> None:
    def new() -> tuple[Trainer, Sampler]:
        tokens = names["tokens"]
        made = Trainer.build(names["device"], names["model"], updates=60, lr=1e-2, seed=1)
        return made, Sampler(tokens, batch=4, seq=32, vocab=256)

    first, sampler = new()
    first.fit(sampler, 2)
    other, other_sampler = new()
    made = {"trainer": first, "sampler": sampler, "other": other, "other_sampler": other_sampler}
    exec(piece("state, weights") + piece("for name, array"), made)
    assert first.fit(sampler, 1).last.loss == other.fit(other_sampler, 1).last.loss  # type: ignore[union-attr]


def test_a_compact_vocabulary(names: dict[str, Any]) -> None:
    made = dict(names)
    exec(piece("from anetrain.compaction"), made)
    compact = made["trainer"]
    assert len(made["compaction"]) == len(set(names["text"]))
    result = compact.fit(Sampler(names["tokens"], batch=4, seq=32, vocab=256), 5, validation=names["held_out"])
    assert result.validation.loss > 0.0
    np.testing.assert_array_equal(made["compaction"].active, np.unique(names["tokens"]))


def test_what_the_page_names_exists() -> None:
    named = set(re.findall(r"`([A-Z]\w+)\b", PAGE))
    modules = (trainer, data, compaction, events, optim, scaler, schedule, account, pipeline, errors)
    parameters = {"Parameter"}
    assert {name for name in named if not any(hasattr(module, name) for module in modules)} <= parameters
    assert {"Sampler", "Windows", "StepResult", "DeviceLostError", "DivergedError", "Schedule"} <= named
