"""Which probes there are. One is imported when it is asked for."""

from __future__ import annotations

import importlib

from anetrain.probe.base import Probe

PROBES: dict[str, str] = {
    "dialects": "anetrain.probe.dialects:Dialects",
    "tile": "anetrain.probe.tile:Tile",
}
"""Name -> "module:class", in the order of `anetrain probe all`."""


def probe(name: str) -> Probe:
    if name not in PROBES:
        raise ValueError(f"no probe {name!r}; there are {', '.join(PROBES)}, all")
    return load(PROBES[name])


def load(place: str) -> Probe:
    """From "module:class"."""
    module, _, cls = place.partition(":")
    made: Probe = getattr(importlib.import_module(module), cls)()
    return made


def place_of(probe: Probe) -> str:
    return f"{type(probe).__module__}:{type(probe).__qualname__}"
