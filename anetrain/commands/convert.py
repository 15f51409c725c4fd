"""`anetrain convert SRC DST`: a model of one format becomes one of another."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from anetrain.commands.running import run
from anetrain.config import BUILTIN
from anetrain.data.tokenizers import builtin_tokenizer, scored
from anetrain.formats import hf
from anetrain.formats.conversion import Conversion, guess
from anetrain.formats.safetensors_file import WIDTHS
from anetrain.spec import ModelSpec

_EXAMPLES = """what SRC is, its content says; what DST becomes, its name says: NAME.bin is llama2.c's, a folder called
step-... or with `checkpoint` in its name is a checkpoint of ours, any other folder is Hugging Face's. --format says
otherwise.

examples:
  anetrain convert stories15M.bin stories15M-hf --dtype bf16
  anetrain convert Qwen3-0.6B checkpoint-qwen3
  anetrain convert runs/stories15m out.bin --tokenizer data/tinystories/tokenizer.bin"""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("convert", _convert, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain convert",
        description="Convert a model between llama2.c, Hugging Face and checkpoints. docs/interop.md",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="llama2.c file, Hugging Face folder, checkpoint, run, or a v2 or v4 file",
    )
    parser.add_argument("target", type=Path, metavar="DST", help="is made; nothing is overwritten without --force")
    parser.add_argument("--format", choices=["llama2c", "huggingface", "anetrain"], help="of DST, whatever its name")
    parser.add_argument("--version", type=int, choices=[0, 1], help="of llama2.c's format (0)")
    parser.add_argument("--dtype", choices=list(WIDTHS), default="fp32", help="for Hugging Face (fp32)")
    parser.add_argument("--shard-size", metavar="SIZE", help="for Hugging Face: largest file, such as 500MB (5GB)")
    parser.add_argument("--seq", type=int, metavar="N", help="a shorter longest sequence than that of SRC")
    parser.add_argument("--tokenizer", metavar="PATH", help="goes along: builtin, or a path; by default one in SRC")
    parser.add_argument("--force", action="store_true", help="overwrite a model that is at DST")
    return parser


def _convert(options: argparse.Namespace) -> None:
    with _tokenizer(options.tokenizer) as tokenizer:
        _convert_with(options, tokenizer)


@contextmanager
def _tokenizer(named: str | None) -> Iterator[Path | None]:
    """The builtin one is no file: it becomes one for as long as it is needed."""
    if named != BUILTIN:
        yield None if named is None else Path(named)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.bin"
        scored.write(path, builtin_tokenizer().bin_pieces())
        yield path


def _convert_with(options: argparse.Namespace, tokenizer: Path | None) -> None:
    format, how = _format(options)
    plan = Conversion.of(
        options.source,
        options.target,
        format,
        dtype=options.dtype,
        shard_bytes=_bytes(options.shard_size, format),
        seq=options.seq,
        tokenizer=tokenizer,
    )
    loaded = plan.loaded
    print(f"read: {options.source}: {loaded.format}, {plan.parameters:,} parameters, {loaded.dtype}")
    print(f"model: {_described(loaded.spec)}")
    _say("note", (*loaded.notes, *loaded.about_seq))
    notes = plan.write(overwrite=options.force)
    print(f"written: {options.target}: {format} ({how}), {plan.dtype}, {_size(options.target):,} bytes")
    _say("note", notes)
    _say("not carried over", plan.left_out)


def _format(options: argparse.Namespace) -> tuple[str, str]:
    """With the version of llama2.c's; and where it is known from."""
    given = options.format is not None
    format = options.format or guess(options.target)
    if format.startswith("llama2c"):
        format = f"llama2c-v{options.version or 0}"
    elif options.version is not None:
        raise ValueError(f"{options.target}: --version is of llama2.c's format, and this becomes {format}'s")
    return format, "as asked for" if given else "by the name; --format says otherwise"


def _bytes(size: str | None, format: str) -> int:
    if size is None:
        return hf.SHARD_BYTES
    if format != "huggingface":
        raise ValueError(f"--shard-size is for Hugging Face's format, and this becomes {format}'s")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(|[KMG]B)", size)
    if match is None:
        raise ValueError(f"--shard-size is {size!r}; expected bytes, or a size such as 500MB or 5GB")
    return int(float(match[1]) * {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[match[2]])


def _described(s: ModelSpec) -> str:
    rope = "no RoPE" if s.rope == "none" else f"RoPE {s.rope}, base {s.rope_base:g}"
    parts = [f"dim {s.dim}", f"hidden {s.hidden}", f"{s.layers} layers"]
    parts += [f"{s.heads} heads of {s.head_dim}, {s.kv_heads} of keys and values"]
    parts += [f"vocabulary {s.vocab}", f"sequences of {s.seq}", "tied" if s.tied else "own classifier", rope]
    parts += [f"eps {s.norm_eps:g}"] + ["norms of q and k"] * s.qk_norm
    if s.residual_scale != 1.0:
        parts.append(f"residuals times {s.residual_scale:.6g}")
    return ", ".join(parts)


def _say(what: str, lines: Sequence[str]) -> None:
    for line in lines:
        print(f"{what}: {line}")


def _size(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(os.path.getsize(item) for item in ([path] if path.is_file() else path.iterdir()))
