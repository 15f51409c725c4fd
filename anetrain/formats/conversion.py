"""A model of one format becomes one of another, with its tokenizer where that can go along.

plan = Conversion.of(Path("stories15M.bin"), Path("out"), "huggingface", dtype="bf16")
plan.loaded.notes, plan.left_out   # to be told
notes = plan.write()
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from anetrain import files
from anetrain.data import tokenizers
from anetrain.data.tokenizers import scored
from anetrain.data.tokenizers.scored import ScoredTokenizer
from anetrain.data.tokenizers.sentence import SentencePieceTokenizer
from anetrain.formats import Dtype, FormatError, Loaded, hf, load, save
from anetrain.formats.tensors import value_count
from anetrain.spec import ModelSpec

_NOT_WRITTEN = (".safetensors", ".gguf", ".pt", ".pth", ".ckpt", ".onnx", ".json", ".zip", ".npz", ".yaml")


def guess(target: Path) -> str:
    """The format that a name means. Raises FormatError for names of formats that are not written."""
    if target.suffix == ".bin":
        return "llama2c-v0"
    if target.suffix in _NOT_WRITTEN:
        raise FormatError(
            target, "is the name of no format that is written: give NAME.bin for llama2.c, or a folder for the others"
        )
    return "anetrain" if re.search(r"checkpoint|^step-\d+", target.name) else "huggingface"


@dataclass(frozen=True)
class Conversion:
    """All that can be checked before anything is written is. `tokenizer`: its file; `left_out`: what `target` does not
    get of what the source has."""

    loaded: Loaded
    target: Path
    format: str
    dtype: Dtype
    shard_bytes: int
    spec: ModelSpec
    tokenizer: Path | None
    _hash: str | None = field(repr=False)

    @classmethod
    def of(
        cls,
        source: Path,
        target: Path,
        format: str,
        *,
        dtype: Dtype = "fp32",
        shard_bytes: int = hf.SHARD_BYTES,
        seq: int | None = None,
        tokenizer: Path | None = None,
    ) -> Conversion:
        """`seq`: a shorter longest sequence. `tokenizer`: a file or a folder; else the one that lies with the source,
        if `target` is a folder, too."""
        loaded = load(source)
        if loaded.blocks is not None:
            raise FormatError(source, f"has blocks of its own ({loaded.blocks}), whose function no other file can hold")
        spec = loaded.spec
        if seq is not None:
            if not 1 <= seq <= spec.seq:
                raise FormatError(source, f"has sequences of up to {spec.seq}, and {seq} were asked for")
            spec = replace(spec, seq=seq)
        if tokenizer is None and source.is_dir() and not _is_file(format):
            tokenizer = tokenizers.within(source)
        hash_ = loaded.tokenizer
        if tokenizer is not None:
            known = tokenizers.load(tokenizer)
            if known.vocab > spec.vocab:
                raise FormatError(
                    tokenizer, f"has ids up to {known.vocab - 1}, and the model only {spec.vocab} of them"
                )
            if hash_ not in (None, known.hash):
                raise FormatError(tokenizer, f"is the tokenizer {known.hash}, and {source} was trained with {hash_}")
            hash_ = known.hash
        return cls(loaded, target, format, dtype, shard_bytes, spec, tokenizer, hash_)

    @property
    def parameters(self) -> int:
        return value_count(self.spec)

    @property
    def left_out(self) -> tuple[str, ...]:
        gone = {path.name for path in self._companions.values()}
        lost = [name for name in self.loaded.left_out if name not in gone]
        if self._hash is not None and self.tokenizer is None and self.format != "anetrain":
            lost.append(f"which tokenizer it was trained with ({self._hash})")
        return tuple(lost)

    def write(self, *, overwrite: bool = False) -> tuple[str, ...]:
        """Whole or not at all; returns notes on what the new model has otherwise."""
        bin_file = self._bin_file(overwrite)
        try:
            notes = save(
                self.target,
                self.format,
                self.spec,
                self.loaded.weights,
                dtype=self.dtype,
                shard_bytes=self.shard_bytes,
                tokenizer=self._hash,
                companions=self._companions,
                overwrite=overwrite,
            )
        except FormatError:
            raise
        except ValueError as error:
            raise FormatError(self.target, f"cannot be written as {self.format}: {error}") from error
        if bin_file is None:
            return notes
        path, content = bin_file
        with files.replacing(path, overwrite=True) as file:
            file.write(content)
        return (*notes, f"its tokenizer is {path}")

    @property
    def _companions(self) -> dict[str, Path]:
        return {} if self.tokenizer is None or _is_file(self.format) else tokenizers.companions(self.tokenizer)

    def _bin_file(self, overwrite: bool) -> tuple[Path, bytes] | None:
        """llama2.c looks for a tokenizer.bin beside the model."""
        if self.tokenizer is None or not _is_file(self.format):
            return None
        path, known = self.target.with_name("tokenizer.bin"), tokenizers.load(self.tokenizer)
        if not isinstance(known, ScoredTokenizer | SentencePieceTokenizer):
            raise FormatError(self.tokenizer, "cannot be a tokenizer.bin of llama2.c; give a tokenizer.model or .bin")
        content = scored.to_bin(known.bin_pieces())
        if path.exists() and not overwrite and path.read_bytes() != content:
            raise FileExistsError(f"{path} exists and is another tokenizer; choose another folder, or overwrite it")
        return path, content


def _is_file(format: str) -> bool:
    return format.startswith("llama2c")
