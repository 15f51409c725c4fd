"""Bad MIL text and bad weight files: a CompileError that says what and where, no crash, nothing left behind."""

from __future__ import annotations

import gc
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anetrain.device import Device
from anetrain.errors import CompileError
from tests.support import emulator

SEEDS = sorted((Path(__file__).resolve().parent.parent / "csrc" / "tests" / "corpus" / "mil").glob("*.mil"))
HEADER = 'program(1.3)\n[buildInfo = dict<string, string>({{"coremlc-version", "3505.4.1"}})]\n'
X = "tensor<fp16, [1, 8, 1, 32]>"
WEIGHT_PATH = "@model_path/weights/w.bin"


def program(statements: str, outputs: str = "y", inputs: str = f"{X} x") -> str:
    """The statements stand on line 4, from column 1."""
    return f"{HEADER}{{ func main<ios18>({inputs}) {{\n{statements}\n}} -> ({outputs});\n}}\n"


def weight_file(values: np.ndarray, code: int = 1, count: int = 1) -> bytes:
    payload = values.tobytes()
    record = struct.pack("<IIQQQ32x", 0xDEADBEEF, code, len(payload), 128, 0)
    return struct.pack("<II56x", count, 2) + record + payload


GOOD_WEIGHTS = weight_file(np.arange(16, dtype=np.float16))
# A constant that a mutation may change in value but not in form, beside syntax of every kind.
SAMPLE = program(
    "// a comment\n"
    'tensor<int32, [2]> ax = const()[name = string("ax"), val = tensor<int32, [2]>([1, -1])];\n'
    'tensor<fp16, [1, 8, 1, 1]> w = const()[name = string("w"), val = tensor<fp16, [1, 8, 1, 1]>(BLOBFILE(path = '
    f'string("{WEIGHT_PATH}"), offset = uint64(64)))];\n'
    "tensor<fp16, [1, 4, 1, 32]> a, tensor<fp16, [1, 4, 1, 32]> b = "
    "split(x = x, num_splits = int32(2), axis = int32(1));\n"
    f'{X} c = concat(values = (b, a), axis = int32(1), interleave = bool(false))[name = string("c")];\n'
    f"{X} y = mul(x = c, y = w);"
)
SAMPLE_WEIGHTS = weight_file(np.arange(8, dtype=np.float16))


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    gc.collect()  # programs of earlier tests that only garbage still holds count for the process, too
    device = emulator("exact")
    before = device.counters().live_programs  # of fixtures of other tests
    yield device
    assert device.counters().live_programs == before


def refusal(device: Device, text: str | bytes, blobs: dict[str, bytes] | None = None) -> CompileError:
    with pytest.raises(CompileError) as caught:
        device.compile(text, blobs or {}, label="bad")
    error = caught.value
    assert error.domain == "com.apple.appleneuralengine.compiler"
    assert error.code == 1
    assert error.text == "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)"
    assert error.label == "bad"
    return error


def compiles(device: Device, text: str | bytes, blobs: dict[str, bytes]) -> bool:
    """True when it compiles, False when it is refused as it should be; anything else is raised."""
    try:
        device.compile(text, blobs).unload()
    except CompileError:
        return False
    return True


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.stem)
def test_every_seed_of_the_fuzzer_is_a_program(seed: Path) -> None:
    """Else the fuzzer would start from texts that get nowhere."""
    device = emulator(
        "exact", executor="reference", allow_unproven=True, rules={"border-width": False, "border-dtype": False}
    )
    device.compile(seed.read_bytes(), {WEIGHT_PATH: GOOD_WEIGHTS}).unload()


def test_every_cut_has_a_place(device: Device) -> None:
    blobs = {WEIGHT_PATH: SAMPLE_WEIGHTS}
    assert compiles(device, SAMPLE, blobs)
    for length in range(SAMPLE.rindex("}") + 1):
        error = refusal(device, SAMPLE[:length], blobs)
        lines = SAMPLE[:length].split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1


def test_changed_bytes_are_refused_or_harmless(device: Device) -> None:
    generator = random.Random(1)
    blobs = {WEIGHT_PATH: SAMPLE_WEIGHTS}
    refused = 0
    for _ in range(3000):
        text = bytearray(SAMPLE.encode())
        for _ in range(generator.choice((1, 1, 2, 5))):
            text[generator.randrange(len(text))] = generator.choice(
                (0, 9, 10, 34, 40, 41, 44, 45, 49, 57, 91, 93, 127, 255)
            )
        refused += not compiles(device, bytes(text), blobs)
    assert refused > 2000


