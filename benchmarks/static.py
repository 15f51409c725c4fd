"""Baked weights on the emulated ANE: what an update compiles against a copy of its weights, the step against dynamic.

    a copy            of the program's fp16 weights in new memory, which any program that has weights needs at least
    the dynamic step  the same micro-step of the same model, its weights staged instead of baked

The emulator's times are times of this CPU, never of an ANE: a real compile takes tens of milliseconds.

Example:
    python benchmarks/static.py --check
    python benchmarks/static.py --filter compile --pairs 3
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import device  # noqa: E402
from anetrain.autodiff import differentiate  # noqa: E402
from anetrain.blocks import LlamaBlock, build  # noqa: E402
from anetrain.lower import Layout, lower  # noqa: E402
from anetrain.model import Model  # noqa: E402
from anetrain.pipeline import make_pipeline  # noqa: E402
from anetrain.pipeline.baking import Baking  # noqa: E402
from benchmarks._harness import Deferred, Pair, Rows, Timed, main  # noqa: E402

rows = Rows("benchmarks.static")

PROGRAMS = ("attention forward", "feed-forward forward", "feed-forward backward", "attention backward")
UNLIMITED = 2**32 - 1


def compiled(index: int) -> Pair:
    """A program of stories110m's layer: compile with load, unload, release."""
    spec = Model.preset("stories110m").spec
    plan = lower(differentiate(build(LlamaBlock(), spec)), "baked")
    program, graph = plan.programs[index], plan.derived.graph
    random = np.random.default_rng(0)
    weights = {
        known.name: random.standard_normal(value.shape, np.float32) * np.float32(0.02)
        for value, known in graph.parameters.items()
    }
    baked = Baking(plan).blobs(program, weights)
    engine = device.open("emulator:m4", compile_budget=UNLIMITED)

    def ours() -> None:
        engine.compile(program.program.text, {**program.program.blobs, **baked}).unload()

    return ours, lambda: [bytes(file) for file in baked.values()]


def add_program(index: int) -> None:
    name = f"compile, unload, release: {PROGRAMS[index]}"
    rows.add(name, peer="a copy", at_least=0.1)(lambda: compiled(index))


for number in range(len(PROGRAMS)):
    add_program(number)


def step(preset: str, layout: Layout) -> Callable[[], Timed]:
    def make() -> Timed:
        model = Model.preset(preset)
        pipeline = make_pipeline(device.open("emulator:m4"), model, seed=0, layout=layout)
        ids = np.random.default_rng(0).integers(0, model.spec.vocab, (model.spec.batch, model.spec.seq + 1))
        return lambda: pipeline.micro_step(ids[:, :-1], ids[:, 1:])

    return make


def add_step(preset: str) -> None:
    rows.add(f"micro-step of {preset}", peer="the dynamic step", at_least=1.0)(
        lambda: (Deferred(step(preset, "baked")), Deferred(step(preset, "stacked")))
    )


add_step("stories15m")
add_step("stories110m")

if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "static.json"))
