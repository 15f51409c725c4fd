"""What a request may say beside its surfaces: which procedure, which quality of service, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anetrain import raw
from anetrain.bench.base import Lab, Scale
from anetrain.errors import ANEError
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import evidence, named, worked
from anetrain.probe.samples import mark
from anetrain.probe.weighted import loaded
from anetrain.results import Answer, Experiment, Verdict

INDICES = (0, 1, 2, 7, 15, 16, 128)
TAKEN_FOR_0 = range(1, 16)  # by the hypothesis
QUALITIES = range(64)
NOISE = 1.25  # a quality whose median is not below that of all by this factor is not faster


class ProcedureIndex(Probe):
    name = "procedure-index"
    question = "Does a program of one procedure take procedure indices up to 15 for 0?"
    hypothesis = "indices 1 to 15 are taken for 0"
    source = "a probe of the M5; programs of several procedures want the right one (C55)"
    rules = ("procedure-index-ignored",)

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(str(index), {"index": index}) for index in INDICES]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        return _evaluated(lab, trial.name, procedure_index=int(trial.parameters["index"] or 0))

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        within = [worked(made) for made in experiments if int(made.name) in TAKEN_FOR_0]
        beyond = [made.name for made in experiments if int(made.name) > max(TAKEN_FOR_0) and worked(made) == "yes"]
        answer: Answer = "unknown" if not within or "unknown" in within else "yes" if set(within) == {"yes"} else "no"
        also = f"; so are {', '.join(beyond)}" if beyond else ""
        said = {
            "yes": f"Indices up to 15 are taken for 0{also}",
            "no": "Other indices than 0 are refused",
            "unknown": "It was not seen",
        }
        feature = {features.PROCEDURE_INDEX: answer}
        return self.verdict(experiments, answer, f"{said.get(answer, answer)}: {evidence(experiments)}", feature)


class QualityOfService(Probe):
    name = "qos"
    question = "Is every quality of service up to 63 taken, and none faster?"
    hypothesis = "every value from 0 to 63 is taken, and none is faster"
    source = "a probe of the M5 (C78); the framework itself knows 9, 17, 21, 25 and 33"
    rules = ("qos-range",)

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial("0 to 63", {"calls": 50 if scale == "full" else 3}, alone=True)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        """Values in turn, so that what slows the machine down slows all of them."""
        wrong: dict[str, str] = {}
        refused: dict[str, str] = {}
        seconds: dict[int, list[float]] = {}
        with loaded(lab, trial.name) as (program, ports, expected):
            request = raw.request(program, ports.inputs, ports.outputs)
            for turn in range(int(trial.parameters["calls"] or 1)):
                for quality in QUALITIES:
                    if str(quality) in refused:
                        continue
                    if turn == 0:
                        mark(ports.outputs[0])
                    begin = lab.meter.clock()
                    try:
                        raw.evaluate(request, qos=quality)
                    except ANEError as error:
                        refused[str(quality)] = error.text or error.detail
                        continue
                    seconds.setdefault(quality, []).append(lab.meter.clock() - begin)
                    values = ports.values(expected)["values"] if turn == 0 else "right"
                    if values != "right":
                        wrong[str(quality)] = str(values)
        medians = {str(quality): 1e3 * sorted(times)[len(times) // 2] for quality, times in seconds.items()}
        of_engine = {"median_ms": medians} if lab.device.facts["kind"] == "ane" else {}
        return {"values": "wrong" if wrong else "right", "wrong": wrong, "refused": refused, **of_engine}

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        made = named(experiments, "0 to 63")
        if made is None or made.status != "done":
            return self.verdict(experiments, "unknown", f"It was not seen: {evidence(experiments)}")
        refused, wrong = made.observed["refused"], made.observed["wrong"]
        speed = _speed(made.observed.get("median_ms", {}))
        if not refused and not wrong:
            answer: Answer = "partly" if speed.startswith("faster") else "yes"
            said = f"All of 0 to 63 give right values; {speed}"
        else:
            answer = "no"
            kept = [str(quality) for quality in QUALITIES if str(quality) not in {**refused, **wrong}]
            said = f"{len(refused)} values are refused, {len(wrong)} give wrong values; right are {', '.join(kept)}"
        return self.verdict(experiments, answer, said, {features.ANY_QOS: "yes" if answer != "no" else "no"})


def _speed(median_ms: Mapping[str, float]) -> str:
    if not median_ms:
        return "nothing is said of speed: this is no engine"
    middle = sorted(median_ms.values())[len(median_ms) // 2]
    faster = [f"{name} ({ms:.3f} ms)" for name, ms in median_ms.items() if ms * NOISE < middle]
    return (
        f"faster than the others ({middle:.3f} ms) are {', '.join(faster)}"
        if faster
        else f"none is faster ({middle:.3f} ms)"
    )


class PerformanceStats(Probe):
    name = "performance-stats"
    question = "Does the engine keep to itself how long it took?"
    hypothesis = "no statistics object can be made, and a program with a mask of statistics does not load"
    source = "probes of M5 and M3 Ultra"
    rules = ("no-performance-stats",)
    OBJECT, MASK = "an object in the request", "a mask on the program"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(self.OBJECT, alone=True), Trial(self.MASK, {"mask": 15}, alone=True)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        return _evaluated(lab, trial.name, performance_stats=True, mask=int(trial.parameters.get("mask") or 0))

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        made = [named(experiments, name) for name in (self.OBJECT, self.MASK)]
        told: list[Answer] = [self._told(one) for one in made]
        answer: Answer = "yes" if set(told) == {"no"} else "unknown" if set(told) == {"unknown"} else "no"
        if answer == "no" and "yes" not in told:
            answer = "unknown"
        said = {"yes": "It does", "no": "It tells", "unknown": "It was not seen"}.get(answer, answer)
        times = [f"{one.observed['hardware_ns']} ns" for one in made if one and one.observed.get("hardware_ns")]
        time = f" ({', '.join(times)})" if times else ""
        feature: Answer = {"yes": "no", "no": "yes"}.get(answer, "unknown")  # type: ignore[assignment]
        return self.verdict(
            experiments, answer, f"{said}{time}: {evidence(experiments)}", {features.PERFORMANCE_STATS: feature}
        )

    @staticmethod
    def _told(made: Experiment | None) -> Answer:
        ran = worked(made)
        if ran != "yes" or made is None:
            return ran
        return "yes" if made.observed.get("hardware_ns") else "no"


def _evaluated(lab: Lab, label: str, *, mask: int = 0, **options: Any) -> dict[str, Any]:
    """Once, with what the request says beside its surfaces."""
    with loaded(lab, label) as (program, ports, expected):
        if mask:
            raw.set_stats_mask(program, mask)
        result = raw.evaluate(raw.request(program, ports.inputs, ports.outputs, **options))
        return {**ports.values(expected), "hardware_ns": result.hardware_ns}
