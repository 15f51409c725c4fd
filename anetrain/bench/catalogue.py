"""Which benches there are. One is imported when it is asked for."""

from __future__ import annotations

from anetrain.bench.base import Bench
from anetrain.isolate import resolve

BENCHES = {
    "peak": "anetrain.bench.peak:Peak",
    "latency": "anetrain.bench.latency:Latency",
    "sram": "anetrain.bench.sram:Sram",
    "int8": "anetrain.bench.int8:Int8",
    "quant": "anetrain.bench.quant:Quant",
    "fused": "anetrain.bench.fused:Fused",
    "lmhead": "anetrain.bench.lmhead:LMHead",
    "attention": "anetrain.bench.attention:Attention",
    "train": "anetrain.bench.train:Train",
}
"""Name -> "module:class", in the order of `anetrain bench all`."""


def bench(name: str) -> Bench:
    if name not in BENCHES:
        raise ValueError(f"no bench {name!r}; there are {', '.join(BENCHES)}, all")
    made: Bench = resolve(BENCHES[name])()
    return made
