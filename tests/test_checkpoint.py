"""anetrain.checkpoint: what is loaded is what was saved, bit for bit; names, rotation, best and last, one writer."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from anetrain import files
from anetrain.checkpoint import CheckpointError, Store, checkpoints, find, load
from anetrain.checkpoint.tensors import CODES
from tests import checkpoints as small
from tests.support import need

pytestmark = pytest.mark.usefixtures("no_waiting")


# ---------------------------------------------------------------- what comes back


def test_everything_comes_back(tmp_path: Path) -> None:
    state = small.state(1200, validation_loss=np.float32(1.1))
    with Store(tmp_path / "deep" / "run") as store:
        saved = store.save(state)
    assert saved.path == tmp_path / "deep" / "run" / "step-00001200"
    assert saved.bytes == sum(path.stat().st_size for path in saved.path.iterdir())
    checkpoint = load(saved.path)
    small.check(checkpoint, state)
    assert checkpoint.versions.keys() == {"anetrain", "python", "numpy", "system"}
    files = ["baked.safetensors", "checkpoint.json", "optimizer.safetensors", "weights.safetensors"]
    assert small.names(saved.path) == files


names = st.text(min_size=1).filter(lambda name: name != "__metadata__" and _encodes(name))


def _encodes(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


@st.composite
def tensors(draw: st.DrawFn) -> npt.NDArray[Any]:
    """Any bits: NaNs with payloads, denormals, negative zeros."""
    dtype = np.dtype(draw(st.sampled_from(sorted(CODES))))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape, dtype=int))
    if dtype.name == "bool":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    content = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    return np.frombuffer(content, dtype).reshape(shape)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(names, tensors(), max_size=5),
    st.dictionaries(names, tensors(), max_size=5),
    st.dictionaries(st.text(), plain, max_size=3),
    st.integers(1, 200),
)
def test_any_tensors_and_values_come_back(
    weights: dict[str, Any], arrays: dict[str, Any], values: dict[str, Any], shard_bytes: int
) -> None:
    state = small.state(3, weights=weights, arrays=arrays, values=values)
    with small.memory_folder() as folder:
        with Store(folder, shard_bytes=shard_bytes) as store:
            path = store.save(state).path
        checkpoint = load(path)
        small.check(checkpoint, state)
        into = {name: np.zeros(array.shape, array.dtype) for name, array in weights.items()}
        checkpoint.weights.read_into(into)
        for name, array in weights.items():
            small.same_bits(into[name], array)
        _check_with_the_library(path, weights)


def _check_with_the_library(path: Path, weights: dict[str, Any]) -> None:
    """The format as others read it."""
    found: dict[str, Any] = {}
    for file in path.glob("weights*.safetensors"):
        found |= load_file(file)
    assert set(found) == set(weights)
    for name, array in weights.items():
        small.same_bits(found[name], array)


def test_large_files_are_split(tmp_path: Path) -> None:
    weights = {f"w{i}": np.full(100, i, np.float32) for i in range(5)} | {"big": np.arange(500, dtype=np.float32)}
    state = small.state(0, weights=weights)
    with Store(tmp_path, shard_bytes=850) as store:
        path = store.save(state).path
    sizes = {
        file.name: len(json.loads((path / "checkpoint.json").read_text())["files"]["weights"][file.name])
        for file in path.glob("weights*")
    }
    assert sizes == {f"weights-0000{i}-of-00004.safetensors": count for i, count in ((1, 2), (2, 2), (3, 1), (4, 1))}
    small.check(load(path), state)


def test_maps_are_aligned(tmp_path: Path) -> None:
    weights = {
        "flags": np.ones(3, bool),
        "ids": np.arange(3, dtype=np.int16),
        "w": np.ones(2),
        "half": np.ones(1, "f2"),
    }
    with Store(tmp_path) as store:
        checkpoint = load(store.save(small.state(0, weights=weights)).path)
    assert all(checkpoint.weights[name].flags.aligned for name in weights)


def test_weights_only_needs_no_other_files(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        path = store.save(small.state(1)).path
    (path / "optimizer.safetensors").unlink()
    (path / "baked.safetensors").unlink()
    checkpoint = load(path, weights_only=True)
    checkpoint.verify()
    small.same_bits(checkpoint.weights["norm"], small.weights(1)["norm"])
    with pytest.raises(ValueError, match="weights_only"):
        _ = checkpoint.arrays
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors: is missing"):
        load(path)


def test_arrays_are_maps_that_outlive_their_checkpoint(tmp_path: Path) -> None:
    with Store(tmp_path, keep=1) as store:
        array = load(store.save(small.state(1)).path).weights["embedding"]
        store.save(small.state(2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002"]
    small.same_bits(array, small.weights(1)["embedding"])
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0


# ---------------------------------------------------------------- does it fit


def test_read_into_changes_nothing_unless_all_fits(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        checkpoint = load(store.save(small.state(1)).path)
    good = {name: np.full_like(array, 7) for name, array in small.weights(1).items()}
    for changes, message in (
        (
            {"embedding": np.full((4, 8), 7, np.float32)},
            r"embedding is float32 \[8, 4\] in the checkpoint, and float32 \[4, 8\]",
        ),
        (
            {"norm": np.full(4, 7, np.float64)},
            r"norm is float32 \[4\] in the checkpoint, and float64 \[4\] in the model",
        ),
        ({"norm": np.full(4, 7, np.complex64)}, "norm is float32"),
        ({"more": np.full(4, 7, np.float32)}, "none only in the checkpoint, more only in the model"),
    ):
        arrays = good | changes
        with pytest.raises(CheckpointError, match=message):
            checkpoint.weights.read_into(arrays)
        assert all((array == 7).all() for array in arrays.values())
    with pytest.raises(CheckpointError, match="norm only in the checkpoint, none only in the model"):
        checkpoint.weights.read_into({"embedding": good["embedding"]})
    with pytest.raises(ValueError, match="contiguous and writeable"):
        checkpoint.weights.read_into(good | {"norm": np.full(8, 7, np.float32)[::2]})
    checkpoint.weights.read_into(good)
    small.same_bits(good["embedding"], small.weights(1)["embedding"])


def test_a_spec_that_differs_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        checkpoint = load(store.save(small.state(1)).path)
    checkpoint.check_spec(small.SPEC)
    other = dataclasses.replace(small.SPEC, batch=2, rope="half")
    with pytest.raises(CheckpointError, match="batch of the spec is 1, and 2 in the model"):
        checkpoint.check_spec(other)
    with pytest.raises(CheckpointError, match="rope of the spec is 'interleaved', and 'half' in the model"):
        checkpoint.check_spec(other, ignore=["batch", "seq"])
    checkpoint.check_spec(other, ignore=["batch", "rope"])


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        checkpoint = load(store.save(small.state(1)).path)
    checkpoint.check_tokenizer("1f2e")
    with pytest.raises(CheckpointError, match="tokenizer is 1f2e, and that of the data is beef"):
        checkpoint.check_tokenizer("beef")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": True}, "step is True"),
        ({"weights": {"w": [1.0]}}, "weights: w is of type list"),
        ({"weights": {"w": np.ones(3, np.complex64)}}, "weights: w is complex64"),
        ({"weights": {"w": np.ones(3, ">f4")}}, "weights: w is >f4"),
        ({"weights": {"w": np.ones((3, 3), np.float32).T[:2]}}, "weights: w is not contiguous"),
        ({"arrays": {"__metadata__": np.ones(3)}}, "arrays: a tensor is named '__metadata__'"),
        ({"arrays": {"": np.ones(3)}}, "arrays: a tensor is named ''"),
        ({"arrays": {"\ud800": np.ones(3)}}, "arrays: a tensor is named"),
        ({"baked": {"norm": np.ones(3, np.float32)}}, r"baked: norm is float32 \[3\], which none of the weights"),
        ({"baked": {"other": np.ones(3, np.float32)}}, r"baked: other is float32 \[3\], which none of the weights"),
        ({"values": {"a": [1, {"b": float("nan")}]}}, r"values\.a\[1\]\.b is nan"),
        ({"values": {"a": (1, 2)}}, r"values\.a is of type tuple"),
        ({"values": {"a": np.float32(1)}}, r"values\.a is of type float32"),
        ({"config": {"a": {1: 2}}}, r"config\.a has the key 1"),
        ({"validation_loss": float("inf")}, "validation_loss is inf"),
        ({"tokenizer": b"1f"}, "tokenizer is b'1f'"),
        ({"device": None}, "device is None"),
    ],
)
def test_a_state_that_cannot_come_back_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with Store(tmp_path) as store:
        with pytest.raises(ValueError, match=message):
            store.save(dataclasses.replace(small.state(3), **changes))
        assert small.names(tmp_path) == []
        store.save(small.state(3))


# ---------------------------------------------------------------- which there are


def test_the_last_and_the_best_stay(tmp_path: Path) -> None:
    losses = {0: None, 10: 3.0, 20: 1.5, 30: 2.5, 40: None, 50: 2.0, 60: 1.75}
    with Store(tmp_path, keep=2) as store:
        for step, loss in losses.items():
            store.save(small.state(step, validation_loss=loss))
            assert find(tmp_path).name == f"step-{step:08}"
    assert small.names(tmp_path) == ["step-00000020", "step-00000050", "step-00000060"]
    assert find(tmp_path, "best").name == "step-00000020"
    assert find(tmp_path / "step-00000050", "best").name == "step-00000050"


@pytest.mark.parametrize("keep", [1, None])
def test_a_passing_one_goes_with_the_next_and_counts_for_nothing(keep: int | None, tmp_path: Path) -> None:
    with Store(tmp_path, keep=keep) as store:
        store.save(small.state(10))
        passing = store.save_in_background(small.state(12), passing=True).wait().path
        assert small.names(tmp_path) == ["step-00000010", "step-00000012"]
    with Store(tmp_path, step=12, keep=keep, passing=passing) as store:  # as the next process does
        store.save_in_background(small.state(14, validation_loss=1.0), passing=True).wait()
        assert small.names(tmp_path) == ["step-00000010", "step-00000014"]
        store.save_in_background(small.state(16), passing=True).wait()
        assert small.names(tmp_path) == ["step-00000010", "step-00000014", "step-00000016"]  # 14 is the best
        store.save(small.state(20))
    assert small.names(tmp_path)[-2:] == ["step-00000014", "step-00000020"]
    assert len(checkpoints(tmp_path)) == (2 if keep else 3)


def test_of_equal_losses_the_last_is_best(tmp_path: Path) -> None:
    with Store(tmp_path, keep=1) as store:
        for step in (1, 2, 3):
            store.save(small.state(step, validation_loss=0.0 if step < 3 else None))
    assert small.names(tmp_path) == ["step-00000002", "step-00000003"]
    assert find(tmp_path, "best").name == "step-00000002"


def test_all_stay_when_none_are_to_go(tmp_path: Path) -> None:
    with Store(tmp_path, keep=None) as store:
        for step in range(5):
            store.save(small.state(step))
    assert len(checkpoints(tmp_path)) == 5
    with pytest.raises(CheckpointError, match="none of its checkpoints has a validation loss"):
        find(tmp_path, "best")


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    """The old one is not touched, and the new one is the last; numbers are numbers, not texts."""
    with Store(tmp_path, keep=None) as store:
        paths = [store.save(small.state(7, values={"try": number})).path for number in range(11)]
        assert [path.name for path in paths[:2]] == ["step-00000007", "step-00000007-2"]
        assert find(tmp_path) == paths[-1]
        assert load(find(tmp_path)).values == {"try": 10}
        assert store.save(small.state(100_000_000)).path.name == "step-100000000"
    assert find(tmp_path).name == "step-100000000"


def test_later_steps_are_never_mistaken_for_this_run(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.save(small.state(50))
        with pytest.raises(
            CheckpointError, match="step-00000050 is later than step 49: resume from it, choose another"
        ):
            store.save(small.state(49))
    with pytest.raises(CheckpointError, match="step-00000050 is later than step 0"):
        Store(tmp_path)
    with Store(tmp_path, step=50) as store:  # the lock was given back
        store.save(small.state(51))


@pytest.mark.parametrize("keep", [0, -1, 1.5])
def test_keep_is_a_count(tmp_path: Path, keep: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"keep is {keep}")):
        Store(tmp_path, keep=keep)


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        find(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"there is neither a checkpoint\.json in it nor a folder such as"):
        find(tmp_path)


def test_what_is_foreign_stays(tmp_path: Path) -> None:
    """Other files, folders that have only the name of a checkpoint, and damaged ones are nobody's to remove."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / "photo").write_text("mine")
    (tmp_path / ".step-00000001.backup").mkdir()
    with Store(tmp_path, step=1, keep=1) as store:
        for step in (2, 3, 4):
            store.save(small.state(step))
            if step == 2:
                (tmp_path / "step-00000002" / "checkpoint.json").write_text("{")
    assert small.names(tmp_path) == [
        ".step-00000001.backup",
        "notes.txt",
        "step-00000001",
        "step-00000002",
        "step-00000004",
    ]
    with pytest.raises(CheckpointError, match=r"step-00000001: has no checkpoint\.json"):
        find(tmp_path, "best")


