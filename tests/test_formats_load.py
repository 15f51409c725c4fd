"""Which format a file has, what is said of files that have none, and how much memory a conversion takes."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain.checkpoint import State, Store
from anetrain.formats import FORMATS, FormatError, legacy, load, save
from anetrain.formats.tensors import Tensors, parameters
from anetrain.model import Model
from anetrain.spec import ModelSpec
from tests.model_files import assert_same, random_weights, refused
from tests.test_formats_legacy import V2, V4

SPEC = ModelSpec(dim=24, hidden=40, layers=2, heads=4, kv_heads=2, head_dim=6, vocab=19, seq=7)


def test_a_chain_of_all_formats(tmp_path: Path) -> None:
    """Each file is recognised whatever its name, and the last model is the first, bit for bit."""
    weights = random_weights(SPEC)
    for number, format in enumerate([*FORMATS, *reversed(FORMATS)]):
        path = tmp_path / f"model{number}"
        save(path, format, SPEC, weights)
        loaded = load(path)
        assert (loaded.format, loaded.spec) == (format, SPEC)
        longest = "seq is 7, the longest that the config allows; a shorter one trains faster"
        assert loaded.about_seq == ((longest,) if format == "huggingface" else ())
        assert longest not in loaded.notes
        weights = dict(loaded.weights)
    assert_same(weights, random_weights(SPEC))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["model.bin", "checkpoint.safetensors"])
@pytest.mark.parametrize("old", [V2, V4])
def test_a_checkpoint_is_never_taken_for_a_model_file(tmp_path: Path, old: object, name: str) -> None:
    """B33: what is told apart is told by the first bytes, not by the name."""
    assert isinstance(old, type(V2))
    (tmp_path / name).write_bytes(old.file(old.tensors()))
    loaded = load(tmp_path / name)
    assert loaded.format == f"legacy-v{old.version}"
    assert isinstance(loaded.checkpoint, legacy.Checkpoint)
    assert loaded.notes


@pytest.mark.parametrize("dim", [128, 640])  # first bytes as of pickles
def test_sizes_that_look_like_magic(tmp_path: Path, dim: int) -> None:
    spec = replace(SPEC, dim=dim, head_dim=dim // 4)
    save(tmp_path / "m", "llama2c-v0", spec, random_weights(spec))
    assert load(tmp_path / "m").spec == spec


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.bin", b"", ["0 bytes", "28"]),
        ("model.bin", b"short", ["5 bytes", "28"]),
        ("model.pt", b"PK\x03\x04" + bytes(60), ["zip file", "pickles are not read", "safetensors"]),
        ("model.gguf", b"GGUF" + bytes(60), ["GGUF"]),
        ("story.txt", b"Once upon a time there was a little file." * 9, ["dim is", "n_heads", "read as llama2.c v0"]),
        ("zeros.bin", bytes(100), ["dim is 0"]),
        ("config.json", b"{}", ["part of a Hugging Face model", "expected its folder"]),
        ("model-00001-of-00002.safetensors", bytes(50), ["expected its folder"]),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: load(tmp_path / name), tmp_path / name, *words)


def test_nothing_there(tmp_path: Path) -> None:
    refused(lambda: load(tmp_path / "none.bin"), tmp_path / "none.bin", "does not exist")
    refused(lambda: load(tmp_path), tmp_path, "neither a checkpoint.json", "nor the config.json")


def test_our_own_checkpoints(tmp_path: Path) -> None:
    """One, or the last of a run; what is wrong with them is an error of the same kind."""
    weights = random_weights(SPEC)
    with Store(tmp_path / "run") as store:
        store.save(State(3, replace(SPEC, norm_eps=0.5), weights))
        last = store.save(State(7, SPEC, weights)).path
    for path in (tmp_path / "run", last):
        loaded = load(path)
        assert (loaded.format, loaded.spec) == ("anetrain", SPEC)
        assert_same(loaded.weights, weights)
    loaded.weights["final_norm"][0] = 5.0  # an array of its own
    save(tmp_path / "out", "huggingface", loaded.spec, loaded.weights)
    assert_same(load(tmp_path / "out").weights, weights)
    data = last / "weights.safetensors"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(bytes(content))
    refused(lambda: dict(load(last).weights), data, "checksum")
    data.unlink()
    refused(lambda: load(last), data, "missing")


def test_the_error_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(FormatError("a/b", "is bad")))
    assert (str(error), error.path, error.detail) == ("a/b: is bad", Path("a/b"), "is bad")


def test_unknown_formats_and_lost_folders(tmp_path: Path) -> None:
    weights = random_weights(SPEC)
    with pytest.raises(ValueError, match="format is 'gguf', expected huggingface, llama2c-v0, llama2c-v1"):
        save(tmp_path / "m", "gguf", SPEC, weights)
    for format in FORMATS:
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            save(tmp_path / "no" / "m", format, SPEC, weights)


def test_a_model_may_be_written_over_the_file_it_is_read_from(tmp_path: Path) -> None:
    for format in FORMATS:
        path = tmp_path / format
        save(path, format, SPEC, random_weights(SPEC))
        loaded = load(path)
        save(path, format, loaded.spec, loaded.weights, overwrite=True)
        assert_same(load(path).weights, random_weights(SPEC))


# ---------------------------------------------------------------- memory and imports

WIDE = Model.preset("tiny-llama", dim=128, head_dim=32, hidden=4096, layers=12).spec
LARGEST_BYTES = 4 * WIDE.dim * WIDE.hidden  # 2 MB of 80


def wide_weights() -> Tensors:
    """Never all in memory."""
    shapes = {name: item.shape for name, item in parameters(WIDE).items()}
    return Tensors({name: partial(np.full, shape, 0.5, np.float32) for name, shape in shapes.items()})


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_few_tensors(tmp_path: Path) -> None:
    def convert(source: Path, target: Path, format: str) -> None:
        loaded = load(source)
        save(target, format, loaded.spec, loaded.weights)

    save(tmp_path / "first", "llama2c-v0", WIDE, wide_weights())
    assert (tmp_path / "first").stat().st_size > 30 * LARGEST_BYTES
    steps = {"huggingface": "first", "llama2c-v1": "huggingface"}
    for format, source in steps.items():
        work = partial(convert, tmp_path / source, tmp_path / format, format)
        assert peak_bytes(work) < 4 * LARGEST_BYTES, format

    old = replace(WIDE, residual_scale=(2 * WIDE.layers) ** -0.5)
    weights = wide_weights()
    moments = Tensors({p + name: partial(weights.__getitem__, name) for p in ("mean.", "square.") for name in weights})
    counters = legacy.Counters(0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0)
    checkpoint = legacy.Checkpoint(4, old, weights, moments, counters)
    assert peak_bytes(lambda: legacy.write(tmp_path / "old", checkpoint)) < 4 * LARGEST_BYTES
    again = partial(legacy.write, tmp_path / "again", legacy.read(tmp_path / "old"))
    assert peak_bytes(again) < 4 * LARGEST_BYTES


def test_safetensors_is_imported_when_it_is_needed() -> None:
    code = "import sys, anetrain, anetrain.formats; sys.exit('safetensors' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs" / "interop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "interop.md", "exec"), names)
    Model(names["spec"]).check_weights(names["weights"])
    assert {f"`{format}`" for format in FORMATS} <= set(re.findall(r"`\S+`", page))
