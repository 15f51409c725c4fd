"""The static pipeline on the real device's code, over the fake framework: nothing is kept over many recompilations.

The fake build of the native library takes the place of the ordinary one in processes of their own.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anetrain import events
from tests.ane_abi import ROOT
from tests.restart_children import losses
from tests.runs import check_same, heard, last, run

PRELUDE = """
import sys
from pathlib import Path
import numpy as np
from anetrain import device
from tests.small_models import SPEC, batch, model_of, step
from tests.support import emulator
from tests.test_apple_runtime import FakeLibrary
fake, folder = FakeLibrary(Path(sys.argv[1])), Path(sys.argv[2])
def opened(**options):
    return device.open("ane", temp_dir=folder, live_budget=100, compile_budget=10000, **options)
def directories():
    return len([path for path in folder.iterdir() if path.is_dir()])
def changed(pipeline, factor=1.01):
    for weight in pipeline.weights.values():
        weight *= np.float32(factor)
"""


@pytest.fixture
def command(fake_environment: dict[str, str], tmp_path: Path) -> tuple[list[str], dict[str, str], Path]:
    """To run a script: its beginning, the environment, and where program directories go."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return [sys.executable, "-c"], fake_environment, folder


def start(command: tuple[list[str], dict[str, str], Path], script: str, *arguments: str) -> subprocess.Popen[str]:
    begin, environment, folder = command
    fake = Path(environment["LD_LIBRARY_PATH"]) / "libanetrain.so"
    whole = [*begin, PRELUDE + script, str(fake), str(folder), *arguments]
    return subprocess.Popen(whole, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


def test_two_hundred_recompilations_keep_nothing(command: tuple[list[str], dict[str, str], Path]) -> None:
    script = """
pipeline = model_of(layout="baked", device=opened())
expected = model_of(layout="baked", device=emulator())
seen = set()
for _ in range(25):
    for each in (pipeline, expected):
        changed(each)
        each.stage()
    assert step(pipeline, *batch()) == step(expected, *batch())
    counters = pipeline.device.counters()
    seen.add((counters.live_programs, counters.live_requests, counters.live_surfaces, counters.surface_bytes,
              counters.backend_objects, fake.count("live"), directories()))
assert counters.compiles == 8 + 200, counters
assert len(seen) == 1, seen
print(fake.count("live_models"), directories(), fake.misuse() or "good")
pipeline.unload()
print(directories())
"""
    assert output(start(command, script)) == ["8 8 good", "0"]
    assert list(command[2].iterdir()) == [], "the process has left something"


def test_a_failed_compile_leaves_no_directory(command: tuple[list[str], dict[str, str], Path]) -> None:
    script = """
from anetrain.errors import CompileError
pipeline = model_of(layout="baked", device=opened())
changed(pipeline)
for step_name, tries in (("compile", 1), ("load", 2)):
    fake.fail(step_name, "error", "com.apple.appleneuralengine.compiler", 1, "refused", tries)
    try:
        pipeline.stage()
    except CompileError as error:
        print(error.label, error.text, directories(), fake.count("live_models"))
pipeline.stage()
print(directories(), fake.count("live_models"), fake.misuse() or "good")
"""
    refused = "LlamaBlock forward 0 refused 7 7"
    assert output(start(command, script)) == [refused, refused, "8 8 good"]


def test_what_a_process_killed_in_an_update_left_is_swept(command: tuple[list[str], dict[str, str], Path]) -> None:
    script = """
pipeline = model_of(layout="baked", device=opened())
changed(pipeline)
compile, count = device.Device.compile, iter(range(100))
def waiting(self, text, blobs=None, label=""):
    if next(count) == 5:
        print("ready", flush=True)
        sys.stdin.readline()
        signal.pause()
    return compile(self, text, blobs, label)
import signal
device.Device.compile = waiting
pipeline.stage()
"""
    process = start(command, script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len([path for path in command[2].iterdir() if path.is_dir()]) == 7
    assert output(start(command, "opened(); print(directories())")) == ["0"]


def test_what_the_system_has_compiled_before_is_loaded(command: tuple[list[str], dict[str, str], Path]) -> None:
    """Whoever sweeps program directories meanwhile. The fake keeps nothing beyond its process."""
    temporary = command[2].parent / "temporary"
    temporary.mkdir(mode=0o700)
    command[1]["TEMP"] = str(temporary)
    script = """
fake.set(cache=1)
pipeline = model_of(layout="baked", device=opened())
loss = step(pipeline, *batch())
changed(pipeline, 2.0)
pipeline.stage()
device.open("ane")  # sweeps the folder in which the system keeps its files
changed(pipeline, 0.5)
pipeline.stage()
assert step(pipeline, *batch()) == loss
print(pipeline.compiles, pipeline.cache_loads, fake.count("compile"), fake.count("load"))
"""
    assert output(start(command, script)) == ["16 8 16 24"]
    assert list(temporary.iterdir()) == []


KILLED = """
import os, signal, sys
from anetrain import train
from anetrain.trainer import Trainer
if "ANETRAIN_RESTART" in os.environ:
    Trainer.fit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(train.main())
"""


def test_a_run_with_restarts(command: tuple[list[str], dict[str, str], Path], config: Path) -> None:
    """As on the emulator, bit for bit. What a killed process left is swept by the next one. The model can be used."""
    folder, temporary = config.parent, config.parent / "temporary"
    temporary.mkdir(mode=0o700)
    environment = {**command[1], "TEMP": str(temporary)}

    def started(*arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, *arguments, "--device", "ane"]
        return subprocess.run(whole, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)

    static = [str(config), "--out", str(folder / "run"), "--set", "pipeline.kind=static"]
    killed = started("-c", KILLED, *static, "--set", "device.compile_budget=8")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(temporary.iterdir())) == 4, "programs of the second process"
    result = started("-m", "anetrain.train", *static, "--set", "device.compile_budget=8", "--resume")
    assert (result.returncode, result.stderr) == (0, "")
    assert [event.update for event in heard(folder / "run", events.Restart)] == [2, 4, 6]
    assert list(temporary.iterdir()) == []
    straight = run(config, "straight", "--set", "pipeline.kind=static", "--device", "emulator:exact")
    assert losses(folder / "run") == losses(straight)
    check_same(last(folder / "run"), last(straight))
    written = started("-m", "anetrain.cli", "generate", str(folder / "run"), "--prompt", "once", "--max-new", "3")
    assert written.returncode == 0, written.stderr
