"""A trained model from wherever it lies, with the tokenizer that its ids are of.

trained = find_model(Path("runs/stories"))       # a run, a checkpoint, a llama2.c file, a Hugging Face folder
tokenizer = find_tokenizer(trained)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anetrain import assembly, checkpoint, formats
from anetrain.config import BUILTIN
from anetrain.data import tokenizers
from anetrain.data.errors import DataError
from anetrain.data.tokenizers import Tokenizer, builtin_tokenizer
from anetrain.mil.types import Array
from anetrain.model import Model


@dataclass(frozen=True)
class Trained:
    """`tokenizer`: the hash that was saved with it, if one was. `places`: where a tokenizer of its own may lie."""

    path: Path
    format: str
    model: Model
    weights: dict[str, Array]
    tokenizer: str | None = None
    places: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def find_model(path: Path, *, best: bool = False) -> Trained:
    """Of a run: the last checkpoint, or the best one. Raises FormatError, CheckpointError, ConfigError."""
    if best:
        path = checkpoint.find(path, "best")
    loaded = formats.load(path)
    if loaded.format == "anetrain":
        return _of_checkpoint(checkpoint.find(path), loaded)
    return Trained(path, loaded.format, Model(loaded.spec), dict(loaded.weights), None, (_folder(path),), loaded.notes)


def find_tokenizer(trained: Trained, named: str | None = None) -> Tokenizer:
    """The one that is named, "builtin" or a path, or the builtin one where the model was trained with it, or one beside
    the model."""
    if named is None:
        found = _beside(trained)
    else:
        found = builtin_tokenizer() if named == BUILTIN else tokenizers.load(Path(named))
    if trained.tokenizer is not None and found.hash != trained.tokenizer:
        raise DataError(
            f"{named}: its hash is {found.hash[:16]}, and {trained.path} was trained with {trained.tokenizer[:16]}: "
            "ids mean other words; give the tokenizer that the model was trained with"
        )
    if found.vocab > trained.model.spec.vocab:
        raise DataError(
            f"the tokenizer has {found.vocab} ids, and {trained.path} knows {trained.model.spec.vocab}: "
            "it is not the model's; give that with --tokenizer"
        )
    return found


def _of_checkpoint(path: Path, loaded: formats.Loaded) -> Trained:
    saved = checkpoint.load(path, weights_only=True)
    section = saved.config.get("model") or {}
    imported = section.get("import")
    model = Model(loaded.spec) if imported is None else assembly.imported_model(imported, loaded.spec)
    weights = dict(loaded.weights)
    try:
        model.check_weights(weights)
    except ValueError as error:
        raise DataError(f"{path}: {error}; it was trained with {imported or 'blocks of another model'}") from error
    sources = [(saved.config.get("data") or {}).get("path"), section.get("weights")]
    places = (path, path.parent, *(_folder(Path(source)) for source in sources if source not in (None, BUILTIN)))
    return Trained(path, loaded.format, model, weights, saved.tokenizer, places)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _beside(trained: Trained) -> Tokenizer:
    """Where the hash is known, that one; else the first."""
    builtin = builtin_tokenizer()
    if trained.tokenizer == builtin.hash:
        return builtin
    places = list(dict.fromkeys(trained.places))
    for file in filter(None, map(tokenizers.within, places)):
        found = tokenizers.load(file)
        if trained.tokenizer in (None, found.hash):
            return found
    wanted = f" with the hash {trained.tokenizer[:16]}" if trained.tokenizer else ""
    looked = ", ".join(map(str, places))
    raise DataError(f"{trained.path}: found no tokenizer{wanted} in {looked}; name it with --tokenizer")