def test_changed_weight_files_are_refused_or_harmless(device: Device) -> None:
    generator = random.Random(2)
    refused = 0
    for _ in range(1500):
        data = bytearray(SAMPLE_WEIGHTS)
        for _ in range(generator.choice((1, 2, 3))):
            data[generator.randrange(len(data))] = generator.randrange(256)
        refused += not compiles(device, SAMPLE, {WEIGHT_PATH: bytes(data[: generator.randrange(1, len(data) + 1)])})
    assert refused > 1000


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (b"", (1, 1), "end of the text"),
        (b"\x00", (1, 1), "0x00"),
        (b"\xef\xbb\xbfprogram(1.3)", (1, 1), "0xef"),
        (b"program(1.3)\n// caf\xe9", (2, 7), "not UTF-8"),
        (b"program(1.3)\n// \xed\xa0\x80", (2, 4), "not UTF-8"),
        (b"program(2.0)", (1, 9), "1.0 and 1.3"),
        (b"program(1.3)\n{ }", (2, 1), "buildInfo"),
        (HEADER.encode() + b"{ func main<ios9>(", (3, 13), "ios18"),
        (HEADER.encode() + b"{ }", (3, 3), "'func'"),
        (program("").encode() + b"}", (7, 1), "nothing after"),
    ],
)
def test_text_that_is_no_program(device: Device, text: bytes, place: tuple[int, int], words: str) -> None:
    error = refusal(device, text)
    assert (error.line, error.column) == place
    assert words in error.detail


@pytest.mark.parametrize("opening", ["(", "[", "{", "tensor<", "string(", "BLOBFILE(path = string("])
def test_deep_nesting(device: Device, opening: str) -> None:
    for text in (
        opening * 200_000,
        program(f"tensor<fp16, [1]> c = const()[val = tensor<fp16, [1]>({opening * 200_000}"),
    ):
        assert refusal(device, text).line > 0


# ---------------------------------------------------------------- statements

# The column that is expected stands after a ^, which is not part of the text.
MISTAKES = {
    "unknown operation": (f"{X} y = ^sofmax(x = x);", ["'sofmax'", "did you mean 'softmax'"]),
    "operation the engine lacks": (f"{X} y = ^cumsum(x = x);", ["the engine has no operation 'cumsum'", "matmul"]),
    "unknown argument": (f"{X} y = softmax(x = x, ^axes = int32(1));", ["'axes'", "did you mean 'axis'"]),
    "argument given twice": (f"{X} y = relu(x = x, ^x = x);", ["given twice"]),
    "missing epsilon": (f"{X} y = ^rsqrt(x = x);", ["required argument 'epsilon'"]),
    "missing mode": (f"{X} y = ^gelu(x = x);", ["required argument 'mode'"]),
    "missing interleave": (
        "tensor<fp16, [1, 16, 1, 32]> y = ^concat(values = (x, x), axis = int32(1));",
        ["required argument 'interleave'", "bool"],
    ),
    "axis as a list": (
        f"{X} y = softmax(x = x, axis = ^tensor<int32, [1]>([1]));",
        ["'axis' is tensor<int32, [1]>", "scalar int32"],
    ),
    "parameter at run time": (f"{X} y = rsqrt(x = x, epsilon = ^x);", ["must be known", "'x'"]),
    "other precision": (f"{X} y = ^rsqrt(x = x, epsilon = fp32(1));", ["'epsilon' is fp32", "fp16"]),
    "unknown name": (f"{X} y = relu(x = ^z);", ["unknown name 'z'"]),
    "used before it is made": (f"{X} y = relu(x = ^y);", ["before it is used"]),
    "made twice": (f"{X} ^x = relu(x = x);", ["'x' is already defined at line 3"]),
    "wrong shape": ("tensor<fp16, [1, 8, 1, 31]> ^y = relu(x = x);", ["[1, 8, 1, 31]", "[1, 8, 1, 32]"]),
    "wrong type": ("tensor<fp32, [1, 8, 1, 32]> ^y = relu(x = x);", ["tensor<fp32", "tensor<fp16"]),
    "operands that do not fit": (f"{X} y = ^add(x = x, y = tensor<fp16, [3]>([1, 2, 3]));", ["[3]"]),
    "list too short": ("tensor<fp16, [2]> c = const()[val = tensor<fp16, [2]>([1^])];", ["expected 2"]),
    "list too long": ("tensor<fp16, [1]> c = const()[val = tensor<fp16, [1]>([1^, 2])];", ["more than 1"]),
    "not finite": ("fp16 c = const()[val = fp16(^1e6)];", ["65504"]),
    "out of range": ("int8 c = const()[val = int8(^128)];", ["-128 to 127"]),
    "huge size": ("tensor<fp16, [^4294967297]> c = const()[val = tensor<fp16, [1]>([1])];", ["4294967297"]),
    "huge product": ("tensor<fp16, ^[4294967296, 4294967296]> c = relu(x = x);", ["elements"]),
    "overflowing size": ("tensor<fp16, [^18446744073709551617]> c = relu(x = x);", ["18446744073709551617"]),
    "no size": ("tensor<fp16, [^0]> c = relu(x = x);", ["at least 1"]),
    "long list without its elements": (
        "tensor<int8, [4294967296]> c = const()[val = ^tensor<int8, [4294967296]>([1])];",
        ["BLOBFILE"],
    ),
    "split into billions": (
        "tensor<fp16, [1, 8, 1, 32]> y = ^split(x = x, num_splits = int32(2147483647), axis = int32(1));",
        ["2147483647"],
    ),
}


