"""Benches: what a device does and how fast, values checked before times. `anetrain bench --help`."""

from anetrain.bench.base import Bench, Bound, Case, Lab, Scale, compare

__all__ = ["Bench", "Bound", "Case", "Lab", "Scale", "compare"]
