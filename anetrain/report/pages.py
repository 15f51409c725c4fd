"""The report as files: read what is given, build it once, write each file whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anetrain import files
from anetrain.report import build, inputs, markdown, page

WRITERS = {".html": page.text_of, ".md": markdown.text_of}
"""By the ending of a file's name."""


def write(paths: Sequence[Path], targets: Sequence[Path], *, overwrite: bool = False) -> list[Path]:
    """Nothing is written where one of the targets exists, unless it may be overwritten."""
    there = [str(target) for target in targets if target.exists()]
    if there and not overwrite:
        raise FileExistsError(f"{' and '.join(there)} exist{'s' if len(there) == 1 else ''} already")
    document = build.document(inputs.read(paths))
    texts = [WRITERS[target.suffix](document).encode() for target in targets]
    for target, text in zip(targets, texts, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(target, overwrite=overwrite) as file:
            file.write(text)
    return list(targets)
