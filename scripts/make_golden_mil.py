"""Writes tests/golden/*.mil: small programs in both dialects, whose bytes a test compares.

    python scripts/make_golden_mil.py

A change there changes the identity of every compiled program: look at the difference before you commit it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from anetrain.mil import Graph, Program

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "golden"


def linear() -> Graph:
    """y = W x, W constant: a 1x1 convolution over [1, C, 1, S]."""
    g = Graph()
    x = g.input("a_x", (1, 64, 1, 32))
    g.output("y", g.conv(x, g.constant(np.eye(64).reshape(64, 64, 1, 1), name="w")))
    return g


def attention() -> Graph:
    """Causal attention of 2 heads of 32 over 32 positions, with the mask in a blob."""
    heads, head_dim, positions = 2, 32, 32
    g = Graph()
    names = ("a_q", "b_k", "c_v")
    q, k, v = (
        g.reshape(g.input(name, (1, heads * head_dim, 1, positions)), (1, heads, head_dim, positions)) for name in names
    )
    mask = g.constant(np.triu(np.full((positions, positions), -1e4), 1)[None, None], name="mask")
    scores = g.matmul(q * head_dim**-0.5, k, transpose_x=True) + mask  # [1, heads, positions, positions]
    context = g.matmul(v, g.softmax(scores, axis=-1), transpose_y=True)  # [1, heads, head_dim, positions]
    g.output("y", g.reshape(context, (1, heads * head_dim, 1, positions)))
    return g


def two_outputs() -> Graph:
    """Slices of one input, several results, parameters of every kind."""
    g = Graph()
    x = g.input("x", (1, 64, 1, 64))
    gate, up = g.split(x, axis=1, num_splits=2)
    hidden = g.silu(gate) * up
    wide = g.concat([hidden, g.clip(hidden, alpha=-1.0, beta=1.0)], axis=1)
    g.output("y", g.slice_by_index(wide, begin=(0, 0, 0, 0), end=(1, 64, 1, 32), begin_mask=(True, False, True, False)))
    g.output("norm", g.reduce_l2_norm(hidden, axes=(1,), keep_dims=True))
    return g


def quantised() -> Graph:
    """A weight of int8 with one scale."""
    g = Graph()
    x = g.input("x", (1, 64, 1, 32))
    data = g.constant(np.arange(-32, 32, dtype=np.int8).repeat(64).reshape(64, 64, 1, 1), name="q")
    g.output("y", g.conv(x, g.constexpr_affine_dequantize(data, np.int8(0), 2.0**-5)))
    return g


def programs() -> dict[str, Program]:
    graphs = {"linear": linear, "attention": attention, "two_outputs": two_outputs, "quantised": quantised}
    return {f"{name}_{dialect}": build().program(dialect) for name, build in graphs.items() for dialect in "AB"}


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, program in programs().items():
        (FOLDER / f"{name}.mil").write_text(program.text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
