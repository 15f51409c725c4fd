"""Speed of an update of all weights: norm, clipping, AdamW, and the new weights to the device, against PyTorch.

Example:
    python benchmarks/optimizer.py --check
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import anetrain.device  # noqa: E402
from anetrain.model import Arrays, Model  # noqa: E402
from anetrain.optim import AdamW  # noqa: E402
from anetrain.pipeline import Pipeline  # noqa: E402
from benchmarks._harness import THREADS, Deferred, Pair, Rows, Timed, main  # noqa: E402

rows = Rows("benchmarks.optimizer")
PEER = "torch clip_grad_norm_ + fused AdamW"
AT_LEAST = 1 / 0.85


def stories110m() -> Model:
    return Model.preset("stories110m")


def optimizer_of(weights: Arrays, gradients: Arrays) -> AdamW:
    """With state as in the middle of a run. The first step takes the gradients and leaves zeros, as in a run, where
    they are made anew; the running means stay ordinary numbers for hundreds of steps."""
    optimizer = AdamW(stories110m().parameters, weights, gradients)
    random = np.random.default_rng(1)
    for array in [*gradients.values(), *optimizer.state().arrays.values()]:
        random.random(out=array, dtype=np.float32)
    return optimizer


def update() -> Timed:
    model = stories110m()
    weights = model.initial(seed=1)
    optimizer = optimizer_of(weights, {name: np.empty_like(array) for name, array in weights.items()})
    return lambda: optimizer.step(1e-4, 1)


def update_and_stage() -> Timed:
    """As a Trainer does it."""
    model = stories110m()
    device = anetrain.device.open("emulator", "m4")
    pipeline = Pipeline(device, model, seed=1)
    optimizer = optimizer_of(pipeline.weights, pipeline.gradients)

    def call() -> None:
        optimizer.step(1e-4, 1, copies=pipeline.copies)
        pipeline.stage(copied=True)

    return call


def torch_update() -> Timed:
    import torch

    torch.set_num_threads(THREADS)
    weights = [torch.from_numpy(array).requires_grad_() for array in stories110m().initial(seed=1).values()]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    for weight in weights:
        weight.grad = torch.rand_like(weight)

    def call() -> None:
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    return call


@rows.add("clip + AdamW, stories110m", peer=PEER, at_least=AT_LEAST)
def clip_and_adamw() -> Pair:
    return Deferred(update), Deferred(torch_update)


@rows.add("clip + AdamW + restaging, stories110m", peer=PEER, at_least=AT_LEAST)
def clip_adamw_and_stage() -> Pair:
    return Deferred(update_and_stage), Deferred(torch_update)


if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "optimizer.json"))
