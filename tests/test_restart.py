"""A run that is restarted is the run that is not, bit for bit, however it was started, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anetrain import events
from anetrain.checkpoint import Checkpoint, checkpoints, find, load
from anetrain.restart import VARIABLE, Handover, RestartError, Restarts, Signals, command_line, taken
from anetrain.train import main
from tests.restart_children import losses, state
from tests.support import need

ROOT = Path(__file__).parent.parent
CONFIG = """
model: {dim: 16, hidden: 24, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, seq: 32, vocab: 2048}
data: {path: builtin, stories: 20, validation_tokens: 200}
train: {updates: 4, batch: 2, accumulation: 2, validate_every: 3}
optim: {lr: 1e-2}
schedule: {warmup: 2}
pipeline: {kind: static}
device: {kind: emulator, live_budget: 1000000, compile_budget: 1000000}
checkpoint: {every: 100, keep: 2}
log: {every: 2}
"""
BUDGET = ["--set", "device.compile_budget=8"]  # 4 compiles make the pipeline, and 4 an update
LONGER = [
    "--set",
    "train.updates=24",
    "--set",
    "train.validate_every=5",
    "--steps",
    "20",
    "--set",
    "log.telemetry=true",
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def straight(config: Path, *arguments: str) -> Path:
    """The folder of a run without a restart, in this process."""
    folder = config.parent / "straight"
    assert main([str(config), "--out", str(folder), *arguments]) == 0
    return folder


def started(command: list[str], folder: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, **options)


def python(config: Path, *arguments: str, program: tuple[str, ...] = ("-m", "anetrain.train")) -> list[str]:
    return [sys.executable, *program, str(config), "--out", str(config.parent / "run"), *BUDGET, *arguments]


def heard(folder: Path, kind: type[events.Event]) -> list[Any]:
    return [event for _, event in events.read_json_lines(folder / "events.jsonl") if isinstance(event, kind)]


def steps(folder: Path) -> list[int]:
    return [load(path).step for path in checkpoints(folder)]


def last(folder: Path) -> Checkpoint:
    return load(find(folder))


# ---------------------------------------------------------------- the same run


def test_twenty_updates_with_a_restart_every_two(config: Path) -> None:
    expected = straight(config, *LONGER)
    result = started(python(config, *LONGER), stdin=subprocess.DEVNULL)
    assert (result.returncode, result.stderr) == (0, "")
    folder = config.parent / "run"
    assert losses(folder) == losses(expected)
    assert state(folder) == state(expected)
    assert steps(folder) == steps(expected)  # what restarts saved is gone
    with_times = ("seconds", "parts")
    updates = [
        [
            {name: value for name, value in vars(event).items() if name not in with_times}
            for event in heard(path, events.Update)
        ]
        for path in (folder, expected)
    ]
    assert updates[0] == updates[1]
    assert telemetry(folder) == telemetry(expected)
    assert [event.update for event in heard(folder, events.Restart)] == list(range(2, 21, 2))
    assert [event.update for event in heard(folder, events.Restarted)] == list(range(2, 21, 2))
    check_report(folder, processes=11)
    check_text(result.stdout)


def telemetry(folder: Path) -> list[tuple[Any, ...]]:
    """Without times."""
    lines = map(json.loads, (folder / "telemetry.jsonl").read_text().splitlines())
    found = [(line["type"], line.get("step"), line.get("loss")) for line in lines]
    assert [step for kind, step, _ in found if kind == "step"] == list(range(1, 41))
    return found


def check_report(folder: Path, processes: int) -> None:
    """The one at the end is of all processes."""
    found, reports = json.loads((folder / "report.json").read_text()), heard(folder, events.Report)
    assert [report.title for report in reports] == ["begin of run", "end of run"]
    assert (found["processes"], found["updates"], found["micro_steps"]) == (processes, 20, 40)
    assert found["compiles"] == 4 * (20 + 1)
    times = [seconds for seconds, _ in events.read_json_lines(folder / "events.jsonl")]
    assert found["wall_s"] >= times[-1] - times[0]
    saved = sum(event.seconds for event in heard(folder, events.Checkpoint))
    assert found["checkpoint_s"] == pytest.approx(saved)


def check_text(out: str) -> None:
    """As from one process: one begin, one end, and lines where they are due."""
    assert [out.count(text) for text in ("device: emulator", "model: ", "data: ", "folder: ")] == [2, 1, 1, 1]
    assert "resumed" not in out
    assert out.count("an update takes 4 compiles, and a process has 8: after 2 updates the run saves, and goes on") == 1
    assert re.findall(r"^update (\d+)/20  loss", out, re.MULTILINE) == ["1", *map(str, range(2, 21, 2))]
    assert re.findall(r"^update (\d+): validation", out, re.MULTILINE) == ["5", "10", "15", "20"]
    assert out.count("stopped after update 20. To go on:") == 1


def test_restarts_can_be_turned_off(config: Path, tmp_path: Path) -> None:
    found = children("off", config, tmp_path)
    assert (found["codes"], found["step"]) == ([1], 2)
    assert "the new weights take 4 compiles, and this process has 0 left of 8" in found["err"]
    assert "The last checkpoint is" in found["err"]


def children(name: str, config: Path, folder: Path) -> Any:
    result = started([sys.executable, "-m", "tests.restart_children", name, str(config), str(folder)])
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# ---------------------------------------------------------------- how it was started


def script(folder: Path) -> Path:
    """As pip installs the command."""
    folder.mkdir()
    path = folder / "anetrain"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom anetrain.cli import main\nsys.exit(main())\n")
    path.chmod(0o755)
    return folder


STARTS: dict[str, Callable[[Path], list[str]]] = {
    "module with options of the interpreter": lambda _: [
        sys.executable,
        "-X",
        "utf8",
        "-W",
        "error",
        "-m",
        "anetrain.train",
    ],
    "python through PATH": lambda _: [Path(sys.executable).name, "-m", "anetrain.cli", "train"],
    "file": lambda _: [sys.executable, str(ROOT / "anetrain" / "train.py")],
    "console script through PATH": lambda _: ["anetrain", "train"],
    "console script by a relative path": lambda _: ["bin/anetrain", "train"],
}


@pytest.mark.parametrize("name", STARTS)
def test_starts(name: str, config: Path, tmp_path: Path) -> None:
    """In another folder, with relative paths and an environment of its own."""
    paths = [str(script(tmp_path / "bin")), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT)}
    # a shell, since subprocess would look for the program in the PATH of this process
    given = ["small.yaml", "--out", "run", *BUDGET, "--set", "train.updates=3"]
    command = ["sh", "-c", 'exec "$@"', "sh", *STARTS[name](tmp_path), *given]
    result = started(command, tmp_path, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert [event.update for event in heard(tmp_path / "run", events.Restart)] == [2]
    assert last(tmp_path / "run").step == 3


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&- >/dev/null"])
def test_closed_streams(closed: str, config: Path, tmp_path: Path) -> None:
    """As a daemon begins a run. No file of the run takes their place."""
    result = started(["sh", "-c", f'exec "$@" {closed}', "sh", *python(config)])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [event.update for event in heard(tmp_path / "run", events.Restart)] == [2, 4]
    assert last(tmp_path / "run").step == 4


def test_who_reads_may_leave(config: Path, tmp_path: Path) -> None:
    """`anetrain train ... | head`, before the first update or later."""
    process = subprocess.Popen(
        python(config, "--set", "log.every=1"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    assert [event.update for event in heard(tmp_path / "run", events.Restart)] == [2, 4]
    assert last(tmp_path / "run").step == 4


HOOKED = """
import os, sys
with open({log!r}, "a") as file:
    found = sorted(set(os.listdir("/proc/self/fd")) - {{str(file.fileno())}}, key=int)
    print(os.getpid(), os.getcwd(), len(found), "ANETRAIN_RESTART" in os.environ, *sys.argv[1:], file=file)
