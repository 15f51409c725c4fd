"""Qwen3's chat template: a conversation as the one text that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anetrain.data.errors import DataError

BEGIN, END = "<|im_start|>", "<|im_end|>"
ENDS = (END, "<|endoftext|>")
"""Of an answer, and of a text that is no conversation."""
_ROLES = ("system", "user", "assistant")


def qwen3(messages: Sequence[Mapping[str, str]], *, thinking: bool = True, answer: bool = True) -> str:
    """With `answer` it ends where the model's answer begins; without `thinking`, behind an empty thought.

    Thoughts (<think>...</think>) of answers before the last question are left out, as the model was trained.
    """
    _check(messages)
    last_question = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=len(messages))
    text = []
    for at, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "assistant":
            content = _answer(content, behind=at > last_question, last=at == len(messages) - 1)
        text.append(f"{BEGIN}{message['role']}\n{content}{END}\n")
    if answer:
        text.append(f"{BEGIN}assistant\n" + ("" if thinking else "<think>\n\n</think>\n\n"))
    return "".join(text)


def _answer(content: str, *, behind: bool, last: bool) -> str:
    """`behind`: no question follows; `last`: nothing follows."""
    thought = ""
    if "</think>" in content:
        before, content = content.split("</think>")[0], content.split("</think>")[-1].lstrip("\n")
        thought = before.rstrip("\n").split("<think>")[-1].lstrip("\n")
    if behind and (last or thought):
        stripped = thought.strip("\n")
        return f"<think>\n{stripped}\n</think>\n\n" + content.lstrip("\n")
    return content


def _check(messages: Sequence[Mapping[str, str]]) -> None:
    if not messages:
        raise DataError("the conversation has no message; give at least one of the user")
    for at, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES or not isinstance(content, str):
            raise DataError(
                f"message {at} has role {role!r} and content {content!r:.60}; expected one of "
                f"{', '.join(_ROLES)}, and text"
            )
