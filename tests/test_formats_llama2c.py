"""llama2.c files: byte for byte what its format says, written here a second time from the description."""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anetrain.formats import FormatError, llama2c, load, save
from anetrain.formats.tensors import value_count
from anetrain.model import Model
from anetrain.spec import ModelSpec
from tests.block_runs import assert_close
from tests.model_files import Arrays, assert_same, logits, random_weights, refused
from tests.support import need

SPEC = ModelSpec(dim=24, hidden=40, layers=3, heads=4, kv_heads=2, head_dim=6, vocab=19, seq=7)
NAMES = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"]


def sizes(s: ModelSpec) -> list[int]:
    return [s.dim, s.hidden, s.layers, s.heads, s.kv_heads, s.vocab, s.seq]


def floats(*arrays: np.ndarray) -> bytes:
    return b"".join(array.astype("<f4").tobytes() for array in arrays)


def v0(s: ModelSpec, w: Arrays) -> bytes:
    def every(kind: str) -> bytes:
        return floats(*(w[f"layers.{i}.{kind}"] for i in range(s.layers)))

    angles = np.arange(s.seq)[:, None] / 10_000.0 ** (np.arange(0, s.head_dim, 2) / s.head_dim)
    data = struct.pack("<7i", *sizes(s)[:5], s.vocab if s.tied else -s.vocab, s.seq) + floats(w["embedding"])
    data += every("attention_norm") + b"".join(every(f"attention.w{name}") for name in "qkvo")
    data += every("ffn_norm") + every("ffn.w1") + every("ffn.w2") + every("ffn.w3")
    data += floats(w["final_norm"], np.cos(angles), np.sin(angles))
    return data if s.tied else data + floats(w["classifier"])


def v1_head(s: ModelSpec, version: int = 1, group: int = 0) -> bytes:
    head = struct.pack("<Ii7i", 0x616B3432, version, *sizes(s)) + bytes([s.tied]) + struct.pack("<i", group)
    return head + bytes(256 - len(head))


def v1_order(s: ModelSpec) -> list[str]:
    kinds = ["attention_norm", "ffn_norm", "final_norm", "embedding", *(f"attention.w{name}" for name in "qkvo")]
    kinds += ["ffn.w1", "ffn.w2", "ffn.w3"] + ([] if s.tied else ["classifier"])
    layers = range(s.layers)
    return [name for kind in kinds for name in ([f"layers.{i}.{kind}" for i in layers] if is_layer(kind) else [kind])]


def is_layer(kind: str) -> bool:
    return kind not in ("final_norm", "embedding", "classifier")


def v1(s: ModelSpec, w: Arrays) -> bytes:
    return v1_head(s) + floats(*(w[name] for name in v1_order(s)))