from anetrain import assembly
from anetrain.train import main
find = assembly.find_model
def moving(*arguments):
    os.chdir("/")
    return find(*arguments)
assembly.find_model = moving
sys.exit(main())
"""


def test_one_process_to_whoever_looks(config: Path, tmp_path: Path) -> None:
    """Its id and folder stay, even where a user's model goes to another; no file stays open, and the command does
    not grow."""
    need(Path("/proc/self/fd").is_dir(), "a system that lists open files in /proc/self/fd")
    program = ("-c", HOOKED.format(log=str(tmp_path / "log")))
    result = started(python(config, "--set", "train.updates=6", program=program))
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 4
    assert all(line[:3] == lines[0][:3] for line in lines)
    assert [line[3] for line in lines] == ["False", "True", "True", "True"]
    assert all(line[4:] == [*lines[0][4:], f"--resume={tmp_path / 'run'}"] for line in lines[1:])


def test_a_bar_goes_on(config: Path, tmp_path: Path) -> None:
    main_end, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    command = python(config, "--set", "train.updates=6")
    process = subprocess.Popen(command, cwd=ROOT, stdin=child_end, stdout=child_end, stderr=child_end)
    os.close(child_end)
    shown = b""
    while True:
        try:
            read = os.read(main_end, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(main_end)
    assert process.wait() == 0, shown
    text = shown.decode().replace("\r\n", "\n")
    numbers = [int(number) for number in re.findall(r"\| (\d)/6 \[", text)]
    assert numbers == sorted(numbers)
    assert {2, 4, 6} <= set(numbers)  # where processes end, and at the end
    seconds = [int(found) for found in re.findall(r"/6 \[00:(\d\d)<", text)]
    assert seconds == sorted(seconds)
    ended = [line for line in text.split("\n") if re.search(r"\d/6 \[[^\r]*$", line)]
    assert len(ended) == 1, text  # a bar that is left behind
    assert text.count("model: ") == 1
    assert text.count("update 6: validation loss") == 1


# ---------------------------------------------------------------- what happens meanwhile


def test_killed_while_it_restarts(config: Path, tmp_path: Path) -> None:
    """A plain --resume goes on."""
    found = children("kill", config, tmp_path)["killed"]
    assert found[0] >= 6
    assert found[1] >= 3


def test_any_compile_may_fail_once(config: Path, tmp_path: Path) -> None:
    found = children("faults", config, tmp_path)
    assert len(found) == 8
    for name, (processes, off, same) in found.items():
        assert (off, same) == (0.0, True), name
        assert processes in (3, 4), name


def test_a_restart_never_steps_down_the_ladder(config: Path, tmp_path: Path) -> None:
    """The compile is tried again in one more process."""
    found = children("smaller", config, tmp_path)
    assert found["codes"] == [0, 0, 0, 0]
    assert "; a new process goes on (try 2 of 3)" in found["err"]
    assert (found["rungs"], found["same"]) == ({"layers.0": "fused"}, True)


def test_what_always_fails_ends(config: Path, tmp_path: Path) -> None:
    found = children("refused", config, tmp_path)
    assert found["codes"] == [0, 0, 0, 1]
    assert found["err"][1].count("a new process goes on (try 2 of 3)") == 1
    end = found["err"][-1]
    assert "This process was to go on after update 1: ffn: this program is too beautiful" in end
    assert "The last checkpoint is" in end
    assert found["step"] == 1


def test_no_process_comes_further(config: Path, tmp_path: Path) -> None:
    found = children("stuck", config, tmp_path)
    assert (found["codes"], found["step"]) == ([0, 0, 0, 1], 0)
    assert "3 new processes have not come further" in found["err"]
    assert "The last checkpoint is" in found["err"]


SIGNALLED = """
import os, signal, sys, threading
number, where, restarted = signal.{number}, {where!r}, {variable!r} in os.environ
def send():
    signal.pthread_kill(threading.main_thread().ident, number)