# ---------------------------------------------------------------- one writer


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    message = f"process {os.getpid()} on .* saves here; wait for its end"
    with Store(tmp_path), pytest.raises(CheckpointError, match=message):
        Store(tmp_path)
    Store(tmp_path).close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.save(small.state(1))


def test_a_store_that_is_forgotten_locks_nobody_out(tmp_path: Path) -> None:
    Store(tmp_path).save(small.state(1))
    Store(tmp_path, step=1).close()


# ---------------------------------------------------------------- durable


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill does not lose what the system has taken, a power cut does: the order of the syncs is looked at."""
    done: list[str] = []
    sync, sync_folder, rename = files.sync, files.sync_folder, Path.rename

    def watched_sync(descriptor: int) -> None:
        done.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def watched_sync_folder(path: Path) -> None:
        done.append("sync folder " + re.sub("[0-9a-f]{8}.tmp", "tmp", path.name))
        sync_folder(path)

    def watched_rename(path: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return rename(path, target)

    need(Path("/proc/self/fd").exists(), "/proc")
    run = tmp_path / "run"
    with Store(run) as store:
        monkeypatch.setattr(files, "sync", watched_sync)
        monkeypatch.setattr(files, "sync_folder", watched_sync_folder)
        monkeypatch.setattr(Path, "rename", watched_rename)
        store.save(small.state(4))
    assert done == [
        "sync weights.safetensors",
        "sync optimizer.safetensors",
        "sync baked.safetensors",
        "sync checkpoint.json",
        "sync folder .step-00000004.tmp",
        "rename to step-00000004",
        "sync folder run",
    ]
