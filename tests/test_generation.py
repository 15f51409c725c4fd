"""Prefill on the emulated ANE and decoding on the CPU: the same text as computing everything again for each token, and
as Hugging Face transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import Attention, Block, Classifier, LlamaBlock, Qwen3Block, SwiGLU, gain
from anetrain.commands.generate import _parser
from anetrain.data.tokenizers import builtin_tokenizer
from anetrain.device import Device
from anetrain.generation import CachedEngine, RecomputingEngine, Sampler, generate, open_engine, texts, why_not_cached
from anetrain.generation.widths import width_for
from anetrain.model import Model
from anetrain.spec import ModelSpec
from tests.emulated import realistic_weights
from tests.model_files import logits as judge
from tests.support import emulator, need

Arrays = dict[str, np.ndarray]

LLAMA = ModelSpec(dim=48, hidden=85, layers=2, heads=6, kv_heads=3, head_dim=8, vocab=61, seq=32)
QWEN3 = replace(LLAMA, kv_heads=1, head_dim=12, rope="half", rope_base=1e6, qk_norm=True, norm_eps=1e-6)
SPECS = {
    "llama": LLAMA,
    "llama, one kv head each, untied": replace(LLAMA, kv_heads=6, tied=False),
    "llama, one kv head, half-split, scaled": replace(LLAMA, kv_heads=1, rope="half", residual_scale=0.5),
    "no rope": replace(LLAMA, rope="none"),
    "qwen3": QWEN3,
    "qwen3, untied": replace(QWEN3, kv_heads=3, tied=False),
    "norms of interleaved q and k": replace(LLAMA, qk_norm=True),
}


def model_of(s: ModelSpec) -> Model:
    return Model(s, LlamaBlock())


def weights_of(s: ModelSpec, seed: int = 0) -> Arrays:
    """As fp16 has them, so that what is stored in fp16 is exact; logits far enough apart for any rounding."""
    weights = realistic_weights(model_of(s), seed)
    return {name: array.astype(np.float16).astype(np.float32) for name, array in weights.items()}


def prompt_of(s: ModelSpec, length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(length).integers(0, s.vocab, length)]


@pytest.fixture(scope="module")
def exact() -> Iterator[Device]:
    with emulator(fp32=True) as device:
        yield device


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with emulator() as device:
        yield device


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def expected_logits(s: ModelSpec, weights: Arrays, ids: Sequence[int]) -> np.ndarray:
    """[vocab] of the last token, in float64."""
    if s.qk_norm and s.rope == "interleaved":  # the judge takes what files hold
        order = np.concatenate([np.arange(0, s.head_dim, 2), np.arange(1, s.head_dim, 2)])
        moved = dict(weights)
        for name, array in weights.items():
            if name.endswith((".wq", ".wk")):
                moved[name] = array.reshape(-1, s.head_dim, s.dim)[:, order].reshape(array.shape)
            elif name.endswith(("q_norm", "k_norm")):
                moved[name] = array[order]
        s, weights = replace(s, rope="half"), moved
    return judge(s, weights, np.array(ids))[-1]


# ---------------------------------------------------------------- logits


@pytest.mark.parametrize("name", SPECS)
def test_logits_without_rounding(name: str, exact: Device) -> None:
    s = SPECS[name]
    weights, ids = weights_of(s), prompt_of(s, 40)
    with CachedEngine(exact, model_of(s), weights, 50) as engine:
        for begin in (1, 31, 33):
            found = engine.prompt(ids[:begin]).copy()
            assert relative(found, expected_logits(s, weights, ids[:begin])) < 2e-5
            for token in ids[begin:]:
                found = engine.append(token)
            assert engine.length == 40
            assert relative(found, expected_logits(s, weights, ids)) < 2e-5


@pytest.mark.parametrize("name", SPECS)
def test_logits_in_fp16(name: str, device: Device) -> None:
    s = SPECS[name]
    weights, ids = weights_of(s), prompt_of(s, 40)
    with open_engine(device, model_of(s), weights, 50) as engine:
        found = engine.prompt(ids[:30]).copy()
        assert relative(found, expected_logits(s, weights, ids[:30])) < 1e-2
        for token in ids[30:]:
            found = engine.append(token)
        assert relative(found, expected_logits(s, weights, ids)) < 1e-2


@pytest.mark.parametrize("profile", ["m1", "m4"])
def test_logits_on_chips(profile: str) -> None:
    """Their sigmoid is a table."""
    weights, ids = weights_of(LLAMA), prompt_of(LLAMA, 40)
    with emulator(profile) as chip, open_engine(chip, model_of(LLAMA), weights, 40) as engine:
        assert relative(engine.prompt(ids), expected_logits(LLAMA, weights, ids)) < 4e-2


# ---------------------------------------------------------------- text


def greedy(engine: Any, ids: Sequence[int], most: int) -> list[int]:
    return list(generate(engine, ids, Sampler(0.0), most=most))


@pytest.mark.parametrize("name", SPECS)
def test_greedy_equals_the_full_recompute(name: str, exact: Device) -> None:
    s = SPECS[name]
    model, weights = model_of(s), weights_of(s)
    cached, recomputing = CachedEngine(exact, model, weights, 80), RecomputingEngine(exact, model, weights, 80)
    with cached, recomputing:
        for length in (1, 5, 29, 32, 33, 63, 64, 65, 70):  # an answer of 6 crosses the border of 32 and of 64
            ids = prompt_of(s, length)
            found = greedy(cached, ids, 6)
            assert found == greedy(recomputing, ids, 6), length
            assert len(found) == 6
        assert cached.stacks.widths == (32, 64, 96)


def test_every_length_of_a_prompt(exact: Device) -> None:
    """A width's programs are compiled once, whatever the order of lengths."""
    weights = weights_of(LLAMA)
    with CachedEngine(exact, model_of(LLAMA), weights, 72) as engine:
        for length in [*range(70, 0, -1), 66]:
            compiles = exact.counters().compiles
            ids = prompt_of(LLAMA, length)
            assert relative(engine.prompt(ids), expected_logits(LLAMA, weights, ids)) < 2e-5, length
            if length not in (70, 64, 32):
                assert exact.counters().compiles == compiles
    assert engine.stacks.widths == ()


