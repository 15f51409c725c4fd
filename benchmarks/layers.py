"""Speed of the host numerics between the matrix products of a layer: norms, activations, RoPE, the residual stream.

PyTorch has a token per row, as it is used; ours has a token per column.

Example:
    python benchmarks/layers.py --check
    python benchmarks/layers.py --filter rms_norm --json build/norms.json
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import cpu  # noqa: E402
from benchmarks._harness import THREADS, Pair, Rows, main  # noqa: E402

rows = Rows("benchmarks.layers")

Floats = npt.NDArray[np.float32]
EPS, HEAD_DIM = 1e-5, 64


def random_floats(*shape: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def pytorch() -> Any:
    import torch

    torch.set_num_threads(THREADS)
    return torch


def rms_norm(channels: int, tokens: int) -> Pair:
    torch = pytorch()
    x, gain = random_floats(channels, tokens), random_floats(channels)
    y, rrms = np.empty_like(x), np.empty(tokens, np.float32)
    theirs, their_gain = torch.tensor(x.T.copy()), torch.tensor(gain)
    return (
        lambda: cpu.rms_norm(x, gain, EPS, y, rrms),
        lambda: torch.nn.functional.rms_norm(theirs, (channels,), their_gain, EPS),
    )


def rms_norm_backward(channels: int, tokens: int) -> Pair:
    torch = pytorch()
    dy, x, gain = random_floats(channels, tokens, seed=2), random_floats(channels, tokens), random_floats(channels)
    dx, dgain, rrms = np.empty_like(x), np.zeros_like(gain), np.empty(tokens, np.float32)
    cpu.rms_norm(x, gain, EPS, rrms=rrms)
    inputs = torch.tensor(x.T.copy(), requires_grad=True), torch.tensor(gain, requires_grad=True)
    y = torch.nn.functional.rms_norm(inputs[0], (channels,), inputs[1], EPS)
    their_dy = torch.tensor(dy.T.copy())
    return (
        lambda: cpu.rms_norm_backward(dy, x, gain, rrms, dx, dgain),
        lambda: torch.autograd.grad(y, inputs, their_dy, retain_graph=True),
    )


def silu_backward(channels: int, tokens: int) -> Pair:
    torch = pytorch()
    dy, x = random_floats(channels, tokens, seed=2), random_floats(channels, tokens)
    dx, their_dy, theirs = np.empty_like(x), torch.tensor(dy), torch.tensor(x)
    return (lambda: cpu.silu_backward(dy, x, dx)), (lambda: torch.ops.aten.silu_backward(their_dy, theirs))


def rope(channels: int, tokens: int) -> Pair:
    torch = pytorch()
    x, (cos, sin) = random_floats(channels, tokens), cpu.rope_tables(tokens, HEAD_DIM, 1e4)
    y = np.empty_like(x)
    heads = torch.tensor(x.reshape(-1, HEAD_DIM, tokens).swapaxes(1, 2).copy())  # [heads, T, head_dim]
    their_cos, their_sin = (torch.tensor(np.concatenate([table, table]).T.copy()) for table in (cos, sin))

    def turn() -> Any:
        first, second = heads.chunk(2, -1)
        return heads * their_cos + torch.cat((-second, first), -1) * their_sin

    return (lambda: cpu.rope(x, cos, sin, HEAD_DIM, out=y)), turn


def add(channels: int, tokens: int) -> Pair:
    x, y = random_floats(channels, tokens), random_floats(channels, tokens, seed=2)
    ours, theirs = np.empty_like(x), np.empty_like(x)
    return (lambda: cpu.add(x, y, out=ours)), (lambda: np.add(x, y, theirs))


for shape in ((768, 256), (1024, 256)):
    for prepare, peer, at_least in (
        (rms_norm, "torch", 1.0),
        (rms_norm_backward, "torch", 1.5),
        (silu_backward, "torch", 0.8),
        (rope, "torch, eager", 1.5),
        (add, "numpy", 0.7),
    ):
        rows.add(f"{prepare.__name__} {shape[0]}x{shape[1]}", peer=peer, at_least=at_least)(partial(prepare, *shape))


if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "layers.json"))
