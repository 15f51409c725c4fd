"""What benches, probes and the doctor measure with and write down: results, their file, their clock, the machine."""

from anetrain.results.machine import anonymous, provenance, this_machine
from anetrain.results.meter import Meter
from anetrain.results.schema import (
    Answer,
    Check,
    Device,
    Experiment,
    Finding,
    Health,
    Machine,
    Measurement,
    Provenance,
    Refusal,
    Results,
    Scalar,
    Status,
    Timing,
    Verdict,
    device_of,
)
from anetrain.results.store import ResultsError, read, text_of, write

__all__ = [
    "Answer",
    "Check",
    "Device",
    "Experiment",
    "Finding",
    "Health",
    "Machine",
    "Measurement",
    "Meter",
    "Provenance",
    "Refusal",
    "Results",
    "ResultsError",
    "Scalar",
    "Status",
    "Timing",
    "Verdict",
    "anonymous",
    "device_of",
    "provenance",
    "read",
    "text_of",
    "this_machine",
    "write",
]
