"""Probes: what an engine can do, and what it does not do as it should. `anetrain probe --help`."""

from anetrain.probe.base import Probe, Trial

__all__ = ["Probe", "Trial"]
