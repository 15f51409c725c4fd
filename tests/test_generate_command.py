"""`anetrain generate`: every kind of model, what is written and where, one sentence for everything that is wrong."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anetrain import formats, train
from anetrain.checkpoint import State, Store, checkpoints
from anetrain.cli import main as anetrain
from anetrain.data import tokenizers
from anetrain.data.tokenizers import builtin_tokenizer, scored
from anetrain.generation import RecomputingEngine, Sampler, generate, texts
from anetrain.model import Model
from anetrain.spec import ModelSpec
from tests.emulated import realistic_weights
from tests.support import emulator, need

pytestmark = pytest.mark.usefixtures("no_waiting")

Captured = pytest.CaptureFixture[str]

ROOT = Path(__file__).parent.parent
VOCAB = builtin_tokenizer().vocab
SPEC = ModelSpec(dim=32, hidden=48, layers=2, heads=4, kv_heads=2, head_dim=8, vocab=VOCAB, seq=48)
QWEN3 = replace(SPEC, rope="half", rope_base=1e6, norm_eps=1e-6, qk_norm=True, vocab=300)
PROMPT = "Once upon a time"
CONFIG = f"""
model: {{dim: 16, hidden: 24, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, seq: 32, vocab: {VOCAB}}}
data: {{path: builtin, stories: 40, validation_tokens: 200}}
train: {{updates: 4, validate_every: 1}}
optim: {{lr: 1e-2}}
schedule: {{warmup: 0}}
device: {{kind: emulator, live_budget: 1000000, compile_budget: 1000000}}
checkpoint: {{every: 1, keep: 5}}
"""


@pytest.fixture(autouse=True)
def _budgets(without_budgets: None) -> None:
    """All tests of a process count together."""


def run(capsys: Captured, model: object, *arguments: object, prompt: str = PROMPT) -> tuple[str, str]:
    """What went to stdout and to stderr."""
    capsys.readouterr()
    given = ["generate", model, "--prompt", prompt, "--device", "emulator:exact", *arguments]
    code = anetrain([str(argument) for argument in given])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def refused(capsys: Captured, model: object, *arguments: object, prompt: str = PROMPT, code: int = 2) -> str:
    """The one sentence."""
    capsys.readouterr()
    given = ["generate", model, "--prompt", prompt, "--device", "emulator:exact", *arguments]
    assert anetrain([str(argument) for argument in given]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("anetrain generate: ")
    assert err.count("\n") == 1
    return err


def llama2c(folder: Path, spec: ModelSpec = SPEC, *, tokenizer: bool = True) -> Path:
    path = folder / "model.bin"
    formats.save(path, "llama2c-v0", spec, realistic_weights(Model(spec), 1))
    if tokenizer:
        scored.write(folder / "tokenizer.bin", builtin_tokenizer().bin_pieces())
    return path


def checkpoint(folder: Path, **changes: object) -> Path:
    model = Model(SPEC)
    state = State(3, SPEC, realistic_weights(model, 1), {}, {}, tokenizer=builtin_tokenizer().hash)
    with Store(folder) as store:
        store.save(replace(state, **changes))  # type: ignore[arg-type]
    return checkpoints(folder)[-1]


def hugging_face(folder: Path) -> Path:
    """Qwen3 with one id for each byte."""
    import tokenizers as library
    from tokenizers import decoders, models, pre_tokenizers

    formats.save(folder, "huggingface", QWEN3, realistic_weights(Model(QWEN3), 2))
    alphabet = {piece: token for token, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = library.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "bos_token": None}))
    return folder


def recomputed(spec: ModelSpec, seed: int, ids: list[int], most: int, tokenizer: tokenizers.Tokenizer) -> list[int]:
    """The greedy answer, each token of the whole text."""
    model = Model(spec)
    with emulator() as device, RecomputingEngine(device, model, realistic_weights(model, seed), 200) as engine:
        sampler = Sampler(0.0, vocab=tokenizer.vocab)
        return list(generate(engine, ids, sampler, most=most, ends=tokenizer.ends))


# ---------------------------------------------------------------- models


def test_a_run(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    assert train.main([str(tmp_path / "small.yaml"), "--out", str(tmp_path / "run")]) == 0
    last = checkpoints(tmp_path / "run")[-1]
    out, err = run(capsys, tmp_path / "run", "--temperature", 0, "--max-new", 9)
    assert out.startswith(PROMPT)
    assert out.endswith("\n")
    assert f"model: {last} (anetrain)" in err
    assert "seed" not in err
    assert run(capsys, last, "--temperature", 0, "--max-new", 9)[0] == out
    err = run(capsys, tmp_path / "run", "--best", "--max-new", 1)[1]
    losses = {
        path: json.loads((path / "checkpoint.json").read_text())["validation_loss"] for path in last.parent.glob("s*")
    }
    assert f"model: {min(losses, key=lambda path: losses[path])} (anetrain)" in err


def test_llama2c(tmp_path: Path, capsys: Captured) -> None:
    tokenizer = builtin_tokenizer()
    ids = tokenizer.encode(PROMPT, bos=True)
    expected = tokenizer.decode([*ids, *recomputed(SPEC, 1, ids, 20, tokenizer)]) + "\n"
    path = llama2c(tmp_path)
    out, err = run(capsys, path, "--temperature", 0, "--max-new", 20)
    assert out == expected
    assert re.search(rf"prompt: {len(ids)} tokens on emulator:exact .* s; then 20 tokens, [0-9.]+ a second\n", err)
    assert run(capsys, path, "--temperature", 0, "--max-new", 20, "--stream")[0] == expected
    (tmp_path / "tokenizer.bin").unlink()
    assert run(capsys, path, "--temperature", 0, "--max-new", 20, "--tokenizer", "builtin")[0] == expected


def test_a_chat_is_the_published_template(tmp_path: Path, capsys: Captured) -> None:
    need(importlib.util.find_spec("transformers"), "transformers")
    import transformers

    folder = hugging_face(tmp_path / "qwen")
    ours = tokenizers.load(folder)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    theirs.chat_template = (ROOT / "tests" / "golden" / "qwen3_chat.jinja").read_text()
    for arguments, thinking in (([], True), (["--no-thinking"], False)):
        text = theirs.apply_chat_template(
            [{"role": "user", "content": "Why? \U0001f431"}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        ids = theirs.encode(text, add_special_tokens=False)
        answer = "".join(texts(recomputed(QWEN3, 2, ids, 25, ours), ours.stream()))
        options = ["--chat", "--temperature", 0, "--max-new", 25, "--context", 200, *arguments]
        assert run(capsys, folder, *options, prompt="Why? \U0001f431")[0] == answer + "\n"
    assert ours.ends == {ours.eos, ours.encode("<|endoftext|>", special=True)[0]}


def test_ids_of_no_token_never_come(tmp_path: Path, capsys: Captured) -> None:
    """The model has 300 ids, the tokenizer 261: decoding any other one would be an error."""
    out, _ = run(capsys, hugging_face(tmp_path / "qwen"), "--max-new", 40, "--temperature", 100, "--seed", 5)
    assert out.startswith(PROMPT)


def test_blocks_of_ones_own(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_blocks.py").write_text(
        "from anetrain.blocks import Attention, GeluFFN, LlamaBlock\nfrom anetrain.model import Model\n"
        "def build(spec):\n    return Model(spec, LlamaBlock(Attention(window=9), GeluFFN()))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "small.yaml").write_text(CONFIG.replace("model: {", "model: {import: my_blocks:build, "))
    assert train.main(["small.yaml", "--out", "run", "--steps", "1"]) == 0
    out, err = run(capsys, "run", "--max-new", 3, "--temperature", 0)
    assert out.startswith(PROMPT)
    assert "note: GeluFFN stands in the place of SwiGLU, so the whole text is computed again on the device" in err
    monkeypatch.delitem(sys.modules, "my_blocks")
    (tmp_path / "my_blocks.py").unlink()
    assert "model.import: my_blocks" in refused(capsys, "run")


# ---------------------------------------------------------------- options


def test_seeds(tmp_path: Path, capsys: Captured) -> None:
    path = checkpoint(tmp_path / "run")
    first, other = (run(capsys, path, "--seed", seed, "--max-new", 15)[0] for seed in (1, 2))
    assert first != other
    assert run(capsys, path, "--seed", 1, "--max-new", 15, "--stream")[0] == first
    free, err = run(capsys, path, "--max-new", 15)
    seed = re.search(r"^seed: (\d+)$", err, re.MULTILINE)
    assert seed is not None
    assert run(capsys, path, "--seed", seed[1], "--max-new", 15)[0] == free


def test_sampling_options_arrive(tmp_path: Path, capsys: Captured) -> None:
    path = checkpoint(tmp_path / "run")
    greedy = run(capsys, path, "--temperature", 0, "--max-new", 12)[0]
    for narrow in (["--top-k", 1], ["--top-p", 1e-6], ["--temperature", 1e-6]):
        assert run(capsys, path, "--seed", 3, "--max-new", 12, *narrow)[0] == greedy
    assert run(capsys, path, "--seed", 3, "--max-new", 12)[0] != greedy


def test_a_text_ends_where_the_next_one_begins(tmp_path: Path, capsys: Captured) -> None:
    """A model whose layers do nothing, and which after the prompt's last token finds the first one of a text likely."""
    weights = realistic_weights(Model(SPEC), 1)
    for name in ("layers.0.attention.wo", "layers.0.ffn.w2", "layers.1.attention.wo", "layers.1.ffn.w2"):
        weights[name][:] = 0.0
    tokenizer = builtin_tokenizer()
    weights["embedding"][tokenizer.bos] = 50.0 * weights["embedding"][tokenizer.encode(PROMPT)[-1]]
    path = checkpoint(tmp_path / "run", weights=weights)
    out, err = run(capsys, path, "--temperature", 0)
    assert out == PROMPT + "\n"
    assert "a second" not in err  # nothing came behind the prompt, not even what has no text


