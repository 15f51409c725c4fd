"""Which benches there are. One is imported when it is asked for."""

from __future__ import annotations

import importlib

from anetrain.bench.base import Bench

BENCHES = {
    "peak": "anetrain.bench.peak:Peak",
    "latency": "anetrain.bench.latency:Latency",
}
"""Name -> "module:class", in the order of `anetrain bench all`."""


def bench(name: str) -> Bench:
    if name not in BENCHES:
        raise ValueError(f"no bench {name!r}; there are {', '.join(BENCHES)}, all")
    module, _, cls = BENCHES[name].partition(":")
    made: Bench = getattr(importlib.import_module(module), cls)()
    return made
