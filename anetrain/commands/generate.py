"""`anetrain generate`: continues a text, or answers. The text goes to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anetrain.device
from anetrain.commands.running import find_modules_here, run, sentence
from anetrain.data.tokenizers import Tokenizer
from anetrain.device import ANEError, Device
from anetrain.efficiency import device_name
from anetrain.generation import Engine, Sampler, generate, open_engine, texts, why_not_cached
from anetrain.trained import Trained, find_model, find_tokenizer

STOPPED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    find_modules_here()
    try:
        return run("generate", _generate, options)
    except (ANEError, FloatingPointError, MemoryError) as error:
        print(f"anetrain generate: {sentence(error)}", file=sys.stderr)
        return STOPPED


def _generate(options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        _Text(options, stack).write()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain generate",
        description="Continue a text, or answer, with a trained model.",
        epilog='Example: anetrain generate runs/laptop --prompt "Once upon a time" --temperature 0.8 --stream',
    )
    add = parser.add_argument
    add(
        "model", type=Path, metavar="MODEL", help="a run's folder, a checkpoint, a llama2.c file, a Hugging Face folder"
    )
    add("--prompt", required=True, help="what to continue; with --chat, what the user says")
    add("--max-new", type=int, default=256, metavar="N", help="at most so many new tokens (%(default)s)")
    add("--temperature", type=float, default=1.0, help="0: always the most likely token (%(default)s)")
    add("--top-k", type=int, metavar="K", help="only among the K most likely tokens")
    add("--top-p", type=float, default=1.0, metavar="P", help="only among the fewest that have probability P together")
    add("--seed", type=int, help="the same seed gives the same text; without one it is chosen, and said")
    add("--stream", action="store_true", help="write the text as it comes")
    add("--chat", action="store_true", help="ask in the model's chat template (Qwen3), and write the answer alone")
    add("--no-thinking", action="store_true", help="with --chat: ask the model not to think first")
    add("--context", type=int, metavar="N", help="most tokens of prompt and answer together (the model's seq)")
    add("--best", action="store_true", help="of a run: the checkpoint with the best validation loss, not the last")
    add("--tokenizer", metavar="PATH", help="builtin, or a tokenizer.json, .model or .bin; by default beside MODEL")
    add("--device", default="auto", metavar="KIND", help="for the prompt: auto, ane, emulator or emulator:PROFILE")
    return parser


@dataclass
class _Account:
    """Where the time went."""

    prompt_s: float = 0.0
    last_s: float = 0.0
    count: int = 0


class _Text:
    """Whatever is wrong with what was given is found when it is made, before anything is written."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        _check(options)
        seed = secrets.randbits(32) if options.seed is None else options.seed
        settings = (options.temperature, options.top_k, options.top_p, seed)
        Sampler(*settings)  # before the model is read, which may take a while
        trained = find_model(options.model, best=options.best)
        self.tokenizer = find_tokenizer(trained, options.tokenizer)
        self.sampler = Sampler(*settings, vocab=self.tokenizer.vocab)
        self.ids = _prompt(options, self.tokenizer)
        self.context = options.context or trained.model.spec.seq
        if len(self.ids) >= self.context:
            raise ValueError(
                f"the prompt has {len(self.ids)} tokens, and the context is {self.context}, which must also hold the "
                "answer: shorten the prompt, or give a larger --context"
            )
        device = stack.enter_context(_opened(options.device))
        self.device = device_name(device.facts)
        capacity = min(self.context, len(self.ids) + options.max_new)
        self.engine: Engine = stack.enter_context(open_engine(device, trained.model, trained.weights, capacity))
        if options.seed is None and options.temperature > 0.0:
            _say(f"seed: {seed}")
        self._introduce(trained)

    def write(self) -> None:
        account = _Account()
        pieces = texts(self._tokens(account), self.tokenizer.stream())
        if self.options.stream:
            for piece in pieces:
                print(piece, end="", flush=True)
        else:
            print("".join(pieces), end="")
        print(flush=True)
        self._report(account)

    def _tokens(self, account: _Account) -> Iterator[int]:
        """What is written: the prompt, unless it is a conversation, and what the model adds."""
        if not self.options.chat:
            yield from self.ids
        begin = time.perf_counter()
        new = generate(self.engine, self.ids, self.sampler, most=self.options.max_new, ends=self.tokenizer.ends)
        for token in new:
            account.last_s = time.perf_counter() - begin
            account.prompt_s = account.prompt_s or account.last_s
            account.count += 1
            yield token

    def _introduce(self, trained: Trained) -> None:
        _say(f"model: {trained.path} ({trained.format}), {trained.model.parameter_count:,} parameters")
        for note in trained.notes:
            _say(f"note: {note}")
        if (why := why_not_cached(trained.model)) is not None:
            _say(f"note: {why}, so the whole text is computed again on the device for each token, which is slow")

    def _report(self, account: _Account) -> None:
        parts = [f"prompt: {len(self.ids)} tokens on {self.device} in {account.prompt_s:.2f} s"]
        if account.count > 1:
            rate = (account.count - 1) / max(account.last_s - account.prompt_s, 1e-9)
            parts.append(f"then {account.count} tokens, {rate:.1f} a second")
        if account.count < self.options.max_new and len(self.ids) + account.count >= self.engine.capacity:
            parts.append(f"stopped: the context of {self.context} tokens is full (--context)")
        _say("; ".join(parts))


def _check(options: argparse.Namespace) -> None:
    if not options.prompt.strip():
        raise ValueError("the prompt is empty; give --prompt a text")
    for name, value in (("--max-new", options.max_new), ("--context", options.context)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if options.no_thinking and not options.chat:
        raise ValueError("--no-thinking is for --chat")


def _opened(kind: str) -> Device:
    """That there is no such device is the fault of who asked for it."""
    try:
        return anetrain.device.open(kind)
    except ANEError as error:
        raise ValueError(str(error)) from error


def _prompt(options: argparse.Namespace, tokenizer: Tokenizer) -> list[int]:
    if options.chat:
        return tokenizer.chat([{"role": "user", "content": options.prompt}], thinking=not options.no_thinking)
    return tokenizer.encode(options.prompt, bos=tokenizer.bos is not None)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