def test_streamed_text_comes_in_pieces(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    path = checkpoint(tmp_path / "run")
    monkeypatch.setattr(sys.stdout, "write", written.append)
    code = anetrain(["generate", str(path), "--prompt", PROMPT, "--device", "emulator", "--stream", "--max-new", "12"])
    assert code == 0
    assert len([piece for piece in written if piece.strip()]) > 8


def test_the_context(tmp_path: Path, capsys: Captured) -> None:
    path = checkpoint(tmp_path / "run")
    count = len(builtin_tokenizer().encode(PROMPT, bos=True))
    err = run(capsys, path, "--temperature", 0)[1]
    assert f"then {48 - count} tokens" in err
    assert "stopped: the context of 48 tokens is full (--context)" in err
    err = run(capsys, path, "--temperature", 0, "--context", 70, "--max-new", 60)[1]  # RoPE goes on
    assert f"then {min(60, 70 - count)} tokens" in err
    long = " ".join([PROMPT] * 30)
    assert re.search(r"the prompt has \d+ tokens, and the context is 48,", refused(capsys, path, prompt=long))
    assert run(capsys, path, "--context", 300, "--max-new", 1, prompt=long)[0].startswith(long)


# ---------------------------------------------------------------- what is wrong


def test_what_was_asked_for_is_wrong(tmp_path: Path, capsys: Captured) -> None:
    path = checkpoint(tmp_path / "run")
    for arguments, sentence in (
        (["--temperature", -1], "temperature is -1; expected 0"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--top-k", 0], "top_k is 0; expected at least 1"),
        (["--top-p", 0], "top_p is 0; expected above 0"),
        (["--seed", -3], "seed is -3; expected 0 or more"),
        (["--max-new", 0], "--max-new is 0; expected at least 1"),
        (["--context", 0], "--context is 0; expected at least 1"),
        (["--chat"], "has no chat template"),
        (["--no-thinking"], "--no-thinking is for --chat"),
        (["--device", "emulator:m99"], "m99"),
        (["--device", "gpu"], "gpu"),
        (["--tokenizer", tmp_path / "none.json"], "none.json: there is no such file"),
        (["--best"], "none of its checkpoints has a validation loss"),
    ):
        model = path.parent if arguments == ["--best"] else path
        assert sentence in refused(capsys, model, *arguments)
    for prompt in ("", " \n"):
        assert "the prompt is empty" in refused(capsys, path, prompt=prompt)
    for arguments in (["--temperature", "warm"], ["--top-k", "1.5"], ["--unknown"]):
        with pytest.raises(SystemExit) as caught:
            run(capsys, path, *arguments)
        assert caught.value.code == 2


def test_no_model(tmp_path: Path, capsys: Captured) -> None:
    assert "missing.bin: does not exist" in refused(capsys, tmp_path / "missing.bin")
    (tmp_path / "empty").mkdir()
    assert "nor the config.json of a Hugging Face model" in refused(capsys, tmp_path / "empty")
    folder = hugging_face(tmp_path / "other")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "mamba"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "model_type is 'mamba', expected 'llama' or 'qwen3'" in refused(capsys, folder)
    path = llama2c(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    assert "model.bin: is cut short" in refused(capsys, path)


def test_another_tokenizer(tmp_path: Path, capsys: Captured) -> None:
    pieces = builtin_tokenizer().bin_pieces()
    scored.write(tmp_path / "fewer.bin", pieces[:-5])
    path = checkpoint(tmp_path / "run")
    message = refused(capsys, path, "--tokenizer", tmp_path / "fewer.bin")
    assert re.search(r"fewer\.bin: its hash is \w{16}, and .*/step-00000003 was trained with \w{16}: ids mean", message)
    other = checkpoint(tmp_path / "other", tokenizer="0" * 64)
    assert "found no tokenizer with the hash 0000000000000000 in " in refused(capsys, other)
    assert "name it with --tokenizer" in refused(capsys, llama2c(tmp_path, tokenizer=False))
    scored.write(tmp_path / "more.bin", [*pieces, (b"zebrafish", -9e9)])
    message = refused(capsys, tmp_path / "model.bin", "--tokenizer", tmp_path / "more.bin")
    assert f"the tokenizer has {VOCAB + 1} ids, and {tmp_path}/model.bin knows {VOCAB}" in message


def test_a_tokenizer_with_the_right_hash_is_found(tmp_path: Path, capsys: Captured) -> None:
    scored.write(tmp_path / "tokenizer.bin", builtin_tokenizer().bin_pieces()[:-5])
    hash_ = tokenizers.load(tmp_path / "tokenizer.bin").hash
    beside = checkpoint(tmp_path / "run", tokenizer=hash_)
    (tmp_path / "tokenizer.bin").rename(tmp_path / "run" / "tokenizer.bin")
    assert run(capsys, beside, "--max-new", 2)[0].startswith(PROMPT)


def test_weights_that_are_not_finite(tmp_path: Path, capsys: Captured) -> None:
    weights = realistic_weights(Model(SPEC), 1)
    weights["layers.1.ffn.w2"][3, 3] = 1e30  # infinite in fp16
    path = checkpoint(tmp_path / "run", weights=weights)
    capsys.readouterr()
    assert anetrain(["generate", str(path), "--prompt", PROMPT, "--device", "emulator:exact"]) == 1
    assert "weights or activations are not finite" in capsys.readouterr().err.splitlines()[-1]
