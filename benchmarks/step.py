"""A micro-step of training on the emulated ANE, against PyTorch and against bare products. The update: optimizer.py.

    PyTorch eager     transformers' LlamaForCausalLM or Qwen3ForCausalLM, fp32, the same shapes, loss and backward
    the GEMM list     the matrix products a micro-step cannot do without, back to back in the same BLAS: for each linear
                      layer forward, dx and dW; two products of attention forward and four backward; three of the
                      classifier; nothing computed twice

The emulator's times are times of this CPU, never of an ANE. PyTorch does not read OPENBLAS_CORETYPE: a shell that sets
it slows our side and the GEMM list, not PyTorch's, so unset it first.

Example:
    env -u OPENBLAS_CORETYPE python benchmarks/step.py --check
    python benchmarks/step.py --filter "stories110m" --pairs 3
    python benchmarks/step.py --memory stories110m
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import cpu, device  # noqa: E402
from anetrain.model import Model  # noqa: E402
from anetrain.optim import AdamW  # noqa: E402
from anetrain.pipeline import Pipeline  # noqa: E402
from anetrain.spec import ModelSpec  # noqa: E402
from benchmarks._harness import THREADS, Deferred, Pair, Rows, Timed, main  # noqa: E402

rows = Rows("benchmarks.step")

Product = tuple[tuple[int, int, int], int]  # (m, k, n), how often
MEMORY_LIMITS_GB = {"stories110m": 3.5, "qwen3-0.6b": 16.0}


def pipeline_of(preset: str) -> Pipeline:
    return Pipeline(device.open("emulator:m4"), Model.preset(preset), seed=0)


def batch(spec: ModelSpec) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    ids = np.random.default_rng(0).integers(0, spec.vocab, (spec.batch, spec.seq + 1))
    return ids[:, :-1], ids[:, 1:]


def our_step(preset: str) -> Timed:
    pipeline = pipeline_of(preset)
    ids, targets = batch(pipeline.model.spec)
    return lambda: pipeline.micro_step(ids, targets)


def torch_model(preset: str) -> Any:
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    s = Model.preset(preset).spec
    sizes: dict[str, Any] = {
        "hidden_size": s.dim,
        "intermediate_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "head_dim": s.head_dim,
        "vocab_size": s.vocab,
        "max_position_embeddings": s.seq,
        "tie_word_embeddings": s.tied,
        "rms_norm_eps": s.norm_eps,
        "use_cache": False,
        "attn_implementation": "eager",
    }
    if s.qk_norm:
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))


def torch_step(preset: str) -> Timed:
    import torch

    model = torch_model(preset)
    ids = torch.tensor(batch(Model.preset(preset).spec)[0])

    def step() -> None:
        model(ids, labels=ids).loss.backward()

    return step


def gemm_list(s: ModelSpec) -> list[Product]:
    """[m, k] @ [k, n], with T = batch x seq tokens."""
    q, kv, t = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.tokens
    linears = [(q, s.dim, 1), (kv, s.dim, 2), (s.dim, q, 1), (s.hidden, s.dim, 2), (s.dim, s.hidden, 1)]
    products: list[Product] = []
    for out, width, count in linears:
        products += [((out, width, t), s.layers * count), ((width, out, t), s.layers * count)]
        products += [((out, t, width), s.layers * count)]
    heads = s.layers * s.batch * s.heads
    # Scores and dP; then dQ, dK, dV and the output, whose inner side is the sequence.
    products += [((s.seq, s.head_dim, s.seq), 2 * heads), ((s.head_dim, s.seq, s.seq), 4 * heads)]
    return [*products, ((s.vocab, s.dim, t), 1), ((s.dim, s.vocab, t), 1), ((s.vocab, t, s.dim), 1)]


def our_products(preset: str) -> Timed:
    products = gemm_list(Model.preset(preset).spec)
    sides = {side for (m, k, n), _ in products for side in ((m, k), (k, n), (m, n))}
    arrays = {side: np.ones(side, np.float32) for side in sides}
    results = {(m, n): np.empty((m, n), np.float32) for (m, _, n), _ in products}

    def run() -> None:
        for (m, k, n), count in products:
            for _ in range(count):
                cpu.matmul(arrays[m, k], arrays[k, n], out=results[m, n])

    return run


def add_rows(preset: str, pairs: int) -> None:
    @rows.add(f"{preset}: micro-step", peer="PyTorch eager fp32", at_least=1 / 0.85, pairs=pairs)
    def step() -> Pair:
        return Deferred(lambda: our_step(preset)), Deferred(lambda: torch_step(preset))

    @rows.add(f"{preset}: micro-step (products)", peer="the GEMM list", at_least=1 / 1.15, pairs=pairs)
    def products() -> Pair:
        return Deferred(lambda: our_step(preset)), Deferred(lambda: our_products(preset))


add_rows("stories110m", 10)
add_rows("qwen3-0.6b", 10)


def report_memory(preset: str) -> int:
    """Peak resident memory of a process that makes one micro-step and one update."""
    cpu.set_threads(THREADS)
    pipeline = pipeline_of(preset)
    pipeline.micro_step(*batch(pipeline.model.spec))
    AdamW(pipeline.model.parameters, pipeline.weights, pipeline.gradients).step(1e-4, count=1)
    pipeline.stage()
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    limit = MEMORY_LIMITS_GB[preset]
    print(f"{preset}: peak memory {peak_gb:.2f} GB, at most {limit} GB wanted")
    return 0 if peak_gb <= limit else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--memory", choices=MEMORY_LIMITS_GB)
    known, rest = parser.parse_known_args()
    if known.memory:
        sys.exit(report_memory(known.memory))
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "step.json"))
