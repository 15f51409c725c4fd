"""Train a block of your own: its weights and its forward function are all there is to write.

The block here is not in the library: LayerNorm, attention over a sliding window, a GELU feed-forward network, biases
everywhere. Two of them learn a small made-up language with plain gradient descent. The programs of forward and
backward, and the gradients of all weights, are derived from the forward function.

    python examples/custom_block.py --device emulator:m4 --layout stacked --updates 60
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

import anetrain.device
from anetrain.blocks import Block, ModelSpec, attend, causal_mask, join_heads, split_heads
from anetrain.graph import BlockGraph, Value, bias, gain, matrix
from anetrain.lower import LAYOUTS
from anetrain.model import Model
from anetrain.pipeline import NonFiniteError, Pipeline, make_pipeline

WINDOW = 8  # tokens that a token sees, itself included

SUBJECTS = {"the cat": "sleeps", "the dog": "barks", "a bird": "sings", "the fox": "hides"}
PLACES = ("in the house", "under a tree", "by the river")


class WindowBlock(Block):
    """x + attention(norm(x)), then + feed-forward(norm(that))."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        side = s.heads * s.head_dim
        return {
            "attention": {
                "norm": {"gain": gain(s.dim), "bias": bias(s.dim)},
                **{name: matrix(side, s.dim) for name in ("wq", "wk", "wv")},
                **{name: bias(side) for name in ("bq", "bk", "bv")},
                "wo": matrix(s.dim, side),
                "bo": bias(s.dim),
            },
            "ffn": {
                "norm": {"gain": gain(s.dim), "bias": bias(s.dim)},
                "w1": matrix(s.hidden, s.dim),
                "b1": bias(s.hidden),
                "w2": matrix(s.dim, s.hidden),
                "b2": bias(s.dim),
            },
        }

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        x = x + self._attention(g, g.layer_norm(x, w.attention.norm.gain, w.attention.norm.bias), w.attention)
        h = g.layer_norm(x, w.ffn.norm.gain, w.ffn.norm.bias)
        return x + g.linear(g.gelu(g.linear(h, w.ffn.w1, w.ffn.b1)), w.ffn.w2, w.ffn.b2)

    def _attention(self, g: BlockGraph, h: Value, w: Any) -> Value:
        q = split_heads(g, g.linear(h, w.wq, w.bq)) * (g.spec.head_dim**-0.5)
        k = split_heads(g, g.linear(h, w.wk, w.bk))
        v = split_heads(g, g.linear(h, w.wv, w.bv))
        out = attend(g, q, k, v, causal_mask(g.spec.seq, WINDOW))
        return g.linear(join_heads(g, out), w.wo, w.bo)


def build(spec: ModelSpec) -> Model:
    """For configs/custom.yaml."""
    return Model(spec, WindowBlock())


def corpus(words: int, random: np.random.Generator) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Ids of at least so many words of sentences like "the cat sleeps under a tree .", and the vocabulary."""
    text: list[str] = []
    while len(text) < words:
        subject = random.choice(list(SUBJECTS))
        text += f"{subject} {SUBJECTS[subject]} {random.choice(PLACES)} .".split()
    vocabulary = sorted(set(text))
    return np.array([vocabulary.index(word) for word in text], np.int32), vocabulary


def learn(
    pipeline: Pipeline, ids: npt.NDArray[np.int32], targets: npt.NDArray[np.int32], rate: float, loss_scale: float
) -> tuple[float, float]:
    """One step of gradient descent: the loss, and the loss scale to go on with."""
    while True:
        try:
            loss = pipeline.micro_step(ids, targets, loss_scale=loss_scale)
            break
        except NonFiniteError:  # gradients beyond fp16; nothing was added
            loss_scale /= 2.0
    for name, weight in pipeline.weights.items():
        weight -= np.float32(rate) * pipeline.gradients[name]
    pipeline.stage()
    pipeline.clear_gradients()
    return loss, loss_scale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto (default), ane, emulator or emulator:PROFILE")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="stacked",
        help="how weights reach the device (stacked); baked ones are compiled anew after each update, and a process "
        "may compile about 100 programs",
    )
    parser.add_argument("--updates", type=int, help="steps of gradient descent (60; 11 where weights are baked)")
    parser.add_argument("--rate", type=float, default=0.2, help="learning rate (0.2)")
    arguments = parser.parse_args()
    updates = arguments.updates or (11 if arguments.layout == "baked" else 60)

    ids, vocabulary = corpus(400, np.random.default_rng(0))
    spec = ModelSpec(
        dim=64, hidden=128, layers=2, heads=4, kv_heads=4, head_dim=16, vocab=len(vocabulary), seq=64, batch=2,
        rope="none",
    )  # fmt: skip
    sequences = len(ids) // (spec.seq + 1)
    rows = ids[: sequences * (spec.seq + 1)].reshape(sequences, -1)  # [sequences, seq + 1]
    with anetrain.device.open(arguments.device) as device:
        print(f"device: {device.facts['kind']} ({device.facts['why']}), weights {arguments.layout}")
        model = build(spec)
        pipeline = make_pipeline(device, model, seed=0, layout=arguments.layout)
        print(f"{model.parameter_count:,} parameters, {ids.size} tokens")
        losses, loss_scale = [], 2.0**16
        for update in range(updates):
            batch = rows[np.arange(spec.batch * update, spec.batch * (update + 1)) % sequences]
            loss, loss_scale = learn(pipeline, batch[:, :-1], batch[:, 1:], arguments.rate, loss_scale)
            losses.append(loss)
            if update % 10 == 0 or update == updates - 1:
                print(f"update {update:4}  loss {losses[-1]:.3f}")
        print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; {device.counters().compiles} programs were compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
