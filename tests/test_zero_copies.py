"""Between forward and backward nothing is copied: what backward needs lies where forward left it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anetrain.blocks import LlamaBlock, Qwen3Block
from anetrain.blocks.qwen3 import PUBLISHED
from anetrain.lower import LAYOUTS, Layout
from anetrain.lower.plan import Dispatch, Step
from tests.block_runs import spec
from tests.emulated import EmulatedBlock, tensors
from tests.support import emulator

FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {"llama": (LlamaBlock, {}), "qwen3": (Qwen3Block, PUBLISHED)}


def surfaces(run: EmulatedBlock, steps: list[Step], side: str) -> set[str]:
    programs = [run.plan.programs[step.program] for step in steps if isinstance(step, Dispatch)]
    return {name for program in programs for name in getattr(program, side).values()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_forward_leaves_is_what_backward_reads(family: str, layout: Layout) -> None:
    """Shown by the surfaces' contents: were there a copy, spoiling the one would not spoil the other."""
    make, changes = FAMILIES[family]
    run = EmulatedBlock(make(), spec(**changes), emulator(), layout=layout)
    shared = surfaces(run, run.plan.forward, "outputs") & surfaces(run, run.plan.backward, "inputs")
    assert shared
    expected = tensors(run.run())
    for name in shared:
        run.layer.forward({"x": run.x})
        surface = run.layer.surfaces[name].surface
        with surface.lock(write=True) as view:
            kept = view.copy()
            view[:] = 0
        assert kept.any(), "nothing to spoil"
        spoilt = run.layer.backward({"y": run.dy})["x"].copy()
        assert not np.array_equal(spoilt, expected["gradient of input x"]), name
        with surface.lock(write=True) as view:
            view[:] = kept
        assert np.array_equal(run.layer.backward({"y": run.dy})["x"], expected["gradient of input x"]), name


@pytest.mark.parametrize("chip", ["m3pro", "m4", "m5", "m5max"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_is_four_dispatches_and_moves_each_value_once(family: str, chip: str) -> None:
    make, changes = FAMILIES[family]
    s = spec(**changes, batch=3)
    run = EmulatedBlock(make(), s, emulator(chip))
    run.run()
    traffic = run.layer.traffic
    traffic.clear()
    run.layer.forward({"x": run.x})
    assert traffic.dispatches == 2
    forward_sent = traffic.sent_bytes
    run.layer.backward({"y": run.dy})
    assert traffic.dispatches == 4
    assert traffic.staged_bytes == 0
    activation = 2 * s.dim * s.tokens
    # The two norms go down, and in backward only the two gradients of what the layer adds: nothing comes a second time.
    assert forward_sent == 2 * activation
    assert traffic.sent_bytes == 4 * activation
    # Up: both sums; both gradients of norms; and each operand of a weight gradient once.
    queries, keys = s.heads * s.head_dim * s.tokens, s.kv_heads * s.head_dim * s.tokens
    operands = queries + 2 * keys + queries + 3 * s.hidden * s.tokens  # dq, dk, dv; attended; d gate, d up, hidden
    norms = 2 * (queries + keys) if s.qk_norm else 0  # their gradients and what was normalised
    assert traffic.received_bytes == 4 * activation + 2 * (operands + norms)
