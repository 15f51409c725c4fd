"""What a probe is: a hypothesis about an engine, experiments that can refute it, and the verdict they give.

An experiment runs in a process of its own (anetrain/isolate.py): a crash, a hang and a refusal are observations like
any other. `judge` sees only what was observed, so it is tested without a device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from anetrain.bench.base import Lab, Scale
from anetrain.results import Experiment, Scalar, Verdict


@dataclass(frozen=True)
class Trial:
    """An experiment to be made. `alone`: in a new process, as what it does may spoil what follows."""

    name: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    timeout_s: float = 60.0
    alone: bool = False


class Probe(ABC):
    name: ClassVar[str]
    question: ClassVar[str]
    hypothesis: ClassVar[str]
    source: ClassVar[str]
    """Where the hypothesis comes from, for people."""
    rules: ClassVar[tuple[str, ...]] = ()
    """Of the emulator's profiles: those whose switch flips the verdict there."""

    @abstractmethod
    def trials(self, scale: Scale) -> Sequence[Trial]: ...

    @abstractmethod
    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        """What was observed, as plain data: values compared, times with their units in the names. A refusal by the
        device is raised, not caught: it is an observation, too."""

    @abstractmethod
    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        """Also of experiments that were refused, crashed, hung, or are missing: "unknown" is an answer."""
