"""The audit executor's row of benchmarks/device.py: one layer of Stories110M, forward and input gradients."""

from __future__ import annotations

import numpy as np

from anetrain.mil.graph import Graph, Value
from benchmarks._executor_rows import HEAD_DIM, HEADS, SEQUENCE, Array, Bound, random_halves
from benchmarks._harness import Rows, Timed

DIM, HIDDEN = HEADS * HEAD_DIM, 2048
# Each weight [N, K] of the layer; y[N, T] = w[N, K] x[K, T].
WEIGHTS = {"q": (DIM, DIM), "k": (DIM, DIM), "v": (DIM, DIM), "o": (DIM, DIM)}
WEIGHTS |= {"gate": (HIDDEN, DIM), "up": (HIDDEN, DIM), "down": (DIM, HIDDEN)}


def linear(g: Graph, w: Value, x: Value) -> Value:
    return g.matmul(w, x)


def linear_backward(g: Graph, w: Value, dy: Value) -> Value:
    return g.matmul(w, dy, transpose_x=True)


def heads(g: Graph, x: Value) -> Value:
    return g.reshape(x, (1, HEADS, HEAD_DIM, SEQUENCE))


def rotate(g: Graph, x: Value, cos: Value, sin: Value) -> Value:
    """Half-split rotation of x [1, heads, head_dim, T]; with -sin it goes back."""
    half = HEAD_DIM // 2
    first, second = (g.slice_by_size(x, (0, 0, at, 0), (1, HEADS, half, SEQUENCE)) for at in (0, half))
    return g.concat([first * cos - second * sin, second * cos + first * sin], axis=2)


class Attention:
    """x [DIM, T] -> y [DIM, T]; `backward` takes dy to dx."""

    def __init__(self, g: Graph, w: dict[str, Value], x: Value) -> None:
        angles = np.outer(1e4 ** (-np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2)), np.arange(SEQUENCE))
        shape = (1, 1, HEAD_DIM // 2, SEQUENCE)
        self.g, self.w = g, w
        self.cos = g.constant(np.cos(angles).reshape(shape).astype(np.float16), name="cos")
        self.sin = g.constant(np.sin(angles).reshape(shape).astype(np.float16), name="sin")
        mask = np.triu(np.full((1, 1, SEQUENCE, SEQUENCE), -1e4, np.float16), 1)
        self.q, self.k = (rotate(g, heads(g, linear(g, w[name], x)), self.cos, self.sin) for name in ("q", "k"))
        self.v = heads(g, linear(g, w["v"], x))
        scores = g.matmul(self.q, self.k, transpose_x=True) * HEAD_DIM**-0.5
        self.p = g.softmax(scores + g.constant(mask, name="mask"), axis=-1)  # [1, heads, T, T]
        mixed = g.reshape(g.matmul(self.v, self.p, transpose_y=True), (DIM, SEQUENCE))
        self.y = linear(g, w["o"], mixed)

    def backward(self, dy: Value) -> Value:
        g, w, p = self.g, self.w, self.p
        d_mixed = heads(g, linear_backward(g, w["o"], dy))
        dv = g.matmul(d_mixed, p)
        dp = g.matmul(d_mixed, self.v, transpose_x=True)
        rows = g.reduce_sum(p * dp, axes=(-1,), keep_dims=True)
        ds = p * (dp - rows) * HEAD_DIM**-0.5
        dq = g.matmul(self.k, ds, transpose_y=True)
        dk = g.matmul(self.q, ds)
        back = self.sin * -1.0
        dq, dk = (rotate(g, d, self.cos, back) for d in (dq, dk))
        flat = (DIM, SEQUENCE)
        return (
            linear_backward(g, w["q"], g.reshape(dq, flat))
            + linear_backward(g, w["k"], g.reshape(dk, flat))
            + linear_backward(g, w["v"], g.reshape(dv, flat))
        )


class FeedForward:
    """down(silu(gate x) * up x)"""

    def __init__(self, g: Graph, w: dict[str, Value], x: Value) -> None:
        self.g, self.w = g, w
        self.gate, self.up = linear(g, w["gate"], x), linear(g, w["up"], x)
        self.sigmoid = g.sigmoid(self.gate)
        self.silu = self.gate * self.sigmoid
        self.y = linear(g, w["down"], self.silu * self.up)

    def backward(self, dy: Value) -> Value:
        g, w = self.g, self.w
        d_inner = linear_backward(g, w["down"], dy)
        d_gate = d_inner * self.up * (self.sigmoid * (self.gate * (1.0 - self.sigmoid) + 1.0))
        return linear_backward(g, w["gate"], d_gate) + linear_backward(g, w["up"], d_inner * self.silu)


def layer(g: Graph) -> None:
    """y and dx of attention and feed-forward, norms and residual aside: 4.0 G products."""
    shape, flat = (1, DIM, 1, SEQUENCE), (DIM, SEQUENCE)
    x, dy = (g.reshape(g.input(name, shape), flat) for name in ("a_x", "b_dy"))
    w = {name: g.reshape(g.input(f"w_{name}", (1, n, 1, k)), (n, k)) for name, (n, k) in WEIGHTS.items()}
    attention = Attention(g, w, x)
    feed_forward = FeedForward(g, w, attention.y)
    g.output("y", g.reshape(feed_forward.y, shape))
    g.output("z_dx", g.reshape(attention.backward(feed_forward.backward(dy)), shape))


def audited_layer() -> Timed:
    arrays: dict[str, Array] = {name: random_halves(1, DIM, 1, SEQUENCE) for name in ("a_x", "b_dy")}
    arrays |= {f"w_{name}": random_halves(1, n, 1, k) for name, (n, k) in WEIGHTS.items()}
    return Bound(layer, arrays, executor="audit").run


def add_rows(rows: Rows) -> None:
    rows.add("audit: a Stories110M layer and its gradient", at_most_s=6, pairs=3)(audited_layer)
