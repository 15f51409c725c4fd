"""Which weight files an engine reads rightly: well-formed ones of several kinds, and those of earlier benches."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.mil.blobs import ALIGNMENT, FILE_HEADER, RECORD, SENTINEL, VERSION, pack, write_blobs
from anetrain.mil.text import Program as Source
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, evidence, named, worked
from anetrain.probe.samples import Array, Arrays, Sample, observe, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

WIDTH = 32
ALLOWED = 4e-3  # what other numbers give need not be exact; one wrong element of a right matrix is 16e-3 at least
FILE = "weights/{}.bin"
HEADER_BYTES = FILE_HEADER.size
RECORD_BYTES = RECORD.size
LEGACY_SIZE = 8 << 16  # byte 10 of a record is 8, which says 524,288 bytes: right for 512 x 512 halves alone

PER_MATRIX, ONE_FILE, SECOND = "a file per matrix", "one file", "second tensor of a file"
COUNT_OF_ONE, UNALIGNED, OF_PAYLOAD = "one file that counts one", "record at no multiple of 64", "offset of the payload"
LEGACY, LEGACY_512, EMPTY = "legacy record", "legacy record of 512 channels", "record without size and place"

Files = dict[str, tuple[str, int, bytes]]
"""Of each weight: the name of its file, the offset in it, the file."""


class Blobs(Probe):
    name = "blobs"
    question = "Are well-formed weight files read rightly, whatever stands where in them?"
    hypothesis = (
        "a file per matrix, several matrices in one file and references to later records all work where sizes, places "
        "and counts are true; what failed on M1 and M3 were malformed files"
    )
    source = (
        "public compatibility tables (M1: single-blob weights and offset references fail), read again (B44, C15, C16)"
    )
    rules = ("blobfile-per-weight", "blob-metadata")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name) for name in LAYOUTS]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        random = lab.random()
        channels = 512 if trial.name == LEGACY_512 else 64
        weights = {name: _signed_permutation(random, channels) for name in ("w1", "w2")}
        decoy = _signed_permutation(random, channels)
        files = LAYOUTS[trial.name](weights, decoy)
        samples = [_sample(whole_numbers(random, (1, channels, 1, WIDTH)), weights, decoy, files) for _ in range(2)]
        source = _source(weights, files, lab.device.facts["dialect"])
        return observe(lab.device, source, samples, allowed=ALLOWED, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        filled: dict[str, Answer] = {
            features.SINGLE_BLOB: worked(named(experiments, ONE_FILE)),
            features.BLOB_PER_MATRIX: worked(named(experiments, PER_MATRIX)),
            features.BLOB_OFFSETS: worked(named(experiments, SECOND)),
            features.LEGACY_BLOBS: _accepted(named(experiments, LEGACY)),
        }
        answer = combined(worked(named(experiments, name)) for name in (PER_MATRIX, ONE_FILE, SECOND))
        return self.verdict(experiments, answer, f"{SAID[answer]}: {evidence(experiments)}", filled)


SAID: dict[Answer, str] = {
    "yes": "Every well-formed file is read rightly",
    "no": "No well-formed file is read rightly",
    "partly": "Some well-formed files are read rightly",
    "unknown": "Not every kind of file was tried",
}


def _accepted(legacy: Experiment | None) -> Answer:
    """ "partly": it compiles, and computes with other numbers."""
    misread = legacy is not None and legacy.status == "done" and worked(legacy) == "no"
    return "partly" if misread else worked(legacy)


# ---------------------------------------------------------------- the program


def _signed_permutation(random: np.random.Generator, channels: int) -> Array:
    """[C, C], one whole number in each row: sums of one term."""
    matrix = np.zeros((channels, channels), np.float16)
    matrix[np.arange(channels), random.permutation(channels)] = whole_numbers(random, (channels,))
    return matrix


def _source(weights: Arrays, files: Files, dialect: str) -> Source:
    graph = Graph()
    channels = len(weights["w1"])
    y = graph.input("a_x", (1, channels, 1, WIDTH))
    for name, weight in weights.items():
        y = graph.conv(y, graph.constant(weight.reshape(channels, channels, 1, 1), name))
    graph.output("y", y)
    written = graph.program(dialect)
    text, blobs = written.text, {}
    for name, (file, offset, data) in files.items():
        path = "@model_path/" + FILE.format(file)
        reference = rf'"@model_path/{FILE.format(name)}"\), offset = ([^()]*)\({ALIGNMENT}\)'
        text, found = re.subn(reference, rf'"{path}"), offset = \1({offset})', text)
        assert found == 1, f"the text refers {found} times to {name}"
        blobs[path] = data
    return Source(text, blobs, written.inputs, written.outputs, dialect)


def _sample(x: Array, weights: Arrays, decoy: Array, files: Files) -> Sample:
    one, two = weights["w1"], weights["w2"]
    others: Mapping[str, tuple[Array, Array]] = {
        "of the first record": (decoy, decoy),
        "of the first matrix twice": (one, one),
        "of the matrices in the other order": (two, one),
        "from the beginning of the file": (_beginning(files["w1"][2], one), _beginning(files["w2"][2], two)),
    }
    mistakes = {name: {"y": _product(x, *pair)} for name, pair in others.items()}
    return Sample({"a_x": x}, {"y": _product(x, one, two)}, mistakes)


def _product(x: Array, first: Array, second: Array) -> Array:
    """[1, C, 1, W], rounded after each product as the engine does."""
    columns = x.reshape(len(first), WIDTH)
    with np.errstate(over="ignore", invalid="ignore"):
        for weight in (first, second):
            columns = (weight.astype(np.float64) @ columns.astype(np.float64)).astype(np.float16)
    return np.asarray(columns.reshape(x.shape))


def _beginning(data: bytes, weight: Array) -> Array:
    """What a reader finds who takes a place of 0 at its word."""
    found: Array = np.frombuffer(data[: weight.nbytes], "<f2").reshape(weight.shape)
    return np.asarray(np.nan_to_num(found))


# ---------------------------------------------------------------- the files


def _per_matrix(weights: Arrays, decoy: Array) -> Files:
    return {name: (name, ALIGNMENT, write_blobs([(weight, "fp16")])[0]) for name, weight in weights.items()}


def _one_file(weights: Arrays, decoy: Array) -> Files:
    data, offsets = write_blobs([(weight, "fp16") for weight in weights.values()])
    return {name: ("all", offset, data) for name, offset in zip(weights, offsets, strict=True)}


def _second(weights: Arrays, decoy: Array) -> Files:
    files = {name: write_blobs([(decoy, "fp16"), (weight, "fp16")]) for name, weight in weights.items()}
    return {name: (name, offsets[1], data) for name, (data, offsets) in files.items()}


def _count_of_one(weights: Arrays, decoy: Array) -> Files:
    return {
        name: (file, offset, FILE_HEADER.pack(1, VERSION) + data[HEADER_BYTES:])
        for name, (file, offset, data) in _one_file(weights, decoy).items()
    }


def _unaligned(weights: Arrays, decoy: Array) -> Files:
    """Three halves stand before each matrix, and nothing fills up to the next multiple of 64."""
    files = {}
    for name, weight in weights.items():
        before = RECORD.pack(SENTINEL, 1, 6, HEADER_BYTES + RECORD_BYTES, 0) + pack(decoy[0, :3], "fp16")
        offset = HEADER_BYTES + len(before)
        record = RECORD.pack(SENTINEL, 1, weight.nbytes, offset + RECORD_BYTES, 0)
        files[name] = (name, offset, FILE_HEADER.pack(2, VERSION) + before + record + pack(weight, "fp16"))
    return files


def _of_payload(weights: Arrays, decoy: Array) -> Files:
    return {name: (name, ALIGNMENT + RECORD_BYTES, data) for name, (_, _, data) in _per_matrix(weights, decoy).items()}


def _with_record(size: int) -> Callable[[Arrays, Array], Files]:
    """All in one file, with records that say this size, and the place 0."""

    def layout(weights: Arrays, decoy: Array) -> Files:
        data, offsets = FILE_HEADER.pack(len(weights), VERSION), {}
        for name, weight in weights.items():
            offsets[name] = len(data)
            data += struct.pack("<IIQ48x", SENTINEL, 1, size) + pack(weight, "fp16")
        return {name: ("all", offset, data) for name, offset in offsets.items()}

    return layout


LAYOUTS: Mapping[str, Callable[[Arrays, Array], Files]] = {
    PER_MATRIX: _per_matrix,
    ONE_FILE: _one_file,
    SECOND: _second,
    COUNT_OF_ONE: _count_of_one,
    UNALIGNED: _unaligned,
    OF_PAYLOAD: _of_payload,
    LEGACY: _with_record(LEGACY_SIZE),
    LEGACY_512: _with_record(LEGACY_SIZE),
    EMPTY: _with_record(0),
}
