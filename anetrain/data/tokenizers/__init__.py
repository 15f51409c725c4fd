"""Tokenizers behind one interface: sentencepiece models, llama2.c's tokenizer.bin, Hugging Face's tokenizer.json, and
the builtin one.

tokenizer = load(path)
ids = tokenizer.encode("Once upon a time", bos=True)
text = tokenizer.decode(ids)
"""

from __future__ import annotations

from pathlib import Path

from anetrain.data.errors import DataError
from anetrain.data.tokenizers.base import Stream, Tokenizer
from anetrain.data.tokenizers.builtin import builtin_tokenizer

__all__ = ["Stream", "Tokenizer", "builtin_tokenizer", "companions", "load", "within"]

_BESIDE_JSON = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.json", "merges.txt", "tokenizer.model"),
)


def load(path: Path) -> Tokenizer:
    """What the name ends in says what it is: .model, .bin or .json. A folder is looked into."""
    path = _file(path)
    if path.suffix == ".model":
        from anetrain.data.tokenizers.sentence import SentencePieceTokenizer

        return SentencePieceTokenizer(path)
    if path.suffix == ".json":
        from anetrain.data.tokenizers.hugging_face import HuggingFaceTokenizer

        return HuggingFaceTokenizer(path)
    if path.suffix == ".bin":
        from anetrain.data.tokenizers import scored

        return scored.read(path)
    raise DataError(f"{path}: a tokenizer's name ends in .model, .bin or .json")


def companions(path: Path) -> dict[str, Path]:
    """The files that `load` and other programs need to have this tokenizer in another folder, by their names there."""
    path = _file(path)
    found = {f"tokenizer{path.suffix}": path}
    if path.suffix == ".json":
        found |= {name: path.with_name(name) for name in _BESIDE_JSON if path.with_name(name).is_file()}
    return found


def within(folder: Path) -> Path | None:
    """The file of a folder that `load` takes, if it has one."""
    found = (folder / name for name in ("tokenizer.json", "tokenizer.model", "tokenizer.bin"))
    return next((path for path in found if path.is_file()), None)


def _file(path: Path) -> Path:
    if path.is_dir():
        found = within(path)
        if found is None:
            raise DataError(f"{path}: holds no tokenizer.json, tokenizer.model or tokenizer.bin")
        return found
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give a tokenizer.model, tokenizer.bin or tokenizer.json")
    return path
