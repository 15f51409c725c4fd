"""Checkpoints of the earlier trainers, against files made here from their description, and against their forward in
numpy: token-major, with their order of heads, their residual scale, and RoPE or none."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anetrain.formats import legacy, load, save
from anetrain.model import Model
from anetrain.optim import AdamW
from anetrain.pipeline import Pipeline
from tests.block_runs import assert_close
from tests.model_files import Arrays, logits, random_weights, refused
from tests.support import emulator

COUNTERS = (120, 900, 2.5e-4, 3.25, 1234.5, 99.75, 8e5, 120, 12, 13)  # lr and loss are exact in fp32
STEP, TOTAL, LR, LOSS, *REST = COUNTERS
LAYER = ["Wq", "Wk", "Wv", "Wo", "W1", "W2", "W3", "rms_att", "rms_ffn"]
OURS = {
    "Wq": "attention.wq", "Wk": "attention.wk", "Wv": "attention.wv", "Wo": "attention.wo",
    "W1": "ffn.w1", "W2": "ffn.w2", "W3": "ffn.w3", "rms_att": "attention_norm", "rms_ffn": "ffn_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Old:
    """A model of an earlier trainer: its sizes, and for "0.Wq", "rms_final", "embedding" the tensor, "m", and "v"."""

    version: int
    layers: int
    vocab: int
    dim: int
    hidden: int
    heads: int
    seq: int
    kv_heads: int
    head_dim: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        d, h = self.dim, self.hidden
        layer = [(q, d), (kv, d), (kv, d), (d, q), (h, d), (d, h), (h, d), (d,), (d,)]
        found = {f"{n}.{name}": shape for n in range(self.layers) for name, shape in zip(LAYER, layer, strict=True)}
        return {**found, "rms_final": (d,), "embedding": (self.vocab, d)}

    def tensors(self, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        random = np.random.default_rng(seed)

        def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
            if len(shape) == 1:
                return random.uniform(0.2, 3.0, shape)
            return random.standard_normal(shape) / (1.0 if name == "embedding" else math.sqrt(shape[1]))

        triples = {n: (weight(n, s), random.standard_normal(s), random.random(s)) for n, s in self.shapes.items()}
        return {name: tuple(a.astype(np.float32) for a in triple) for name, triple in triples.items()}  # type: ignore[misc]

    def file(self, tensors: dict[str, tuple[np.ndarray, ...]], pad: tuple[int, ...] = (0, 0, 0)) -> bytes:
        tail = pad if self.version == 2 else (self.kv_heads, self.head_dim, self.heads * self.head_dim)
        sizes = (self.layers, self.vocab, self.dim, self.hidden, self.heads, self.seq)
        head = struct.pack("<4s3i", b"TZLB", self.version, STEP, TOTAL) + struct.pack("<6i", *sizes)
        head += struct.pack("<2f", LR, LOSS) + struct.pack("<3d", *REST[:3]) + struct.pack("<6i", *REST[3:], *tail)
        assert len(head) == 96
        body = [head]
        for n in range(self.layers):
            names = [f"{n}.{name}" for name in LAYER]
            body += [tensors[name][0].tobytes() for name in names]
            body += [tensors[name][i].tobytes() for name in names for i in (1, 2)]
        body += [tensors[name][i].tobytes() for name in ("rms_final", "embedding") for i in range(3)]
        return b"".join(body)

    def forward(self, w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
        """[tokens, vocab] in float64. Heads are tiled: query head h reads kv head h mod kv_heads."""
        alpha = 1.0 if self.version == 2 else 1.0 / math.sqrt(2.0 * self.layers)
        x = w["embedding"][ids]
        count = len(ids)
        for n in range(self.layers):
            a = norm(x, w[f"{n}.rms_att"])
            q, k, v = (self.split(a @ w[f"{n}.W{name}"].T) for name in "qkv")  # [heads, tokens, head_dim]
            if self.version == 4:
                q, k = turned(q), turned(k)
            k, v = (np.concatenate([t] * (self.heads // self.kv_heads)) for t in (k, v))
            scores = q @ k.swapaxes(1, 2) / math.sqrt(self.head_dim)
            scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out = (weights / weights.sum(axis=-1, keepdims=True)) @ v
            x = x + alpha * (out.swapaxes(0, 1).reshape(count, -1) @ w[f"{n}.Wo"].T)
            a = norm(x, w[f"{n}.rms_ffn"])
            gate = a @ w[f"{n}.W1"].T
            x = x + alpha * ((gate / (1.0 + np.exp(-gate)) * (a @ w[f"{n}.W3"].T)) @ w[f"{n}.W2"].T)
        return norm(x, w["rms_final"]) @ w["embedding"].T

    def split(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(len(rows), -1, self.head_dim).swapaxes(0, 1)


def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * gain


def turned(x: np.ndarray) -> np.ndarray:
    """Pairs (2i, 2i + 1) as complex numbers."""
    _, count, head_dim = x.shape
    angles = np.arange(count)[:, None] / 10_000.0 ** (np.arange(0, head_dim, 2) / head_dim)
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)


V2 = Old(2, layers=3, vocab=23, dim=24, hidden=20, heads=3, seq=12, kv_heads=3, head_dim=8)
V4 = Old(4, layers=2, vocab=23, dim=20, hidden=28, heads=6, seq=12, kv_heads=2, head_dim=4)
OLD = {
    "v2": V2,
    "v4": V4,
    "v4, four for one": replace(V4, heads=4, kv_heads=1),
    "v4, one to one": replace(V4, kv_heads=6),
}
IDS = np.array([3, 22, 0, 7, 7, 1, 14])


def written(path: Path, old: Old, **options: Any) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    tensors = old.tensors()
    path.write_bytes(old.file(tensors, **options))
    return tensors


def our_name(name: str) -> str:
    if "." not in name:
        return {"rms_final": "final_norm"}.get(name, name)
    number, kind = name.split(".")
    return f"layers.{number}.{OURS[kind]}"


@pytest.mark.parametrize("name", OLD)
def test_the_old_forward(tmp_path: Path, name: str) -> None:
    old = OLD[name]
    tensors = written(tmp_path / "old.bin", old)
    loaded = load(tmp_path / "old.bin")
    assert loaded.format == f"legacy-v{old.version}"
    expected = old.forward({key: triple[0].astype(np.float64) for key, triple in tensors.items()}, IDS)
    assert_close(logits(loaded.spec, loaded.weights, IDS), expected, "logits", 1e-9)


@pytest.mark.parametrize(
    ("name", "rope", "scale", "words"),
    [
        ("v2", "none", 1.0, ["without RoPE"]),
        ("v4", "interleaved", 0.5, ["1 / sqrt(2 layers)", "h mod 2 to h div 3"]),
        ("v4, one to one", "interleaved", 0.5, ["residual_scale is 0.5"]),
    ],
)
def test_the_flags_are_stated(tmp_path: Path, name: str, rope: str, scale: float, words: list[str]) -> None:
    written(tmp_path / "old.bin", OLD[name])
    loaded = load(tmp_path / "old.bin")
    assert (loaded.spec.rope, loaded.spec.residual_scale, loaded.spec.tied) == (rope, scale, True)
    for word in words:
        assert word in " ".join(loaded.notes)
    assert ("mod" in " ".join(loaded.notes)) == (name == "v4")


@pytest.mark.parametrize("name", OLD)
def test_each_head_and_its_moments_move_together(tmp_path: Path, name: str) -> None:
    """Their query head h is ours (h mod kv_heads) * ratio + h div kv_heads; all else stays where it is."""
    old = OLD[name]
    tensors = written(tmp_path / "old.bin", old)
    found = legacy.read(tmp_path / "old.bin")
    ratio = old.heads // old.kv_heads
    place = [h % old.kv_heads * ratio + h // old.kv_heads for h in range(old.heads)]
    for theirs, triple in tensors.items():
        ours = our_name(theirs)
        for array, read in zip(
            triple, (found.weights[ours], found.moments[f"mean.{ours}"], found.moments[f"square.{ours}"]), strict=True
        ):
            if theirs.endswith(".Wq"):
                read = read.reshape(old.heads, -1)[place].reshape(array.shape)
            if theirs.endswith(".Wo"):
                read = read.reshape(old.dim, old.heads, -1)[:, place].reshape(array.shape)
            np.testing.assert_array_equal(read, array, err_msg=theirs)


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("pad", [(0, 0, 0), (0x01020304, 0, -7)])
def test_round_trips(tmp_path: Path, name: str, pad: tuple[int, ...]) -> None:
    first, second = tmp_path / "first.bin", tmp_path / "second.bin"
    written(first, OLD[name], pad=pad)
    found = legacy.read(first)
    legacy.write(second, found)
    assert second.read_bytes() == first.read_bytes()
    assert found.counters.step == STEP
    assert found.counters.loss == LOSS
    assert found.counters.adam_t == COUNTERS[-1]
    with pytest.raises(FileExistsError, match="exists"):
        legacy.write(second, found)


@settings(max_examples=20, deadline=None)
@given(
    version=st.sampled_from([2, 4]),
    counts=st.tuples(*[st.integers(1, 3)] * 4),
    rest=st.tuples(*[st.integers(1, 7)] * 4),
    seed=st.integers(0, 99),
)
def test_round_trips_of_any_sizes(
    tmp_path_factory: pytest.TempPathFactory, version: int, counts: Any, rest: Any, seed: int
) -> None:
    layers, kv_heads, ratio, half = counts
    vocab, dim, hidden, seq = rest
    ratio = ratio if version == 4 else 1
    heads, head_dim = kv_heads * ratio, 2 * half
    old = Old(version, layers, vocab, heads * head_dim if version == 2 else dim, hidden, heads, seq, kv_heads, head_dim)
    folder = tmp_path_factory.mktemp("legacy")
    (folder / "a").write_bytes(old.file(old.tensors(seed)))
    legacy.write(folder / "b", legacy.read(folder / "a"))
    assert (folder / "b").read_bytes() == (folder / "a").read_bytes()


@pytest.mark.parametrize("name", ["v2", "v4"])
def test_the_pipeline_computes_the_old_loss(tmp_path: Path, name: str) -> None:
    old = OLD[name]
    tensors = written(tmp_path / "old.bin", old)
    loaded = load(tmp_path / "old.bin")
    random = np.random.default_rng(2)
    ids, targets = random.integers(0, old.vocab, (2, old.seq))
    found = Pipeline(emulator(), Model(loaded.spec), loaded.weights, trains=False).evaluate(ids[None], targets[None])
    scores = old.forward({key: triple[0].astype(np.float64) for key, triple in tensors.items()}, ids)
    expected = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(old.seq), targets]
    assert math.isclose(found.mean, expected.mean(), rel_tol=3e-3)  # in fp16


def test_training_goes_on(tmp_path: Path) -> None:
    """AdamW takes the moments and the count of updates."""
    written(tmp_path / "old.bin", V4)
    found = legacy.read(tmp_path / "old.bin")
    model, weights = Model(found.spec), dict(found.weights)
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    optimizer = AdamW(model.parameters, weights, gradients)
    optimizer.load_state(found.optimizer_state())
    assert optimizer.updates == COUNTERS[-1]
    for name, array in optimizer.state().arrays.items():
        np.testing.assert_array_equal(array, found.moments[name])


def test_a_new_checkpoint(tmp_path: Path) -> None:
    """Weights of any model that the trainer could have had."""
    written(tmp_path / "old.bin", V4)
    found = legacy.read(tmp_path / "old.bin")
    weights = random_weights(found.spec)
    legacy.write(tmp_path / "new.bin", replace(found, weights=weights))
    assert (
        load(tmp_path / "new.bin").weights["layers.1.attention.wq"].tobytes()
        == weights["layers.1.attention.wq"].tobytes()
    )


@pytest.mark.parametrize("target", ["huggingface", "llama2c-v0"])
def test_a_v4_checkpoint_becomes_a_plain_llama(tmp_path: Path, target: str) -> None:
    """The residual scale goes into wo and w2."""
    old = replace(V4, dim=24)
    tensors = written(tmp_path / "old.bin", old)
    loaded = load(tmp_path / "old.bin")
    notes = save(tmp_path / "new", target, loaded.spec, loaded.weights)
    assert "residual scale 0.5" in notes[0]
    plain = load(tmp_path / "new")
    assert (plain.spec.residual_scale, plain.spec.rope_base) == (1.0, 1e4)
    expected = old.forward({key: triple[0].astype(np.float64) for key, triple in tensors.items()}, IDS)
    assert_close(logits(plain.spec, plain.weights, IDS), expected, "logits", 1e-6)


@pytest.mark.parametrize("target", ["huggingface", "llama2c-v0"])
def test_a_v2_checkpoint_does_not(tmp_path: Path, target: str) -> None:
    written(tmp_path / "old.bin", V2)
    loaded = load(tmp_path / "old.bin")
    with pytest.raises(ValueError, match="rope is 'none'"):
        save(tmp_path / "new", target, loaded.spec, loaded.weights)


# ---------------------------------------------------------------- what is refused


def changed(path: Path, offset: int, new: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(new)


def whole(value: int) -> bytes:
    return struct.pack("<i", value)


@pytest.mark.parametrize(
    ("name", "offset", "new", "words"),
    [
        ("v2", 4, whole(3), ["version is 3", "2 or 4"]),
        ("v2", 4, whole(4), ["kv_heads is 0"]),
        ("v4", 4, whole(2), ["multiple of heads, 6"]),
        ("v2", 8, whole(-1), ["step is -1"]),
        ("v2", 16, whole(0), ["n_layers is 0"]),
        ("v2", 16, whole(4), ["cut short"]),
        ("v2", 16, whole(2**31 - 1), ["cut short"]),
        ("v4", 20, whole(-23), ["vocab is -23"]),
        ("v2", 24, whole(25), ["dim is 25", "heads, 3"]),
        ("v4", 28, whole(27), ["goes on behind its end"]),
        ("v4", 32, whole(5), ["heads is 5", "kv_heads, 2"]),
        ("v4", 32, whole(8), ["q_dim is 24", "8 x 4"]),
        ("v4", 36, whole(0), ["seq is 0"]),
        ("v2", 40, struct.pack("<f", math.inf), ["lr is inf"]),
        ("v2", 48, struct.pack("<d", math.nan), ["compile_ms is nan"]),
        ("v2", 80, whole(-3), ["adam_t is -3"]),
        ("v4", 84, whole(4), ["kv_heads, 4"]),
        ("v4", 88, whole(3), ["q_dim is 24", "6 x 3"]),
        ("v4", 92, whole(25), ["q_dim is 25"]),
    ],
)
def test_a_wrong_header(tmp_path: Path, name: str, offset: int, new: bytes, words: list[str]) -> None:
    path = tmp_path / "old.bin"
    written(path, OLD[name])
    changed(path, offset, new)
    refused(lambda: load(path), path, *words)


@pytest.mark.parametrize("name", ["v2", "v4"])
def test_every_bit_of_the_sizes(tmp_path: Path, name: str) -> None:
    """All that the file's length or the other sizes can tell; seq is nowhere else, and heads of v2 only divide."""
    path = tmp_path / "old.bin"
    written(path, OLD[name])
    data = path.read_bytes()
    free = [36] + ([32] if name == "v2" else [])
    for offset in [0, 4, 16, 20, 24, 28, 32, *([84, 88, 92] if name == "v4" else [])]:
        for bit in range(32) if offset not in free else ():
            flipped = struct.unpack("<I", data[offset : offset + 4])[0] ^ 1 << bit
            changed(path, offset, struct.pack("<I", flipped))
            refused(lambda: load(path), path)
        changed(path, offset, data[offset : offset + 4])


