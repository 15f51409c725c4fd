"""Rows of benchmarks/device.py: what the fast executor makes of programs, against bare products and against numpy."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import anetrain.device
from anetrain.mil.graph import Graph, Value
from benchmarks._harness import Pair, Rows, Timed

Array = np.ndarray[Any, Any]
SHAPES = ((768, 768, 256), (2048, 768, 256), (768, 2048, 256))  # m, k, n
HEADS, HEAD_DIM, SEQUENCE = 12, 64, 256
CHAIN = (1, 2048, 1, 256)


def random_halves(*shape: int) -> Array:
    return (np.random.default_rng(1).standard_normal(shape) / 8).astype(np.float16)


class Bound:
    """A program of the default chip with surfaces of its own."""

    def __init__(self, build: Callable[[Graph], None], arrays: dict[str, Array], executor: str = "fast") -> None:
        graph = Graph()
        build(graph)
        self.device = anetrain.device.open("emulator", "m4", executor=executor, allow_unproven=True)
        self.program = self.device.compile(graph.program())
        self.inputs = {port.name: self.device.surface_for(port) for port in self.program.inputs}
        self.outputs = {port.name: self.device.surface_for(port) for port in self.program.outputs}
        for name, array in arrays.items():
            self.inputs[name].write(array)
        self.run = self.program.request(self.inputs, self.outputs).run

    def with_new(self, *names: str) -> Timed:
        """An evaluation whose inputs of these names count as rewritten: their seeds change."""
        locks = [self.inputs[name] for name in names]

        def evaluate() -> None:
            for surface in locks:
                with surface.lock(write=True):
                    pass
            self.run()

        return evaluate


# --- linear programs ---


def linear(form: str, m: int, k: int, n: int) -> Pair:
    weight, x = random_halves(m, k), random_halves(1, k, 1, n)

    def build(g: Graph) -> None:
        a = g.input("a_x", x.shape)
        if form == "conv":
            g.output("y", g.conv(a, g.constant(weight.reshape(m, k, 1, 1), name="w")))
            return
        given = form == "run-time weight"
        w = g.reshape(g.input("b_w", (1, m, 1, k)), (m, k)) if given else g.constant(weight, name="w")
        g.output("y", g.reshape(g.matmul(w, g.reshape(a, (k, n))), (1, m, 1, n)))

    arrays = {"a_x": x} | ({"b_w": weight} if form == "run-time weight" else {})
    left, right, out = weight.astype(np.float32), x.reshape(k, n).astype(np.float32), np.empty((m, n), np.float32)
    return Bound(build, arrays).with_new("a_x"), lambda: np.matmul(left, right, out)


# --- attention ---


def rotary(g: Graph, x: Value, cos: Value, sin: Value) -> Value:
    half = HEAD_DIM // 2
    first = g.slice_by_size(x, (0, 0, 0, 0), (1, HEADS, half, SEQUENCE))
    second = g.slice_by_size(x, (0, 0, half, 0), (1, HEADS, half, SEQUENCE))
    return g.concat([first * cos - second * sin, second * cos + first * sin], axis=2)


def attention() -> Pair:
    channels = HEADS * HEAD_DIM
    names = ("a_q", "b_k", "c_v")
    angle = np.random.default_rng(1).uniform(0, 6, (1, 1, HEAD_DIM // 2, SEQUENCE))
    mask = np.triu(np.full((1, 1, SEQUENCE, SEQUENCE), -1e4, np.float16), 1)

    def build(g: Graph) -> None:
        inputs = [g.input(name, (1, channels, 1, SEQUENCE)) for name in names]
        q, k, v = (g.reshape(x, (1, HEADS, HEAD_DIM, SEQUENCE)) for x in inputs)
        cos, sin = (g.constant(f(angle).astype(np.float16), name=f.__name__) for f in (np.cos, np.sin))
        scores = g.matmul(rotary(g, q, cos, sin), rotary(g, k, cos, sin), transpose_x=True) * 0.125
        p = g.softmax(scores + g.constant(mask, name="mask"), axis=-1)
        g.output("y", g.reshape(g.matmul(v, p, transpose_y=True), (1, channels, 1, SEQUENCE)))

    q, k, v = (random_halves(HEADS, SEQUENCE, HEAD_DIM).astype(np.float32) for _ in names)
    scores = np.empty((HEADS, SEQUENCE, SEQUENCE), np.float32)
    out = np.empty((HEADS, SEQUENCE, HEAD_DIM), np.float32)

    def products() -> None:
        np.matmul(q, k.swapaxes(1, 2), scores)
        np.matmul(scores, v, out)

    return Bound(build, {name: random_halves(1, channels, 1, SEQUENCE) for name in names}).with_new(*names), products


# --- chains of six elementwise operations ---


def chain(sigmoid: bool) -> Bound:
    def build(g: Graph) -> None:
        x = g.input("x", CHAIN)
        y = (x * 1.5 + 0.25) * x - 0.125
        g.output("y", (g.sigmoid(y) if sigmoid else g.maximum(y, -0.5)) * x)

    return Bound(build, {"x": random_halves(*CHAIN)})


def chain_against_numpy(sigmoid: bool) -> Pair:
    x = random_halves(*CHAIN)

    def step(value: Array) -> Array:
        return value.astype(np.float16).astype(np.float32)

    def numpy_chain() -> None:
        wide = x.astype(np.float32)
        y = step(step(step(step(wide * 1.5) + 0.25) * wide) - 0.125)
        step(step(1 / (1 + np.exp(-y)) if sigmoid else np.maximum(y, -0.5)) * wide)

    return chain(sigmoid).with_new("x"), numpy_chain


FUSED_PASS = """
#include <stddef.h>
void fused_pass(const _Float16 *x, _Float16 *y, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float wide = (float)x[i];
    const float bent = (wide * 1.5f + 0.25f) * wide - 0.125f;
    y[i] = (_Float16)((bent > -0.5f ? bent : -0.5f) * wide);
  }
}
"""


def fused_pass() -> Timed:
    """One C loop in one thread: fp16 -> fp32, the arithmetic without any rounding between, -> fp16."""
    compiler = shutil.which("cc")
    assert compiler is not None, "this row needs a C compiler"
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "pass.c"), Path(folder, "pass.so")
        source.write_text(FUSED_PASS)
        flags = ["-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        function = ctypes.CDLL(str(library)).fused_pass
    x, y = random_halves(*CHAIN), np.empty(CHAIN, np.float16)
    arguments = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_size_t(x.size)
    keep = (x, y)
    return lambda: (function(*arguments), keep)


def chain_against_c(sigmoid: bool) -> Pair:
    return chain(sigmoid).with_new("x"), fused_pass()


def tiny() -> Timed:
    def build(g: Graph) -> None:
        g.output("y", g.input("x", (1, 1, 1, 32)) + 1.0)

    return Bound(build, {"x": random_halves(1, 1, 1, 32)}).run


def add_rows(rows: Rows) -> None:
    for form in ("conv", "matmul", "run-time weight"):
        for shape in SHAPES:
            name = f"program: linear, {form}, " + "x".join(map(str, shape))
            rows.add(name, peer="numpy matmul", at_least=0.92)(partial(linear, form, *shape))
    rows.add("program: causal attention, 12 heads", peer="its two products", at_least=1 / 1.5)(attention)
    for sigmoid, most in ((False, 8), (True, 16)):
        name = "program: six elementwise operations" + (", one a sigmoid" if sigmoid else "")
        rows.add(name, peer="numpy astype", at_least=20)(partial(chain_against_numpy, sigmoid))
        rows.add(name + " (C)", peer="one fused C pass", at_least=1 / most)(partial(chain_against_c, sigmoid))
    rows.add("program: tiny, from Python", at_most_s=15e-6)(tiny)
