"""Baked weights on the emulated ANE: what an update compiles against a copy of its weights, the step against dynamic.

    a copy               of the program's fp16 weights, into memory that this process had before and gave back: so do
                         programs get theirs, as an update releases as much as it takes
    a copy to new pages  the same into memory that the kernel has to clear first
    the dynamic step     the same micro-step of the same model, its weights staged instead of baked

Floors are against the quicker copy. An update compiles texts that the device knows, with other weights; the rows of a
new text are what the first layer of a process costs.

The emulator's times are times of this CPU, never of an ANE: a real compile takes tens of milliseconds.

Example:
    python benchmarks/static.py --check
    python benchmarks/static.py --filter compile --pairs 3
"""

from __future__ import annotations

import itertools
import mmap
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


class Compiling:
    """A program of stories110m's layer."""

    def __init__(self, index: int) -> None:
        spec = Model.preset("stories110m").spec
        plan = lower(differentiate(build(LlamaBlock(), spec)), "baked")
        program, graph = plan.programs[index], plan.derived.graph
        random = np.random.default_rng(0)
        weights = {
            known.name: random.standard_normal(value.shape, np.float32) * np.float32(0.02)
            for value, known in graph.parameters.items()
        }
        self.text = program.program.text
        self.baked = Baking(plan).blobs(program, weights)
        self.blobs = {**program.program.blobs, **self.baked}
        self.engine = device.open("emulator:m4", compile_budget=UNLIMITED)
        self.numbers = itertools.count()

    def known_text(self) -> None:
        """Compile with load, unload, release."""
        self.engine.compile(self.text, self.blobs).unload()

    def new_text(self) -> None:
        self.engine.compile(f"{self.text}// {next(self.numbers)}\n", self.blobs).unload()

    def copy(self) -> list[bytes]:
        return [bytes(file) for file in self.baked.values()]

    def copy_to_new_pages(self) -> None:
        for file in self.baked.values():
            with mmap.mmap(-1, len(file), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
                pages[:] = file


def pair(index: int, ours: Callable[[Compiling], None], peer: Callable[[Compiling], object]) -> Pair:
    compiling = Compiling(index)
    return lambda: ours(compiling), lambda: peer(compiling)


def add_program(index: int, name: str) -> None:
    known, new = Compiling.known_text, Compiling.new_text
    label = f"compile, unload, release: {name}"
    rows.add(label, peer="a copy", at_least=0.1)(lambda: pair(index, known, Compiling.copy))
    rows.add(label, peer="a copy to new pages")(lambda: pair(index, known, Compiling.copy_to_new_pages))
    rows.add(f"{label}, new text", peer="a copy")(lambda: pair(index, new, Compiling.copy))


for number, program_name in enumerate(PROGRAMS):
    add_program(number, program_name)


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
