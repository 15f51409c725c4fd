"""Models from and to the files of other programs.

    loaded = load("stories15M.bin")     # llama2.c; Hugging Face's; checkpoints, ours and the earlier trainers'
    loaded.spec, loaded.weights["embedding"], loaded.notes
    save("out", "huggingface", loaded.spec, loaded.weights, dtype="bf16")

Tensors are read when they are asked for: to convert a model takes the memory of its largest tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from anetrain.checkpoint import Checkpoint, CheckpointError, find
from anetrain.checkpoint import load as load_checkpoint
from anetrain.formats import hf, legacy, llama2c, ours
from anetrain.formats.safetensors_file import Dtype
from anetrain.formats.tensors import Floats, FormatError, Tensors
from anetrain.spec import ModelSpec

__all__ = ["FORMATS", "Dtype", "FormatError", "Loaded", "load", "save"]

FORMATS = ("huggingface", "llama2c-v0", "llama2c-v1", "anetrain")
"""What `save` writes."""

_FOREIGN = {  # first bytes of what people may take for a model of ours
    b"PK\x03\x04": "a zip file, as PyTorch writes: pickles are not read; convert it to safetensors with PyTorch",
    b"GGUF": "a GGUF file, which is not read",
}


@dataclass(frozen=True)
class Loaded:
    """`weights`: each [...] reads the tensor anew; `dict(weights)` reads all. `dtype`: what they are in the file.
    `notes`: what to tell the user; `left_out`: what is there beside the model, and is no part of it. `tokenizer`: its
    hash, where a checkpoint has it. `blocks`: model.import of the run, where its blocks are its own. `checkpoint`: all
    that an earlier trainer's file has. (What else is in one of ours, anetrain.checkpoint gives.) `about_seq`: notes for
    whoever has not chosen a length."""

    format: str
    spec: ModelSpec
    weights: Mapping[str, Floats]
    dtype: str
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    tokenizer: str | None = None
    blocks: str | None = None
    checkpoint: legacy.Checkpoint | None = None
    about_seq: tuple[str, ...] = ()


def load(path: str | Path) -> Loaded:
    """Whatever model there is, recognised by what is in it. Raises FormatError."""
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    first = _first_bytes(path)
    if first == legacy.MAGIC.to_bytes(4, "little"):
        checkpoint = legacy.read(path)
        return _of_legacy(checkpoint)
    for magic, what in _FOREIGN.items():
        if first.startswith(magic):
            raise FormatError(path, f"is {what}")
    if path.name == hf.CONFIG or path.suffix in (".safetensors", ".json"):
        raise FormatError(path, f"is a part of a Hugging Face model; expected its folder, {path.parent}")
    try:
        spec, weights, version = llama2c.read(path)
    except FormatError as error:
        if first == llama2c.MAGIC:
            raise
        raise FormatError(path, f"{error.detail} (no format's first bytes, so read as llama2.c v0)") from error
    return Loaded(f"llama2c-v{version}", spec, weights, "int8" if version == 2 else "fp32")


def save(
    path: str | Path,
    format: str,
    spec: ModelSpec,
    weights: Mapping[str, Floats],
    *,
    dtype: Dtype = "fp32",
    shard_bytes: int = hf.SHARD_BYTES,
    tokenizer: str | None = None,
    companions: Mapping[str, Path] = MappingProxyType({}),
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Writes one of FORMATS, whole or not at all, and returns notes on what the new model has otherwise.

    ValueError: the format cannot say what the spec says. FileExistsError: something is there and `overwrite` is not
    set. `dtype` and `shard_bytes` are for huggingface, the others have fp32; `tokenizer`, its hash, is for a checkpoint
    of ours; `companions` are files for the folder, by their names there.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected {', '.join(FORMATS)}")
    if format == "huggingface":
        hf.write(path, spec, weights, dtype=dtype, shard_bytes=shard_bytes, companions=companions, overwrite=overwrite)
    elif dtype != "fp32":
        raise ValueError(f"dtype is {dtype!r}; {format} is fp32")
    elif format == "anetrain":
        ours.write(path, spec, weights, tokenizer=tokenizer, companions=companions, overwrite=overwrite)
    else:
        llama2c.write(path, spec, weights, version=int(format[-1]), overwrite=overwrite)
    if format == "anetrain" or spec.residual_scale == 1.0:
        return ()
    return (f"the residual scale {spec.residual_scale:.6g} went into wo and w2: the same function to fp32 rounding",)


def _load_folder(path: Path) -> Loaded:
    if (path / hf.CONFIG).exists():
        spec, weights = hf.read(path)
        longest = f"seq is {spec.seq}, the longest that the config allows; a shorter one trains faster"
        dtypes, left_out = hf.dtypes(path), hf.left_out(path)
        return Loaded("huggingface", spec, weights, dtypes, left_out=left_out, about_seq=(longest,))
    try:
        place = find(path)
    except CheckpointError as error:
        raise FormatError(path, f"{error.detail}, nor the {hf.CONFIG} of a Hugging Face model") from error
    try:
        found = load_checkpoint(place, weights_only=True)
    except CheckpointError as error:
        raise FormatError(error.path, error.detail) from error
    weights = Tensors({name: partial(_copied, found, name) for name in found.weights})
    rest = (f"the state of training after update {found.step}",) if found.step else ()
    blocks = (found.config.get("model") or {}).get("import")
    return Loaded("anetrain", found.spec, weights, "fp32", left_out=rest, tokenizer=found.tokenizer, blocks=blocks)


def _of_legacy(found: legacy.Checkpoint) -> Loaded:
    rest = (f"the optimizer's moments and the counters, after step {found.counters.step}",)
    return Loaded(f"legacy-v{found.version}", found.spec, found.weights, "fp32", found.notes, rest, checkpoint=found)


def _copied(checkpoint: Checkpoint, name: str) -> Floats:
    try:
        return np.array(checkpoint.weights[name])
    except CheckpointError as error:
        raise FormatError(error.path, error.detail) from error


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise FormatError(path, "is neither a file nor a folder" if path.exists() else "does not exist")
    with path.open("rb") as file:
        return file.read(4)
