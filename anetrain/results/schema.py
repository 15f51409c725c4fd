"""What benches, probes and the doctor found: one schema, checked when it is written and when it is read.

A file of results says first which device made it. What can be computed from something else in the file is computed
again when the file is read, and must be the same: `anetrain report validate` rests on that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anetrain.results.statistics import quantile

SCHEMA = "anetrain-results/1"
MOST = 1 << 80  # of whatever is counted: what a float can hold, and no measurement reaches

Scalar: TypeAlias = bool | int | float | str | None


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


# ---------------------------------------------------------------- where it was made


class Device(Part):
    """The engine that was asked: a real one, or an emulated one."""

    kind: Literal["ane", "emulator"]
    name: str = Field(description='"ane", or such as "emulator:m4"')
    chip: str = ""
    sub_type: str = Field(default="", description="aneSubType, such as h16")
    architecture: str = ""
    cores: int | None = None
    engines: int | None = None
    facts: dict[str, Any] = Field(default_factory=dict, description="all that the device says of itself")

    @model_validator(mode="after")
    def _one_kind(self) -> Device:
        """What says that it is of an engine in one place may not say emulator in another."""
        for where, found in (("facts.kind", self.facts.get("kind", self.kind)), ("name", self.name.partition(":")[0])):
            if found != self.kind:
                raise ValueError(f"{where} is {found!r}, and kind {self.kind!r}")
        return self

    @property
    def label(self) -> str:
        """For the head of whatever is printed: nobody may take an emulator for an engine."""
        if self.kind == "ane":
            return f"ANE of {self.chip or 'an unknown chip'}"
        return f"emulated ANE ({self.name}): times are of this machine's CPU, not of an ANE"


class Machine(Part):
    """The computer around it. No host name, serial number or user name."""

    model: str = Field(default="", description="such as Mac16,1")
    processor: str = ""
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    cpus: int
    memory_bytes: int = Field(ge=0, le=MOST)
    system: str = Field(description="such as macOS 26.4.1 or Linux")
    kernel: str = Field(description="such as Darwin 25.4.0")
    architecture: str = Field(description="arm64 or x86_64")


class Provenance(Part):
    """Who measured what, when, with which code."""

    command: str
    started: str = Field(description="UTC, ISO 8601")
    seed: int
    scale: str = Field(description='"full", or "small" for trying out: small results are never compared')
    anetrain: str
    commit: str = Field(
        default="", description="of the clone the code ran from, or was installed from; empty if unknown"
    )
    python: str
    numpy: str
    blas: str


# ---------------------------------------------------------------- measurements


class Timing(Part):
    """Samples of one thing done again and again. A sample is the seconds of `calls_per_sample` calls together."""

    samples_s: tuple[float, ...] = Field(min_length=1)
    calls_per_sample: int = Field(default=1, ge=1, le=MOST)
    warm_up: int = Field(ge=0, description="calls before the first sample")
    stable: bool = Field(description="the warm-up ended because times no longer fell, not because it took too long")
    median_s: float = Field(description="of one call, as are the next two")
    p10_s: float
    p90_s: float

    @classmethod
    def of(cls, samples_s: tuple[float, ...], *, warm_up: int, stable: bool, calls_per_sample: int = 1) -> Timing:
        of_call = [sample / calls_per_sample for sample in samples_s]
        median_s, p10_s, p90_s = (quantile(of_call, share) for share in (0.5, 0.1, 0.9))
        return cls(
            samples_s=samples_s,
            calls_per_sample=calls_per_sample,
            warm_up=warm_up,
            stable=stable,
            median_s=median_s,
            p10_s=p10_s,
            p90_s=p90_s,
        )

    @model_validator(mode="after")
    def _adds_up(self) -> Timing:
        of_call = [sample / self.calls_per_sample for sample in self.samples_s]
        if min(of_call) <= 0:
            raise ValueError(f"a sample of {min(self.samples_s)} s: expected more than 0")
        for name, share in (("median_s", 0.5), ("p10_s", 0.1), ("p90_s", 0.9)):
            expected = quantile(of_call, share)
            if not math.isclose(getattr(self, name), expected, rel_tol=1e-6):
                raise ValueError(f"{name} is {getattr(self, name):.6g}, and that of its samples {expected:.6g}")
        return self


class Check(Part):
    """Were the values right? Asked before anything is timed."""

    against: str = Field(description="who says what is right, such as: numpy in float64")
    largest_error: float | None = Field(description="in units of `of`; None: not finite")
    allowed: float = Field(ge=0)
    of: str = Field(default="the largest magnitude", description="what an error of 1 is")
    elements: int = Field(ge=1, description="how many values were compared")

    @property
    def passed(self) -> bool:
        return self.largest_error is not None and self.largest_error <= self.allowed


Status = Literal["measured", "wrong", "refused", "failed", "crashed", "timed out", "interrupted", "skipped"]


class Measurement(Part):
    """One case of a bench. Only right values have times."""

    bench: str
    case: str
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    status: Status
    reason: str = Field(default="", description="why it was not measured, in a sentence")
    check: Check | None = None
    timing: Timing | None = None
    flops: int | None = Field(default=None, ge=0, le=MOST, description="of one call, counted from the shapes")
    bytes_moved: int | None = Field(
        default=None, ge=0, le=MOST, description="of one call: weights, inputs and outputs, once each"
    )
    weight_bytes: int | None = Field(default=None, ge=0)
    activation_bytes: int | None = Field(default=None, ge=0)
    observed: dict[str, Scalar] = Field(default_factory=dict, description="what else was seen; units in the names")
    figures: dict[str, float] = Field(default_factory=dict, description="computed from the above (`figures_of`)")

    @model_validator(mode="after")
    def _honest(self) -> Measurement:
        if (self.status == "measured") != (self.timing is not None):
            raise ValueError(f"{self.case}: status {self.status!r} {'has' if self.timing else 'lacks'} times")
        if self.timing is not None and (self.check is None or not self.check.passed):
            raise ValueError(f"{self.case}: it has times, but its values were not checked, or were wrong")
        if self.status != "measured" and not self.reason:
            raise ValueError(f"{self.case}: status {self.status!r} without a reason")
        expected = figures_of(self.timing, self.flops, self.bytes_moved)
        if self.figures.keys() != expected.keys():
            raise ValueError(f"{self.case}: figures {sorted(self.figures)}, expected {sorted(expected)}")
        for name, value in expected.items():
            if not math.isclose(self.figures[name], value, rel_tol=1e-6):
                raise ValueError(f"{self.case}: {name} is {self.figures[name]:.6g}, computed again {value:.6g}")
        return self

    @classmethod
    def of(cls, bench: str, case: str, timing: Timing, check: Check, **known: Any) -> Measurement:
        """What was measured, or, where the values are wrong, that they are."""
        if not check.passed:
            return cls.wrong(bench, case, check, **known)
        figures = figures_of(timing, known.get("flops"), known.get("bytes_moved"))
        return cls(bench=bench, case=case, status="measured", check=check, timing=timing, figures=figures, **known)

    @classmethod
    def wrong(cls, bench: str, case: str, check: Check, **known: Any) -> Measurement:
        """Of a case whose check did not pass: there is nothing to time."""
        worst = check.largest_error
        error = "values that are not finite" if worst is None else f"an error of {worst:.3g}"
        reason = f"{error} against {check.against}; at most {check.allowed:.3g} of {check.of} expected"
        return cls(bench=bench, case=case, status="wrong", reason=reason, check=check, **known)


def figures_of(timing: Timing | None, flops: int | None, bytes_moved: int | None) -> dict[str, float]:
    """What a median and analytic counts give; p10 of the times is p90 of rates."""
    if timing is None:
        return {}
    figures = {"ms": timing.median_s * 1e3}
    if flops:
        figures["tflops"] = flops / timing.median_s / 1e12
    if bytes_moved:
        figures["gb_per_s"] = bytes_moved / timing.median_s / 1e9
    return figures


class Finding(Part):
    """What the measurements of a bench say about its question, computed from them."""

    bench: str
    question: str
    answer: str = Field(description="a sentence")
    figures: dict[str, float] = Field(default_factory=dict)
    basis: tuple[str, ...] = Field(description="the cases it was computed from")
    from_times: bool = Field(default=True, description="it rests on times: nothing to be found from an emulator")


# ---------------------------------------------------------------- probes

Answer = Literal["yes", "no", "partly", "unknown"]


class Refusal(Part):
    """What a device said when it refused."""

    error: str = Field(default="", description="the exception: CompileError, EvalError ...; tells the stage")
    domain: str = ""
    code: int = 0
    text: str = ""
    detail: str = ""
    rule: str = Field(default="", description="of an emulator's profile")


class Experiment(Part):
    """One thing that was tried, and what was seen."""

    name: str
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    status: Literal["done", "refused", "failed", "crashed", "timed out", "interrupted", "skipped"]
    reason: str = ""
    observed: dict[str, Any] = Field(default_factory=dict, description="plain data; units in the names")
    refusal: Refusal | None = None
    seconds: float = Field(default=0.0, ge=0)


class Verdict(Part):
    """What the experiments of a probe say of its hypothesis."""

    probe: str
    question: str
    hypothesis: str
    source: str = Field(description="where the hypothesis comes from")
    answer: Answer = Field(description="does the hypothesis hold?")
    sentence: str = Field(description="the answer with its evidence")
    rules: tuple[str, ...] = Field(default=(), description="rules of the emulator's profiles that decide it there")
    features: dict[str, Answer] = Field(
        default_factory=dict, description="rows of the compatibility matrix that this verdict fills"
    )
    experiments: tuple[Experiment, ...] = ()


# ---------------------------------------------------------------- health


class Health(Part):
    """One question of the doctor's, and what was found."""

    name: str
    question: str
    status: Literal["ok", "warning", "failed", "skipped"]
    sentence: str
    observed: dict[str, Any] = Field(default_factory=dict, description="plain data; units in the names")
    advice: tuple[str, ...] = Field(default=(), description="what to do about it")
    seconds: float = Field(default=0.0, ge=0)


