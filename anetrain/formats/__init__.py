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

import numpy as np

from anetrain.checkpoint import Checkpoint, CheckpointError, find
from anetrain.checkpoint import load as load_checkpoint
from anetrain.formats import hf, legacy, llama2c
from anetrain.formats.safetensors_file import Dtype
from anetrain.formats.tensors import Floats, FormatError, Tensors
from anetrain.spec import ModelSpec

__all__ = ["FORMATS", "Dtype", "FormatError", "Loaded", "load", "save"]

FORMATS = ("huggingface", "llama2c-v0", "llama2c-v1")
"""What `save` writes."""

_FOREIGN = {  # first bytes of what people may take for a model of ours
    b"PK\x03\x04": "a zip file, as PyTorch writes: pickles are not read; convert it to safetensors with PyTorch",
    b"GGUF": "a GGUF file, which is not read",
}


@dataclass(frozen=True)
class Loaded:
    """`weights`: each [...] reads the tensor anew; `dict(weights)` reads all. `notes`: what to tell the user.
    `checkpoint`: all that an earlier trainer's file has. (What else is in one of ours, anetrain.checkpoint gives.)"""

    format: str
    spec: ModelSpec
    weights: Mapping[str, Floats]
    notes: tuple[str, ...] = ()
    checkpoint: legacy.Checkpoint | None = None


def load(path: str | Path) -> Loaded:
    """Whatever model there is, recognised by what is in it. Raises FormatError."""
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    first = _first_bytes(path)
    if first == legacy.MAGIC.to_bytes(4, "little"):
        checkpoint = legacy.read(path)
        name = f"legacy-v{checkpoint.version}"
        return Loaded(name, checkpoint.spec, checkpoint.weights, checkpoint.notes, checkpoint)
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
    return Loaded(f"llama2c-v{version}", spec, weights)


def save(
    path: str | Path,
    format: str,
    spec: ModelSpec,
    weights: Mapping[str, Floats],
    *,
    dtype: Dtype = "fp32",
    shard_bytes: int = hf.SHARD_BYTES,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Writes one of FORMATS, whole or not at all, and returns notes on what the new model has otherwise.

    ValueError: the format cannot say what the spec says. FileExistsError: something is there and `overwrite` is not
    set. `dtype` and `shard_bytes` are for huggingface; llama2.c has fp32.
    """
    path = Path(path)
    if format == "huggingface":
        hf.write(path, spec, weights, dtype=dtype, shard_bytes=shard_bytes, overwrite=overwrite)
    elif format in FORMATS:
        if dtype != "fp32":
            raise ValueError(f"dtype is {dtype!r}; llama2.c files are fp32")
        llama2c.write(path, spec, weights, version=int(format[-1]), overwrite=overwrite)
    else:
        raise ValueError(f"format is {format!r}, expected {', '.join(FORMATS)}")
    if spec.residual_scale == 1.0:
        return ()
    return (f"the residual scale {spec.residual_scale:.6g} went into wo and w2: the same function to fp32 rounding",)


def _load_folder(path: Path) -> Loaded:
    if (path / hf.CONFIG).exists():
        spec, weights = hf.read(path)
        note = f"seq is {spec.seq}, the longest that the config allows; a shorter one trains faster"
        return Loaded("huggingface", spec, weights, (note,))
    try:
        place = find(path)
    except CheckpointError as error:
        raise FormatError(path, f"{error.detail}, nor the {hf.CONFIG} of a Hugging Face model") from error
    try:
        ours = load_checkpoint(place, weights_only=True)
    except CheckpointError as error:
        raise FormatError(error.path, error.detail) from error
    return Loaded("anetrain", ours.spec, Tensors({name: partial(_copied, ours, name) for name in ours.weights}))


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