@pytest.mark.parametrize("name", ["llama", "llama, one kv head each, untied", "qwen3", "qwen3, untied"])
def test_transformers_generate(name: str, exact: Device, device: Device) -> None:
    need_torch()
    import torch

    from tests.transformers_models import their_model

    s = SPECS[name]
    weights = weights_of(s)
    theirs = their_model(s, weights, "float32").eval()
    engines = [CachedEngine(each, model_of(s), weights, 80) for each in (exact, device)]
    with engines[0], engines[1]:
        for length in (1, 30, 65):
            ids = torch.tensor([prompt_of(s, length)])
            options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
            found = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, length:].tolist()
            assert greedy(engines[0], prompt_of(s, length), 12) == found
            with torch.no_grad():
                logits = theirs(torch.cat([ids, torch.tensor([found])], dim=1)).logits[0].numpy()
            for engine, most in zip(engines, (2e-5, 1e-2), strict=True):
                assert relative(engine.prompt(prompt_of(s, length)), logits[length - 1]) < most
                for at, token in enumerate(found):
                    assert relative(engine.append(token), logits[length + at]) < most


def need_torch() -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        need(False, "torch and transformers")


def test_room_and_ends(exact: Device) -> None:
    weights, ids = weights_of(LLAMA), prompt_of(LLAMA, 10)
    with CachedEngine(exact, model_of(LLAMA), weights, 14) as engine:
        whole = greedy(engine, ids, 100)
        assert len(whole) == 4  # the room there is
        assert greedy(engine, ids, 2) == whole[:2]
        third = next(generate(engine, [*ids, *whole[:2]], Sampler(0.0), most=1))
        assert list(generate(engine, ids, Sampler(0.0), most=9, ends={third})) == whole[: whole.index(third)]
        assert greedy(engine, prompt_of(LLAMA, 14), 5) == []
        assert greedy(engine, ids, 0) == []
        engine.prompt(prompt_of(LLAMA, 14))
        with pytest.raises(ValueError, match="14 tokens already"):
            engine.append(3)
        for wrong, message in (([], "0 tokens"), ([1] * 15, "15 tokens"), ([1, 61], "id 61"), ([-1], "id -1")):
            with pytest.raises(ValueError, match=message):
                engine.prompt(wrong)


def test_append_needs_a_prompt(exact: Device) -> None:
    with (
        CachedEngine(exact, model_of(LLAMA), weights_of(LLAMA), 14) as engine,
        pytest.raises(ValueError, match="prompt"),
    ):
        engine.append(3)


# ---------------------------------------------------------------- models of one's own


class Parallel(Block):
    """Attention and a network side by side: no decoder knows it."""

    def __init__(self) -> None:
        self.attention, self.ffn = Attention(window=40, qkv_bias=True), SwiGLU()

    def weights(self, s: ModelSpec) -> Any:
        return {"norm": gain(s.dim), "attention": self.attention.weights(s), "ffn": self.ffn.weights(s)}

    def forward(self, g: Any, x: Any, w: Any) -> Any:
        h = g.rms_norm(x, w.norm)
        return x + self.attention.forward(g, h, w.attention) + self.ffn.forward(g, h, w.ffn)


