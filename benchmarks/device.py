"""Speed of the native parts under the device: ratios against named peers, with the floors they must hold.

Example:
    python benchmarks/device.py --check
    python benchmarks/device.py --filter fp16 --json build/fp16.json
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import cpu  # noqa: E402
from benchmarks import _audit_rows as audit_rows  # noqa: E402
from benchmarks import _executor_rows as executor_rows  # noqa: E402
from benchmarks._harness import Pair, Rows, main  # noqa: E402

rows = Rows("benchmarks.device")


def random_floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


# --- fp16 conversions. Both sides write into an array that is there already: `copyto` is astype's loop without the cost
# of new memory, which would hide more of our time than of numpy's. ---


def to_half(count: int) -> Pair:
    x = random_floats(count)
    ours, theirs = np.empty(count, np.float16), np.empty(count, np.float16)
    return (lambda: cpu.to_half(x, ours)), (lambda: np.copyto(theirs, x, casting="same_kind"))


def to_float(count: int) -> Pair:
    x = random_floats(count).astype(np.float16)
    ours, theirs = np.empty(count, np.float32), np.empty(count, np.float32)
    return (lambda: cpu.to_float(x, ours)), (lambda: np.copyto(theirs, x))


@rows.add("fp32 -> fp16, 512 K", peer="numpy astype", at_least=12)
def half_in_cache() -> Pair:
    return to_half(2**19)


@rows.add("fp16 -> fp32, 512 K", peer="numpy astype", at_least=12)
def float_in_cache() -> Pair:
    return to_float(2**19)


@rows.add("fp32 -> fp16, 16 M", peer="numpy astype", at_least=5)
def half_in_memory() -> Pair:
    return to_half(2**24)


@rows.add("fp16 -> fp32, 16 M", peer="numpy astype", at_least=5)
def float_in_memory() -> Pair:
    return to_float(2**24)


@rows.add("fp32 -> fp16 transposed, 2048x768", peer="numpy astype", at_least=5)
def half_transposed() -> Pair:
    x = random_floats(2048, 768)
    ours, theirs = np.empty((768, 2048), np.float16), np.empty((768, 2048), np.float16)
    return (lambda: cpu.to_half(x.T, ours)), (lambda: np.copyto(theirs, x.T, casting="same_kind"))


# --- Matrix products: our cut over our threads against OpenBLAS's own ---


def product(m: int, k: int, n: int, transpose_a: bool = False, transpose_b: bool = False) -> Pair:
    a = random_floats(k, m).T if transpose_a else random_floats(m, k)
    b = random_floats(n, k).T if transpose_b else random_floats(k, n)
    c = np.empty((m, n), np.float32)
    return (lambda: cpu.matmul(a, b, c)), (lambda: np.matmul(a, b, c))


def add_product(m: int, k: int, n: int, transpose_a: bool = False, transpose_b: bool = False) -> None:
    name = f"matmul {m}x{k}{'^T' if transpose_a else ''} @ {k}x{n}{'^T' if transpose_b else ''}"
    rows.add(name, peer="numpy matmul", at_least=0.98)(lambda: product(m, k, n, transpose_a, transpose_b))


for flags in ((False, False), (True, False), (False, True)):
    add_product(768, 768, 256, *flags)
    add_product(2048, 768, 256, *flags)
    add_product(768, 2048, 256, *flags)
add_product(768, 256, 768, False, True)  # weight gradients
add_product(2048, 256, 768, False, True)
add_product(768, 256, 2048, False, True)
add_product(32000, 768, 256)  # classifier


@rows.add("matmul 12 heads, 256x64 @ 64x256", peer="numpy matmul", at_least=0.98)
def heads() -> Pair:
    q, k = random_floats(12, 256, 64), random_floats(12, 256, 64)
    scores = np.empty((12, 256, 256), np.float32)
    return (
        lambda: cpu.matmul(q, k.swapaxes(1, 2), scores),
        lambda: np.matmul(q, k.swapaxes(1, 2), scores),
    )


executor_rows.add_rows(rows)
audit_rows.add_rows(rows)

if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "device.json"))
