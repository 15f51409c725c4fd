"""What the report is made of in tests: a device, another one as a submission, an emulator, small sizes, the community's
JSON; written to a folder, as `anetrain report` reads them."""

from __future__ import annotations

from pathlib import Path

from anetrain.probe import features
from anetrain.report import build, inputs, submission
from anetrain.report.document import Document
from anetrain.results import Finding, Health, Measurement, Results, Timing, Verdict
from tests.report_files import (
    ANE,
    CHECK,
    EMULATOR,
    MAC,
    REFUSED,
    ane_results,
    community_text,
    provenance,
    stack,
    write,
)

SUSTAINED = Measurement.of(
    "peak",
    "128x512ch sp2048, 5 s on end",
    Timing.of((0.0070, 0.0068, 0.0069), warm_up=3, stable=True),
    CHECK,
    parameters={"channels": 512, "layers": 128, "spatial": 2048, "seconds": 5},
    flops=2 * 128 * 512**2 * 2048,
)
TRAINING = Measurement.of(
    "train",
    "stories110m, static",
    Timing.of((0.95, 0.94, 0.96), warm_up=1, stable=True, calls_per_sample=10),
    CHECK,
    parameters={"model": "stories110m", "pipeline": "static", "accumulation": 10},
    observed={"forward_device_ms": 9.5, "compile_ms_per_update": 3400.0},
)
MOST = Finding(
    bench="peak",
    question="How many operations a second at most?",
    answer="19.92 TFLOPS in fp16: 128x512ch sp2048, 5 s on end.",
    figures={"tflops": 19.92},
    basis=(SUSTAINED.case,),
)
FAILED = Measurement(
    bench="peak", case="64x384ch sp64", status="timed out", reason="no answer within 300 s", parameters={}
)


def verdict(answers: dict[str, str], sentence: str = "seen in 4 of 4 experiments") -> Verdict:
    return Verdict.model_validate(
        {
            "probe": "dialects",
            "question": "Do both MIL dialects compile and compute?",
            "hypothesis": "both do",
            "source": "public tables",
            "answer": "yes",
            "sentence": sentence,
            "features": answers,
        }
    )


HEALTH = (
    Health(name="environment", question="Is there what anetrain needs?", status="ok", sentence="There is."),
    Health(
        name="leaks",
        question="Is everything given back?",
        status="warning",
        sentence="60 MB more after 30 rounds.",
        advice=("Restart after some hours.",),
    ),
)


def ane() -> Results:
    return ane_results(
        measurements=(stack(128, 512, 64, 0.3417), stack(32, 512, 64, 0.135), SUSTAINED, TRAINING, REFUSED, FAILED),
        findings=(MOST,),
        verdicts=(verdict({features.NEW_DIALECT: "yes", features.SINGLE_BLOB: "no", "of a later version": "partly"}),),
    )


def later() -> Results:
    """Of the same machine, another day; a probe says otherwise, and Ctrl-C ended it."""
    return ane_results(
        provenance=provenance(started="2026-03-06T09:00:00+00:00", command="anetrain probe dialects"),
        measurements=(stack(1, 2048, 64, 0.118, bench="latency"),),
        verdicts=(verdict({features.NEW_DIALECT: "no"}),),
        health=HEALTH,
        complete=False,
    )


def other() -> Results:
    """An M1 Max, on which the stacks are refused."""
    return ane_results(
        device=ANE.model_copy(update={"chip": "Apple M1 Max", "sub_type": "h13", "architecture": "h13g"}),
        machine=MAC.model_copy(update={"model": "MacBookPro18,2", "processor": "Apple M1 Max", "system": "macOS 15.6"}),
        measurements=(stack(1, 2048, 64, 0.236, bench="latency"), REFUSED),
        verdicts=(verdict({features.NEW_DIALECT: "partly"}),),
    )


def emulated() -> Results:
    return ane_results(
        device=EMULATOR,
        machine=MAC.model_copy(update={"model": "", "processor": "a server's CPU", "system": "Linux"}),
        measurements=(stack(128, 512, 64, 777.25), REFUSED),
        verdicts=(verdict({features.NEW_DIALECT: "yes", features.TILE: "no"}),),
        health=HEALTH[:1],
    )


def small() -> Results:
    return ane_results(
        provenance=provenance(scale="small"),
        measurements=(stack(16, 64, 64, 0.0523),),
        findings=(MOST,),
        verdicts=(),
    )


def written(folder: Path) -> list[Path]:
    """All of them, as files."""
    made = submission.submission(
        [("other.json", other())],
        contributor="Some | <b>One</b>",
        cooling="a fan, *full speed*",
        notes="Times vary.\nSee [this](https://example.org).",
    )
    submission.write(made, folder / "submission.json")
    (folder / "community.json").write_text(community_text())
    results = {"peak.json": ane(), "later.json": later(), "emulated.json": emulated(), "small.json": small()}
    files = [write(folder, name, found) for name, found in results.items()]
    return [*files, folder / "submission.json", folder / "community.json"]


def document(folder: Path) -> Document:
    return build.document(inputs.read(written(folder)))
