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
from anetrain.results import Answer, Device, Experiment, Scalar, Verdict


@dataclass(frozen=True)
class Trial:
    """An experiment to be made. `parameters` are all it needs: it is made again in another process from them.

    alone          in a new process and on a device of its own, as what it does may spoil what follows
    lifts_budgets  compiles, or keeps, more programs than this project's own budgets let
    """

    name: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    timeout_s: float = 60.0
    alone: bool = False
    lifts_budgets: bool = False


class Probe(ABC):
    name: ClassVar[str]
    question: ClassVar[str]
    hypothesis: ClassVar[str]
    source: ClassVar[str]
    """Where the hypothesis comes from, for people."""
    rules: ClassVar[tuple[str, ...]] = ()
    """Of the emulator's profiles: those whose switch changes the verdict there."""

    @abstractmethod
    def trials(self, scale: Scale) -> Sequence[Trial]: ...

    def follow_up(self, scale: Scale, experiments: Sequence[Experiment]) -> Sequence[Trial]:
        """What to try next, after all that was; nothing: it is enough."""
        return ()

    def lacks(self, device: Device) -> str:
        """What the build or the device lacks for this probe, in a sentence. It is then not run."""
        return ""

    @abstractmethod
    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        """What was observed, as plain data: values compared, times with their units in the names. A refusal by the
        device is raised, not caught, unless what comes after it is what the experiment is about."""

    @abstractmethod
    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        """Also of experiments that were refused, crashed, hung, or are missing: "unknown" is an answer."""

    def verdict(
        self,
        experiments: Sequence[Experiment],
        answer: Answer,
        sentence: str,
        features: Mapping[str, Answer] | None = None,
    ) -> Verdict:
        return Verdict(
            probe=self.name,
            question=self.question,
            hypothesis=self.hypothesis,
            source=self.source,
            answer=answer,
            sentence=sentence,
            rules=self.rules,
            features=dict(features or {}),
            experiments=tuple(experiments),
        )
