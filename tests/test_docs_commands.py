"""Every command of README.md, CONTRIBUTING.md and docs/ runs, or is named here with the reason why not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anetrain.cli import COMMANDS
from anetrain.cli import main as anetrain
from anetrain.data.tokenizers import builtin_tokenizer, scored
from tests import report_files, test_convert_command, test_data_commands
from tests.runs import CONFIG, ROOT, SIZES, changed, run
from tests.test_generate_command import hugging_face

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

# Not run here: the command, and why.
NOT_RUN = {
    'python3 -m venv "${VENV:=.venv}" && "$VENV/bin/pip" install -e ".[test]" && "$VENV/bin/python" -m pytest': (
        "the set-up with the tests: .ci/run runs it as it stands"
    ),
    'python3 -m venv "${VENV:=.venv}" && "$VENV/bin/pip" install -e . && '
    '"$VENV/bin/python" -m anetrain.train configs/stories110m.yaml --steps 20': (
        "the set-up that trains: .ci/run runs it, two updates of it"
    ),
    'python3 -m venv .venv && .venv/bin/pip install -e ".[test,lint,oracle]"': "the set-up of a developer, by network",
}

# Pages whose commands another test runs as they stand, with what they print.
RUN_ELSEWHERE = {
    "docs/data.md": test_data_commands.test_the_commands_of_the_page,
    "docs/interop.md": test_convert_command.test_the_commands_of_the_page,
}

# What makes a run small, whatever its config says. --steps: of two, the last counts.
FEW = ["--steps", "1"]
SMALL = changed(
    *(f"model.{name}={size}" for name, size in SIZES.items()),
    *("data.stories=40", "data.validation_tokens=200", "train.batch=2", "train.accumulation=1"),
    *("device.live_budget=1000000", "device.compile_budget=1000000"),
)


def commands(page: str) -> list[str]:
    """Of all its blocks, without comments."""
    lines = [line for block in BLOCK.findall(TEXT[page]) for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line).strip())]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has who has come so far: the repository, and small models in the place of those named."""
    for name in ("configs", "examples", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def prepare(folder: Path, page: str) -> None:
    """What the commands of a page take that no command before them has made."""
    if "anetrain report" in TEXT[page]:
        (folder / "results").mkdir()
        report_files.write(folder, "results/peak.json", report_files.ane_results())
        (folder / "community_results.json").write_text(report_files.community_text())
    made = run(folder / "small.yaml", folder / "made", "--steps", "1") if "generate " in TEXT[page] else None
    for name in set(re.findall(r"anetrain generate (\S+)", "\n".join(commands(page)))):
        path = folder / name
        if name.endswith(".bin"):
            assert anetrain(["convert", str(made), str(path)]) == 0
            scored.write(folder / "tokenizer.bin", builtin_tokenizer().bin_pieces())
        elif "Qwen3" in name:
            hugging_face(path)
        elif f"train configs/{path.name}.yaml" not in TEXT[page]:
            assert made is not None
            path.parent.mkdir(exist_ok=True)
            shutil.copytree(made, path)


def test_every_command_runs(page: str, folder: Path, without_budgets: None) -> None:
    prepare(folder, page)
    for command in commands(page):
        if command not in NOT_RUN:
            execute(command, folder)


def execute(command: str, folder: Path) -> None:
    words = shlex.split(command)
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[:2] == ["python", "-m"]:
        assert words[2].startswith("anetrain."), f"{command}: run it, or say in NOT_RUN why not"
        assert importlib.import_module(words[2]).main(words[3:] + smaller(words[2:])) == 0, command
    elif words[0] == "anetrain":
        forget(words, folder)
        assert anetrain(words[1:] + smaller(words[1:])) == 0, command
    elif words[0] == "python" and (ROOT / words[1]).is_file():
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # as if it were installed
        subprocess.run([sys.executable, *words[1:]], cwd=folder, env=environment, check=True, capture_output=True)
    else:
        pytest.fail(f"{command}: run it, or say in NOT_RUN why not")


def smaller(words: list[str]) -> list[str]:
    """Further arguments."""
    if words[0] in ("train", "anetrain.train"):
        emulator = [] if "--device" in words else ["--device", "emulator"]
        return [*emulator, *SMALL, *FEW]
    if words[0] == "generate":
        context = [] if "--context" in words else ["--context", "48"]
        return [*context, "--max-new", "5", *([] if "--device" in words else ["--device", "emulator"])]
    return []


def forget(words: list[str], folder: Path) -> None:
    """A page may begin the same run twice, as different things to try."""
    if words[1] == "train" and "--resume" not in words and "--out" not in words:
        shutil.rmtree(folder / "runs" / Path(words[2]).stem, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", [page for page in TEXT if commands(page) and page not in RUN_ELSEWHERE])


# ---------------------------------------------------------------- commands within a sentence or a table

INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?(?:anetrain|python)\s[^`\n]+)`(?!`)")


@pytest.mark.parametrize("command", sorted({found for text in TEXT.values() for found in INLINE.findall(text)}))
def test_commands_within_a_sentence_exist(command: str) -> None:
    """The command, its options and its scripts are there."""
    words = command.removeprefix(".venv/bin/").split()
    if words[0] == "python" and words[1] == "-m":
        where = importlib.util.find_spec(words[2])
        assert where is not None, command
        text = Path(str(where.origin)).read_text(encoding="utf-8") if words[2] != "pytest" else ""
    elif words[0] == "python" and words[1] == "setup.py":  # its options are those of setuptools
        return
    elif words[0] == "python" and words[1] != "-c":
        script = ROOT / words[1]  # what scripts of a folder share begins with a line
        text = "\n".join(path.read_text(encoding="utf-8") for path in [script, *script.parent.glob("_*.py")])
    elif words[0] == "anetrain":
        assert words[1] in COMMANDS or words[1].startswith("-"), command
        text = Path(str(importlib.import_module(COMMANDS[words[1]].module).__file__)).read_text(encoding="utf-8")
    else:
        return
    for option in re.findall(r"(?<!\S)--[a-z-]+", command):
        assert re.search(rf"['\"]{option}['\"]", text), f"{command}: {option} is not an option"
