"""Configs: what is read, what is refused and how, and that docs and schema say what the classes do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anetrain.config import SECTIONS, Config, ConfigError, json_schema, load, parse, tables

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SMALL = "model: {preset: tiny-llama}\n"


def refusal(text: str, *changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, changes, name="run.yaml")
    return str(caught.value)


def test_all_files_are_read() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {
        "stories110m",
        "stories15m",
        "qwen3-0.6b",
        "laptop",
        "small",
        "custom",
        "finetune-llama2c",
        "finetune-hf",
    }
    for path in CONFIGS:
        assert load(path).plain().keys() == SECTIONS.keys()


def test_stories110m_is_the_published_run() -> None:
    config = load(ROOT / "configs" / "stories110m.yaml")
    assert (config.model.preset, config.model.seq, config.train.accumulation) == ("stories110m", 256, 10)
    assert (config.optim.kind, config.optim.lr, config.pipeline.layout) == ("adamw", 3e-4, "stacked")
    assert config.data.fallback == "builtin"


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "0.00001", "1.0e-5", ".1e-4"])
def test_numbers_are_numbers(text: str) -> None:
    assert parse(f"{SMALL}optim: {{lr: {text}}}").optim.lr == pytest.approx(1e-5, rel=1e-12)
    assert parse(SMALL, [f"optim.lr={text}"]).optim.lr == pytest.approx(1e-5, rel=1e-12)


def test_words_that_yaml_1_1_takes_for_other_things() -> None:
    for word in ("on", "no", "yes", "12:30", "2001-01-01"):
        assert parse(SMALL, [f"data.path={word}"]).data.path == word
    assert parse(SMALL, ["train.seed=010"]).train.seed == 10


def test_changes() -> None:
    config = parse(
        SMALL, ["optim.clip=null", "train.batch=4", "optim.groups=[{patterns: 'layers.*', decay: 0.0}]", "log.every=7"]
    )
    assert (config.optim.clip, config.train.batch, config.log.every) == (None, 4, 7)
    assert config.optim.groups[0].patterns == "layers.*"
    assert parse(SMALL + "train:\n", ["train.batch=4"]).train.batch == 4


def test_the_resolved_config_is_the_same_config() -> None:
    for path in CONFIGS:
        config = load(path)
        assert parse(config.text()) == config
        assert json.loads(json.dumps(config.plain())) == config.plain()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALL + "optim: {lrr: 1}", "optim.lrr: no such setting; did you mean 'lr'?"),
        (SMALL + "optin: {lr: 1}", "optin: no such section; did you mean 'optim'?"),
        (SMALL + "log: {zzz: 1}", "log.zzz: no such setting; there are every"),
        (
            SMALL + "optim: {groups: [{paterns: x}]}",
            "optim.groups.0.paterns: no such setting; did you mean 'patterns'?",
        ),
        (SMALL + "optim: {lr: fast}", "optim.lr is 'fast': input should be a valid number"),
        (SMALL + "optim: {lr: '1e-5'}", "optim.lr is '1e-5'"),
        (SMALL + "optim: {lr: .nan}", "optim.lr is nan: input should be a finite number"),
        (SMALL + "optim: {lr: 0}", "optim.lr is 0: input should be greater than 0"),
        (SMALL + "train: {updates: 1.5}", "train.updates is 1.5: input should be a valid integer"),
        (SMALL + "train: {updates: true}", "train.updates is True"),
        (SMALL + "optim: {betas: [0.9, 1.0]}", "optim: betas is [0.9, 1.0]; expected two numbers"),
        (SMALL + "pipeline: {kind: fixed}", "pipeline.kind is 'fixed': input should be 'dynamic'"),
        (SMALL + "pipeline: {kind: static, layout: packed}", "pipeline: layout is packed, which is for kind dynamic"),
        (SMALL + "schedule: {warmup: 2000}", "schedule.warmup is 2000; expected at most train.updates, 1000"),
        (SMALL + "optim: 3", "optim is 3"),
        ("model: {preset: x, weights: y, seq: 8}", "model: has both `preset` and `weights`"),
        ("model: {weights: y}", "model: with `weights`, `seq` must be given"),
        ("train: {updates: 3}", "model: is missing"),
        ("", "expected sections such as `model:`, found None"),
        ("- 1", "expected sections such as `model:`, found [1]"),
        ("model: {preset: [}", "line 1, column 18: not valid YAML"),
        (SMALL + "model: {}", "line 2, column 1: not valid YAML: 'model' is there twice"),
        (SMALL + "1: 2", "the key 1 is no text"),
        (SMALL + "train: !!python/object:os.system {}", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_refusals_name_the_place(text: str, expected: str) -> None:
    found = refusal(text)
    assert found.startswith("run.yaml")
    assert expected in found
    assert "\n" not in found


def test_all_mistakes_are_told_at_once() -> None:
    found = refusal(SMALL + "optim: {lr: fast}\ntrain: {updates: 0}")
    assert "optim.lr" in found
    assert "train.updates" in found


@pytest.mark.parametrize("change", ["optim.lr", "lr=3", "a.b.c=3", "=3", ".x=1", "optim.lr=[", "optim.=1"])
def test_changes_that_are_none(change: str) -> None:
    assert refusal(SMALL, change).startswith(f"--set {change}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"model: \xff")
    for path, what in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "director"),
        (tmp_path / "bytes.yaml", "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=what):
            load(path)


def test_docs_and_schema_are_current() -> None:
    assert tables() in (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    # Of the schema the fields: how it words the rest depends on the version of pydantic.
    schema = json.loads((ROOT / "configs" / "config.schema.json").read_text(encoding="utf-8"))
    assert _fields(schema) == _fields(json_schema())
    assert schema["additionalProperties"] is False


def _fields(schema: dict[str, Any]) -> dict[str, list[str]]:
    return {name: sorted(item["properties"]) for name, item in schema["$defs"].items() if "properties" in item}


def test_every_field_is_explained() -> None:
    for name, section in SECTIONS.items():
        assert section.__doc__, name
        for field, info in section.model_fields.items():
            assert info.description, f"{name}.{field}"
    assert SECTIONS.keys() == Config.model_fields.keys()


def test_the_package_is_imported_without_any_of_this() -> None:
    code = "import sys, anetrain; print(sorted({'pydantic', 'yaml', 'tqdm', 'numpy'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
