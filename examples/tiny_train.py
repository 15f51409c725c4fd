"""Train a two-layer network whose weights are baked into programs, while the next programs are compiled.

The engine's fastest form of a layer is a convolution with constant weights; a changed weight is a new program. Here
the programs of an update are compiled while the engine runs those of the one before, so gradients are one update
behind. The network learns what another one of the same size computes, to a mean squared error below 1e-6. The error is
taken, and the optimizer runs, in fp32 on the CPU.

    python examples/tiny_train.py --device emulator:m4

Every update compiles a program forward and one backward. On systems where a process gets about 119 compiles in its life
this ends early; --compile-budget keeps below what yours allows.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

import anetrain.device
from anetrain.autodiff import differentiate
from anetrain.blocks import Block, ModelSpec
from anetrain.blocks import build as build_block
from anetrain.graph import BlockGraph, Value, matrix
from anetrain.lower import lower
from anetrain.optim import AdamW
from anetrain.pipeline import BackgroundBaking, CompiledPlan, Layer, SurfacePool
from anetrain.schedule import Schedule

LOSS_SCALE = 2.0**10
GOAL = 1e-6
Array = npt.NDArray[np.float32]


class TwoLayers(Block):
    """w2 silu(w1 x)."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"w1": matrix(s.hidden, s.dim), "w2": matrix(s.dim, s.hidden)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return g.linear(g.silu(g.linear(x, w.w1)), w.w2)


def drawn(random: np.random.Generator, s: ModelSpec) -> dict[str, Array]:
    shapes = {"w1": (s.hidden, s.dim), "w2": (s.dim, s.hidden)}
    return {
        name: random.standard_normal(shape, np.float32) * np.float32(shape[1] ** -0.5) for name, shape in shapes.items()
    }


def computed(weights: dict[str, Array], x: Array) -> Array:
    """The same network in numpy: [dim, tokens] -> [dim, tokens]."""
    h = weights["w1"] @ x
    return np.asarray(weights["w2"] @ (h / (1.0 + np.exp(-h))), np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto (default), ane, emulator or emulator:PROFILE")
    parser.add_argument("--updates", type=int, default=1000, help="at most so many (1000)")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate (3e-3)")
    parser.add_argument("--compile-budget", type=int, default=10_000, help="compiles of this process (10000)")
    arguments = parser.parse_args()

    spec = ModelSpec(dim=16, hidden=128, layers=1, heads=1, kv_heads=1, head_dim=16, vocab=1, seq=32)
    random = np.random.default_rng(0)
    x = random.standard_normal((spec.dim, spec.tokens), np.float32)
    wanted = computed(drawn(random, spec), x)
    weights = drawn(random, spec)
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    optimizer = AdamW(TwoLayers().weights(spec), weights, gradients, betas=(0.9, 0.99), weight_decay=0.0, clip=None)
    schedule = Schedule("cosine", arguments.rate, arguments.updates, warmup=20, min_ratio=0.01)

    with anetrain.device.open(arguments.device, compile_budget=arguments.compile_budget) as device:
        print(f"device: {device.facts['kind']} ({device.facts['why']})")
        plan = lower(differentiate(build_block(TwoLayers(), spec)), "baked", dialect=device.facts.get("dialect", "B"))
        with CompiledPlan(device, plan, weights, name="two layers") as compiled:
            layer = Layer(compiled, weights, gradients, SurfacePool())
            with BackgroundBaking([layer]) as baking:
                loss = np.inf
                for update in range(arguments.updates):
                    error = layer.forward({"x": x.reshape(1, spec.dim, 1, spec.tokens)})["y"][0, :, 0] - wanted
                    loss = float(np.mean(error**2))
                    if update % 100 == 0 or loss < GOAL:
                        print(f"update {update}: mean squared error {loss:.3g}", flush=True)
                    if loss < GOAL:
                        break
                    seed = (error * np.float32(2.0 * LOSS_SCALE / error.size)).reshape(1, spec.dim, 1, spec.tokens)
                    layer.backward({"y": seed}, alpha=1.0 / LOSS_SCALE)
                    optimizer.step(schedule(update), count=1)
                    baking.advance()
        counters = device.counters()
        print(f"{counters.compiles} compiles, {counters.evaluations} evaluations; {counters.live_programs} left loaded")
    return 0 if loss < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
