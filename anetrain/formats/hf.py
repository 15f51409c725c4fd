"""Models in Hugging Face folders: config.json beside model.safetensors, or beside its shards and their index.

LlamaForCausalLM and Qwen3ForCausalLM. Both are half-split there; Llama's Wq and Wk get their rows back into the order
of Llama 2 (pairs as neighbours) when they are read, and leave it when they are written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from anetrain import files
from anetrain.formats import hf_config, safetensors_file, tensors
from anetrain.formats.equivalent import Weights, with_rope, without_residual_scale
from anetrain.formats.safetensors_file import Dtype, SafetensorsFile
from anetrain.formats.tensors import Floats, FormatError, Shapes, Tensors
from anetrain.spec import ModelSpec

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000

_WHOLE = {"embedding": "model.embed_tokens", "final_norm": "model.norm", "classifier": "lm_head"}
_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn.w1": "mlp.gate_proj",
    "ffn.w3": "mlp.up_proj",
    "ffn.w2": "mlp.down_proj",
}
_HEAD = "lm_head.weight"
_BUFFER = ".self_attn.rotary_emb.inv_freq"  # what old exports keep beside the parameters


def their_name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name] + ".weight"
    _, number, kind = name.split(".", 2)
    return f"model.layers.{number}.{_LAYER[kind]}.weight"


# ---------------------------------------------------------------- reading


def read(folder: Path) -> tuple[ModelSpec, Weights]:
    spec = hf_config.read(folder / CONFIG)
    found = {name: file for name, file in _located(folder).items() if not name.endswith(_BUFFER)}
    expected = _expected(folder, spec, found)
    _check_names(folder, set(expected.values()), set(found) - ({_HEAD} if spec.tied else set()))
    if spec.tied and _HEAD in found:
        _check_tied(folder, found)
    for name, item in tensors.parameters(spec).items():
        file, theirs = found[expected[name]], expected[name]
        if file.shapes[theirs] != item.shape:
            shape = list(file.shapes[theirs])
            raise FormatError(file.path, f"{theirs} is {shape}, expected {list(item.shape)} from config.json")
    weights = Tensors({name: partial(found[theirs].read, theirs) for name, theirs in expected.items()})
    if spec.qk_norm:
        return spec, weights
    return with_rope(spec, weights, "interleaved")


def _expected(folder: Path, spec: ModelSpec, found: Mapping[str, SafetensorsFile]) -> dict[str, str]:
    """Their names by ours, once the number of layers is known to be true."""
    numbers = {name.split(".")[2] for name in found if name.startswith("model.layers.")}
    if len(numbers) != spec.layers:
        raise FormatError(folder, f"num_hidden_layers is {spec.layers}, but there are tensors of {len(numbers)} layers")
    return {name: their_name(name) for name in tensors.parameters(spec)}


def _check_names(folder: Path, expected: set[str], found: set[str]) -> None:
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    if missing or unexpected:
        raise FormatError(
            folder, f"missing tensors: {tensors.some(missing)}; unexpected tensors: {tensors.some(unexpected)}"
        )


def _check_tied(folder: Path, found: Mapping[str, SafetensorsFile]) -> None:
    head, table = (found[name].stored(name) for name in (_HEAD, their_name("embedding")))
    if head.dtype != table.dtype or not np.array_equal(head, table):
        raise FormatError(folder, f"tie_word_embeddings is true, but {_HEAD} is not the embedding")


def _located(folder: Path) -> dict[str, SafetensorsFile]:
    """The file of each tensor. As transformers does, one file is preferred to shards."""
    if (folder / WEIGHTS).exists():
        file = SafetensorsFile(folder / WEIGHTS)
        return dict.fromkeys(file.shapes, file)
    index = folder / INDEX
    if not index.exists():
        pickles = " (its .bin files are pickles, which are not read)" if any(folder.glob("pytorch_model*.bin")) else ""
        raise FormatError(folder, f"has neither {WEIGHTS} nor {INDEX}{pickles}")
    places = _weight_map(index)
    shards = {name: SafetensorsFile(folder / name) for name in sorted(set(places.values()))}
    for name, shard in places.items():
        if name not in shards[shard].shapes:
            raise FormatError(index, f"{name} should be in {shard}, and is not")
    for shard, file in shards.items():
        strays = [name for name in file.shapes if places.get(name) != shard]
        if strays:
            raise FormatError(index, f"does not know that {shard} has {tensors.some(strays)}")
    return {name: shards[shard] for name, shard in places.items()}


def _weight_map(index: Path) -> dict[str, str]:
    places = hf_config.parsed(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise FormatError(index, "has no weight_map")
    for name, shard in places.items():
        if not isinstance(shard, str) or not shard or Path(shard).name != shard:
            raise FormatError(index, f"weight_map.{name} is {shard!r}, expected the name of a file beside the index")
    return places


def dtypes(folder: Path) -> str:
    """Of the tensors in the files, such as "bf16", or "bf16, fp32" where they differ."""
    return ", ".join(sorted({dtype for file in set(_located(folder).values()) for dtype in file.dtypes}))


def left_out(folder: Path) -> tuple[str, ...]:
    """Files that hold nothing of the model."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.name[0] != "." and not _is_ours(path.name)))


