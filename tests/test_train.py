"""`anetrain train`: what it writes and says, exact resume, signals, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import assembly, events, formats
from anetrain.checkpoint import checkpoints, find, load
from anetrain.cli import main as anetrain
from anetrain.config import Config, parse
from anetrain.config import load as load_config
from anetrain.data.shards import ShardWriter
from anetrain.data.tokenizers import builtin_tokenizer
from anetrain.device import Device
from anetrain.efficiency import Totals, report_text
from anetrain.model import PRESETS, Model
from anetrain.optim import AdamW
from anetrain.progress import Progress
from anetrain.train import main
from anetrain.trainer import Trainer
from tests.runs import CONFIG, ROOT, SIZES, Terminal, changed, check_same, heard, last, run
from tests.support import emulator

pytestmark = pytest.mark.usefixtures("no_waiting")


# ---------------------------------------------------------------- a run


def test_a_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run")
    said = capsys.readouterr().out
    assert "device: emulator:m4 (times are of this CPU, not of an ANE)" in said
    assert "update 6/6  loss" in said
    assert "update 4: validation loss" in said
    updates = heard(folder, events.Update)
    assert [event.update for event in updates] == [1, 2, 3, 4, 5, 6]
    assert updates[-1].loss < updates[0].loss - 0.05
    assert [(event.update, event.tokens) for event in heard(folder, events.Validation)] == [
        (2, 199),
        (4, 199),
        (6, 199),
    ]
    assert load_config(folder / "config.yaml") == load_config(config)
    checkpoint = last(folder)
    assert (checkpoint.step, checkpoint.tokenizer, checkpoint.device) == (6, builtin_tokenizer().hash, "emulator")
    assert checkpoint.config == load_config(config).plain()
    assert Path(heard(folder, events.Checkpoint)[-1].path) == checkpoint.path
    assert len(checkpoints(folder)) <= 3


def test_the_report_accounts_for_the_time(config: Path) -> None:
    covered = 0.0
    for attempt in range(5):  # a machine that is busy with other things may take the time between two parts
        report = heard(run(config, f"run{attempt}"), events.Report)[-1].figures
        assert (report["updates"], report["micro_steps"], report["tokens"]) == (6, 12, 6 * 2 * 2 * 32)
        assert "not of an ANE" in report["device"]
        parts = sum(size for name, size in report.items() if name.endswith("_ms"))
        assert parts <= report["ms_per_update"] * 1.0001
        covered = max(covered, parts / report["ms_per_update"])
        if covered >= 0.9:
            break
    assert covered >= 0.9


def test_the_report_is_a_file(config: Path) -> None:
    folder = run(config, "run")
    report = json.loads((folder / "report.json").read_text())
    assert report == heard(folder, events.Report)[-1].figures
    assert (report["updates"], report["processes"]) == (6, 1)
    assert report["device_figures"] == "none: an emulator is not a device"


def test_the_report_is_of_the_whole_run(config: Path) -> None:
    """Not of the last process alone."""
    folder = run(config, "run", "--steps", "2")
    first = json.loads((folder / "report.json").read_text())
    run(config, "run", "--resume")
    report = json.loads((folder / "report.json").read_text())
    assert (report["updates"], report["micro_steps"], report["processes"]) == (6, 12, 2)
    assert report["compiles"] == 2 * first["compiles"] > 0
    assert report["wall_s"] > report["train_s"] > first["train_s"]
    assert report["compile_s"] > first["compile_s"]


def test_a_real_device_has_figures(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says it is real."""
    open_device = assembly.open_device

    def opened(settings: Config) -> Device:
        device = open_device(settings)
        device.facts |= {"kind": "ane", "chip": "Apple M4"}
        return device

    monkeypatch.setattr(assembly, "open_device", opened)
    folder = run(config, "run", *changed("log.telemetry=true"))
    report = json.loads((folder / "report.json").read_text())
    assert report["device"] == "ane (Apple M4)"
    assert report["device_tflops"] > 0.0 < report["device_idle_percent"] < 100.0
    assert report["device_utilisation_percent"] == pytest.approx(100.0 * report["device_tflops"] / 19.0)
    perf = [line for line in _telemetry(folder) if line["type"] == "perf"]
    assert len(perf) == 6
    assert {line["device"] for line in perf} == {"ane"}