def v2(s: ModelSpec, w: Arrays, group: int, *, old: bool = False) -> tuple[bytes, Arrays]:
    """The file, and what it holds: int8 in groups with a factor each; `old`: all factors behind all values."""
    norms, pairs, held = b"", [], {}
    for name in v1_order(s):
        if w[name].ndim == 1:
            norms, held[name] = norms + floats(w[name]), w[name]
            continue
        rows = w[name].reshape(-1, group)
        factors = (np.abs(rows).max(axis=1) / 127.0).astype(np.float32)
        values = np.rint(rows / factors[:, None]).astype(np.int8)
        pairs.append((values.tobytes(), factors.tobytes()))
        held[name] = (values.astype(np.float32) * factors[:, None]).reshape(w[name].shape)
    parts = [*zip(*pairs, strict=True)] if old else pairs
    return v1_head(s, 2, group) + norms + b"".join(b"".join(part) for part in parts), held


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    kv_heads, ratio, half = (draw(st.integers(1, 3)) for _ in range(3))
    hidden, layers, vocab, seq = (draw(st.integers(1, 9)) for _ in range(4))
    heads, head_dim = kv_heads * ratio, 2 * half
    return ModelSpec(
        heads * head_dim, hidden, layers, heads, kv_heads, head_dim, vocab, seq, tied=draw(st.booleans())
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(spec=specs(), seed=st.integers(0, 99), version=st.sampled_from([0, 1]))
def test_round_trips(tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec, seed: int, version: int) -> None:
    path = tmp_path_factory.mktemp("llama2c") / "model.bin"
    weights = random_weights(spec, seed)
    save(path, f"llama2c-v{version}", spec, weights)
    written = path.read_bytes()
    expected = (v0, v1)[version](spec, weights)
    assert len(written) == len(expected)
    if version == 1:
        assert written == expected
    loaded = load(path)
    assert (loaded.format, loaded.spec) == (f"llama2c-v{version}", spec)
    assert_same(loaded.weights, weights)
    assert value_count(spec) == Model(spec).parameter_count
    save(path, loaded.format, loaded.spec, loaded.weights, overwrite=True)
    assert path.read_bytes() == written
    path.write_bytes(expected)  # whoever wrote it
    assert_same(load(path).weights, weights)


@pytest.mark.parametrize("tied", [True, False])
def test_v0_differs_from_the_description_in_the_last_bits_of_its_tables_only(tmp_path: Path, tied: bool) -> None:
    spec = replace(SPEC, tied=tied, seq=300)
    weights = random_weights(spec)
    save(tmp_path / "m.bin", "llama2c-v0", spec, weights)
    found, expected = (np.frombuffer(data, "<f4") for data in ((tmp_path / "m.bin").read_bytes(), v0(spec, weights)))
    tables = spec.seq * spec.head_dim
    begin = len(found) - tables - (0 if tied else spec.vocab * spec.dim)
    table = slice(begin, begin + tables)
    assert np.delete(found, np.r_[table]).tobytes() == np.delete(expected, np.r_[table]).tobytes()
    assert 0 < np.abs(found[table] - expected[table]).max() < 3e-5  # of angles up to 300, rounded to fp32


def test_tables_are_those_of_the_exporter() -> None:
    need(importlib.util.find_spec("torch"), "torch is not installed")
    import torch

    spec = replace(SPEC, dim=4 * 48, head_dim=48, seq=256)
    speeds = 1.0 / 10_000.0 ** (torch.arange(0, 48, 2)[:24].float() / 48)
    angles = torch.outer(torch.arange(256), speeds).float()
    tables = llama2c.rope_tables(spec)
    for name, theirs in (("cos", angles.cos()), ("sin", angles.sin())):
        assert np.abs(tables[name] - theirs.numpy()).max() <= 2**-24  # half a unit in the last place of 1


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("dim", "group"), [(24, 1), (24, 8), (24, 24), (6, 2)])
def test_v2_is_read(tmp_path: Path, dim: int, group: int, tied: bool) -> None:
    """With factors that are not aligned, too."""
    heads = dim // SPEC.head_dim
    spec = replace(SPEC, dim=dim, heads=heads, kv_heads=min(heads, 2), hidden=39, tied=tied)
    data, held = v2(spec, random_weights(spec), group)
    (tmp_path / "q8.bin").write_bytes(data)
    loaded = load(tmp_path / "q8.bin")
    assert (loaded.format, loaded.spec) == ("llama2c-v2", spec)
    assert_same(loaded.weights, held)


def test_v2_of_the_old_exporter_is_refused(tmp_path: Path) -> None:
    """It has the same header and size."""
    path = tmp_path / "q8.bin"
    path.write_bytes(v2(SPEC, random_weights(SPEC), 8, old=True)[0])
    refused(lambda: load(path), path, "factors of embedding")


@pytest.mark.parametrize("factor", [-1.0, np.nan, np.inf])
def test_v2_with_a_wrong_factor(tmp_path: Path, factor: float) -> None:
    path = tmp_path / "q8.bin"
    path.write_bytes(v2(SPEC, random_weights(SPEC), 8)[0])
    changed(path, path.stat().st_size - 4, struct.pack("<f", factor))
    refused(lambda: load(path), path, "factors of layers.2.ffn.w3")


def test_half_split_rows_go_home(tmp_path: Path) -> None:
    """A Llama whose rows are half-split is the same function as what is written; and scaled residuals are folded in."""
    spec = replace(SPEC, rope="half", residual_scale=0.4)
    weights = random_weights(spec)
    notes = save(tmp_path / "m.bin", "llama2c-v1", spec, weights)
    loaded = load(tmp_path / "m.bin")
    assert loaded.spec == SPEC
    assert "0.4" in notes[0]
    ids = np.array([3, 1, 4, 1, 5])
    assert_close(logits(SPEC, loaded.weights, ids), logits(spec, weights, ids), "logits", 1e-6)


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def files(tmp_path: Path) -> dict[int, Path]:
    weights = random_weights(SPEC)
    contents = {0: v0(SPEC, weights), 1: v1(SPEC, weights), 2: v2(SPEC, weights, 8)[0]}
    paths = {version: tmp_path / f"v{version}.bin" for version in contents}
    for version, path in paths.items():
        path.write_bytes(contents[version])
    return paths


