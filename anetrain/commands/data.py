"""`anetrain data`: text becomes token shards, shards are described, published data is downloaded."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from anetrain.commands.running import bar, run
from anetrain.data import tinystories
from anetrain.data.builtin import write_stories
from anetrain.data.describe import Description, describe, shards_of
from anetrain.data.documents import SEPARATOR, Reading
from anetrain.data.download import download
from anetrain.data.errors import DataError
from anetrain.data.prepare import Prepared, check_targets, prepare, train_tokenizer

_EXAMPLE = """example, without a download:
  anetrain data builtin --out stories.txt --stories 2000
  anetrain data prepare stories.txt --train-tokenizer 1000 --out data/stories
  anetrain data info data/stories"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return run(f"data {options.what}", options.work, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain data",
        description="Text becomes token shards for training; shards are described; data is downloaded. docs/data.md",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="prepare|info|download|builtin")
    _add_prepare(commands.add_parser("prepare", help="text files become train.bin and validation.bin"))
    _add_info(commands.add_parser("info", help="what is in a shard, or in the shards of a folder"))
    _add_download(commands.add_parser("download", help="TinyStories, as text or as tokens"))
    _add_builtin(commands.add_parser("builtin", help="write the builtin stories to a text file"))
    return parser


# ---------------------------------------------------------------- prepare


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: anetrain data prepare stories.txt more.jsonl --tokenizer tokenizer.model --out data/mine"
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help=".txt, .jsonl or .json files")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets train.bin and validation.bin")
    tokenizer = parser.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="builtin, a tokenizer.model (sentencepiece), .bin (llama2.c) or .json, or a folder with one",
    )
    tokenizer.add_argument(
        "--train-tokenizer", type=int, metavar="VOCAB", help="train one with so many pieces on the inputs"
    )
    parser.add_argument(
        "--split", type=float, metavar="SHARE", help="share of documents held out for validation (0.01; 0: none)"
    )
    parser.add_argument(
        "--validation",
        nargs="+",
        type=Path,
        default=[],
        metavar="INPUT",
        help="files for validation, instead of --split",
    )
    parser.add_argument("--field", metavar="NAME", help="field of JSON objects that is the text (text or story)")
    parser.add_argument(
        "--document-separator", default=SEPARATOR, metavar="LINE", help=f"between documents of a .txt ({SEPARATOR})"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="inputs to prepare at a time (1)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.set_defaults(work=_prepare)


def _prepare(options: argparse.Namespace) -> None:
    if options.validation and options.split is not None:
        raise DataError("--validation and --split: files for validation are given, or a share of the inputs, not both")
    if options.split is not None and not 0.0 <= options.split < 1.0:
        raise DataError(f"--split is {options.split:g}; expected 0 or more, and less than 1")
    split = 0.0 if options.validation else 0.01 if options.split is None else options.split
    reading = Reading(options.field, options.document_separator)
    tokenizer = None if options.tokenizer == "builtin" else options.tokenizer and Path(options.tokenizer)
    if options.train_tokenizer is not None:
        check_targets(options.out, overwrite=options.force)
        tokenizer = train_tokenizer(
            options.inputs,
            options.out,
            vocab=options.train_tokenizer,
            fraction=split,
            reading=reading,
            overwrite=options.force,
        )
        print(f"trained a tokenizer of {options.train_tokenizer} pieces: {tokenizer}")
    with bar("tokens of text") as progress:
        done = prepare(
            options.inputs,
            options.out,
            tokenizer=tokenizer,
            validation=options.validation,
            fraction=split,
            reading=reading,
            workers=options.workers,
            overwrite=options.force,
            progress=progress,
        )
    _say(done)


def _say(done: Prepared) -> None:
    print(f"{done.train}: {done.train_tokens:,} tokens")
    if done.validation is not None:
        print(f"{done.validation}: {done.validation_tokens:,} tokens")
    print(f"data.path of a config, or --data: {done.train.parent}")


# ---------------------------------------------------------------- info


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: anetrain data info data/tinystories --frequent 20"
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a shard, with header or without, or a folder of shards"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="one that is not beside the shard")
    parser.add_argument("--frequent", type=int, default=10, metavar="N", help="most frequent tokens to show (10)")
    parser.add_argument("--json", action="store_true", help="print everything as a JSON list with an object per shard")
    parser.set_defaults(work=_info)


def _info(options: argparse.Namespace) -> None:
    if options.frequent < 0:
        raise DataError(f"--frequent is {options.frequent}; expected 0 or more")
    found = []
    for path in shards_of(options.path):
        with bar(path.name, "tokens") as progress:
            found.append(describe(path, tokenizer=options.tokenizer, frequent=options.frequent, progress=progress))
    if options.json:
        print(json.dumps([dataclasses.asdict(item) for item in found], indent=2))
    else:
        print("\n\n".join(map(_text, found)))


def _text(found: Description) -> str:
    unknown = "unknown; --tokenizer says it"
    rows = [
        ("tokens", f"{found.tokens:,} of {found.dtype}, {'with a header' if found.header else 'without a header'}"),
        ("documents", unknown if found.documents is None else f"{found.documents:,}"),
        ("vocabulary", unknown if found.vocab is None else f"{found.vocab:,}"),
        ("ids", f"{found.distinct:,} different ones, the largest {found.largest}"),
        ("entropy", f"{found.entropy:.3f} nats per token, of the frequencies alone"),
        ("tokenizer", " ".join(filter(None, (found.tokenizer, _origin(found))))),
    ]
    lines = [found.path, *(f"  {label:11} {text}" for label, text in rows)]
    for item in found.frequent:
        share = 100.0 * item.count / found.tokens
        shown = "" if item.text is None else f"  {json.dumps(item.text, ensure_ascii=False)}"
        lines.append(f"  {item.id:11} {share:6.2f} %{shown}")
    return "\n".join(lines)


def _origin(found: Description) -> str:
    return "not at hand: no text is shown" if found.tokenizer_from is None else f"({found.tokenizer_from})"


# ---------------------------------------------------------------- download, builtin


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: anetrain data download tinystories --out data/tinystories"
    parser.add_argument("name", choices=["tinystories"], metavar="tinystories", help="the data set")
    parser.add_argument(
        "--source",
        choices=list(tinystories.SOURCES),
        default="pretokenized",
        help="pretokenized: tokens of Llama 2's tokenizer, 1 GB, ready for training; hf: text, 2.2 GB, for `prepare`",
    )
    parser.add_argument("--out", type=Path, default=Path("data/tinystories"), metavar="DIR", help="(data/tinystories)")
    parser.add_argument("--force", action="store_true", help="overwrite train.bin and validation.bin")
    parser.set_defaults(work=_download)


def _download(options: argparse.Namespace) -> None:
    ready = options.source == "pretokenized"
    if ready:
        check_targets(options.out, overwrite=options.force)
    got = []
    for source in tinystories.SOURCES[options.source]:
        with bar(source.name) as progress:
            got.append(download(source, options.out, progress=progress))
        print(f"{got[-1]}: {os.path.getsize(got[-1]):,} bytes")
    if ready:
        with bar("joining shards", "tokens") as progress:
            _say(tinystories.assemble(options.out, overwrite=options.force, progress=progress))
    else:
        validation, train, tokenizer = got
        print(
            f"next: anetrain data prepare {train} --validation {validation} --tokenizer {tokenizer} --out {options.out}"
        )


def _add_builtin(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: anetrain data builtin --out stories.txt --stories 2000"
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="a .txt file that `prepare` takes")
    parser.add_argument("--stories", type=int, default=10_000, metavar="N", help="how many (10000, which are 8.8 MB)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.set_defaults(work=_builtin)


def _builtin(options: argparse.Namespace) -> None:
    with bar(options.out.name, "stories") as progress:
        write_stories(options.out, options.stories, overwrite=options.force, progress=progress)
    print(f"{options.out}: {options.stories:,} stories, {os.path.getsize(options.out):,} bytes")