@pytest.mark.parametrize("where", ["true", "stdout", "stderr", "path"])
def test_telemetry_goes_where_it_is_wanted(config: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = config.parent / "lines.jsonl"
    folder = run(config, "run", "--steps", "2", *changed(f"log.telemetry={path if where == 'path' else where}"))
    said = capsys.readouterr()
    files = {"true": folder / "telemetry.jsonl", "path": path}
    text = files[where].read_text() if where in files else getattr(said, where[3:])
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line["type"] for line in lines] == ["step", "step", "batch"] * 2
    assert [line["step"] for line in lines if line["type"] == "step"] == [1, 2, 3, 4]
    assert [line["update"] for line in lines if line["type"] == "batch"] == [1, 2]
    assert lines[0]["compiles"] > 0
    assert {line["device"] for line in lines} == {"emulator:m4"}
    assert (said.out + said.err).count('"type"') == (6 if where in ("stdout", "stderr") else 0)
    for name in set(files) - {where}:
        assert not files[name].exists()


def test_the_command_does_the_same(config: Path) -> None:
    assert anetrain(["train", str(config), "--out", str(config.parent / "a")]) == 0
    check_same(last(config.parent / "a"), last(run(config, "b")))
    assert anetrain(["trian"]) == 2
    assert anetrain([]) == 0


def test_a_run_is_not_begun_anew_where_one_is(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run", "--steps", "1")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([str(config), "--out", str(folder)]) == 2
    assert "has a run already (step-00000001): go on with --resume" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: str(path.stem))