@pytest.mark.parametrize("name", ["v2", "v4"])
def test_truncated_and_too_long(tmp_path: Path, name: str) -> None:
    path = tmp_path / "old.bin"
    written(path, OLD[name])
    data = path.read_bytes()
    for length in [0, 3, 4, 95, 96, 97, 100, len(data) // 2, len(data) - 4, len(data) - 1]:
        path.unlink()
        path.write_bytes(data[:length])
        refused(lambda: load(path), path)
    path.write_bytes(data + b"\0")
    refused(lambda: load(path), path, f"{len(data) + 1} bytes, expected {len(data)}")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    written(path, V2)
    changed(path, path.stat().st_size - 4, struct.pack("<f", -math.inf))
    found = legacy.read(path)
    refused(lambda: found.optimizer_state(), path, "square.embedding holds -inf")
    with pytest.raises(ValueError, match=r"square\.embedding"):
        legacy.write(tmp_path / "new.bin", found)
    assert [item.name for item in tmp_path.iterdir()] == ["old.bin"]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("v2", {"rope": "interleaved"}, "rope is 'interleaved'; the trainer of this version had 'none'"),
        ("v2", {"kv_heads": 1}, "kv_heads is 1"),
        ("v2", {"head_dim": 6}, "head_dim is 6"),
        ("v4", {"residual_scale": 1.0}, "residual_scale is 1.0"),
        ("v4", {"norm_eps": 1e-6}, "norm_eps is 1e-06"),
        ("v4", {"rope_base": 1e6}, "rope_base is 1000000.0"),
        ("v4", {"tied": False}, "tied is False"),
        ("v4", {"qk_norm": True, "rope": "half"}, "rope is 'half'"),
    ],
)
def test_specs_that_the_trainers_could_not_have(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    written(tmp_path / "old.bin", OLD[name])
    found = legacy.read(tmp_path / "old.bin")
    with pytest.raises(ValueError, match=words):
        legacy.write(tmp_path / "new.bin", replace(found, spec=replace(found.spec, **changes)))
    assert [item.name for item in tmp_path.iterdir()] == ["old.bin"]


@pytest.mark.parametrize(("preset", "count"), [("stories110m", 109_529_856), ("qwen3-0.6b", 596_042_752)])
def test_published_sizes(preset: str, count: int) -> None:
    """96 + 12 bytes a parameter; their Qwen had no norms of q and k."""
    from anetrain.formats.tensors import value_count

    spec = Model.preset(preset).spec
    assert value_count(replace(spec, qk_norm=False)) == count


def test_weights_without_moments(tmp_path: Path) -> None:
    written(tmp_path / "old.bin", V2)
    found = legacy.read(tmp_path / "old.bin")
    moments: Arrays = {}
    with pytest.raises(ValueError, match=r"missing mean\.layers"):
        legacy.write(tmp_path / "new.bin", replace(found, moments=moments))