# ---------------------------------------------------------------- writing


def write(
    folder: Path,
    spec: ModelSpec,
    weights: Weights,
    *,
    dtype: Dtype = "fp32",
    shard_bytes: int = SHARD_BYTES,
    companions: Mapping[str, Path] = MappingProxyType({}),
    overwrite: bool = False,
) -> None:
    """Raises ValueError for what neither of the two families computes. Tensors are read and written one at a time.
    `companions`: other files for the folder, such as a tokenizer's, by their names there."""
    if dtype not in safetensors_file.WIDTHS:
        raise ValueError(f"dtype is {dtype!r}, expected {', '.join(safetensors_file.WIDTHS)}")
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes is {shard_bytes}, expected a positive number of bytes")
    spec, weights = _as_theirs(spec, weights)
    shapes = {name: item.shape for name, item in tensors.parameters(spec).items()}
    tensors.check_names(weights, shapes)
    tensors.check_folder(folder, lambda name: _is_ours(name) or name in companions, overwrite)
    shards = _shards(shapes, safetensors_file.WIDTHS[dtype], shard_bytes)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = [WEIGHTS]
    with files.replacing_folder(folder, overwrite=overwrite) as new:
        for file_name, ours in zip(names, shards, strict=True):
            _write_shard(new / file_name, {name: shapes[name] for name in ours}, dtype, weights)
        if len(shards) > 1:
            total = safetensors_file.WIDTHS[dtype] * sum(map(math.prod, shapes.values()))
            places = {their_name(name): file for file, ours in zip(names, shards, strict=True) for name in ours}
            _write_text(new / INDEX, json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2))
        _write_text(new / CONFIG, hf_config.text(spec, dtype))
        for name, path in companions.items():
            files.copy(path, new / name)


def _as_theirs(spec: ModelSpec, weights: Weights) -> tuple[ModelSpec, Weights]:
    if spec.rope == "none":
        raise ValueError("rope is 'none'; Llama and Qwen3 always turn q and k, so this model would become another one")
    if not spec.qk_norm and spec.dim % spec.heads:
        raise ValueError(f"dim is {spec.dim}; transformers wants a multiple of heads, {spec.heads}, in a Llama")
    return without_residual_scale(*with_rope(spec, weights, "half"))


def _is_ours(name: str) -> bool:
    return name in (CONFIG, WEIGHTS, INDEX) or Path(name).match("model-*-of-*.safetensors")


def _shards(shapes: Shapes, width: int, limit: int) -> list[list[str]]:
    """Names, in order, in files of at most `limit` bytes; a tensor larger than that has a file of its own."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, shape in shapes.items():
        size = width * math.prod(shape)
        if shards[-1] and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def _write_shard(path: Path, shapes: Shapes, dtype: Dtype, weights: Weights) -> None:
    ours = {their_name(name): name for name in shapes}

    def read(theirs: str) -> Floats:
        return tensors.fetched(weights, ours[theirs], shapes[ours[theirs]])

    safetensors_file.write(path, {theirs: shapes[name] for theirs, name in ours.items()}, dtype, read)


def _write_text(path: Path, text: str) -> None:
    with files.new_file(path) as file:
        file.write(text.encode())
