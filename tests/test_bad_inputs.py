"""Whatever is wrong with what a command is given: exit code 2, one message that names the file or the setting and says
why, nothing overwritten, nothing left behind. And no damage is ever a traceback, or a success where there is a
checksum."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from anetrain.cli import COMMANDS
from anetrain.cli import main as anetrain
from anetrain.config import SECTIONS
from tests import bad_inputs
from tests.bad_inputs import (
    CONFIG,
    Damage,
    called,
    changed,
    check_message,
    check_refused,
    cut,
    flipped,
    odd_value,
    patched,
    put,
    removed,
    replaced,
    tree,
    truncated,
)

Captured = pytest.CaptureFixture[str]

# What reads a file of a kind. Commands that are not there are left out.
OF_MODEL = ("convert {} new", "train finetune.yaml --out new --set model.weights={}", "generate {} --prompt a")
OF_SHARD = ("train config.yaml --out new --data {}", "data info {}")
OF_TOKENIZER = ("data prepare a.txt --split 0 --out new --tokenizer {}", "data info raw.bin --tokenizer {}")
OF_TOKENIZER += ("convert v0.bin new --tokenizer {}", "generate v0.bin --prompt a --tokenizer {}")
OF_TEXT = ("data prepare {} --split 0 --tokenizer builtin --out new",)
OF_TEXT += ("data prepare {} --split 0 --train-tokenizer 330 --out new",)
OF_CONFIG = ("train {} --out new",)
OF_RESULTS = ("report validate {}", "report submit --results {} --contributor A --out new")
OF_REPORTED = ("report validate {}", "report community {} --out new")
OF_RUN = ("train config.yaml --resume {}", "convert {} new", "generate {} --prompt a")


def there(commands: tuple[str, ...]) -> list[str]:
    return [command for command in commands if command.split()[0] in COMMANDS]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        bad_inputs.make_world(folder)
        patch.chdir(folder)
        assert anetrain(["train", "config.yaml", "--out", "run", "--steps", "1"]) == 0
    return folder


@pytest.fixture
def world(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the good files, which is the current folder."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    shutil.copytree(good, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


def damaged(kind: tuple[str, ...], path: str, damage: Damage, *words: str, named: str | None = None) -> list[Any]:
    """A test for each command that reads `path`; the message names it, or `named`."""
    name = path if named is None else named
    return [
        pytest.param(command.format(path), damage, (name, *words), id=f"{command.format(path)}: {' '.join(words)}")
        for command in there(kind)
    ]


# ---------------------------------------------------------------- the corpus


def shards() -> list[Any]:
    path = "tokens/train.bin"
    return [
        *damaged(OF_SHARD, path, cut(path, 1), "cut short"),
        *damaged(OF_SHARD, path, cut(path, 2), "cut short"),
        *damaged(OF_SHARD, path, put(path, b"ANETOKEN"), "the header of a shard alone has 64"),
        *damaged(OF_SHARD, path, patched(path, 8, b"\2"), "version 2"),
        *damaged(OF_SHARD, path, patched(path, 12, b"\3"), "3 bytes per id"),
        *damaged(OF_SHARD, path, patched(path, 16, b"\xff"), "cut short"),
        *damaged(OF_SHARD, path, patched(path, 24, bytes(4)), "vocabulary 0"),
        *damaged(OF_SHARD, path, patched(path, 28, b"\xfe\xff\xff\xff"), "documents begin with -2"),
        *damaged(OF_SHARD, path, patched(path, 66, b"\xff\xff"), "the id 65535; expected 0 to 2047"),
        *damaged(OF_SHARD[:1], path, patched(path, 24, b"\0\xff"), "a vocabulary of 65280; the model has 2048"),
        *damaged(OF_SHARD[:1], "tokens", patched("tokens/validation.bin", 32, b"\0\0\0\0"), "made with the tokenizer"),
        *damaged(OF_SHARD, "raw.bin", cut("raw.bin", 1), "an odd number"),
        *damaged(OF_SHARD[:1], "raw.bin", patched("raw.bin", 8, b"\xff\xff"), "token 4 has the id 65535"),
        *damaged(OF_SHARD[:1], "raw.bin", put("raw.bin", b"\1\0" * 32), "32 tokens; at least 33 are needed"),
        *damaged(OF_SHARD, "raw.bin", removed("raw.bin"), "there is no such file"),
        *damaged(OF_SHARD[1:], "llama", lambda: None, "holds no train.bin"),
        *damaged(
            ("data info raw.bin --tokenizer {}",), "t", lambda: None, "the id 621; expected 0 to 329", named="raw.bin"
        ),
        *damaged(("data info tokens --tokenizer {}",), "t", lambda: None, "another one", named="tokens/train.bin"),
    ]


def model_files() -> list[Any]:
    found = []
    for path in ("v0.bin", "v1.bin", "v2.ckpt", "v4.ckpt"):
        found += damaged(OF_MODEL, path, cut(path, 1), "cut short")
        found += damaged(OF_MODEL[:1], path, put(path, b""), "0 bytes")
        found += damaged(OF_MODEL[:1], path, removed(path), "does not exist")
    return [
        *found,
        *damaged(OF_MODEL, "v0.bin", patched("v0.bin", 0, b"\0\0\0\0"), "dim is 0"),
        *damaged(OF_MODEL, "v0.bin", patched("v0.bin", 12, b"\3"), "expected a multiple of n_heads, 3"),
        *damaged(OF_MODEL, "v0.bin", patched("v0.bin", 40, b"\0\0\xc0\x7f"), "holds nan"),
        *damaged(OF_MODEL, "v1.bin", patched("v1.bin", 4, b"\7"), "version 7"),
        *damaged(OF_MODEL, "v1.bin", patched("v1.bin", 200, b"\7"), "padding"),
        *damaged(OF_MODEL, "v4.ckpt", patched("v4.ckpt", 4, b"\3"), "version is 3"),
        *damaged(OF_MODEL, "v4.ckpt", patched("v4.ckpt", 92, b"\x7f"), "q_dim"),
        *damaged(OF_MODEL[:1], "v0.bin", put("v0.bin", b"GGUF" + bytes(50)), "GGUF"),
        *damaged(OF_MODEL[:1], "v0.bin", put("v0.bin", b"PK\3\4" + bytes(50)), "zip"),
        *damaged(OF_MODEL[:1], "llama/config.json", lambda: None, "part of a Hugging Face model"),
        *damaged(OF_MODEL[:1], "tokens", lambda: None, "config.json"),
    ]


def hugging_face() -> list[Any]:
    config, weights, index = "llama/config.json", "llama/model.safetensors", "qwen3/model.safetensors.index.json"
    first = "qwen3/model-00001-of-00003.safetensors"
    found = [
        *damaged(OF_MODEL, "llama", cut(weights, 1), "no whole safetensors file", named=weights),
        *damaged(OF_MODEL, "llama", removed(weights), "has neither model.safetensors"),
        *damaged(OF_MODEL, "llama", put(config, "{"), "is no JSON", named=config),
        *damaged(OF_MODEL[:1], "llama", put(config, b"\xff"), "is no JSON", named=config),
        *damaged(OF_MODEL[:1], "llama", put(config, "[" * 2000), "is no JSON", named=config),
        *damaged(OF_MODEL[:1], "qwen3", removed(first), "does not exist", named=first),
        *damaged(OF_MODEL[:1], "qwen3", put(index, "{}"), "weight_map", named=index),
        *damaged(OF_MODEL[:1], "qwen3", replaced(index, "model-00001", "../odel-00001"), "weight_map", named=index),
        *damaged(OF_MODEL[:1], "qwen3", replaced(index, "q_norm", "q_nrom"), "and is not", named=index),
    ]
    for setting, value, words in (
        ("hidden_size", 18, "expected [2048, 18] from config.json"),
        ("hidden_size", 1 << 40, "expected"),
        ("hidden_size", "16", "hidden_size is '16'"),
        ("num_hidden_layers", 2, "tensors of 1 layers"),
        ("num_hidden_layers", 1 << 60, "tensors of 1 layers"),
        ("num_key_value_heads", 3, "expected a multiple of 3 kv heads"),
        ("vocab_size", -1, "vocab_size is -1"),
        ("vocab_size", 2047, "model.embed_tokens.weight is [2048, 16]"),
        ("model_type", "mistral", "model_type is 'mistral'"),
        ("model_type", ["llama"], "model_type is ['llama']"),
        ("architectures", ["Other"], "architectures"),
        ("hidden_act", ["silu"], "hidden_act"),
        ("hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("rope_theta", 7, "rope_theta is 7 but"),
        ("rope_theta", True, "rope_theta is True"),
        ("rope_scaling", {"rope_type": "yarn"}, "'yarn'"),
        ("rope_scaling", 7, "rope_scaling is 7"),
        ("layer_types", ["sliding_attention"], "layer_types"),
        ("layer_types", 7, "layer_types is 7"),
        ("attention_bias", True, "attention_bias is True"),
        ("quantization_config", {"bits": 4}, "quantization_config"),
        ("rms_norm_eps", 0, "rms_norm_eps is 0"),
        ("head_dim", 7, "head_dim is 7"),
        ("tie_word_embeddings", 1, "tie_word_embeddings is 1"),
        ("tie_word_embeddings", False, "missing tensors: lm_head.weight"),
        ("max_position_embeddings", 0, "max_position_embeddings is 0"),
    ):
        damage = changed(config, **{setting: value})
        found += damaged(OF_MODEL[:1], "llama", damage, words, named="llama")
    return found


def checkpoints() -> list[Any]:
    folder = "run/step-00000001"
    record, weights, rest = (
        f"{folder}/{n}" for n in ("checkpoint.json", "weights.safetensors", "optimizer.safetensors")
    )
    return [
        *damaged(OF_RUN, "run", cut(weights, 1), "expected", named=weights),
        *damaged(OF_RUN, "run", removed(weights), "is missing", named=weights),
        *damaged(OF_RUN, "run", put(record, ""), "no whole JSON text", named=record),
        *damaged(OF_RUN, "run", cut(record, 20), "no whole JSON text", named=record),
        *damaged(OF_RUN, "run", replaced(record, '"dim": 16', '"dim": 17'), "checksum", named=record),
        *damaged(OF_RUN, "run", removed(record), "", named=folder),
        *damaged(OF_RUN, "nowhere", lambda: None, "no"),
        *damaged(OF_RUN[:1], "run", cut(rest, 4), "expected", named=rest),
        *damaged(OF_RUN[:1], "run", removed(rest), "is missing", named=rest),
        *damaged(OF_RUN[:1], "run", replaced("config.yaml", "dim: 16", "dim: 32"), "dim of the spec", named=folder),
        *damaged(
            OF_RUN[:1], "run", replaced("config.yaml", "path: tokens", "path: raw.bin"), "tokenizer", named=folder
        ),
        *damaged(OF_RUN[:1], "run --steps 2", lambda: None, "1 of 2 updates left", named="--steps"),
        *damaged(("train config.yaml --out {}",), "run", lambda: None, "go on with --resume"),
    ]


def tokenizer_files() -> list[Any]:
    model, binary, text = "t/tokenizer.model", "t/tokenizer.bin", "j/tokenizer.json"
    return [
        *damaged(OF_TOKENIZER, model, put(model, ""), "an empty file"),
        *damaged(OF_TOKENIZER, model, put(model, "no model"), "sentencepiece cannot read it"),
        *damaged(OF_TOKENIZER, model, cut(model, 1), "sentencepiece cannot read it"),
        *damaged(OF_TOKENIZER[:1], model, replaced(model, "\u2581the", b"\xe2\x96\xffthe"), "can't decode byte"),
        *damaged(OF_TOKENIZER, binary, cut(binary, 1), "does not fit"),
        *damaged(OF_TOKENIZER, binary, put(binary, ""), "0 bytes"),
        *damaged(OF_TOKENIZER, binary, patched(binary, 8, b"\xff\xff\xff\xff"), "piece 0"),
        *damaged(OF_TOKENIZER, text, cut(text, 1), "not JSON"),
        *damaged(OF_TOKENIZER, text, put(text, "[]"), "found list"),
        *damaged(OF_TOKENIZER, text, put(text, "[" * 2000), "not JSON"),
        *damaged(OF_TOKENIZER, text, put(text, '{"a": "\\ud800"}'), "cannot read it"),
        *damaged(OF_TOKENIZER, text, changed(text, model=None), "cannot read it"),
        *damaged(OF_TOKENIZER, "j", put("j/tokenizer_config.json", "{"), "not JSON", named="j/tokenizer_config.json"),
        *damaged(
            OF_TOKENIZER, "j", put("j/tokenizer_config.json", '{"eos_token": "<no>"}'), "no token '<no>'", named=text
        ),
        *damaged(
            OF_TOKENIZER[:1], "j", put("j/tokenizer_config.json", "{}"), "neither a first nor a last", named="j: "
        ),
        *damaged(OF_TOKENIZER, "nowhere.model", lambda: None, "there is no such file"),
        *damaged(OF_TOKENIZER, "tokens", lambda: None, "holds no tokenizer"),
        *damaged(OF_TOKENIZER, "a.txt", lambda: None, "ends in .model, .bin or .json"),
    ]


def texts() -> list[Any]:
    return [
        *damaged(OF_TEXT, "a.txt", put("a.txt", b"one\n\xff"), "line 2: byte 0 of the line is 0xff"),
        *damaged(OF_TEXT[:1], "a.txt", put("a.txt", ""), "would be empty", named="new/train.bin"),
        *damaged(OF_TEXT[1:], "a.txt", put("a.txt", ""), "no tokenizer with 330 pieces", named="new/tokenizer.model"),
        *damaged(OF_TEXT[1:], "a.txt", put("a.txt", "a\0b"), "holds a NUL"),
        *damaged(OF_TEXT, "a.jsonl", put("a.jsonl", "{}\n"), "line 1: expected an object with a text"),
        *damaged(OF_TEXT, "a.jsonl", put("a.jsonl", '{"text": "a"}\n{'), "line 2: not JSON"),
        *damaged(OF_TEXT, "a.jsonl", put("a.jsonl", "[" * 2000), "line 1: not JSON"),
        *damaged(OF_TEXT, "a.jsonl", put("a.jsonl", '{"text": "\\ud800"}\n' * 9), "half of a surrogate pair"),
        *damaged(OF_TEXT, "a.json", put("a.json", "[" * 2000), "not JSON"),
        *damaged(OF_TEXT, "a.json", put("a.json", "{}"), "expected a list"),
        *damaged(OF_TEXT, "a.csv", put("a.csv", "a,b"), "ends in .txt, .jsonl or .json"),
        *damaged(OF_TEXT, "nowhere.txt", lambda: None, "there is no such file"),
        *damaged(OF_TEXT, "t", lambda: None, "ends in .txt"),
    ]


def configs() -> list[Any]:
    path, sizes = "config.yaml", "dim: 16, hidden: 24"
    found = [
        *damaged(OF_CONFIG, "nowhere.yaml", lambda: None, "cannot be read"),
        *damaged(OF_CONFIG, "tokens", lambda: None, "cannot be read"),
        *damaged(OF_CONFIG, path, put(path, b"\xff"), "not UTF-8"),
        *damaged(OF_CONFIG, path, put(path, ""), "expected sections"),
        *damaged(OF_CONFIG, path, put(path, "model: ["), "not valid YAML"),
        *damaged(OF_CONFIG, path, put(path, "[" * 2000), "not valid YAML"),
        *damaged(OF_CONFIG, path, put(path, "model: !!python/object/apply:os.system [ls]"), "not valid YAML"),
        *damaged(OF_CONFIG, path, put(path, "a\0b"), "not valid YAML"),
        *damaged(OF_CONFIG, path, put(path, "train: {updates: 0x10}"), "train.updates"),
        *damaged(OF_CONFIG, path, put(path, "data: {}"), "model: is missing"),
        *damaged(OF_CONFIG, path, put(path, CONFIG + "trian: {}"), "did you mean 'train'"),
        *damaged(OF_CONFIG, path, put(path, CONFIG + "train: {}"), "is there twice"),
        *damaged(OF_CONFIG, path, put(path, CONFIG + "optim: {lrr: 1}"), "did you mean 'lr'"),
        *damaged(OF_CONFIG, path, put(path, CONFIG + "optim: {lr: .nan}"), "optim.lr"),
        *damaged(OF_CONFIG, path, put(path, CONFIG + "optim: {betas: [0.9, 1.0]}"), "betas"),
        *damaged(OF_CONFIG, path, put(path, CONFIG + "schedule: {warmup: 3}"), "schedule.warmup is 3"),
        *damaged(OF_CONFIG, path, replaced(path, "updates: 2", "updates: 0"), "train.updates is 0"),
        *damaged(OF_CONFIG, path, replaced(path, "updates: 2", f"updates: {'9' * 5000}"), path),
    ]
    for new, words in (
        ("preset: nix, dim: 16, hidden: 24", "no preset 'nix'"),
        ("hidden: 24", "needs dim"),
        ("weights: v0.bin, preset: tiny-llama, dim: 16, hidden: 24", "both `preset` and `weights`"),
        (f"weights: v0.bin, {sizes}", "no other size"),
        (f"import: nowhere:build, {sizes}", "model.import: nowhere"),
        (f"import: nowhere, {sizes}", "expected package.module:function"),
    ):
        found += damaged(OF_CONFIG, path, replaced(path, sizes, new), words, named="")
    return found


def settings() -> list[Any]:
    """Of which each is fine, and which do not go together; and data that is too short."""
    on, none = "train config.yaml --out new --set {}", lambda: None
    return [
        *damaged((on,), "model.kv_heads=3", none, "expected a multiple of kv_heads, 3", named="heads is 2"),
        *damaged((on,), "model.head_dim=7", none, "RoPE needs an even one", named="head_dim is 7"),
        *damaged((on,), "model.vocab=1000", none, "the model has 1000", named="tokens/train.bin"),
        *damaged((on,), "model.seq=100000", none, "at least 100001 are needed", named="tokens/train.bin"),
        *damaged((on,), "data.path=nowhere", none, "there is no such file", named="nowhere"),
        *damaged((on,), "data.validation=nowhere.bin", none, "there is no such file", named="nowhere.bin"),
        *damaged((on,), "data.path=builtin --set model.vocab=1000", none, "2048", named="model.vocab is 1000"),
        *damaged((on,), "precision.loss_scale=3", none, "power of two", named="precision.loss_scale"),
        *damaged((on,), "schedule.cooldown=9 --set schedule.kind=wsd", none, "", named="schedule"),
        *damaged((on,), "device.kind=emulator:m0", none, "m0", named="m0"),
        *damaged((on,), "device.kind=gpu", none, "gpu", named="gpu"),
        *damaged((on,), "log.telemetry=nowhere/lines", none, "there is no folder nowhere", named="log.telemetry"),
        *damaged((on,), "log.telemetry=tokens", none, "is a folder", named="log.telemetry"),
        *damaged((on,), "optim.lr", none, "expected section.key=value", named="--set optim.lr"),
        *damaged((on,), "optim.groups=[{{patterns:nix}}]", none, "", named="optim.groups"),
        *damaged((on,), "optim.groups=[{{patterns:nix,lr_factor:2}}]", none, "", named=""),
        *damaged(("train config.yaml --out new --steps {}",), "0", none, "expected at least 1", named="--steps is 0"),
        *damaged(("train config.yaml --out new --steps {}",), "3", none, "2 updates left", named="--steps 3"),
        *damaged(("train config.yaml --out {}",), "a.txt/new", none, "", named="a.txt"),
        *damaged(("train config.yaml --out {}",), "a.txt", none, "", named="a.txt"),
        *damaged(("convert v0.bin {}",), "nowhere/new", none, "there is no folder nowhere"),
        *damaged(("convert v0.bin {}",), "tokens", none, "exists"),
        *damaged(("convert v0.bin {} --force",), "tokens", none, "also holds train.bin"),
        *damaged(("convert v0.bin {} --force --format llama2c",), "tokens", none, "is a folder"),
        *damaged(("convert v0.bin {} --force --format huggingface",), "v1.bin", none, "is a file"),
        *damaged(("convert v0.bin {} --version 1",), "new", none, "--version"),
        *damaged(("convert v0.bin {} --dtype bf16",), "new.bin", none, "fp32"),
        *damaged(("convert v0.bin {} --dtype bf16",), "new-checkpoint", none, "fp32"),
        *damaged(("convert v0.bin new.bin --shard-size {}",), "5GB", none, "", named="--shard-size"),
        *damaged(("convert v0.bin new --shard-size {}",), "5XB", none, "expected bytes", named="'5XB'"),
        *damaged(("convert v0.bin new --shard-size {}",), "0", none, "positive", named="shard_bytes is 0"),
        *damaged(("convert v0.bin new --seq {}",), "33", none, "up to 32", named="v0.bin"),
        *damaged(
            ("convert qwen3 {}",),
            "new.bin",
            none,
            "rope_base is 1000000.0",
        ),
        *damaged(("convert v2.ckpt {}",), "new", none, "rope is 'none'"),
        *damaged(
            ("data prepare a.txt --tokenizer {} --out tokens",), "builtin", none, "exists", named="tokens/train.bin"
        ),
        *damaged(("data prepare a.txt --tokenizer builtin --out {}",), "a.txt", none, "", named="a.txt"),
        *damaged(("data prepare a.txt --tokenizer builtin --out new --split {}",), "1", none, "1", named="--split"),
        *damaged(
            ("data prepare a.txt --tokenizer builtin --out new --workers {}",), "0", none, "", named="workers is 0"
        ),
        *damaged(("data prepare a.txt --train-tokenizer {} --out new",), "100", none, "", named="vocab is 100"),
        *damaged(("data prepare a.txt --train-tokenizer {} --out new",), "9999", none, "9999", named="tokenizer.model"),
        *damaged(
            ("data prepare a.txt --tokenizer t --train-tokenizer {} --out new",), "400", none, "not allowed", named=""
        ),
        *damaged(
            ("data prepare a.txt --validation {} --split 0.1 --tokenizer t --out new",),
            "a.txt",
            none,
            "not both",
            named="",
        ),
        *damaged(
            ("data prepare a.jsonl --field {} --tokenizer builtin --out new",),
            "words",
            none,
            "'words'",
            named="a.jsonl",
        ),
        *damaged(("data builtin --out {}",), "a.txt", none, "exists"),
        *damaged(("data builtin --out {}",), "nowhere/a.txt", none, "there is no folder"),
        *damaged(("data builtin --out new.txt --stories {}",), "0", none, "expected 1 to", named="new.txt"),
        *damaged(("data info tokens --frequent {}",), "-1", none, "", named="--frequent is -1"),
        *damaged(("data download {}",), "nothing", none, "invalid choice"),
    ]


def reported() -> list[Any]:
    of_results = "results.json", OF_RESULTS, "complete"
    of_submission = "submission.json", OF_REPORTED, "contributor"
    of_figures = "published.json", OF_REPORTED, "rows"
    of_community = "community.json", OF_REPORTED, "training_results"
    found = []
    for path, kind, field in (of_results, of_submission, of_figures, of_community):
        found += damaged(kind, path, put(path, ""), "JSON")
        found += damaged(kind, path, cut(path, 3), "JSON")
        found += damaged(kind, path, put(path, b"\xff\xfe{}"), "JSON")
        found += damaged(kind, path, put(path, "[" * 100_000), "JSON")
        found += damaged(kind, path, put(path, "[1, 2]"), "")
        found += damaged(kind, path, put(path, "NaN"), "")
        found += damaged(kind, path, changed(path, schema="anetrain-other/1"), "schema")
        found += damaged(kind, path, changed(path, **{field: 7}), field)
        found += damaged(kind, path, changed(path, **{field: float("nan")}), "")
        found += damaged(kind, path, removed(path), "No such file")
    community, results = "community.json", "results.json"
    return [
        *found,
        *damaged(OF_RESULTS, results, replaced(results, '"allowed": 0.01', '"allowed": 1e999'), "allowed"),
        *damaged(OF_RESULTS, results, replaced(results, '"flops": ', '"flops": ' + "9" * 400), "flops"),
        *damaged(OF_RESULTS, results, replaced(results, '"cpus": ', '"cpus": -1.5, "more": '), ""),
        *damaged(OF_REPORTED, community, replaced(community, "16.77", "-16.77"), "peak_tflops"),
        *damaged(OF_REPORTED, community, replaced(community, "16.77", "9" * 5000), "out of range"),
        *damaged(OF_REPORTED, community, replaced(community, "12.44", "1e999"), ""),
        *damaged(OF_REPORTED, community, replaced(community, "[148, 163]", "[148]"), "ms_per_step"),
        *damaged(OF_REPORTED[1:], "results.json", lambda: None, "not a file of published figures"),
        *damaged(OF_RESULTS[1:], "submission.json", lambda: None, "not a file of results"),
    ]


CORPUS = [
    *shards(),
    *model_files(),
    *hugging_face(),
    *checkpoints(),
    *tokenizer_files(),
    *texts(),
    *configs(),
    *settings(),
    *reported(),
]


@pytest.mark.parametrize(("command", "damage", "words"), CORPUS)
def test_what_is_wrong_is_one_sentence(
    world: Path, capsys: Captured, command: str, damage: Damage, words: tuple[str, ...]
) -> None:
    damage()
    check_refused(command, capsys, *words)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_no_command_takes(world: Path, capsys: Captured, name: str) -> None:
    check_refused(f"{name} --no-such-option", capsys)
    with pytest.raises(SystemExit) as caught:
        anetrain([name, "--help"])
    assert caught.value.code == 0


def test_a_bad_text_among_good_ones(world: Path, capsys: Captured) -> None:
    """What is kept is what a run that goes on takes up, under no final name."""
    Path("b.txt").write_bytes(b"\xff")
    before = tree()
    command = "data prepare a.txt b.txt --tokenizer builtin --out new"
    code, _, error = called(command, capsys)
    assert code == 2
    check_message(command, error, "b.txt, line 1", "not UTF-8")
    new = {path: content for path, content in tree().items() if path not in before}
    assert all(content is None or path.startswith("new/parts/a-") for path, content in new.items())
    assert before.items() <= tree().items()


# ---------------------------------------------------------------- any damage

BINARY = ("v0.bin", "v1.bin", "v2.ckpt", "v4.ckpt", "tokens/train.bin", "llama/model.safetensors")
BINARY += ("qwen3/model-00001-of-00003.safetensors",)
RUN = tuple(f"run/step-00000001/{name}" for name in ("checkpoint.json", "weights.safetensors", "optimizer.safetensors"))
TEXT = ("llama/config.json", "qwen3/model.safetensors.index.json", "config.yaml", "j/tokenizer.json", "a.jsonl")
TOKENIZERS = ("t/tokenizer.model", "t/tokenizer.bin", "j/tokenizer.json")
READER = {
    **dict.fromkeys(BINARY + TEXT, "convert {} new"),
    "v2.ckpt": "convert v2.ckpt new --format anetrain",
    "tokens/train.bin": "data info tokens",
    "config.yaml": "train config.yaml --out new",
    "a.jsonl": "data prepare a.jsonl --split 0 --tokenizer builtin --out new",
    **dict.fromkeys(
        (*TOKENIZERS, "j/tokenizer_config.json"), "data prepare a.jsonl --split 0 --tokenizer {} --out new"
    ),
    **dict.fromkeys(RUN, "train config.yaml --resume run"),
    "results.json": "report submit --results {} --contributor A --out new --force",
    "community.json": "report community {} --out new --force",
    **dict.fromkeys(("submission.json", "published.json"), "report validate {}"),
}
REPORTED = ("results.json", "submission.json", "published.json", "community.json")


def reader(path: str) -> str:
    folder = path.split("/")[0]
    return READER[path].format(folder if folder in ("llama", "qwen3", "j") else path)


def survives(command: str, did: str, capsys: Captured, *words: str) -> int:
    """Refused as it should be, or done; the exit code."""
    before = tree()
    try:
        code, _, error = called(command, capsys)
    except Exception as problem:
        raise AssertionError(f"{did}; {command}") from problem
    assert code in (0, 2), did
    if code == 2:
        check_message(f"{did}; {command}", error, *words)
        assert tree() == before, did
    return code


def each_damage(world: Path, path: str, how: Any, count: int, capsys: Captured) -> list[tuple[int, str]]:
    """Of so many copies, one after the other."""
    content = Path(path).read_bytes()
    outcomes = []
    for seed in range(count):
        did = how(Path(path), random.Random(f"{path} {seed}"))
        named = [] if path == "config.yaml" else [path.split("/")[0]]  # of a config, the setting may be named alone
        outcomes.append((survives(reader(path), did, capsys, *named), did))
        Path(path).write_bytes(content)
        if outcomes[-1][0] == 0:
            shutil.rmtree("new", ignore_errors=True)
    return outcomes


@pytest.mark.parametrize("path", [*BINARY, *RUN, "j/tokenizer.json", *REPORTED])
def test_no_truncation_is_taken(world: Path, capsys: Captured, path: str) -> None:
    for code, did in each_damage(world, path, truncated, 15, capsys):
        assert code == 2, did


@pytest.mark.parametrize("path", [*TOKENIZERS, "llama/config.json", "a.jsonl", "config.yaml"])
def test_no_truncation_is_a_traceback(world: Path, capsys: Captured, path: str) -> None:
    each_damage(world, path, truncated, 15, capsys)


@pytest.mark.parametrize("path", [*BINARY, *TEXT, *TOKENIZERS, *REPORTED])
def test_no_flipped_bit_is_a_traceback(world: Path, capsys: Captured, path: str) -> None:
    each_damage(world, path, flipped, 25, capsys)


@pytest.mark.parametrize(
    "path",
    [
        *("llama/config.json", "llama/model.safetensors", "qwen3/model.safetensors.index.json", RUN[0], RUN[1]),
        *("j/tokenizer.json", "j/tokenizer_config.json", *REPORTED),
    ],
)
def test_no_odd_value_is_a_traceback(world: Path, capsys: Captured, path: str) -> None:
    each_damage(world, path, odd_value, 40, capsys)


@pytest.mark.parametrize("section", SECTIONS)
def test_no_odd_setting_is_a_traceback(world: Path, capsys: Captured, section: str) -> None:
    choose = random.Random(section)
    for name, field in SECTIONS[section].model_fields.items():
        for value in choose.sample(["[]", "{a: 1}", "nix", "-1", "1e400", "null", "true", "''", "[1, nix]", "0.5"], 3):
            setting = f"{section}.{field.alias or name}={value}"
            if survives(f'train config.yaml --out new --set "{setting}"', setting, capsys) == 0:
                shutil.rmtree("new")


@pytest.mark.parametrize("path", RUN)
def test_no_flipped_bit_of_a_checkpoint_is_taken(world: Path, capsys: Captured, path: str) -> None:
    for code, did in each_damage(world, path, flipped, 25, capsys):
        assert code == 2, did