def test_every_config_trains(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    weights = load_config(path).model.weights
    if weights is not None:
        shrunk = [*_small_weights(tmp_path / Path(weights).name), "model.seq=32", "train.batch=1"]
    else:
        shrunk = [f"model.{name}={size}" for name, size in SIZES.items() if name != "layers"]
        shrunk += ["model.layers=2", "model.vocab=2048", "data.stories=40", "data.validation_tokens=64"]
    shrunk += ["device.kind=emulator", "device.live_budget=1000000", "device.compile_budget=1000000"]
    assert main([str(path), "--out", str(tmp_path / "run"), "--steps", "2", *changed(*shrunk)]) == 0
    assert last(tmp_path / "run").step == 2


def _small_weights(path: Path) -> list[str]:
    """A model in the place of a published one, of its format, and a folder of data for it."""
    is_file = path.suffix == ".bin"
    spec = replace(PRESETS["tiny-llama" if is_file else "tiny-qwen3"], layers=1, seq=64)
    formats.save(path, "llama2c-v0" if is_file else "huggingface", spec, Model(spec).initial(seed=5))
    data = path.parent / "data"
    data.mkdir()
    for name in ("train", "validation"):
        shard(data / f"{name}.bin", [1, 5, 6, 7] * 100, vocab=spec.vocab)
    return [f"model.weights={path}", f"data.path={data}"]


def test_finetune_configs_take_no_other_data() -> None:
    for path in (ROOT / "configs").glob("finetune-*.yaml"):
        assert load_config(path).data.fallback is None


def test_the_laptop_config_learns_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    budgets = changed("device.live_budget=1000000", "device.compile_budget=1000000")  # this process has many tests
    config = str(ROOT / "configs" / "laptop.yaml")
    assert main([config, "--out", str(folder), "--steps", "12", "--device", "emulator", *budgets]) == 0
    losses = [event.loss for event in heard(folder, events.Update)]
    assert losses[-1] < losses[0] - 0.5


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_resume_is_exact(config: Path, steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    straight = run(config, "straight")
    parts = run(config, "parts", "--steps", str(steps))
    assert last(parts).step == steps
    command = capsys.readouterr().out.strip().splitlines()[-1]
    assert main(shlex.split(command)[3:]) == 0
    check_same(last(parts), last(straight))
    losses = [[event.loss for event in heard(folder, events.Update)] for folder in (straight, parts)]
    assert losses[0] == losses[1]
    validations = [[event.update for event in heard(folder, events.Validation)] for folder in (straight, parts)]
    assert validations[0] == validations[1]


def test_a_finished_run_is_extended(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run")
    assert main([str(config), "--resume", str(folder)]) == 0  # nothing is left to do
    assert last(folder).step == 6
    longer = run(config, "run", "--resume", "--set", "train.updates=8", "--set", "optim.lr=1e-3")
    assert last(longer).step == 8
    said = capsys.readouterr().out
    assert "changed since then: train.updates was 6, is 8" in said
    assert "changed since then: optim.lr was 0.01, is 0.001" in said
    assert main([str(config), "--resume", str(folder), "--steps", "1", "--set", "train.updates=7"]) == 2
    assert "train.updates is 7, and the checkpoint is of update 8" in capsys.readouterr().err


def test_resume_into_another_folder(config: Path) -> None:
    first = run(config, "first", "--steps", "3")
    other = run(config, "other", "--resume", str(first))
    assert (last(first).step, last(other).step) == (3, 6)
    check_same(last(other), last(run(config, "straight")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save(config: Path, number: signal.Signals) -> None:
    longer = changed("train.updates=400", "train.validate_every=200", "log.every=100")
    straight = run(config, "straight", *longer)
    folder = config.parent / "stopped"
    command = [sys.executable, "-m", "anetrain.train", str(config), "--out", str(folder), *longer]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: (folder / "events.jsonl").exists() and '"update"' in (folder / "events.jsonl").read_text())
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    step = last(folder).step
    assert 0 < step < 400
    assert f"stopped by {number.name} after update {step}" in out
    assert main(shlex.split(out.strip().splitlines()[-1])[3:]) == 0
    check_same(last(folder), last(straight))


@pytest.mark.parametrize(
    "change", ["pipeline.kind=static", "pipeline.layout=separate", "pipeline.extras=all", "device.kind=emulator:m1"]
)
def test_a_run_goes_on_in_another_pipeline_and_on_another_device(config: Path, change: str) -> None:
    """Nothing of a checkpoint belongs to how its programs were cut: only the rounding of fp16 tells them apart."""
    straight, folder = run(config, "straight"), run(config, "other", "--steps", "3")
    run(config, "other", "--resume", *changed(change))
    (found, expected) = ([event.loss for event in heard(each, events.Update)] for each in (folder, straight))
    assert found[:3] == expected[:3]
    assert found[3:] == pytest.approx(expected[3:], rel=2e-3)
    assert last(folder).values["data"] == last(straight).values["data"]
    first, second = last(folder).weights, last(straight).weights
    for name in second:
        distance = np.linalg.norm(first[name] - second[name]) / np.linalg.norm(second[name])
        assert distance < 1e-2, name


def test_a_killed_run_goes_on_from_its_last_checkpoint(config: Path) -> None:
    often = changed("train.updates=40", "checkpoint.every=3")
    straight, folder = run(config, "straight", *often), config.parent / "killed"
    command = [sys.executable, "-m", "anetrain.train", str(config), "--out", str(folder), *often]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(lambda: folder.is_dir() and bool(checkpoints(folder)))
    process.kill()
    process.wait()
    check_same(last(run(config, "killed", "--resume", *often)), last(straight))


def test_files_go_on_without_gap_or_double(config: Path) -> None:
    """Of updates that a killed run had made after its last checkpoint, too: they are made again."""
    often = changed("train.updates=7", "checkpoint.every=3", "log.telemetry=true", "train.validate_every=5")
    straight = run(config, "straight", *often)
    killed = run(config, "killed", *often)
    for path in checkpoints(killed)[1:]:
        shutil.rmtree(path)
    at = last(killed).step
    text = (killed / "events.jsonl").read_text()
    (killed / "events.jsonl").write_text(text[: text.index('"end of run"')])  # in the middle of a line
    run(config, "killed", "--resume", *often)
    assert 0 < at < 7
    for kind, number in ((events.Update, "update"), (events.Step, "micro_step"), (events.Validation, "update")):
        found, expected = ([getattr(item, number) for item in heard(folder, kind)] for folder in (killed, straight))
        assert found == expected, kind
    found, expected = (
        [(line["type"], line.get("step"), line.get("loss")) for line in _telemetry(folder)]
        for folder in (killed, straight)
    )
    assert found == expected
    begun = [event.figures["update"] for event in heard(killed, events.Report) if event.title == "begin of run"]
    assert begun == [0, at]


def test_a_run_that_was_killed_before_its_first_checkpoint(config: Path) -> None:
    folder = run(config, "run")
    for path in checkpoints(folder):
        shutil.rmtree(path)
    run(config, "run")
    assert [event.update for event in heard(folder, events.Update)] == [1, 2, 3, 4, 5, 6]


def _telemetry(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "telemetry.jsonl").read_text().splitlines()]


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited for 60 s"
        time.sleep(0.01)


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize("rate", ["1e30", "1e39"])  # weights that are large, weights that are infinite
def test_divergence_is_diagnosed(config: Path, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run", "--steps", "1")
    assert main([str(config), "--resume", str(folder), "--set", f"optim.lr={rate}"]) == 1
    error = capsys.readouterr().err
    assert re.search(r"anetrain train: update \d: .*(Weights are|not finite)", error)
    stopped = heard(folder, events.Report)[-1]  # who watches the file does not take the run for frozen
    assert stopped.title == "stopped"
    assert f"anetrain train: {stopped.figures['error']}" in error
    assert "To go on:" in error
    for path in checkpoints(folder):
        checkpoint = load(path)
        assert all(np.isfinite(checkpoint.weights[name]).all() for name in checkpoint.weights)


def test_a_run_that_has_to_stop_saves(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Baked weights are compiled anew at each update, until the budget of the process is used up."""
    straight = run(config, "straight", *changed("pipeline.kind=static"))
    compiles = emulator().counters().compiles
    folder = config.parent / "stopped"
    few = changed("pipeline.kind=static", f"device.compile_budget={compiles + 20}")
    assert main([str(config), "--out", str(folder), *few]) == 1
    error = capsys.readouterr().err
    assert "compile" in error
    assert f"The last checkpoint is {find(folder)}. To go on:" in error
    assert 0 < last(folder).step < 6
    check_same(last(run(config, "stopped", "--resume", *changed("pipeline.kind=static"))), last(straight))


def shard(path: Path, ids: Any, vocab: int = 2048, tokenizer: str = "") -> Path:
    with ShardWriter(path, vocab=vocab, document_start=1, tokenizer=tokenizer or builtin_tokenizer().hash) as writer:
        writer.add(np.asarray(ids))
    return path


FINETUNE = [*(f"model.{name}=null" for name in (*SIZES, "vocab")), "model.seq=32"]
BAD: dict[str, tuple[list[str], str]] = {  # arguments, and what the sentence says
    "unknown key": (changed("optim.lrr=1"), "did you mean 'lr'"),
    "preset": (changed("model.preset=stories111m"), "did you mean 'stories110m'"),
    "sizes": (changed("model.dim=null"), "also needs dim"),
    "heads": (changed("model.heads=3", "model.kv_heads=2"), "multiple of kv_heads"),
    "vocabulary": (changed("model.vocab=100"), "the builtin stories need 2048"),
    "import without a colon": (changed("model.import=os"), "expected package.module:function"),
    "import of nothing": (changed("model.import=no_such_module:build"), "No module named"),
    "import without the name": (changed("model.import=math:build"), "has no function 'build'"),
    "import of another thing": (changed("model.import=builtins:str"), "returned str; expected a Model"),
    "import that raises": (changed("model.import=math:sqrt"), "model.import: math:sqrt raised TypeError"),
    "loss scale": (changed("precision.loss_scale=1000"), "precision.loss_scale: "),
    "cooldown": (changed("schedule.cooldown=2"), "schedule: cooldown is 2; only kind 'wsd' has one"),
    "telemetry in no folder": (changed("log.telemetry=none/x.jsonl"), "there is no folder none"),
    "telemetry to a folder": (changed("log.telemetry=empty"), "is a folder"),
    "group": (changed("optim.groups=[{patterns: layer.*}]"), "no parameter matches 'layer.*'"),
    "no data": (["--data", "none.bin"], "there is no such file"),
    "short data": (["--data", "short.bin"], "at least 33 are needed"),
    "few stories": (changed("data.stories=20", "model.seq=9000"), "a sequence of 9000 needs 9001"),
    "odd data": (["--data", "odd.bin"], "an odd number"),
    "ids outside": (["--data", "outside.bin"], "2048; expected 0 to 2047"),
    "cut data": (["--data", "cut.bin"], "Was it cut short?"),
    "large vocabulary": (["--data", "large.bin"], "made with a vocabulary of 40000"),
    "empty folder": (["--data", "empty"], "there is no such file"),
    "quotes in the name": (["--data", "it's: [.bin"], "it's: [.bin: there is no such file"),
    "two tokenizers": (["--data", "good.bin", *changed("data.validation=other.bin")], "made with the tokenizer"),
    "no device": (["--device", "gpu"], "gpu"),
    "no profile": (["--device", "emulator:m99"], "m99"),
    "no model file": (changed(*FINETUNE, "model.weights=none.bin"), "does not exist"),
    "bad model file": (changed(*FINETUNE, "model.weights=model.bin"), "model.bin"),
    "zero steps": (["--steps", "0"], "expected at least 1"),
    "many steps": (["--steps", "7"], "the run has 6 of 6 updates left; for more, --set train.updates=7"),
    "nothing to resume": (["--resume", "empty"], "neither a checkpoint.json"),
    "no folder to resume": (["--resume"], "there is no such folder"),
    "folder is a file": (["--out", "file"], "file: "),
}


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with good and bad files, and the one that commands are run in."""
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "short.bin", [1, 2, 3])
    good = shard(tmp_path / "good.bin", [1, 5, 6, 7] * 100)
    shard(tmp_path / "large.bin", [1, 5, 6, 7] * 100, vocab=40_000)
    shard(tmp_path / "other.bin", [1, 5, 6, 7] * 100, tokenizer="ab" * 32)
    (tmp_path / "odd.bin").write_bytes(b"123")
    np.full(400, 2048, np.uint16).tofile(tmp_path / "outside.bin")
    (tmp_path / "cut.bin").write_bytes(good.read_bytes()[:-2])
    (tmp_path / "model.bin").write_bytes(b"\x01\x02\x03\x04" * 20)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, inputs: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = BAD[name]
    before = sorted(inputs.rglob("*"))
    out = [] if "--out" in arguments else ["--out", "run"]
    assert main([str(config), *out, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("anetrain train: ")
    assert expected in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(inputs.rglob("*")) == before


def test_checkpoints_that_do_not_fit(inputs: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run", "--steps", "1")
    cases = {
        "dim of the spec is 16, and 32": changed("model.dim=32"),
        "tokenizer is": ["--data", "other.bin"],
        "does not fit this config: ": changed("data.stories=50"),
        "square.final_norm": changed("optim.kind=sgd"),
    }
    for expected, arguments in cases.items():
        assert main([str(config), "--resume", str(folder), *arguments]) == 2
        assert expected in capsys.readouterr().err
    weights = next(folder.glob("step-*/weights.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main([str(config), "--resume", str(folder)]) == 2
    assert "weights.safetensors" in capsys.readouterr().err


# ---------------------------------------------------------------- what the config says is what is made


def made(*changes: str) -> Trainer:
    config = parse(CONFIG, changes)
    return assembly.make_trainer(config, assembly.find_model(config), assembly.open_device(config))


def test_settings_arrive() -> None:
    trainer = made(
        "optim.clip=0.25", "optim.weight_decay=0.75", "optim.eps=1e-4", "optim.betas=[0.5, 0.75]", "schedule.warmup=4",
        "optim.groups=[{patterns: '*wq', lr_factor: 0.5}]", "precision.loss_scale=1024", "precision.growth_interval=7",
        "train.accumulation=5", "device.executor=reference",
    )  # fmt: skip
    optimizer = trainer.optimizer
    assert isinstance(optimizer, AdamW)
    assert (optimizer.clip, optimizer.eps, optimizer.betas) == (0.25, 1e-4, (0.5, 0.75))
    assert optimizer.settings["layers.0.ffn.w1"].decay == 0.75
    assert optimizer.settings["layers.0.attention.wq"].lr_factor == 0.5
    assert (trainer.scaler.scale, trainer.scaler.growth_interval, trainer.accumulation) == (1024.0, 7, 5)
    assert [trainer.schedule(update) for update in (0, 3)] == [0.0025, 0.01]
    assert trainer.schedule(6) == pytest.approx(0.001)
    assert trainer.pipeline.device.facts["executor"] == "reference"


def test_seed_precision_and_extras_arrive() -> None:
    plain = made()
    assert not np.array_equal(made("train.seed=1").pipeline.weights["embedding"], plain.pipeline.weights["embedding"])
    ids = np.arange(64).reshape(2, 32)

    def loss(trainer: Trainer) -> float:
        return trainer.pipeline.evaluate(ids, ids).mean

    exact = made("precision.arithmetic=fp32", "device.kind=emulator:exact")
    found = {loss(plain), loss(exact), loss(made("pipeline.extras=all"))}
    assert len(found) == 3
    assert max(found) - min(found) < 0.01


# ---------------------------------------------------------------- data and weights


def test_data_of_a_folder(inputs: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (inputs / "tokens").mkdir()
    shard(inputs / "tokens" / "train.bin", [1, 5, 6, 7] * 100)
    run(config, "alone", "--steps", "1", "--data", "tokens/train.bin")
    assert "396 tokens; validation: 4 tokens" in capsys.readouterr().out
    shard(inputs / "tokens" / "validation.bin", [1, 5] * 20)
    run(config, "both", "--steps", "1", "--data", "tokens")
    assert "400 tokens; validation: 40 tokens" in capsys.readouterr().out


def test_a_fallback_is_said_loudly(inputs: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, "run", "--steps", "1", *changed("data.path=tokens", "data.fallback=builtin"))
    assert "WARNING: there is no tokens: training on the builtin stories instead" in capsys.readouterr().out
    config.write_text(CONFIG.replace("builtin", "none.bin, fallback: builtin"))
    run(config, "as the file says", "--steps", "1")
    assert main([str(config), "--out", "other", "--data", "tokens"]) == 2  # who names data wants these


def test_finetuning(inputs: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = replace(PRESETS["tiny-llama"], vocab=2048, layers=1, seq=64)
    weights = Model(spec).initial(seed=5)
    formats.save(inputs / "tiny.bin", "llama2c-v1", spec, weights)
    still = [*changed(*FINETUNE, "model.weights=tiny.bin", "optim.lr=1e-12"), "--steps", "1"]
    folder = run(config, "run", *still)
    checkpoint = last(folder)
    assert (checkpoint.spec.dim, checkpoint.spec.seq, checkpoint.spec.batch) == (64, 32, 2)
    for name, array in weights.items():
        np.testing.assert_allclose(checkpoint.weights[name], array, atol=1e-9)
    again = run(config, "again", *changed(*FINETUNE, f"model.weights={folder}"), "--steps", "2")
    assert last(again).step == 2
    assert main([str(config), "--out", "x", "--data", "other.bin", *changed(*FINETUNE, f"model.weights={folder}")]) == 2
    assert "ids mean other words" in capsys.readouterr().err


# ---------------------------------------------------------------- what is shown


def update(number: int, **changes: Any) -> events.Update:
    fields: dict[str, Any] = {"update": number, "loss": 2.5, "lr": 1e-3, "norm": 1.0, "clipped": False}
    fields |= {"micro_steps": 2, "tokens": 64, "loss_scale": 1.0, "seconds": 0.5, "parts": {"update": 0.4, "data": 0.1}}
    return events.Update(**fields | changes)


def test_a_bar_on_a_terminal() -> None:
    terminal = Terminal()
    progress = Progress(terminal, first=3, last=5, every=1)  # type: ignore[arg-type]
    progress(update(4))
    progress(events.Validation(4, 2.25, 64, 0.1, True))
    progress(update(5))
    progress.close()
    assert re.search(r"5/5 .*loss=2.500, lr=1.00e-03, tok_s=", terminal.text)
    assert "update 4: validation loss 2.2500, the best so far\n" in terminal.text


def test_totals() -> None:
    times = iter([10.0, 14.0])
    totals = Totals(lambda: next(times))
    totals(update(1))
    totals(update(2, seconds=1.5, parts={"update": 1.0, "data": 0.5}))
    totals(events.Overflow(2, "x", 1, 1.0, 0.5))
    totals(events.Step(1, 2.0, 32, 0.1))
    report = totals.report({"kind": "ane", "chip": "M4"}, None)
    figures = report.figures
    assert figures["device"] == "ane (M4)"
    assert (figures["wall_s"], figures["tokens_per_s"], figures["ms_per_update"]) == (4.0, 64.0, 1000.0)
    assert (figures["update_ms"], figures["data_ms"], figures["dropped_groups"]) == (700.0, 300.0, 1)
    assert "1000.0 ms per update: update 700.0, data 300.0" in report_text(report)