class Positions(Block):
    """Parameters with one element for each position."""

    def weights(self, s: ModelSpec) -> Any:
        return {"places": gain(s.seq), "ffn": SwiGLU().weights(s)}

    def forward(self, g: Any, x: Any, w: Any) -> Any:
        return x + SwiGLU().forward(g, g.scale(g.to_device(x), w.places, axis=3), w.ffn)


def random_weights(model: Model) -> Arrays:
    random = np.random.default_rng(3)
    weights = {name: item.initial(random) for name, item in model.parameters.items()}
    for array in weights.values():
        array[...] = random.uniform(0.2, 3.0, array.shape) if array.ndim == 1 else array * 5
    return weights


def test_blocks_of_ones_own_are_computed_again(exact: Device) -> None:
    model = Model(LLAMA, Parallel(), classifier=Classifier("device", chunk_rows=25))
    weights = random_weights(model)
    with open_engine(exact, model, weights, 80) as engine:
        assert isinstance(engine, RecomputingEngine)
        ids = prompt_of(LLAMA, 30)
        ids += greedy(engine, ids, 8)
        found = engine.append(ids[-1])
        assert engine.length == len(ids) == 38
        assert relative(found, judge(LLAMA, weights, np.array(ids), Parallel())[-1]) < 2e-5
        assert engine.stacks.widths == (32, 64)
        assert relative(engine.prompt(ids[:31]), judge(LLAMA, weights, np.array(ids[:31]), Parallel())[-1]) < 2e-5


def test_a_model_with_weights_for_each_position(exact: Device) -> None:
    model = Model(LLAMA, Positions())
    with open_engine(exact, model, random_weights(model), 80) as engine:
        assert engine.capacity == LLAMA.seq
        assert len(greedy(engine, prompt_of(LLAMA, 20), 50)) == 12


def test_a_model_that_looks_ahead_cannot_generate(exact: Device) -> None:
    model = Model(LLAMA, Parallel(), causal=False)
    with pytest.raises(ValueError, match="looks ahead"):
        open_engine(exact, model, random_weights(model), 80)


class OtherAttention(Attention):
    pass


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Model(LLAMA), None),
        (Model(QWEN3), None),
        (Model(QWEN3, [LlamaBlock(), Qwen3Block()]), None),
        (Model(LLAMA, [LlamaBlock(), Parallel()]), "Parallel is a block of its own"),
        (Model(LLAMA, LlamaBlock(OtherAttention())), "OtherAttention stands in the place of Attention"),
        (Model(LLAMA, LlamaBlock(Attention(window=9))), "its attention has a window or biases"),
        (Model(LLAMA, LlamaBlock(Attention(out_bias=True))), "its attention has a window or biases"),
        (Model(LLAMA, LlamaBlock(ffn=LlamaBlock())), "LlamaBlock stands in the place of SwiGLU"),
    ],
)
def test_what_is_cached(model: Model, why: str | None) -> None:
    assert why_not_cached(model) == why


def test_widths() -> None:
    widths = [width_for(tokens) for tokens in range(1, 5000)]
    assert widths == sorted(widths)
    assert all(width % 32 == 0 for width in widths)
    assert all(tokens <= width <= max(tokens + 31, 1.25 * tokens) for tokens, width in enumerate(widths, 1))
    assert len(set(widths)) < 30


# ---------------------------------------------------------------- characters


def test_characters_of_several_tokens_come_whole() -> None:
    tokenizer = builtin_tokenizer()
    text = "A cat \U0001f431 and a family \U0001f468\u200d\U0001f469\u200d\U0001f467, e\u0301."
    ids = tokenizer.encode(text)
    assert len(ids) > len(text)  # the emoji are bytes
    pieces = list(texts(ids, tokenizer.stream()))
    assert "".join(pieces) == text
    assert "\U0001f431" in pieces
    assert all("\ufffd" not in piece for piece in pieces)
    cut = list(texts(ids[: ids.index(tokenizer.encode("\U0001f431")[-1])], tokenizer.stream()))
    assert cut[-1].startswith("\ufffd")  # what began and was not finished is shown at the end, and only there
    assert "\ufffd" not in "".join(cut[:-1])


# ---------------------------------------------------------------- docs


def test_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "generation.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    printed: list[str] = []
    assert 'anetrain.device.open("auto")' in code
    exec(code.replace('anetrain.device.open("auto")', "emulator()"), {"emulator": emulator, "print": printed.append})
    assert len(printed[0].split()) > 3
    options = {name for action in _parser()._actions for name in action.option_strings if name.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)", page)) == options - {"--help"}
