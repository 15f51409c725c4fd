"""TinyStories, as published: text in two files, or tokens of Llama 2's tokenizer in an archive of shards.

for source in SOURCES["pretokenized"]:
    download(source, folder)
prepared = assemble(folder)  # train.bin, validation.bin, tokenizer.bin: ready for training
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from anetrain.data.download import LLAMA2_TOKENIZER, TINY_STORIES, Source, extract
from anetrain.data.errors import DataError
from anetrain.data.prepare import Prepared, check_targets
from anetrain.data.shards import Progress, join
from anetrain.data.tokenizers import scored

SOURCES: Mapping[str, Sequence[Source]] = {
    "hf": (TINY_STORIES["validation"], TINY_STORIES["train"], LLAMA2_TOKENIZER["tokenizer.model"]),
    "pretokenized": (LLAMA2_TOKENIZER["tokenizer.bin"], TINY_STORIES["tokens"]),
}
"""The files of each of the two."""

_VALIDATION = "data00.bin"  # by llama2.c's custom


def assemble(folder: Path, *, overwrite: bool = False, progress: Progress | None = None) -> Prepared:
    """Of the downloaded archive: the first shard is for validation, the others become one for training. They get a
    header that names the tokenizer; the archive, which has nothing else, is removed."""
    check_targets(folder, overwrite=overwrite)
    archive, tokenizer = (folder / source.name for source in reversed(SOURCES["pretokenized"]))
    known = scored.read(tokenizer)
    unpacked = folder / "shards"
    unpacked.mkdir(exist_ok=True)
    try:
        shards = extract(archive, unpacked, overwrite=True)
        sides = {
            "validation.bin": [path for path in shards if path.name == _VALIDATION],
            "train.bin": [path for path in shards if path.name != _VALIDATION],
        }
        if not all(sides.values()):
            found = ", ".join(path.name for path in shards)
            raise DataError(f"{archive}: has {found}; expected {_VALIDATION} for validation, and others")
        counts = {
            name: join(
                paths,
                folder / name,
                vocab=known.vocab,
                document_start=known.document_start,
                tokenizer=known.hash,
                overwrite=overwrite,
                progress=progress,
            )
            for name, paths in sides.items()
        }
    finally:
        shutil.rmtree(unpacked)
    archive.unlink()
    train, validation = folder / "train.bin", folder / "validation.bin"
    return Prepared(train, validation, counts["train.bin"], counts["validation.bin"])
