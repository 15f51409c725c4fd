"""Weights as a checkpoint of ours, of step 0, without any training behind it: for `model.weights` and generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from anetrain import files
from anetrain.checkpoint import State, Store
from anetrain.checkpoint.record import NAME
from anetrain.checkpoint.store import LOCK
from anetrain.checkpoint.tensors import STEMS
from anetrain.formats import tensors
from anetrain.formats.equivalent import Weights
from anetrain.spec import ModelSpec


def write(
    folder: Path,
    spec: ModelSpec,
    weights: Weights,
    *,
    tokenizer: str | None = None,
    companions: Mapping[str, Path] = MappingProxyType({}),
    overwrite: bool = False,
) -> None:
    """`folder` is the checkpoint. All weights are in memory meanwhile. `tokenizer` is its hash, `companions` are files
    to lie beside."""
    shapes = {name: item.shape for name, item in tensors.parameters(spec).items()}
    tensors.check_names(weights, shapes)
    tensors.check_folder(folder, lambda name: _is_ours(name) or name in companions, overwrite)
    with files.replacing_folder(folder, overwrite=overwrite) as new:
        arrays = {name: tensors.fetched(weights, name, shape) for name, shape in shapes.items()}
        with Store(new) as store:
            made = store.save(State(0, spec, arrays, tokenizer=tokenizer)).path
        for path in made.iterdir():
            path.rename(new / path.name)
        made.rmdir()
        (new / LOCK).unlink()
        for name, path in companions.items():
            files.copy(path, new / name)


def _is_ours(name: str) -> bool:
    return name == NAME or any(Path(name).match(f"{stem}*.safetensors") for stem in STEMS.values())
