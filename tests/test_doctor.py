"""The doctor: on a sound device all is well, what is broken is found and named, and the file can be read again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import device, raw, results
from anetrain.cli import main as anetrain
from anetrain.doctor import advice, all_questions, checks, examine
from anetrain.doctor.questions import Question
from anetrain.isolate import Inline, Outcome, Runner
from anetrain.mil import Graph
from anetrain.results import Device, Health, Machine, Results

pytestmark = pytest.mark.usefixtures("without_budgets")


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """All questions, about models that take no time."""
    monkeypatch.setattr("anetrain.doctor.questions.MODELS", ("tiny-llama", "tiny-qwen3"))
    monkeypatch.setattr("anetrain.doctor.questions.SMALL_MODEL", "tiny-llama")
    monkeypatch.setattr("anetrain.doctor.questions.LEAK_ROUNDS", 3)


def look(kind: str = "emulator:m4", runner: Runner | None = None) -> tuple[Results, list[Results]]:
    kept: list[Results] = []
    return examine({"kind": kind}, runner or Inline(), command="anetrain doctor", keep=kept.append), kept


def by_name(found: Results) -> dict[str, Health]:
    return {health.name: health for health in found.health}


@pytest.mark.parametrize("profile", device.profiles())
def test_nothing_is_wrong_with_an_emulator(profile: str) -> None:
    found, kept = look(f"emulator:{profile}")
    states = {name: health.status for name, health in by_name(found).items()}
    assert states.pop("environment") == "warning"  # no real ANE
    assert states.pop("framework") == "skipped"
    assert set(states.values()) == {"ok"}, {name: health.sentence for name, health in by_name(found).items()}
    assert [len(each.health) for each in kept] == list(range(1, len(all_questions()) + 1))
    assert [each.complete for each in kept] == [False] * (len(kept) - 1) + [True]
    assert found.device.label.startswith(f"emulated ANE (emulator:{profile})")


def test_wrong_values_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that swaps two rows of each output."""
    honest = checks._once

    def swapped(opened: device.Device, *arguments: Any) -> dict[str, Any]:
        outputs = honest(opened, *arguments)
        if opened.facts["profile"] == "m4":
            outputs = {name: values[:, [1, 0, *range(2, values.shape[1])]] for name, values in outputs.items()}
        return outputs

    monkeypatch.setattr(checks, "_once", swapped)
    found = by_name(look()[0])
    ill = {name for name, health in found.items() if health.status == "failed"}
    assert ill == {name for name in found if name.startswith(("programs", "layout", "extras"))}
    assert "LlamaBlock: forward 0 (off by" in found["programs of tiny-llama"].sentence


def test_values_that_are_not_finite_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = checks._once

    def overflowing(opened: device.Device, *arguments: Any) -> dict[str, Any]:
        outputs = honest(opened, *arguments)
        if opened.facts["profile"] == "m4":
            next(iter(outputs.values()))[0, 0, 0, 0] = np.inf
        return outputs

    monkeypatch.setattr(checks, "_once", overflowing)
    assert "(not finite)" in by_name(look()[0])["layout packed"].sentence


def test_a_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[device.Program] = []
    honest = device.Device.compile

    def leaking(self: device.Device, *arguments: Any, **options: Any) -> device.Program:
        if options.get("label") == "leaks":
            kept.append(honest(self, *arguments, **options))
        return honest(self, *arguments, **options)

    monkeypatch.setattr(device.Device, "compile", leaking)
    sentence = by_name(look()[0])["leaks"].sentence
    assert sentence.startswith("after 3 programs there are left: 3 live programs, ")


def test_folders_that_stay_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks.tempfile, "gettempdir", lambda: str(tmp_path))
    name = "_".join(["0" * 64] * 3)
    (tmp_path / "another").mkdir()
    assert checks._folders(tmp_path) == set()
    (tmp_path / name).mkdir()
    assert checks._folders(tmp_path) == {name}


class Dying:
    """All but the first question end in a crash, a hang or a refusal."""

    def __init__(self) -> None:
        self.ends = iter(("crashed", "timed out", "refused", "failed") * 10)
        self.renewed = 0

    def renew(self) -> None:
        self.renewed += 1

    def run(self, function: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        if function.endswith(":environment"):
            return Inline().run(function, arguments, timeout_s=timeout_s)
        return Outcome(next(self.ends), reason="for a test", seconds=1.0)  # type: ignore[arg-type]


def test_whatever_happens_is_an_answer() -> None:
    runner = Dying()
    found = by_name(look(runner=runner)[0])
    assert found["self-test"].sentence == "crashed: for a test"
    assert found["programs of tiny-llama"].status == "failed"
    assert (found["layout stacked"].status, found["layout packed"].status) == ("failed", "warning")  # one is enough
    assert found["extras"].status == "warning"
    assert runner.renewed == len(all_questions()) - 2  # but for the first, and the one that was skipped


def test_a_mistake_names_no_folder_of_this_machine() -> None:
    outcome = Outcome("failed", reason=f"OSError: {Path.home()}/secret: no such file")
    assert question("self-test").health(outcome).sentence == "failed: OSError: ~/secret: no such file"


def question(name: str) -> Question:
    (found,) = (each for each in all_questions() if each.name == name)
    return found


def test_a_framework_that_changed_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    api = {
        "framework": "somewhere",
        "version": "9",
        "classes": {
            "_ANERequest": {
                "found": True,
                "class_methods": {"make:": "@@:@"},
                "instance_methods": {"validate": "B@:"},
                "expected": {"+make:": "@@:@", "-validate": "c@:", "-gone": "v@:"},
            },
            "_ANEModel": {"found": False, "class_methods": {}, "instance_methods": {}, "expected": {"+new": "@@:"}},
        },
        "other_classes": [],
    }
    monkeypatch.setattr(raw, "api", lambda opened: api)
    seen = checks.framework(device={"kind": "emulator"})
    assert seen["differences"] == [
        "-[_ANERequest validate] is B@:, expected c@:",
        "-[_ANERequest gone] is missing, expected v@:",
        "no class _ANEModel",
    ]
    status, sentence = question("framework").judge(seen)
    assert (status, sentence.split(":")[0]) == ("warning", "3 things are other than expected")
    whole = {**seen, "differences": []}
    assert question("framework").judge(whole)[0] == "ok"


def test_the_emulators_framework_is_as_expected() -> None:
    assert question("framework").judge(checks.framework(device={"kind": "emulator"}))[0] == "ok"


@pytest.mark.parametrize(("error", "status"), [(0.0003, "ok"), (0.2, "failed"), (None, "failed")])
def test_a_self_test_is_judged(error: float | None, status: str) -> None:
    seen = {"largest_error": error, "compile_ms": 1.0, "ports_verified": None}
    assert question("self-test").judge(seen)[0] == status


def test_a_self_test_that_computes_something_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "conv", lambda self, x, weight: self.slice_by_size(x, (0, 0, 0, 0), (1, 32, 1, 128)))
    seen = checks.self_test(device={"kind": "emulator"})
    assert question("self-test").judge(seen)[0] == "failed"