def test_a_split_into_billions_takes_no_memory(device: Device) -> None:
    """As many parts as an axis is long, where only one is declared."""
    statement = "tensor<fp16, [1, 1, 1, 1]> y = split(x = x, num_splits = int32(2147483647), axis = int32(3));"
    error = refusal(device, program(statement, inputs="tensor<fp16, [1, 1, 1, 2147483647]> x"))
    assert "at most 4096 parts" in error.detail


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_where_they_are(device: Device, name: str) -> None:
    statement, words = MISTAKES[name]
    error = refusal(device, program(statement.replace("^", "")))
    for word in words:
        assert word in error.detail
    assert (error.line, error.column) == (4, statement.index("^") + 1)


@pytest.mark.parametrize(
    ("statements", "outputs", "words"),
    [
        (f"{X} y = relu(x = x);", "x", "directly an input"),
        (f"{X} y = relu(x = x);", "", "at least one value"),
        (f"{X} y = relu(x = x);", "y, y", "returned twice"),
        (f"{X} y = relu(x = x);", "yy", "did you mean 'y'"),
        ("tensor<fp16, [1]> c = const()[val = tensor<fp16, [1]>([1])];", "c", "depends on no input"),
    ],
)
def test_outputs(device: Device, statements: str, outputs: str, words: str) -> None:
    error = refusal(device, program(statements, outputs))
    assert words in error.detail


# ---------------------------------------------------------------- weight files


def patched(offset: int, data: bytes) -> bytes:
    return SAMPLE_WEIGHTS[:offset] + data + SAMPLE_WEIGHTS[offset + len(data) :]


NAN, INFINITY = struct.pack("<H", 0x7E00), struct.pack("<H", 0x7C00)
BAD_FILES = {
    "short": (SAMPLE_WEIGHTS[:100], ["100 bytes"]),
    "cut": (SAMPLE_WEIGHTS[:-1], ["past the end"]),
    "count": (patched(0, struct.pack("<I", 2)), ["counts 2", "1 record"]),
    "version": (patched(4, struct.pack("<I", 1)), ["version 1", "expected 2"]),
    "sentinel": (patched(64, b"\0"), ["0xDEADBEEF"]),
    "type": (patched(68, struct.pack("<I", 4)), ["int8", "fp16"]),
    "unknown type": (patched(68, struct.pack("<I", 77)), ["code 77"]),
    "fp8": (patched(68, struct.pack("<I", 16)), ["fp8e4m3fn"]),
    "size": (patched(72, struct.pack("<Q", 524288)), ["524288 bytes", "expected 16"]),
    "huge size": (patched(72, struct.pack("<Q", 2**64 - 1)), ["expected 16"]),
    "place": (patched(80, struct.pack("<Q", 0)), ["at 0", "expected 128"]),
    "NaN": (patched(128, NAN), ["NaN"]),
    "infinity": (patched(142, INFINITY), ["infinity"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_weight_files(device: Device, name: str) -> None:
    data, words = BAD_FILES[name]
    error = refusal(device, SAMPLE, {WEIGHT_PATH: data})
    assert error.line == 6
    assert f"blob '{WEIGHT_PATH}' at offset 64: " in error.detail
    for word in words:
        assert word in error.detail


def test_missing_weight_file(device: Device) -> None:
    error = refusal(device, SAMPLE, {"@model_path/weights/W.bin": SAMPLE_WEIGHTS})
    assert WEIGHT_PATH in error.detail
    assert "no such blob among the 1 given; did you mean '@model_path/weights/W.bin'?" in error.detail


@pytest.mark.parametrize("offset", [0, 1, 128, 2**63, 2**64 - 1])
def test_wrong_offset(device: Device, offset: int) -> None:
    error = refusal(device, SAMPLE.replace("uint64(64)", f"uint64({offset})"), {WEIGHT_PATH: SAMPLE_WEIGHTS})
    assert f"at offset {offset}: " in error.detail


def test_a_good_program_runs_after_all_this(device: Device) -> None:
    refusal(device, SAMPLE)
    compiled = device.compile(SAMPLE, {WEIGHT_PATH: SAMPLE_WEIGHTS})
    x, y = device.surface_for(compiled.inputs[0]), device.surface_for(compiled.outputs[0])
    values = np.arange(8 * 32, dtype=np.float32).reshape(8, 32) / 16
    x.write(values)
    compiled.request(inputs={"x": x}, outputs={"y": y}).run()
    expected = np.roll(values, 4, axis=0) * np.arange(8, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(y.read(8, 32), expected.astype(np.float16).astype(np.float32))
    compiled.unload()