# ---------------------------------------------------------------- a file


class Results(Part):
    """A file of results. `complete` false: it was interrupted, and holds what there was by then."""

    schema_: Literal["anetrain-results/1"] = Field(default="anetrain-results/1", alias="schema")
    provenance: Provenance
    machine: Machine
    device: Device
    complete: bool
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    health: tuple[Health, ...] = ()

    @model_validator(mode="after")
    def _no_emulated_performance(self) -> Results:
        if self.device.kind == "emulator" and (timed := [found.bench for found in self.findings if found.from_times]):
            raise ValueError(f"findings of {', '.join(timed)} rest on times, and those are of an emulator's CPU")
        return self


def device_of(facts: Mapping[str, Any]) -> Device:
    """Of an open device's facts. A profile that was given as a file keeps its name alone, without the folder."""
    kind = facts["kind"]
    facts = {**facts, **{key: PurePath(facts[key]).name for key in ("profile", "name") if key in facts}}
    return Device(
        kind=kind,
        name="ane" if kind == "ane" else f"emulator:{facts['profile']}",
        chip=str(facts.get("chip") or ""),
        sub_type=str(facts.get("sub_type") or ""),
        architecture=str(facts.get("architecture") or ""),
        cores=facts.get("cores"),
        engines=facts.get("engines"),
        facts=facts,
    )