if restarted and where == "import":
    send()
from anetrain import assembly, restart, train
if restarted and where == "build":
    make = assembly.make_trainer
    def make_trainer(*arguments, **options):
        send()
        return make(*arguments, **options)
    assembly.make_trainer = make_trainer
execve, go_on = os.execve, restart.Restarts.go_on
def signalled_execve(*arguments):
    if where == "exec" and not restarted:
        send()
    execve(*arguments)
def signalled_go_on(*arguments):
    if where == "close" and not restarted:
        send()
    go_on(*arguments)
os.execve, restart.Restarts.go_on = signalled_execve, signalled_go_on
sys.exit(train.main())
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [("close", "SIGINT"), ("exec", "SIGTERM"), ("import", "SIGINT"), ("build", "SIGTERM")],
)
def test_signals_are_not_lost(where: str, number: str, config: Path, tmp_path: Path) -> None:
    program = ("-c", SIGNALLED.format(number=number, where=where, variable=VARIABLE))
    result = started(python(config, program=program))
    assert (result.returncode, result.stderr) == (0, "")
    assert f"stopped by {number}" in result.stdout
    assert last(tmp_path / "run").step == 2
    assert main([str(config), "--resume", str(tmp_path / "run")]) == 0
    expected = straight(config)
    assert losses(tmp_path / "run") == losses(expected)
    assert state(tmp_path / "run") == state(expected)


