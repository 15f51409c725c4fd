"""One micro-step of a published model on the emulated ANE, against transformers or the emulator without rounding.

Weights are random (seeded, no gain is 1), the batch is one sequence of random ids. What is compared is every
parameter's gradient: its norm, its distance and its cosine.

Example:
    python benchmarks/full_size.py stories110m                                            # half a minute, 2 GB
    python benchmarks/full_size.py stories110m --profile m1 --executor audit --judge fp32 # half a minute
    python benchmarks/full_size.py qwen3-0.6b                                             # one to two minutes, 10 GB
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import device as devices  # noqa: E402
from anetrain.model import PRESETS, Model  # noqa: E402
from anetrain.pipeline import Pipeline  # noqa: E402
from benchmarks._harness import THREADS  # noqa: E402
from tests.transformers_models import their_gradients, their_model, their_step  # noqa: E402

Arrays = dict[str, npt.NDArray[np.float32]]


COUNTERS = ("products", "flushed_products", "overflowed_sums", "infinite_values")


@dataclass(frozen=True)
class Step:
    loss: float
    gradients: Arrays
    seconds: float
    counters: dict[str, dict[str, int]]  # of the audit executor, by program


@dataclass(frozen=True)
class Difference:
    """Of one gradient: its norm and its distance, both over the expected norm, and the cosine."""

    name: str
    norm: float
    distance: float
    cosine: float

    def __str__(self) -> str:
        return f"{self.name:34} norm {self.norm:8.4f}   distance {self.distance:.2e}   cosine {self.cosine:.6f}"


def weights_of(model: Model, seed: int = 0) -> Arrays:
    """First values with gains from U(0.2, 3): with gains of 1 a wrong gradient of a norm looks right. Gains of q and k,
    whose product multiplies scores, from U(0.5, 1.5): with larger ones fp16 loses the way through 28 layers."""
    weights, random = model.initial(seed), np.random.default_rng(seed)
    for name, array in weights.items():
        if array.ndim == 1:
            low, high = (0.5, 1.5) if name.endswith(("q_norm", "k_norm")) else (0.2, 3.0)
            array[:] = random.uniform(low, high, array.shape)
    return weights


def ids_and_targets(model: Model, seed: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    s = model.spec
    tokens = np.random.default_rng(seed).integers(0, s.vocab, (s.batch, s.seq + 1))
    return tokens[:, :-1], tokens[:, 1:]


def emulated_step(
    model: Model, profile: str, executor: str = "fast", *, fp32: bool = False, loss_scale: float = 2.0**16
) -> Step:
    unlimited = 2**32 - 1  # a process of tests has compiled thousands of programs before this
    engine = devices.open(
        "emulator",
        profile,
        executor=executor,
        fp32=fp32,
        watchdog_s=None,
        live_budget=unlimited,
        compile_budget=unlimited,
    )
    pipeline = Pipeline(engine, model, weights_of(model), precision="fp32" if fp32 else "fp16")
    started = time.perf_counter()
    loss = pipeline.micro_step(*ids_and_targets(model), loss_scale=loss_scale)
    seconds = time.perf_counter() - started
    counters = {}
    for choice in pipeline.choices.values() if executor == "audit" else ():
        for program in choice.compiled.programs.values():
            found = program.report["counters"]
            counters[program.label] = {name: int(found[name]) for name in COUNTERS}
    pipeline.unload()
    return Step(loss, pipeline.gradients, seconds, counters)


def transformers_step(model: Model) -> Step:
    """In float32, which is far better than the bounds here."""
    import torch

    torch.set_num_threads(THREADS)
    judge = their_model(model.spec, weights_of(model), "float32")
    started = time.perf_counter()
    _, loss = their_step(judge, model.spec, *ids_and_targets(model))
    seconds = time.perf_counter() - started
    return Step(loss, their_gradients(judge, model.spec, model.parameters), seconds, {})


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[Difference]:
    """By parameter, farthest first."""
    result = []
    for name, wanted in expected.items():
        size, own = float(np.linalg.norm(wanted)), float(np.linalg.norm(found[name]))
        distance = float(np.linalg.norm(found[name] - wanted))
        cosine = float(np.vdot(found[name], wanted)) / max(own * size, sys.float_info.min)
        result.append(Difference(name, own / size, distance / size, cosine))
    return sorted(result, key=lambda each: -each.distance)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=sorted(PRESETS))
    parser.add_argument("--profile", default="m4", choices=devices.profiles(), help="of the emulated chip")
    parser.add_argument("--executor", default="fast", choices=("fast", "reference", "audit"))
    parser.add_argument("--loss-scale", type=float, default=2.0**16, help="default 65536")
    parser.add_argument("--judge", default="transformers", choices=("transformers", "fp32"))
    parser.add_argument("--at-most", type=float, default=0.03, help="how far a gradient's norm may be off (0.03)")
    parser.add_argument("--all", action="store_true", help="print every parameter, not the eight farthest")
    chosen = parser.parse_args()
    model = Model.preset(chosen.preset)
    found = emulated_step(model, chosen.profile, chosen.executor, loss_scale=chosen.loss_scale)
    expected = transformers_step(model) if chosen.judge == "transformers" else emulated_step(model, "exact", fp32=True)
    print(f"{chosen.preset}, {chosen.profile}, {chosen.executor}, loss scale {chosen.loss_scale:g}")
    print(
        f"loss {found.loss:.6f}, {chosen.judge} {expected.loss:.6f}; {found.seconds:.1f} s and {expected.seconds:.1f} s"
    )
    rows = differences(found.gradients, expected.gradients)
    for row in rows if chosen.all else rows[:8]:
        print(row)
    for label, counters in found.counters.items():
        share = counters["flushed_products"] / max(counters["products"], 1)
        print(
            f"{label:34} {share:.2%} of {counters['products']:,} products flushed, "
            f"{counters['overflowed_sums']:,} sums overflowed, {counters['infinite_values']:,} infinite values"
        )
    off = max(abs(row.norm - 1.0) for row in rows)
    print(f"{len(rows)} gradients; norms are off by {off:.2%} at most, allowed {chosen.at_most:.0%}; ", end="")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB")
    return 0 if off <= chosen.at_most else 1


if __name__ == "__main__":
    raise SystemExit(main())
