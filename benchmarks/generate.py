"""Speed of generating text: one token of Stories110M and Stories15M on the CPU, against a plain read of as many bytes
as the weights have in fp16.

Weights are random: what they are does not change what is read. The text is 128 tokens long already.

Example:
    python benchmarks/generate.py --check
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import cpu  # noqa: E402
from anetrain.generation import Decoder  # noqa: E402
from anetrain.generation.cache import Cache  # noqa: E402
from anetrain.model import PRESETS, Model  # noqa: E402
from anetrain.spec import ModelSpec  # noqa: E402
from benchmarks._harness import Deferred, Pair, Rows, Timed, main  # noqa: E402

rows = Rows("benchmarks.generate")

AT_LEAST = 0.7
LENGTH = 128


def weight_bytes(spec: ModelSpec) -> int:
    """Of all matrices in fp16; the tied classifier is the embedding, of which a token otherwise reads one row."""
    return 2 * sum(item.size for item in Model(spec).parameters.values() if len(item.shape) == 2)


def decode(preset: str) -> Timed:
    model = Model.preset(preset, rope="half")
    cache = Cache(model.spec, 2 * LENGTH)
    decoder = Decoder(model.spec, model.initial(0), cache)
    assert decoder.weight_bytes == weight_bytes(model.spec)
    for token in range(LENGTH):
        decoder.step(token)

    def call() -> None:
        cache.length = LENGTH
        decoder.step(7)

    return call


def plain_read(preset: str) -> Timed:
    """The largest magnitude of as many bytes, in as many threads: faster here than numpy's fastest reductions."""
    data = np.ones(weight_bytes(PRESETS[preset]) // 4, np.float32)
    return lambda: cpu.largest(data)


@rows.add("decode a token, stories110m", peer="plain read of its weights", at_least=AT_LEAST)
def stories110m() -> Pair:
    return Deferred(lambda: decode("stories110m")), Deferred(lambda: plain_read("stories110m"))


@rows.add("decode a token, stories15m", peer="plain read of its weights")
def stories15m() -> Pair:
    return Deferred(lambda: decode("stories15m")), Deferred(lambda: plain_read("stories15m"))


if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "generate.json"))