def test_a_signal_from_outside(config: Path, tmp_path: Path) -> None:
    """Whatever thread it reaches, and whenever: the run ends, and all is saved."""
    for delay in (0.01, 0.3):
        process = subprocess.Popen(
            python(config, "--set", "train.updates=400"), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        journal = tmp_path / "run" / "events.jsonl"
        while not (journal.exists() and '"restart"' in journal.read_text()):
            assert process.poll() is None
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM)
        assert last(tmp_path / "run").step >= 2
        shutil.rmtree(tmp_path / "run")


def test_the_interpreter_is_gone(config: Path, tmp_path: Path) -> None:
    """What exec says is said, and the run is saved."""
    program = (
        "-c",
        "import sys; from anetrain.train import main; sys.executable = '/nowhere/python'; sys.exit(main())",
    )
    result = started(python(config, program=program))
    assert result.returncode == 1
    assert "anetrain train: /nowhere/python could not be started again: " in result.stderr
    assert "The last checkpoint is" in result.stderr
    assert last(tmp_path / "run").step == 2


# ---------------------------------------------------------------- parts

FORMS: dict[str, tuple[list[str], list[str], list[str]]] = {  # before the arguments, the arguments, those of the next
    "module": (["-m", "anetrain.train"], ["a.yaml"], ["a.yaml", "--resume=run"]),
    "flags": (["-X", "dev", "-m", "anetrain.train"], ["a.yaml"], ["a.yaml", "--resume=run"]),
    "console script": (
        ["/bin/anetrain", "train"],
        ["a.yaml", "--steps", "3"],
        ["a.yaml", "--steps", "3", "--resume=run"],
    ),
    "resumed before": (["-m", "x"], ["a.yaml", "--resume=run", "--set", "b"], ["a.yaml", "--set", "b", "--resume=run"]),
    "resumed from elsewhere": (["-m", "x"], ["a.yaml", "--resume", "b"], ["a.yaml", "--resume", "b", "--resume=run"]),
    "end of options": (["-m", "x"], ["--out", "b", "--", "-a.yaml"], ["--out", "b", "--resume=run", "--", "-a.yaml"]),
}


@pytest.mark.parametrize("name", FORMS)
def test_command_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, given, expected = FORMS[name]
    monkeypatch.setattr(sys, "orig_argv", ["python3", *head, *given])
    assert command_line(given, Path("run")) == [sys.executable, *head, *expected]


@pytest.mark.parametrize(
    ("whole", "given"),
    [
        (["python", "-m", "pytest", "tests"], ["a.yaml"]),
        (["python", "-", "a.yaml"], ["a.yaml"]),
        (["python"], ["a.yaml"]),
    ],
)
def test_a_program_that_calls_main_is_not_replaced(
    whole: list[str], given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", whole)
    with pytest.raises(RestartError, match="cannot be started in the same way"):
        command_line(given, Path("run"))
    assert "cannot be started" in str(Restarts(given, {}).refusal())


def test_a_handover_is_taken_once() -> None:
    handover = Handover(20, 4, "why", 1, 12.5, {"counts": {"updates": 4}}, {"first": 0})
    environment = {VARIABLE: handover.text(), "HOME": "/"}
    assert taken(environment) == handover
    assert environment == {"HOME": "/"}
    assert taken(environment) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"target": 1}'])
def test_a_handover_of_others_is_refused(text: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert main([str(config), "--out", str(config.parent / "run")]) == 1
    assert f"the environment has {VARIABLE}=" in capsys.readouterr().err


def test_held_signals_wait() -> None:
    with Signals() as signals:
        signals.listen()
        with signals.held():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            assert signals.number is None
        assert signals.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
