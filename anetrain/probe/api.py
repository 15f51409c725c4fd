"""What the private framework offers: its classes, selectors and types, beside what this project calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anetrain import raw
from anetrain.bench.base import Lab, Scale
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import evidence, named
from anetrain.results import Answer, Experiment, Results, Verdict

FRAMEWORK = "the framework"
SHOWN = 5  # differences in the sentence; all are in the experiment


class Api(Probe):
    name = "api"
    question = "Has the framework the classes and methods that are called, with the types expected?"
    hypothesis = "all of them are there, as in the systems whose dumps are known"
    source = "class dumps and decompilations of iOS 26.1 and macOS 26; programs that call it"
    rules = ()

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(FRAMEWORK)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        api = raw.api(lab.device)
        return {"api": api, "differences": list(unexpected(api))}

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        made = named(experiments, FRAMEWORK)
        if made is None or made.status != "done":
            return self.verdict(experiments, "unknown", f"It was not seen: {evidence(experiments)}")
        differences: Sequence[str] = made.observed["differences"]
        classes = len(made.observed["api"]["classes"])
        answer: Answer = "no" if differences else "yes"
        if not differences:
            return self.verdict(experiments, answer, f"{classes} classes are as expected")
        more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        return self.verdict(experiments, answer, f"Not as expected: {'; '.join(differences[:SHOWN])}{more}")


def unexpected(api: Mapping[str, Any]) -> Iterator[str]:
    """What is missing, or has another type than this project's protocols say."""
    for name, known in api["classes"].items():
        if not known["found"]:
            yield f"no class {name}"
            continue
        for selector, encoding in known["expected"].items():
            found = encoding_of(known, selector)
            if found != encoding:
                yield f"{selector[0]}[{name} {selector[1:]}] is {found or 'missing'}, expected {encoding}"


def encoding_of(known: Mapping[str, Any], selector: str) -> str | None:
    """`selector` with its sign: "+make:", "-run"."""
    methods: Mapping[str, str] = known["class_methods" if selector.startswith("+") else "instance_methods"]
    return methods.get(selector[1:])


def api_of(results: Results) -> Mapping[str, Any] | None:
    """The dump in a file of results of this probe; None where it was not run."""
    for verdict in results.verdicts:
        made = named(verdict.experiments, FRAMEWORK) if verdict.probe == Api.name else None
        if made is not None and made.status == "done":
            api: Mapping[str, Any] = made.observed["api"]
            return api
    return None


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """From one dump to another, such as that of an older system."""
    old, new = before["classes"], after["classes"]
    there = {
        dump: {name for name, known in dump_classes.items() if known["found"]}
        for dump, dump_classes in (("old", old), ("new", new))
    }
    for name in sorted(there["old"] - there["new"]):
        yield f"class {name} is gone"
    for name in sorted(there["new"] - there["old"]):
        yield f"class {name} is new"
    for name in sorted(there["old"] & there["new"]):
        for sign, kind in (("+", "class_methods"), ("-", "instance_methods")):
            yield from _method_changes(f"{sign}[{name} ", old[name][kind], new[name][kind])


def _method_changes(head: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for selector in sorted(old.keys() | new.keys()):
        before, after = old.get(selector), new.get(selector)
        if before is None:
            yield f"{head}{selector}] is new: {after}"
        elif after is None:
            yield f"{head}{selector}] is gone"
        elif before != after:
            yield f"{head}{selector}] was {before}, is {after}"
