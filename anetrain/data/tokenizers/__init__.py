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

__all__ = ["Stream", "Tokenizer", "builtin_tokenizer", "load"]


def load(path: Path) -> Tokenizer:
    """What the name ends in says what it is: .model, .bin or .json. A folder is looked into."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give a tokenizer.model, tokenizer.bin or tokenizer.json")
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


def _in_folder(folder: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer.bin"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: holds no tokenizer.json, tokenizer.model or tokenizer.bin")