# ---------------------------------------------------------------- advice


def told(machine: dict[str, Any] | None = None, **chip: Any) -> str:
    mac = {
        "cpus": 8,
        "memory_bytes": 64 * 10**9,
        "system": "macOS 15.5",
        "kernel": "Darwin 24",
        "architecture": "arm64",
    }
    known = Machine(**(mac | (machine or {})))
    return "\n".join(advice(known, Device(**({"kind": "ane", "name": "ane"} | chip))))


def test_advice_is_of_the_chip_and_the_system() -> None:
    assert told(sub_type="h16") == ""
    assert "4094" in told(sub_type="h13")
    assert "512 channels" in told(sub_type="h15")
    assert "2 engines" in told(sub_type="h16", engines=2)
    assert "older than macOS 15" in told({"system": "macOS 14.7"})
    assert "27.0.1" in told({"system": "macOS 27.0"})
    assert "Intel" in told({"architecture": "x86_64"}, kind="emulator", name="emulator:m4")
    assert "was not used" in told(kind="emulator", name="emulator:m4")
    assert told({"system": "Linux"}, kind="emulator", name="emulator:m4").startswith("Linux has no Neural Engine")
    assert "8 GB of memory are not enough for qwen3-0.6b (14 GB)" in told({"memory_bytes": 8 * 10**9})


def test_an_intel_python_on_an_apple_chip_is_told() -> None:
    seen = {"translated": True, "real_ane": {"usable": False, "why": "-"}}
    assert question("environment").judge(seen)[0] == "failed"
    (sentence, *_) = advice(
        Machine(cpus=8, memory_bytes=64 * 10**9, system="macOS 15.5", kernel="Darwin 24", architecture="x86_64"),
        Device(kind="emulator", name="emulator:m4"),
        translated=True,
    )
    assert "Rosetta" in sentence


# ---------------------------------------------------------------- the command


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Here(Inline):
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

    monkeypatch.setattr("anetrain.commands.doctor.Worker", Here)


@pytest.mark.usefixtures("inline")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "doctor.json"
    assert anetrain(["doctor", "--device", "emulator:m1", "--out", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "emulated ANE (emulator:m1): times are of this machine's CPU, not of an ANE"
    assert lines[2].startswith("WARN  environment")
    assert any(line.startswith("9 well, 1 to look at, 0 failed, 1 skipped") for line in lines)
    found = results.read(path)
    assert (found.complete, found.device.name, len(found.health)) == (True, "emulator:m1", len(all_questions()))
    assert anetrain(["doctor", "--out", str(path)]) == 2
    assert "is there already (--force writes over it)" in capsys.readouterr().err
    assert anetrain(["doctor", "--device", "emulator:m4", "--out", str(path), "--force"]) == 0
    assert results.read(path).device.name == "emulator:m4"


@pytest.mark.usefixtures("inline")
def test_a_failure_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.doctor.questions.SELF_TEST_ERROR", 0.0)
    assert anetrain(["doctor", "--device", "emulator", "--out", str(tmp_path / "doctor.json")]) == 1


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("kind", ["ane", "emulator:m9", "toaster"])
def test_without_a_device_there_is_a_sentence(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "doctor.json"
    assert anetrain(["doctor", "--device", kind, "--out", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("anetrain doctor: the device does not open: ")
    assert told.count("\n") == 1
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_found(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    command = [sys.executable, "-m", "anetrain.cli", "doctor", "--device", "emulator", "--out", str(path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert f"interrupted; {path} holds what was found by then" in err
    found = json.loads(path.read_text())
    assert not found["complete"]
    assert found["health"][0]["name"] == "environment"


def test_who_reads_the_output_may_have_seen_enough(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "anetrain.cli",
        "doctor",
        "--device",
        "emulator",
        "--out",
        str(tmp_path / "a.json"),
    ]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline().startswith("emulated ANE")
    running.stdout.close()
    assert (running.wait(timeout=60), running.stderr.read()) == (0, "")
    running.stderr.close()


def test_nothing_private_is_in_the_file() -> None:
    text = results.text_of(look()[0])
    for private in (os.uname().nodename, str(Path.home()), str(Path.cwd())):
        if len(private) > 3:
            assert private not in text
