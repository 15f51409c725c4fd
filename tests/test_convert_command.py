"""`anetrain convert`: the same model in every format, bit for bit or to rounding; what is lost is said; converted
models load in transformers, and train on here."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import formats
from anetrain.checkpoint import State, Store
from anetrain.checkpoint import load as load_checkpoint
from anetrain.cli import main as anetrain
from anetrain.data.tokenizers import builtin_tokenizer, scored
from anetrain.formats import legacy, llama2c
from anetrain.formats.conversion import guess
from anetrain.model import Model
from anetrain.spec import ModelSpec
from tests.model_files import assert_same, logits, random_weights
from tests.support import need

pytestmark = pytest.mark.usefixtures("no_waiting")

Captured = pytest.CaptureFixture[str]
LLAMA = ModelSpec(dim=32, hidden=48, layers=2, heads=4, kv_heads=2, head_dim=8, vocab=2048, seq=64)
QWEN = replace(LLAMA, head_dim=16, rope="half", rope_base=1e6, norm_eps=1e-6, qk_norm=True)
SPECS = {
    "llama": LLAMA,
    "llama, own classifier": replace(LLAMA, tied=False),
    "qwen3": QWEN,
    "qwen3, own classifier": replace(QWEN, tied=False, rope_base=1e4),
}
COUNTERS = legacy.Counters(
    step=7, total_steps=9, lr=1e-3, loss=2.5, compile_ms=0, train_ms=0, wall_ms=0, steps=7, batches=1, adam_t=3
)


def convert(*arguments: object) -> int:
    return anetrain(["convert", *map(str, arguments)])


def files_of(path: Path) -> dict[str, bytes]:
    return {str(item.relative_to(path)): item.read_bytes() for item in sorted(path.rglob("*")) if item.is_file()}


def legacy_file(path: Path, version: int, spec: ModelSpec = LLAMA) -> Path:
    if version == 2:
        spec = replace(spec, kv_heads=spec.heads, rope="none")
    else:
        spec = replace(spec, residual_scale=(2 * spec.layers) ** -0.5)
    weights = random_weights(spec)
    moments = {f"{kind}.{name}": np.ones_like(array) for name, array in weights.items() for kind in ("mean", "square")}
    legacy.write(path, legacy.Checkpoint(version, spec, weights, moments, COUNTERS))
    return path


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", SPECS)
def test_a_chain_of_all_formats_changes_no_bit(tmp_path: Path, name: str) -> None:
    """And the last file is, byte for byte, the first one."""
    spec = SPECS[name]
    weights = random_weights(spec)
    chain = ["checkpoint-a", "hf", "checkpoint-b", "hf-in-shards"]
    if not spec.qk_norm:
        chain = ["a.bin", "hf", "b.bin", "checkpoint", "c.bin", "hf-in-shards", "d.bin"]
    first = tmp_path / "first"
    formats.save(first, "huggingface", spec, weights)
    source = first
    for target in chain:
        more = ["--version", "1"] if target in ("b.bin", "d.bin") else []
        more += ["--shard-size", "20KB"] if "shards" in target else []
        assert convert(source, tmp_path / target, *more) == 0
        source = tmp_path / target
    assert len(list((tmp_path / "hf-in-shards").glob("*.safetensors"))) > 3
    assert convert(source, tmp_path / "last") == 0
    assert files_of(tmp_path / "last") == files_of(first)
    assert_same(formats.load(tmp_path / "last").weights, weights if spec.qk_norm else formats.load(first).weights)
    if not spec.qk_norm:
        assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "c.bin").read_bytes()
        assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "d.bin").read_bytes()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_narrow_weights_come_back_as_they_were(tmp_path: Path, dtype: str) -> None:
    formats.save(tmp_path / "a.bin", "llama2c-v0", LLAMA, random_weights(LLAMA))
    assert convert(tmp_path / "a.bin", tmp_path / "narrow", "--dtype", dtype) == 0
    assert convert(tmp_path / "narrow", tmp_path / "b.bin") == 0
    assert convert(tmp_path / "b.bin", tmp_path / "again", "--dtype", dtype) == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "narrow")
    size = (tmp_path / "narrow" / "model.safetensors").stat().st_size
    assert size < 0.6 * (tmp_path / "a.bin").stat().st_size


@pytest.mark.parametrize("target", ["out", "out.bin", "out-checkpoint"])
def test_a_v4_checkpoint_keeps_its_function(tmp_path: Path, capsys: Captured, target: str) -> None:
    source = legacy_file(tmp_path / "old.ckpt", 4)
    assert convert(source, tmp_path / target) == 0
    old, new = formats.load(source), formats.load(tmp_path / target)
    ids = np.arange(16) * 37 % LLAMA.vocab
    expected = logits(old.spec, old.weights, ids)
    np.testing.assert_allclose(logits(new.spec, new.weights, ids), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    told = capsys.readouterr().out
    assert "legacy-v4" in told
    assert "note: v4 was trained with residuals scaled by 1 / sqrt(2 layers): residual_scale is 0.5" in told
    assert "query heads moved from kv head h mod 2 to h div 2" in told
    assert "not carried over: the optimizer's moments and the counters, after step 7" in told
    assert ("went into wo and w2" in told) == ("checkpoint" not in target)


def test_a_v2_checkpoint_has_a_function_that_only_ours_can_hold(tmp_path: Path, capsys: Captured) -> None:
    source = legacy_file(tmp_path / "old.ckpt", 2)
    for target in ("out", "out.bin"):
        assert convert(source, tmp_path / target) == 2
        error = capsys.readouterr().err
        assert re.search(rf"{target}: cannot be written as \S+: rope is 'none'", error)
        assert not (tmp_path / target).exists()
    assert convert(source, tmp_path / "checkpoint") == 0
    assert "note: v2 was trained without RoPE: rope is 'none'" in capsys.readouterr().out
    old, new = formats.load(source), formats.load(tmp_path / "checkpoint")
    assert new.spec == old.spec
    assert_same(new.weights, dict(old.weights))


# ---------------------------------------------------------------- transformers


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SPECS)
def test_transformers_computes_the_same(tmp_path: Path, name: str, dtype: str) -> None:
    """From a checkpoint to a folder: no missing or unexpected keys, and the same logits (fp32: to 1e-5)."""
    need(importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"), "torch, transformers")
    import torch
    from transformers import AutoModelForCausalLM

    spec = SPECS[name]
    weights = random_weights(spec)
    formats.save(tmp_path / "checkpoint", "anetrain", spec, weights)
    assert convert(tmp_path / "checkpoint", tmp_path / "hf", "--dtype", dtype, "--shard-size", "100KB") == 0
    model, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "hf", dtype=torch.float32, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report[kind] for kind in report), report
    ids = np.arange(24) * 31 % spec.vocab
    with torch.no_grad():
        found = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    if dtype != "fp32":
        weights = dict(formats.load(tmp_path / "hf").weights)
    expected = logits(spec, weights, ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("spelling", ["rope_theta", "rope_parameters"])
def test_both_spellings_of_the_rope_base(tmp_path: Path, spelling: str) -> None:
    formats.save(tmp_path / "hf", "huggingface", replace(QWEN, rope_base=5e5), random_weights(QWEN))
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text())
    del config[spelling]
    path.write_text(json.dumps(config))
    assert convert(tmp_path / "hf", tmp_path / "checkpoint") == 0
    assert load_checkpoint(tmp_path / "checkpoint").spec.rope_base == 5e5


# ---------------------------------------------------------------- training goes on


def run_folder(folder: Path) -> Path:
    """As training makes it: a checkpoint with more than weights."""
    with Store(folder) as store:
        weights = random_weights(LLAMA)
        arrays = {"mean.embedding": np.zeros_like(weights["embedding"])}
        store.save(State(12, LLAMA, weights, arrays, tokenizer=builtin_tokenizer().hash))
    return folder


@pytest.mark.parametrize("kind", ["v0.bin", "v1.bin", "llama", "qwen3", "run", "v2.ckpt", "v4.ckpt", "converted"])
def test_finetuning_begins_from_each(tmp_path: Path, kind: str, capsys: Captured) -> None:
    source = tmp_path / kind
    if kind == "run":
        run_folder(source)
    elif kind.endswith(".ckpt"):
        legacy_file(source, int(kind[1]))
    elif kind.endswith(".bin"):
        formats.save(source, f"llama2c-{kind[:2]}", LLAMA, random_weights(LLAMA))
    elif kind == "converted":
        assert convert(run_folder(tmp_path / "run"), tmp_path / "model.bin") == 0
        assert convert(tmp_path / "model.bin", source, "--format", "anetrain") == 0
    else:
        formats.save(source, "huggingface", SPECS[kind], random_weights(SPECS[kind]))
    config = tmp_path / "finetune.yaml"
    config.write_text(
        f"model: {{weights: {source}, seq: 32}}\ndata: {{path: builtin, stories: 40, validation_tokens: 100}}\n"
        "train: {updates: 2}\noptim: {lr: 1e-4}\n"
        "device: {kind: emulator, live_budget: 1000000, compile_budget: 1000000}\n"
    )
    assert anetrain(["train", str(config), "--out", str(tmp_path / "out")]) == 0
    assert "update 2/2  loss" in capsys.readouterr().out
    assert convert(tmp_path / "out", tmp_path / "checkpoint-after") == 0
    before, after = formats.load(source), formats.load(tmp_path / "checkpoint-after")
    assert after.spec == replace(before.spec, seq=32)
    assert not np.array_equal(after.weights["embedding"], before.weights["embedding"])
    assert np.abs(after.weights["embedding"] - before.weights["embedding"]).max() < 1e-3


# ---------------------------------------------------------------- what is said


def test_the_summary(tmp_path: Path, capsys: Captured) -> None:
    run = run_folder(tmp_path / "run")
    assert convert(run, tmp_path / "out.bin") == 0
    told = capsys.readouterr().out.splitlines()
    count = sum(array.size for array in random_weights(LLAMA).values())
    assert told[0] == f"read: {run}: anetrain, {count:,} parameters, fp32"
    assert told[1] == (
        "model: dim 32, hidden 48, 2 layers, 4 heads of 8, 2 of keys and values, vocabulary 2048, sequences of 64, "
        "tied, RoPE interleaved, base 10000, eps 1e-05"
    )
    size = (tmp_path / "out.bin").stat().st_size
    target = tmp_path / "out.bin"
    assert told[2] == f"written: {target}: llama2c-v0 (by the name; --format says otherwise), fp32, {size:,} bytes"
    assert told[3] == "not carried over: the state of training after update 12"
    assert told[4].startswith("not carried over: which tokenizer it was trained with (")
    assert len(told) == 5
    assert convert(tmp_path / "out.bin", tmp_path / "x", "--format", "huggingface", "--dtype", "bf16") == 0
    assert "huggingface (as asked for), bf16," in capsys.readouterr().out
    (tmp_path / "x" / "generation_config.json").write_text("{}")
    assert convert(tmp_path / "x", tmp_path / "y") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith(f"huggingface, {count:,} parameters, bf16")
    assert told[-1] == "not carried over: generation_config.json"


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("model.bin", "llama2c-v0"),
        ("model", "huggingface"),
        ("Qwen3-0.6B", "huggingface"),
        ("step-00001200", "anetrain"),
        ("my-checkpoint", "anetrain"),
    ],
)
def test_formats_by_name(name: str, format: str) -> None:
    assert guess(Path("some/folder") / name) == format


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model.pt", "config.json"])
def test_names_of_formats_that_are_not_written(tmp_path: Path, capsys: Captured, name: str) -> None:
    formats.save(tmp_path / "a.bin", "llama2c-v0", LLAMA, random_weights(LLAMA))
    assert convert(tmp_path / "a.bin", tmp_path / name) == 2
    assert f"{name}: is the name of no format that is written" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_a_shorter_sequence(tmp_path: Path, capsys: Captured) -> None:
    formats.save(tmp_path / "hf", "huggingface", replace(LLAMA, seq=4096), random_weights(LLAMA))
    assert convert(tmp_path / "hf", tmp_path / "a.bin", "--seq", 128) == 0
    assert llama2c.read(tmp_path / "a.bin")[0].seq == 128
    for seq in (0, 4097):
        assert convert(tmp_path / "hf", tmp_path / "b.bin", "--seq", seq) == 2
        assert f"has sequences of up to 4096, and {seq} were asked for" in capsys.readouterr().err


# ---------------------------------------------------------------- tokenizers


def test_a_tokenizer_goes_along(tmp_path: Path, capsys: Captured) -> None:
    known = builtin_tokenizer()
    scored.write(tmp_path / "mine.bin", known.bin_pieces())
    assert convert(run_folder(tmp_path / "run"), tmp_path / "hf", "--tokenizer", tmp_path / "mine.bin") == 0
    assert (tmp_path / "hf" / "tokenizer.bin").read_bytes() == (tmp_path / "mine.bin").read_bytes()
    assert convert(tmp_path / "hf", tmp_path / "checkpoint") == 0, "from folder to folder without being asked"
    assert load_checkpoint(tmp_path / "checkpoint").tokenizer == known.hash
    assert (tmp_path / "checkpoint" / "tokenizer.bin").exists()
    (tmp_path / "c").mkdir()
    capsys.readouterr()
    assert convert(tmp_path / "checkpoint", tmp_path / "c" / "model.bin") == 0
    assert "not carried over: which tokenizer" in capsys.readouterr().out
    tokenizer = tmp_path / "mine.bin"
    assert convert(tmp_path / "checkpoint", tmp_path / "c" / "model.bin", "--force", "--tokenizer", tokenizer) == 0
    assert (tmp_path / "c" / "tokenizer.bin").read_bytes() == (tmp_path / "mine.bin").read_bytes()
    assert "not carried over" not in capsys.readouterr().out


def test_the_builtin_tokenizer_goes_along(tmp_path: Path) -> None:
    run, pieces = run_folder(tmp_path / "run"), builtin_tokenizer().bin_pieces()
    for target, written in (("hf", "hf/tokenizer.bin"), ("c.bin", "tokenizer.bin")):
        assert convert(run, tmp_path / target, "--tokenizer", "builtin") == 0
        assert (tmp_path / written).read_bytes() == scored.to_bin(pieces)


def test_tokenizers_that_do_not_fit(tmp_path: Path, capsys: Captured) -> None:
    pieces = builtin_tokenizer().bin_pieces()
    scored.write(tmp_path / "more.bin", [*pieces, (b"zzzz", -9e9)])
    scored.write(tmp_path / "other.bin", [*pieces[:-1], (b"zzzz", -9e9)])
    run = run_folder(tmp_path / "run")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "tokenizer.bin").write_bytes(b"mine")
    scored.write(tmp_path / "same.bin", pieces)
    for name, target, words in (
        ("more.bin", "hf", "has ids up to 2048, and the model only 2048"),
        ("other.bin", "hf", "was trained with"),
        ("same.bin", "c/model.bin", "tokenizer.bin exists and is another tokenizer"),
    ):
        assert convert(run, tmp_path / target, "--tokenizer", tmp_path / name) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / target).exists()


def test_blocks_of_ones_own_cannot_be_converted(tmp_path: Path, capsys: Captured) -> None:
    """Their names and shapes may be those of a Llama; their function is not."""
    with Store(tmp_path / "run") as store:
        store.save(State(1, LLAMA, random_weights(LLAMA), config={"model": {"import": "mine:build"}}))
    assert convert(tmp_path / "run", tmp_path / "hf") == 2
    assert "run: has blocks of its own (mine:build)" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


# ---------------------------------------------------------------- nothing is lost


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: Captured) -> None:
    run = run_folder(tmp_path / "run")
    for target in ("a.bin", "hf", "checkpoint"):
        assert convert(run, tmp_path / target) == 0
        before = files_of(tmp_path)
        assert convert(run, tmp_path / target) == 2
        assert f"{target} exists; choose another name" in capsys.readouterr().err
        assert files_of(tmp_path) == before
        assert convert(run, tmp_path / target, "--force") == 0
    for target, other in (("hf", "notes.txt"), ("checkpoint", "notes.txt"), ("run", "step-00000012")):
        if other == "notes.txt":
            (tmp_path / target / other).write_text("mine")
        before = files_of(tmp_path)
        for format in ("huggingface", "anetrain"):
            assert convert(tmp_path / "a.bin", tmp_path / target, "--force", "--format", format) == 2
            assert other in capsys.readouterr().err
        assert files_of(tmp_path) == before


@pytest.mark.parametrize("target", ["a.bin", "hf", "checkpoint"])
@pytest.mark.parametrize("there", [True, False])
def test_ctrl_c_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, target: str, there: bool
) -> None:
    run = run_folder(tmp_path / "run")
    if there:
        assert convert(run, tmp_path / target) == 0
    before = files_of(tmp_path)
    copied = formats._copied

    def interrupted(checkpoint: Any, name: str) -> Any:
        if name == "layers.1.ffn.w2":
            raise KeyboardInterrupt
        return copied(checkpoint, name)

    monkeypatch.setattr(formats, "_copied", interrupted)
    capsys.readouterr()
    assert convert(run, tmp_path / target, "--force") == 130
    assert capsys.readouterr().err == "anetrain convert: interrupted\n"
    assert files_of(tmp_path) == before
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        convert("--help")
    assert caught.value.code == 0
    assert "anetrain convert Qwen3-0.6B checkpoint-qwen3" in capsys.readouterr().out


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """They run, and print what the page shows."""
    page = (Path(__file__).parent.parent / "docs" / "interop.md").read_text(encoding="utf-8")
    shell, shown = re.search(r"```sh\n(.*?)```\n```\n(.*?)```", page, re.DOTALL).groups()  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    model = Model.preset("tiny-llama")
    formats.save("tiny.bin", "llama2c-v0", model.spec, model.initial(seed=0))
    told = []
    for line in shell.splitlines():
        assert anetrain(shlex.split(line, comments=True)[1:]) == 0
        told.append(re.sub(r"[\d,]+ bytes", "", capsys.readouterr().out))
    assert told[1] == re.sub(r"[\d,]+ bytes", "", shown)
