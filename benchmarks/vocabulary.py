"""Speed of the host numerics that span the vocabulary: cross-entropy, embedding, products with fp16 weights.

Example:
    python benchmarks/vocabulary.py --check
    python benchmarks/vocabulary.py --filter cross-entropy --json build/loss.json
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

rows = Rows("benchmarks.vocabulary")

VOCABULARY, TOKENS, DIM = 32000, 256, 768


def random_floats(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def random_ids() -> npt.NDArray[np.int32]:
    return np.random.default_rng(2).integers(0, VOCABULARY, TOKENS).astype(np.int32)


# --- Cross-entropy, forward and backward. PyTorch takes a token per row and makes its gradient anew at each call, which
# is how it is used; ours has a token per column. ---


def torch_cross_entropy(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int32]) -> Any:
    import torch

    torch.set_num_threads(THREADS)
    rows_of_tokens = torch.tensor(logits.T.copy(), requires_grad=True)
    ids = torch.tensor(targets, dtype=torch.long)

    def forward_and_backward() -> None:
        rows_of_tokens.grad = None
        torch.nn.functional.cross_entropy(rows_of_tokens, ids).backward()  # type: ignore[no-untyped-call]

    return forward_and_backward


def cross_entropy(in_place: bool) -> Pair:
    logits, targets = random_floats(VOCABULARY, TOKENS), random_ids()
    # In place the logits become small numbers after the first call; the work is the same.
    dlogits = logits.copy() if in_place else np.empty_like(logits)
    source = dlogits if in_place else logits
    return (lambda: cpu.cross_entropy(source, targets, 1.0, dlogits)), torch_cross_entropy(logits, targets)


for in_place in (False, True):
    name = f"cross-entropy {VOCABULARY}x{TOKENS}" + (", in place" if in_place else "")
    rows.add(name, peer="torch forward + backward", at_least=2 if in_place else 1.5)(partial(cross_entropy, in_place))


# --- Embedding ---


@rows.add(f"embedding, {TOKENS} of {VOCABULARY}x{DIM}", peer="numpy take, transposed", at_least=2)
def embedding() -> Pair:
    table, ids = random_floats(VOCABULARY, DIM), random_ids()
    ours, theirs = np.empty((DIM, TOKENS), np.float32), np.empty((DIM, TOKENS), np.float32)
    return (lambda: cpu.embedding(table, ids, ours)), (lambda: np.copyto(theirs, table[ids].T))


@rows.add(f"embedding scatter, {TOKENS} of {VOCABULARY}x{DIM}", peer="numpy add.at", at_least=4)
def scatter() -> Pair:
    ids, d = random_ids(), random_floats(DIM, TOKENS)
    ours, theirs = np.zeros((VOCABULARY, DIM), np.float32), np.zeros((VOCABULARY, DIM), np.float32)
    return (lambda: cpu.embedding_scatter(ids, d, ours)), (lambda: np.add.at(theirs, ids, d.T))


# --- Products for generation ---


@rows.add(f"gemv {VOCABULARY}x{DIM}, fp16 weights", peer="numpy fp32 matmul", at_least=1.3)
def gemv() -> Pair:
    w, x = random_floats(VOCABULARY, DIM), random_floats(DIM)
    halves = cpu.to_half(w)
    ours, theirs = np.empty(VOCABULARY, np.float32), np.empty(VOCABULARY, np.float32)
    return (lambda: cpu.gemv(halves, x, ours)), (lambda: np.matmul(w, x, theirs))


if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "vocabulary.json"))