def changed(path: Path, offset: int, new: bytes) -> None:
    """In place: to write a whole file anew costs a sync on some file systems."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(new)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("value", [0, -1, 5, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("field", range(6))
def test_a_wrong_header_field(files: dict[int, Path], version: int, field: int, value: int) -> None:
    path = files[version]
    changed(path, 4 * field + (8 if version else 0), struct.pack("<i", value))
    refused(lambda: load(path), path)


@pytest.mark.parametrize(
    ("version", "offset", "new", "words"),
    [
        (0, 0, struct.pack("<i", -24), ["dim is -24", "positive"]),
        (0, 12, struct.pack("<i", 5), ["dim is 24", "n_heads, 5"]),
        (0, 12, struct.pack("<i", 8), ["dim / n_heads is 3", "even"]),
        (0, 16, struct.pack("<i", 3), ["n_heads is 4", "n_kv_heads, 3"]),
        (0, 20, struct.pack("<i", -19), ["cut short", "expected"]),
        (0, 20, struct.pack("<i", 18), ["goes on behind its end"]),
        (1, 4, struct.pack("<i", 3), ["version 3", "1 or 2"]),
        (1, 36, b"\x02", ["shared classifier is 2"]),
        (1, 36, b"\x00", ["cut short"]),
        (1, 37, b"\x08", ["padding"]),
        (1, 255, b"\x01", ["padding"]),
        (2, 37, struct.pack("<i", 7), ["group_size is 7", "divisor of dim, 24"]),
        (2, 37, struct.pack("<i", 0), ["group_size is 0"]),
        (2, 37, struct.pack("<i", 4), ["cut short", "groups of 4"]),
    ],
)
def test_what_is_said_of_it(files: dict[int, Path], version: int, offset: int, new: bytes, words: list[str]) -> None:
    changed(files[version], offset, new)
    refused(lambda: load(files[version]), files[version], *words)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_truncated_and_too_long(files: dict[int, Path], version: int) -> None:
    path = files[version]
    data = path.read_bytes()
    for length in [*range(0, 300, 7), len(data) // 2, len(data) - 4, len(data) - 1]:
        path.write_bytes(data[:length])
        refused(lambda: load(path), path)
    path.write_bytes(data + b"\0")
    refused(lambda: load(path), path, "goes on behind its end", f"{len(data) + 1} bytes, expected {len(data)}")


@pytest.mark.parametrize("version", [0, 1])
def test_every_bit_of_the_header(files: dict[int, Path], version: int) -> None:
    """A flip is found; but v1 has seq_len nowhere else, so that any positive one is taken."""
    path, data = files[version], files[version].read_bytes()
    bits = (
        [*range(8 * 32), 8 * 36 - 1, *range(8 * 36, 8 * 42), *range(8 * 42, 8 * 256, 9)] if version else range(8 * 28)
    )
    for bit in bits:
        changed(path, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8]))
        refused(lambda: dict(load(path).weights), path)
        changed(path, bit // 8, data[bit // 8 :][:1])


def test_values_that_are_not_finite(files: dict[int, Path], tmp_path: Path) -> None:
    path = files[1]
    changed(path, 256 + 4 * 30, struct.pack("<f", np.nan))
    loaded = load(path)
    refused(lambda: loaded.weights["layers.1.attention_norm"], path, "layers.1.attention_norm holds nan at 6")
    with pytest.raises(FormatError):
        save(tmp_path / "new.bin", "llama2c-v0", loaded.spec, loaded.weights)
    assert sorted(tmp_path.iterdir()) == sorted(files.values())  # nothing was left


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"norm_eps": 1e-6}, "norm_eps is 1e-06"),
        ({"rope_base": 5e5}, "rope_base is 500000.0"),
        ({"rope": "none"}, "rope is 'none'"),
        ({"rope": "half", "qk_norm": True}, "qk_norm is True"),
        ({"head_dim": 8}, "head_dim is 8"),
    ],
)
def test_models_that_llama2c_would_make_others_of(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    spec = replace(SPEC, **changes)
    with pytest.raises(ValueError, match=word):
        save(tmp_path / "m.bin", "llama2c-v0", spec, random_weights(spec))
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    weights = random_weights(SPEC)
    wrong: list[tuple[str, Arrays]] = [
        ("missing final_norm; unknown none", {name: weights[name] for name in weights if name != "final_norm"}),
        ("missing none; unknown more", {**weights, "more": weights["final_norm"]}),
        ("final_norm is float64", {**weights, "final_norm": np.ones(SPEC.dim)}),
        (r"final_norm is float32 \[3\], expected float32 \[24\]", {**weights, "final_norm": np.ones(3, np.float32)}),
        ("final_norm holds inf at 0", {**weights, "final_norm": np.full(SPEC.dim, np.inf, np.float32)}),
    ]
    for words, given_weights in wrong:
        with pytest.raises(ValueError, match=words):
            save(tmp_path / "m.bin", "llama2c-v0", SPEC, given_weights)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="fp32"):
        save(tmp_path / "m.bin", "llama2c-v0", SPEC, weights, dtype="bf16")
    with pytest.raises(ValueError, match="versions 0 and 1"):
        llama2c.write(tmp_path / "m.bin", SPEC, weights, version=2)


def test_published_sizes() -> None:
    """stories110M.bin, and the parameter counts of both published models."""
    assert value_count(Model.preset("stories110m").spec) == 109_529_856
    qwen = Model.preset("qwen3-0.6b").spec
    assert value_count(qwen) == 596_042_752 + 7_168
