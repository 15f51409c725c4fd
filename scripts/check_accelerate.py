"""Runs the Accelerate branch of csrc/cpu where there is no Accelerate, and compares it with the portable one.

csrc/cpu is compiled by clang-19 with -DANETRAIN_ACCELERATE -Werror against the headers of scripts/macos_stubs and
linked with csrc/tests/accelerate_shim: the same calls in the plainest C. Every function of anetrain.cpu then runs on
the same inputs in two processes, one with the ordinary library and one in which this build stands before it
(LD_PRELOAD); the largest difference, relative to the largest value of the result, has a bound for each function.

The check also fails when the shim lacks a call that the stub header declares, or has one more, or when a call is never
made: what a Mac runs is what was compared. What Accelerate itself computes is Apple's word, not shown here.

example:
    python scripts/check_accelerate.py
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "csrc")]
from native_build import CSRC, Compiler, instruction_set_flags  # noqa: E402

from anetrain import cpu  # noqa: E402

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

STUBS = ROOT / "scripts" / "macos_stubs" / "Accelerate" / "include"
SHIM = CSRC / "tests" / "accelerate_shim" / "accelerate.c"
TOOLS = ("clang-19", "clang++-19", "nm")


def missing_tools() -> list[str]:
    """What this check needs and does not find."""
    return [tool for tool in TOOLS if not shutil.which(tool)]


# --- The build ---


class AccelerateCompiler(Compiler):
    def __init__(self, work: Path) -> None:
        super().__init__(work, "0", ["-Werror"])
        self.cc, self.cxx = "clang-19", "clang++-19"
        self.flags.remove("-DANETRAIN_OPENBLAS")
        self.flags += ["-DANETRAIN_ACCELERATE", f"-I{STUBS}", "-Wno-unknown-warning-option"]  # written for gcc too

    def compile_shim(self, shim: Path) -> Path:
        target = self.work / "shim.o"
        subprocess.run([*self.command(shim), "-c", str(shim), "-o", str(target)], check=True)
        return target

    def library(self, shim_object: Path) -> Path:
        sources = [p for p in sorted((CSRC / "cpu").iterdir()) if p.suffix in (".c", ".cpp")]
        objects = self.compile_all(p for p in sources if instruction_set_flags(p) is not None)
        library = self.work / "libanetrain_accelerate.so"
        shared = ["-shared", "-pthread", "-Wl,--no-undefined", "-o", str(library)]
        subprocess.run([self.cxx, *shared, *map(str, objects), str(shim_object), "-lm"], check=True)
        return library


def declared_calls(header: Path) -> set[str]:
    return set(re.findall(r"^\w+ (\w+)\(", header.read_text(), re.MULTILINE))


def defined_calls(shim_object: Path) -> set[str]:
    """The functions of the shim that others can call."""
    command = ["nm", "--defined-only", "--extern-only", "--format=posix", str(shim_object)]
    return {line.split()[0] for line in subprocess.check_output(command, text=True).splitlines()}


# --- The functions of anetrain.cpu ---

T, C = 1100, 70  # more tokens than a block of a row's sum, more channels than a block of a column's


def floats(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def positive(*shape: int) -> Floats:
    return np.random.default_rng(shape).uniform(0.5, 2.0, shape).astype(np.float32)


def token_ids(limit: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng(limit).integers(0, limit, T).astype(np.int32)


X, DY = floats(C, T) + 0.25, floats(C, T, seed=1)
GAIN, BIAS = floats(C, seed=2) + 2.0, floats(C, seed=3)
COS, SIN = cpu.rope_tables(T, 10, 10000.0)


def zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


def rms_norm() -> list[Array]:
    rrms = zeros(T)
    return [cpu.rms_norm(X, GAIN, 1e-5, rrms=rrms), rrms]


def rms_norm_backward() -> list[Array]:
    dx, dgain = zeros(C, T), zeros(C)
    cpu.rms_norm_backward(DY, X, GAIN, positive(T), dx=dx, dgain=dgain, alpha=0.5)
    return [dx, dgain]


def layer_norm() -> list[Array]:
    mean, rstd = zeros(T), zeros(T)
    return [cpu.layer_norm(X, GAIN, BIAS, 1e-5, mean=mean, rstd=rstd), mean, rstd]


def layer_norm_backward() -> list[Array]:
    dx, dgain, dbias = zeros(C, T), zeros(C), zeros(C)
    mean, rstd = floats(T), positive(T)
    cpu.layer_norm_backward(DY, X, GAIN, mean, rstd, dx=dx, dgain=dgain, dbias=dbias, alpha=0.5)
    return [dx, dgain, dbias]


def cross_entropy() -> list[Array]:
    dlogits = zeros(C, T)
    loss, count = cpu.cross_entropy(X, token_ids(C), 2.0, dlogits)
    return [np.array([loss, count]), dlogits]


def products() -> list[Array]:
    a, b = floats(3, 20, 30), floats(3, 30, 25)
    added = cpu.matmul(X, DY.T, np.ones((C, C), np.float32), alpha=0.5, beta=2.0)
    return [cpu.matmul(a, b), cpu.matmul(a.swapaxes(1, 2), floats(3, 20, 10), alpha=0.5), added]


def adamw() -> list[Array]:
    weight, mean, square = floats(C, T, seed=4), floats(C, T, seed=5), positive(C, T)
    cpu.adamw([cpu.AdamWTensor(weight, DY.copy(), mean, square, decay=0.1)], 3, lr=0.01, factor=0.5)
    return [weight, mean, square]


def decode() -> list[Array]:
    """Four tokens through a layer."""
    sizes = cpu.DecodeSizes(dim=40, hidden=70, heads=4, kv_heads=2, head_dim=10, capacity=4, norm_eps=1e-5)
    random = np.random.default_rng(3)
    matrices = [cpu.to_half(random.normal(0, 0.2, (n, k)).astype(np.float32)) for n, k in ((80, 40), (140, 40))]
    out, down = (cpu.to_half(random.normal(0, 0.2, (40, k)).astype(np.float32)) for k in (40, 70))
    gain, head_gain = (random.uniform(0.2, 3.0, size).astype(np.float32) for size in (40, 10))
    keys, values = zeros(2, 10, 4), zeros(2, 4, 10)
    layer = cpu.DecodeLayer(gain, matrices[0], out, gain, matrices[1], down, keys, values, head_gain, head_gain)
    run = cpu.Decode(sizes, [layer], *(np.ascontiguousarray(table.T) for table in cpu.rope_tables(4, 10, 100.0)))
    tokens = random.normal(size=(4, 40)).astype(np.float32)
    for position, token in enumerate(tokens):
        run(token, position)
    return [tokens, keys, values]


def conversions(order: npt.NDArray[np.int32]) -> list[Array]:
    halves = cpu.to_half(X)
    return [halves, cpu.to_half(X.T), cpu.to_float(halves), cpu.to_float(halves, row_order=order)]


# What each gives, and how far the two builds may differ; 0: not at all, since both run the same code.
CASES: dict[str, tuple[Callable[[], Sequence[Array]], float]] = {
    "adamw": (adamw, 0.0),
    "Decode": (decode, 5e-6),
    "add": (lambda: [cpu.add(X, DY), cpu.add(X, DY, -0.3)], 2e-7),
    "cross_entropy": (cross_entropy, 0.0),
    "embedding": (lambda: [cpu.embedding(X, token_ids(C))], 0.0),
    "embedding_scatter": (lambda: [cpu.embedding_scatter(token_ids(50), X, zeros(50, C), 0.5)], 0.0),
    "gelu": (lambda: [cpu.gelu(X), cpu.gelu(X, "exact")], 0.0),
    "gelu_backward": (lambda: [cpu.gelu_backward(DY, X), cpu.gelu_backward(DY, X, "exact")], 0.0),
    "gemv": (lambda: [cpu.gemv(cpu.to_half(X), DY[0]), cpu.gemv(X, DY[0])], 1e-6),
    "largest": (lambda: [np.array([cpu.largest(X)])], 0.0),
    "layer_norm": (layer_norm, 1e-6),
    "layer_norm_backward": (layer_norm_backward, 2e-6),
    "matmul": (products, 1e-6),
    "rms_norm": (rms_norm, 1e-6),
    "rms_norm_backward": (rms_norm_backward, 2e-6),
    "rope": (lambda: [cpu.rope(X, COS, SIN, 10), cpu.rope(X, COS, SIN, 10, "interleaved", inverse=True)], 2e-7),
    "row_dot": (lambda: [cpu.row_dot(X, DY, zeros(C), 0.5)], 1e-6),
    "row_sum": (lambda: [cpu.row_sum(X, zeros(C), 0.5)], 1e-6),
    "scale": (lambda: [cpu.scale(X, -0.3)], 0.0),
    "silu": (lambda: [cpu.silu(X)], 0.0),
    "silu_backward": (lambda: [cpu.silu_backward(DY, X)], 0.0),
    "sum_of_squares": (lambda: [np.array([cpu.sum_of_squares([X, DY])])], 0.0),
    "to_float": (lambda: conversions(cpu.half_split_order(C, 10)), 0.0),
    "to_half": (lambda: conversions(cpu.interleaved_order(C, 10)), 0.0),
}
# These compute nothing in C.
OTHERS = {
    "AdamWTensor",
    "DecodeLayer",
    "DecodeSizes",
    "GeluMode",
    "HalfBlock",
    "HalfCopies",
    "HalfMoves",
    "HalfTarget",
    "Pairing",
    "blas_name",
    "cpu_features",
    "fp16_version",
    "half_split_order",
    "interleaved_order",
    "rope_tables",
}
OTHERS |= {"set_threads", "threads", "zeros_by_name"}


def write_results(path: Path) -> None:
    results: dict[str, Any] = {f"{name}/{i}": a for name, (run, _) in CASES.items() for i, a in enumerate(run())}
    np.savez(path, blas=np.array(cpu.blas_name()), **results)


def run_cases(work: Path, name: str, environment: dict[str, str]) -> dict[str, Array]:
    """In a process of its own."""
    path = work / f"{name}.npz"
    command = [sys.executable, __file__, "--write-results", str(path)]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return dict(np.load(path))


def difference(found: Array, expected: Array) -> float:
    """The largest, relative to the largest value; infinite where one is not finite and the other differs."""
    if np.array_equal(found, expected, equal_nan=True):
        return 0.0
    largest = np.abs(found.astype(np.float64) - expected).max() / np.abs(expected.astype(np.float64)).max()
    return float(largest) if np.isfinite(largest) else np.inf


def differences(found: dict[str, Array], expected: dict[str, Array]) -> Iterable[tuple[str, float, float]]:
    """Name, difference, bound of each case."""
    for name, (_, bound) in CASES.items():
        keys = [key for key in expected if key.startswith(f"{name}/")]
        yield name, max(difference(found[key], expected[key]) for key in keys), bound


# --- The check ---


def check(work: Path, header: Path = STUBS / "Accelerate" / "Accelerate.h", shim: Path = SHIM) -> list[str]:
    """What is wrong; empty when all is well. Prints a line per function."""
    wrong = []
    if uncovered := set(cpu.__all__) - set(CASES) - OTHERS:
        wrong.append(f"anetrain.cpu has functions without a case here: {', '.join(sorted(uncovered))}")
    compiler = AccelerateCompiler(work)
    shim_object = compiler.compile_shim(shim)
    library = compiler.library(shim_object)
    declared, defined = declared_calls(header), defined_calls(shim_object)
    report = work / "calls.txt"
    report.unlink(missing_ok=True)
    expected = run_cases(work, "portable", {})
    found = run_cases(work, "accelerate", {"LD_PRELOAD": str(library), "ACCELERATE_SHIM_REPORT": str(report)})
    if str(found["blas"]) != "Accelerate":
        wrong.append(f"the Accelerate build was not used: its products came from {found['blas']}")
    made = set(report.read_text().split()) if report.exists() else set()
    for name, largest, bound in differences(found, expected):
        print(f"{name:20} differs by {largest:.2g}, bound {bound:.2g}")
        if not largest <= bound:
            wrong.append(f"{name} differs by {largest:.3g}, more than {bound:.3g}")
    for calls, what in (
        (declared - defined, "declared but not in the shim"),
        (defined - declared, "in the shim but not declared"),
        (declared - made, "never made"),
    ):
        if calls:
            wrong.append(f"calls {what}: {', '.join(sorted(calls))}")
    print(f"{len(declared)} calls of Accelerate declared, {len(made)} made")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write-results", type=Path, help=argparse.SUPPRESS)  # what the two processes are asked for
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "accelerate", help="where objects are kept")
    arguments = parser.parse_args()
    if arguments.write_results:
        write_results(arguments.write_results)
        return
    if missing := missing_tools():
        sys.exit("check_accelerate needs " + ", ".join(missing))
    arguments.work.mkdir(parents=True, exist_ok=True)
    if wrong := check(arguments.work.resolve()):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
