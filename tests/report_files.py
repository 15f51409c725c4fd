"""Files that `anetrain report` reads, made by hand: results as a Mac would give them, and the community's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anetrain import results
from anetrain.results import Check, Device, Machine, Measurement, Provenance, Results, Timing, Verdict

CHECK = Check(against="numpy in float64", largest_error=0.001, allowed=0.01, elements=64)
MAC = Machine(
    model="Mac16,11",
    processor="Apple M4 Pro",
    performance_cores=10,
    efficiency_cores=4,
    cpus=14,
    memory_bytes=48 << 30,
    system="macOS 26.3",
    kernel="Darwin 25.3.0",
    architecture="arm64",
)
ANE = Device(kind="ane", name="ane", chip="Apple M4 Pro", sub_type="h16", architecture="h16g", cores=16, engines=1)
EMULATOR = Device(kind="emulator", name="emulator:m4", chip="Apple M4", sub_type="h16")


def provenance(**changes: Any) -> Provenance:
    known: dict[str, Any] = {
        "command": "anetrain bench peak --device ane --scale full --seed 0",
        "started": "2026-03-05T10:00:00+00:00",
        "seed": 0,
        "scale": "full",
        "anetrain": "0.1.0",
        "python": "3.12.1",
        "numpy": "2.1.0",
        "blas": "Accelerate",
    }
    return Provenance(**known | changes)


def stack(layers: int, channels: int, spatial: int, ms: float, bench: str = "peak") -> Measurement:
    """As `anetrain bench` measures a stack of convolutions."""
    return Measurement.of(
        bench,
        f"{layers}x{channels}ch sp{spatial}",
        Timing.of((ms / 1e3,) * 3, warm_up=5, stable=True),
        CHECK,
        parameters={"channels": channels, "layers": layers, "spatial": spatial},
        flops=2 * layers * channels**2 * spatial,
    )


REFUSED = Measurement(bench="peak", case="256x256ch sp64", status="refused", reason="the compiler says no")
VERDICT = Verdict(
    probe="tile",
    question="Does tile compile?",
    hypothesis="It does not.",
    source="tables of the community",
    answer="yes",
    sentence="tile was refused in 2 of 2 forms.",
)


def ane_results(**changes: Any) -> Results:
    known: dict[str, Any] = {
        "provenance": provenance(),
        "machine": MAC,
        "device": ANE,
        "complete": True,
        "measurements": (stack(128, 512, 64, 0.3417), stack(32, 512, 64, 0.135), REFUSED),
        "verdicts": (VERDICT,),
    }
    return Results(**known | changes)


def emulated_results(**changes: Any) -> Results:
    return ane_results(device=EMULATOR, **changes)


def write(folder: Path, name: str, made: Results) -> Path:
    path = folder / name
    path.write_text(results.text_of(made))
    return path


COMMUNITY: dict[str, Any] = {
    "report_date": "2026-03-04",
    "source": "a thread",
    "model": "Stories110M",
    "config": {"dim": 768, "layers": 12},
    "training_results": [
        {
            "chip": "M1 Pro",
            "cores": "10-core CPU",
            "ram_gb": 32,
            "macos": "15.0",
            "ms_per_step": [148, 163],
            "ane_ms": [32, 35],
            "compile_ms": [7900, 8505],
            "ane_tflops": [0.57, 0.63],
            "ane_util_pct": [3.6, 4.0],
            "benchmarks_pass": False,
            "notes": "stacks fail",
            "contributor": "one",
        },
        {
            "chip": "M3 Pro",
            "cores": "unknown",
            "ram_gb": None,
            "macos": None,
            "peak_tflops": 16.77,
            "sustained_tflops": 15.04,
            "sustained_util_pct": 95.2,
            "channel_constraint": "512",
            "contributor": "two",
        },
        {
            "chip": "M5",
            "ms_per_step": [90, 90],
            "ane_ms": [8.0, 8.0],
            "compile_ms": [3353, 3353],
            "peak_tflops_inmem": 12.44,
            "benchmarks_pass": True,
            "thermals": {"fan": [1, 2]},
        },
        {"chip": "M5", "notes": "nothing ran"},
    ],
    "neural_engine_specs": {
        "M1_Max": {"ne_cores": 16, "rated_tops": 11},
        "M4": {"ne_cores": 16, "rated_tops": 38, "note": "INT8 spec", "subtype": "h16"},
        "M5": {"ne_cores": 16, "rated_tops": None, "estimated_tops": 19},
    },
    "licence": "none",
}


def community_text(**changes: Any) -> str:
    return json.dumps(COMMUNITY | changes)
