"""Hugging Face folders, judged by transformers: what we write loads there and computes the same, and the other way."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anetrain.blocks import qwen3_spec
from anetrain.formats import load, save
from anetrain.formats.equivalent import with_rope
from anetrain.spec import ModelSpec
from tests.block_runs import assert_close
from tests.model_files import Arrays, assert_same, logits, random_weights, refused
from tests.support import need

SIZES: dict[str, Any] = {"dim": 32, "hidden": 44, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 61, "seq": 16}
SPECS = {
    "llama": ModelSpec(**SIZES, head_dim=8, tied=False, norm_eps=1e-5, rope_base=5e5),
    "llama, tied, wide heads": ModelSpec(**SIZES, head_dim=12, tied=True, norm_eps=1e-6),
    "qwen3": qwen3_spec(**SIZES, head_dim=16, tied=True),
    "qwen3, own classifier": qwen3_spec(**SIZES, head_dim=8, tied=False, rope_base=1e4),
}
IDS = np.array([5, 60, 0, 17, 17, 3, 8, 42, 1])


@pytest.fixture(scope="module")
def transformers() -> Any:
    for package in ("torch", "transformers"):
        need(importlib.util.find_spec(package), f"{package} is not installed")
    import transformers

    return transformers


def their_logits(transformers: Any, folder: Path) -> np.ndarray:
    import torch

    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float64, attn_implementation="eager"
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not report[problem], f"{problem}: {report[problem]}"
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor(IDS)[None]).logits[0].numpy()
    return found


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("shard_bytes", [10**9, 9000])
@pytest.mark.parametrize("name", SPECS)
def test_what_we_write_is_the_same_model_there(transformers: Any, tmp_path: Path, name: str, shard_bytes: int) -> None:
    spec, weights = SPECS[name], random_weights(SPECS[name])
    save(tmp_path / "model", "huggingface", spec, weights, shard_bytes=shard_bytes)
    shards = list((tmp_path / "model").glob("*.safetensors"))
    assert (len(shards) > 2) == (shard_bytes < 10**9)
    theirs = their_logits(transformers, tmp_path / "model")
    assert_close(theirs, logits(spec, weights, IDS), "logits", 1e-5)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert (config.rope_parameters["rope_theta"], config.rms_norm_eps) == (spec.rope_base, spec.norm_eps)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_what_they_write_is_the_same_model_here(transformers: Any, tmp_path: Path, name: str, sharded: bool) -> None:
    """In a model of theirs with random gains; and then through us to a folder again."""
    model = their_model(transformers, SPECS[name])
    model.save_pretrained(tmp_path / "theirs", max_shard_size="10KB" if sharded else "1GB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists() == sharded
    loaded = load(tmp_path / "theirs")
    assert loaded.format == "huggingface"
    assert loaded.spec == SPECS[name]
    expected = their_logits(transformers, tmp_path / "theirs")
    assert_close(logits(loaded.spec, loaded.weights, IDS), expected, "logits", 1e-5)
    save(tmp_path / "ours", "huggingface", loaded.spec, loaded.weights)
    assert_same(raw(tmp_path / "ours"), raw(tmp_path / "theirs"))


def their_model(transformers: Any, spec: ModelSpec) -> Any:
    import torch

    make, config = (
        (transformers.Qwen3ForCausalLM, transformers.Qwen3Config)
        if spec.qk_norm
        else (transformers.LlamaForCausalLM, transformers.LlamaConfig)
    )
    torch.manual_seed(0)
    model = make(
        config(
            hidden_size=spec.dim,
            intermediate_size=spec.hidden,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            num_key_value_heads=spec.kv_heads,
            head_dim=spec.head_dim,
            vocab_size=spec.vocab,
            max_position_embeddings=spec.seq,
            rms_norm_eps=spec.norm_eps,
            tie_word_embeddings=spec.tied,
            rope_parameters={"rope_type": "default", "rope_theta": spec.rope_base},
            initializer_range=0.3,
        )
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.2, 3.0)
    return model


def raw(folder: Path) -> Arrays:
    from safetensors.numpy import load_file

    found: Arrays = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_narrow_types_as_torch_rounds_them(tmp_path: Path, dtype: Any) -> None:
    need(importlib.util.find_spec("torch"), "torch is not installed")
    import torch
    from safetensors.torch import load_file

    spec = replace(SPECS["qwen3"], vocab=2500)
    weights = random_weights(spec)
    bits = np.random.default_rng(5).integers(0, 2**32, weights["embedding"].shape, dtype=np.uint32)
    tie = 16 if dtype == "bf16" else 13  # half a unit in the last place of the narrow type: half of the rows
    bits[::2] = bits[::2] >> tie << tie | 1 << tie - 1
    values = bits.view(np.float32)
    limit = 6.5e4 if dtype == "fp16" else 3e38
    weights["embedding"] = np.where(np.abs(values) < limit, values, np.float32(1.0))  # subnormal numbers included
    save(tmp_path / "narrow", "huggingface", spec, weights, dtype=dtype)
    stored = load_file(tmp_path / "narrow" / "model.safetensors")
    narrow = torch.bfloat16 if dtype == "bf16" else torch.float16
    assert {tensor.dtype for tensor in stored.values()} == {narrow}
    expected = torch.tensor(weights["embedding"]).to(narrow)
    assert torch.equal(stored["model.embed_tokens.weight"].view(torch.int16), expected.view(torch.int16))
    loaded = load(tmp_path / "narrow")
    np.testing.assert_array_equal(loaded.weights["embedding"], expected.float().numpy())
    save(tmp_path / "again", "huggingface", loaded.spec, loaded.weights, dtype=dtype)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "narrow")


@pytest.mark.parametrize(("dtype", "value"), [("fp16", 65520.0), ("bf16", 3.4e38)])
def test_values_that_a_narrow_type_cannot_hold(tmp_path: Path, dtype: Any, value: float) -> None:
    weights = random_weights(SPECS["qwen3"])
    weights["layers.1.ffn.w2"][3, 4] = value
    with pytest.raises(ValueError, match=rf"layers\.1\.mlp\.down_proj.*{dtype} cannot hold"):
        save(tmp_path / "narrow", "huggingface", SPECS["qwen3"], weights, dtype=dtype)
    assert not list(tmp_path.iterdir())


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------- round trips and the order of rows


@pytest.mark.parametrize("shard_bytes", [10**9, 5000])
@pytest.mark.parametrize("name", SPECS)
def test_round_trips(tmp_path: Path, name: str, shard_bytes: int) -> None:
    spec, weights = SPECS[name], random_weights(SPECS[name])
    save(tmp_path / "first", "huggingface", spec, weights, shard_bytes=shard_bytes)
    loaded = load(tmp_path / "first")
    assert loaded.spec == spec
    assert_same(loaded.weights, weights)
    save(tmp_path / "second", "huggingface", loaded.spec, loaded.weights, shard_bytes=shard_bytes)
    assert files_of(tmp_path / "second") == files_of(tmp_path / "first")
    for path in (tmp_path / "first").glob("*.safetensors"):
        assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0  # so that tensors are aligned
    for path in (tmp_path / "first").glob("model-*"):
        count = len(raw_names(path))
        assert count == 1 or (count > 1 and path.stat().st_size < 5000 + 2000)


def raw_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return list(file.keys())


@settings(max_examples=50, deadline=None)
@given(heads=st.integers(1, 4), ratio=st.integers(1, 3), half=st.integers(1, 6), seed=st.integers(0, 9))
def test_the_order_of_rows_goes_both_ways(heads: int, ratio: int, half: int, seed: int) -> None:
    spec = ModelSpec(10, 3, 1, heads * ratio, heads, 2 * half, 5, 4)
    weights = random_weights(spec, seed)
    split_spec, split = with_rope(spec, weights, "half")
    back_spec, back = with_rope(split_spec, split, "interleaved")
    assert (split_spec, back_spec) == (replace(spec, rope="half"), spec)
    assert_same(back, weights)
    for name, kind in (("wq", heads * ratio), ("wk", heads)):
        rows = weights[f"layers.0.attention.{name}"].reshape(kind, 2 * half, 10)
        expected = np.concatenate([rows[:, 0::2], rows[:, 1::2]], axis=1).reshape(-1, 10)
        np.testing.assert_array_equal(split[f"layers.0.attention.{name}"], expected)
    for name in set(weights) - {"layers.0.attention.wq", "layers.0.attention.wk"}:
        np.testing.assert_array_equal(split[name], weights[name])


def test_models_that_neither_family_computes(tmp_path: Path) -> None:
    spec = SPECS["llama"]
    for changes, words in (({"rope": "none"}, "rope is 'none'"), ({"dim": 30}, "dim is 30")):
        other = replace(spec, **changes)
        with pytest.raises(ValueError, match=words):
            save(tmp_path / "m", "huggingface", other, random_weights(other))
    weights = random_weights(spec)
    for options, words in (({"dtype": "fp8"}, "dtype is 'fp8'"), ({"shard_bytes": 0}, "shard_bytes is 0")):
        with pytest.raises(ValueError, match=words):
            save(tmp_path / "m", "huggingface", spec, weights, **options)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- config.json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "model", "huggingface", SPECS["llama"], random_weights(SPECS["llama"]), shard_bytes=9000)
    return tmp_path / "model"


def configured(folder: Path, **changes: Any) -> Path:
    """... leaves a setting out."""
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {name: value for name, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({}, 5e5),
        ({"rope_parameters": ...}, 5e5),
        ({"rope_theta": ...}, 5e5),
        ({"rope_theta": ..., "rope_parameters": ...}, 1e4),
        ({"rope_theta": 7, "rope_parameters": None, "rope_scaling": None}, 7.0),
        ({"rope_theta": 7.5, "rope_parameters": ..., "rope_scaling": {"type": "default"}}, 7.5),
        ({"rope_theta": ..., "rope_parameters": {"rope_theta": 3e6}}, 3e6),
        ({"rope_theta": 3e6, "rope_parameters": {"rope_type": "default"}}, 3e6),
    ],
)
def test_both_spellings_of_the_base(folder: Path, changes: dict[str, Any], base: float) -> None:
    assert load(configured(folder, **changes)).spec.rope_base == base


def test_what_may_be_left_out(folder: Path) -> None:
    names = ["architectures", "head_dim", "hidden_act", "attention_bias", "mlp_bias", "tie_word_embeddings"]
    left = configured(folder, rms_norm_eps=..., torch_dtype=..., **dict.fromkeys(names, ...))
    assert load(left).spec == replace(SPECS["llama"], norm_eps=1e-6)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, ["model_type is 'gpt2'", "'llama' or 'qwen3'"]),
        ({"model_type": ["llama"]}, ["model_type is ['llama']"]),
        ({"architectures": ["LlamaForSequenceClassification"]}, ["LlamaForSequenceClassification"]),
        ({"model_type": "qwen3"}, ["architectures", "Qwen3ForCausalLM"]),
        ({"hidden_size": ...}, ["hidden_size is missing"]),
        ({"hidden_size": "32"}, ["hidden_size is '32'"]),
        ({"hidden_size": 0}, ["hidden_size is 0"]),
        ({"hidden_size": True}, ["hidden_size is True"]),
        ({"hidden_size": 40}, ["model.embed_tokens.weight is [61, 32], expected [61, 40]"]),
        ({"num_hidden_layers": 3}, ["num_hidden_layers is 3", "2 layers"]),
        ({"num_hidden_layers": 2**60}, ["num_hidden_layers", "2 layers"]),
        ({"num_attention_heads": 2**60}, ["q_proj.weight"]),
        ({"num_attention_heads": 5}, ["num_attention_heads is 5", "2 kv heads"]),
        ({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": ...}, ["hidden_size is 32", "5"]),
        ({"num_key_value_heads": ...}, ["k_proj.weight is [16, 32], expected [32, 32]"]),
        ({"head_dim": 7}, ["head_dim is 7", "even"]),
        ({"vocab_size": 62}, ["model.embed_tokens.weight is [61, 32]"]),
        ({"hidden_act": "gelu"}, ["hidden_act is 'gelu'", "'silu'"]),
        ({"attention_bias": True}, ["attention_bias is True"]),
        ({"mlp_bias": True}, ["mlp_bias is True"]),
        ({"use_sliding_window": True}, ["use_sliding_window is True"]),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ["layer_types", "sliding_attention"]),
        ({"layer_types": 3}, ["layer_types is 3"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config"]),
        ({"tie_word_embeddings": "yes"}, ["tie_word_embeddings is 'yes'"]),
        ({"tie_word_embeddings": True}, ["lm_head.weight is not the embedding"]),
        ({"rms_norm_eps": -1e-5}, ["rms_norm_eps is -1e-05"]),
        ({"rms_norm_eps": "1e-5"}, ["rms_norm_eps is '1e-5'"]),
        ({"rope_theta": 10**400, "rope_parameters": ...}, ["rope_theta"]),
        ({"rope_theta": 1e4}, ["rope_theta is 10000 but rope_parameters.rope_theta is 500000"]),
        ({"rope_parameters": LLAMA3}, ["rope_parameters.rope_type is 'llama3'"]),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_scaling.type is 'linear'"]),
        ({"rope_scaling": {"factor": 2.0}}, ["rope_scaling.factor is 2.0"]),
        ({"rope_scaling": "yarn"}, ["rope_scaling is 'yarn'"]),
        ({"partial_rotary_factor": 0.5}, ["partial_rotary_factor is 0.5"]),
    ],
)
def test_configs_that_are_refused(folder: Path, changes: dict[str, Any], words: list[str]) -> None:
    refused(lambda: load(configured(folder, **changes)), folder, *words)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_config(folder: Path, content: bytes) -> None:
    for name in ("config.json", "model.safetensors.index.json"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        refused(lambda: load(folder), folder / name)
        (folder / name).write_bytes(before)
    (folder / "config.json").unlink()
    refused(lambda: load(folder), folder, "nor the config.json")


# ---------------------------------------------------------------- tensors


Change = Callable[[Arrays], None]


def single(tmp_path: Path, spec: ModelSpec, change: Change) -> Path:
    """A folder with one file, whose tensors were changed."""
    from safetensors.numpy import save_file

    save(tmp_path / "model", "huggingface", spec, random_weights(spec))
    found = raw(tmp_path / "model")
    change(found)
    save_file(found, tmp_path / "model" / "model.safetensors")
    return tmp_path / "model"


def test_missing_and_unexpected_tensors(tmp_path: Path) -> None:
    def change(found: Arrays) -> None:
        del found["model.layers.1.mlp.up_proj.weight"]
        found["model.layers.1.mlp.up_proj.bias"] = np.zeros(3, np.float32)

    folder = single(tmp_path, SPECS["llama"], change)
    refused(lambda: load(folder), folder, "missing tensors: model.layers.1.mlp.up_proj.weight", "up_proj.bias")


def test_tensors_of_other_types_and_shapes(tmp_path: Path) -> None:
    def integers(found: Arrays) -> None:
        found["model.norm.weight"] = np.ones(32, np.int32)

    def turned(found: Arrays) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        found[name] = np.ascontiguousarray(found[name].T)

    for number, (change, words) in enumerate(((integers, "is I32"), (turned, "is [32, 44], expected [44, 32]"))):
        (tmp_path / str(number)).mkdir()
        folder = single(tmp_path / str(number), SPECS["llama"], change)
        refused(lambda folder=folder: load(folder), folder / "model.safetensors", words)


def test_a_tied_head_may_be_there_twice_if_it_is_the_same(tmp_path: Path) -> None:
    spec = SPECS["qwen3"]

    def change(found: Arrays) -> None:
        found["lm_head.weight"] = found["model.embed_tokens.weight"].copy()
        for number in range(spec.layers):
            found[f"model.layers.{number}.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)

    folder = single(tmp_path, spec, change)
    assert_same(load(folder).weights, random_weights(spec))

    def other(found: Arrays) -> None:
        change(found)
        found["lm_head.weight"][60, 31] += 1e-3

    (tmp_path / "other").mkdir()
    folder = single(tmp_path / "other", spec, other)
    refused(lambda: load(folder), folder, "lm_head.weight is not the embedding")


def test_shards_and_their_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    places = content["weight_map"]
    first = places["model.embed_tokens.weight"]

    def indexed(**changes: Any) -> None:
        kept = {name: shard for name, shard in {**places, **changes}.items() if shard is not ...}
        index.write_text(json.dumps({**content, "weight_map": kept}))

    indexed(**{"model.norm.weight": first})
    refused(lambda: load(folder), index, "model.norm.weight should be in", first)
    indexed(**{"model.norm.weight": ...})
    refused(lambda: load(folder), index, "does not know", "model.norm.weight")
    for name in ("../model.safetensors", "/etc/passwd", 3, ""):
        indexed(**{"model.norm.weight": name})
        refused(lambda: load(folder), index, "weight_map.model.norm.weight is")
    indexed(**{"model.norm.weight": "model-9.safetensors"})
    refused(lambda: load(folder), folder / "model-9.safetensors", "does not exist")
    index.write_text("{}")
    refused(lambda: load(folder), index, "no weight_map")
    index.unlink()
    refused(lambda: load(folder), folder, "has neither")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    refused(lambda: load(folder), folder, "pickles")


def test_damaged_safetensors(tmp_path: Path) -> None:
    folder = single(tmp_path, SPECS["llama"], lambda found: None)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    cuts = [0, 1, 7, 8, 9, 8 + length // 2, 8 + length, 9 + length, len(data) // 2, len(data) - 1]
    for content in [*(data[:cut] for cut in cuts), data + b"\0", struct.pack("<Q", 2**63) + data[8:]]:
        path.write_bytes(content)
        refused(lambda: load(folder), path)
    nan = bytearray(data)
    nan[-4:] = struct.pack("<f", np.nan)
    path.write_bytes(bytes(nan))
    refused(lambda: dict(load(folder).weights), path, "holds nan")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bits_of_headers(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """An error of ours, or the same tensors: never another exception, never others."""
    folder = tmp_path_factory.mktemp("flips") / "model"
    weights = random_weights(SPECS["llama"])
    save(folder, "huggingface", SPECS["llama"], weights)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    length = struct.unpack("<Q", content[:8])[0]
    bit = data.draw(st.integers(0, 8 * (8 + length) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content))
    try:
        found = dict(load(folder).weights)
    except ValueError as error:
        assert str(folder) in str(error)  # noqa: PT017 (either is right)
    else:
        assert_same(found, weights)


# ---------------------------------------------------------------- folders that exist


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    before = files_of(folder)
    weights = random_weights(SPECS["qwen3"])
    with pytest.raises(FileExistsError, match="exists"):
        save(folder, "huggingface", SPECS["qwen3"], weights)
    (folder / "tokenizer.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"also holds tokenizer\.json"):
        save(folder, "huggingface", SPECS["qwen3"], weights, overwrite=True)
    (folder / "tokenizer.json").unlink()
    assert files_of(folder) == before
    save(folder, "huggingface", SPECS["qwen3"], weights, overwrite=True)
    assert_same(load(folder).weights, weights)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failure_half_way_leaves_all_as_it_was(folder: Path) -> None:
    before = files_of(folder)
    weights = random_weights(SPECS["qwen3"])
    weights["layers.1.ffn.w3"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"layers\.1\.ffn\.w3 holds nan"):
        save(folder, "huggingface", SPECS["qwen3"], weights, overwrite=True)
    assert files_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
