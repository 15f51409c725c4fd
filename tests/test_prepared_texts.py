"""Texts that a device has compiled before are not read and planned again: nothing but the time shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

import numpy as np
import pytest

from anetrain import cpu, device
from anetrain.errors import BudgetError, CompileError
from anetrain.mil import Graph
from anetrain.mil.blobs import write_blob
from anetrain.mil.text import Program
from tests.rule_programs import compressed_conv, zero_product
from tests.support import emulator

X = (np.random.default_rng(0).standard_normal((1, 64, 1, 32)) * 0.5).astype(np.float16)
TEXTS = 64  # that a device keeps
TEXT_BYTES = 4 << 20

Blobs = dict[str, bytes]


def linear() -> Program:
    """y = w1 relu(w0 x), both weights in blob files."""
    g = Graph()
    x = g.input("x", X.shape)
    for name in ("w0", "w1"):
        x = g.conv(g.relu(x), g.constant(np.zeros((64, 64, 1, 1), np.float16), name))
    g.output("y", x)
    return g.program("B")


def weights(seed: int) -> Blobs:
    random = np.random.default_rng(seed)
    matrices = (random.standard_normal((64, 64, 1, 1)) / 8 for _ in range(2))
    return {
        path: write_blob(matrix.astype(np.float16), "fp16")
        for path, matrix in zip(linear().blobs, matrices, strict=True)
    }


def result(program: device.Program) -> np.ndarray:
    return program.run({"x": X})["y"]


def was_prepared(program: device.Program) -> bool:
    found = program.report["was_prepared"]
    assert isinstance(found, bool)
    return found


def fresh(blobs: Blobs, **options: Any) -> np.ndarray:
    """Of a device that has not seen the text."""
    program = emulator(**options).compile(linear().text, blobs)
    assert not was_prepared(program)
    return result(program)


@pytest.mark.parametrize("fp32", [False, True])
def test_other_weights_make_the_program_that_a_new_device_makes(fp32: bool) -> None:
    dev = emulator(fp32=fp32)
    for seed in range(3):
        program = dev.compile(linear().text, weights(seed))
        assert was_prepared(program) is (seed > 0)
        assert np.array_equal(result(program), fresh(weights(seed), fp32=fp32))
        report, other = program.report, emulator(fp32=fp32).compile(linear().text, weights(seed)).report
        assert {**report, "was_prepared": False, "compile_ms": 0} == {**other, "compile_ms": 0}


def test_programs_of_one_text_live_side_by_side() -> None:
    dev = emulator()
    expected = [fresh(weights(seed)) for seed in range(4)]
    programs = [dev.compile(linear().text, weights(seed)) for seed in range(4)]
    programs[1].unload()
    programs[1] = dev.compile(linear().text, weights(1))
    wrong: list[int] = []

    def run(which: int) -> None:
        for _ in range(20):
            if not np.array_equal(result(programs[which]), expected[which]):
                wrong.append(which)

    threads = [Thread(target=run, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("executor", ["fast", "reference", "audit"])
def test_blob_files_may_change_once_a_program_is_made(executor: str) -> None:
    dev = emulator(executor=executor)
    for seed in range(2):
        files = {path: bytearray(file) for path, file in weights(seed).items()}
        program = dev.compile(linear().text, files)
        assert was_prepared(program) is (seed > 0 and executor == "fast")
        expected = fresh(weights(seed), executor=executor)
        for file in files.values():
            file[:] = bytes(len(file))
        assert np.array_equal(result(program), expected)


def damaged(kind: str) -> Blobs:
    files = weights(5)
    path = list(files)[1]
    file = bytearray(files[path])
    if kind == "missing":
        del files[path]
        return files
    if kind in ("nan", "inf", "last is nan"):
        element = {"nan": b"\x01\x7e", "inf": b"\x00\xfc", "last is nan": b"\xff\x7f"}[kind]
        at = len(file) - 2 if kind == "last is nan" else 128 + 2 * 17
        file[at : at + 2] = element
    elif kind == "short":
        del file[1000:]
    elif kind == "no record":
        file[64:68] = bytes(4)
    elif kind == "other type":
        file = bytearray(write_blob(np.zeros((64, 64, 1, 1), np.float32), "fp32"))
    elif kind == "empty":
        file = bytearray(64)
    return {**files, path: bytes(file)}


DAMAGE = ("missing", "nan", "inf", "last is nan", "short", "no record", "other type", "empty")


@pytest.mark.parametrize("kind", DAMAGE)
def test_weights_are_checked_each_time(kind: str) -> None:
    dev = emulator("m4")
    expected = result(dev.compile(linear().text, weights(0)))
    with pytest.raises(CompileError) as unseen:
        emulator("m4").compile(linear().text, damaged(kind), label="block 3")
    with pytest.raises(CompileError) as seen:
        dev.compile(linear().text, damaged(kind), label="block 3")
    for field in ("domain", "code", "text", "detail", "label", "rule", "line", "column"):
        assert getattr(seen.value, field) == getattr(unseen.value, field), field
    again = dev.compile(linear().text, weights(0))
    assert was_prepared(again), "a failure takes nothing away"
    assert np.array_equal(result(again), expected)


def test_a_profile_that_lets_nan_pass_does_so_each_time() -> None:
    dev = emulator(rules={"blob-metadata": False})
    for seen in (False, True):
        program = dev.compile(linear().text, damaged("nan"))
        assert was_prepared(program) is seen
        assert np.isnan(result(program)).any()


def test_compiles_are_counted_and_limited_as_ever() -> None:
    counts = emulator().counters()
    dev = emulator(compile_budget=counts.compiles + 2, live_budget=counts.live_programs + 2)
    for seed in range(2):
        dev.compile(linear().text, weights(seed)).unload()
    with pytest.raises(BudgetError):
        dev.compile(linear().text, weights(2))
    found = dev.counters()
    assert (found.compiles - counts.compiles, found.loads, found.unloads, found.cache_loads) == (2, 2, 2, 0)
    limited = emulator(rules={"lifetime-compile-limit": 2, "live-program-limit": 2})
    held = [limited.compile(linear().text, weights(seed)) for seed in range(2)]
    with pytest.raises(CompileError) as refused:
        limited.compile(linear().text, weights(2))
    assert refused.value.rule == "lifetime-compile-limit"
    assert len(held) == 2
    failing = emulator()
    failing.compile(linear().text, weights(0))
    failing.inject_fault("compile")
    with pytest.raises(CompileError):
        failing.compile(linear().text, weights(1))
    assert failing.counters().failed_compiles == 1


def test_warnings_are_of_this_compile() -> None:
    dev = emulator("m4", allow_unproven=True)
    g = Graph()
    g.output("y", g.maximum(g.input("x", X.shape), 0.0))
    program = g.program("B")
    first = dev.compile(program.text, program.blobs).report["warnings"]
    assert first
    extra = dev.compile(program.text, {**program.blobs, "@model_path/weights/spare.bin": b"spare"})
    assert was_prepared(extra)
    (about_spare,) = set(extra.report["warnings"]) - set(first)
    assert "spare.bin" in about_spare
    assert dev.compile(program.text, program.blobs).report["warnings"] == first


# ---------------------------------------------------------------- contents that have a say in what is made


def power(g: Graph, exponents: np.ndarray) -> None:
    g.output("y", g.pow(g.input("x", X.shape), g.constant(exponents, "e")))


def transposed_convolution(g: Graph, weight: np.ndarray) -> None:
    g.output("y", g.conv_transpose(g.input("x", X.shape), g.constant(weight, "w")))


def one_element(factor: float) -> tuple[str, Blobs]:
    g = Graph()
    g.output("y", g.mul(g.input("x", X.shape), g.constant(np.ones((1, 64, 1, 32), np.float16), "w")))
    text = g.program("B").text.replace("tensor<fp16, [1, 64, 1, 32]> w", "tensor<fp16, [1, 1, 1, 1]> w")
    text = text.replace("tensor<fp16, [1, 64, 1, 32]>(BLOBFILE", "tensor<fp16, [1, 1, 1, 1]>(BLOBFILE")
    return text, {path: write_blob(np.full((1, 1, 1, 1), factor, np.float16), "fp16") for path in g.program("B").blobs}


def of_graph(build: Callable[..., None], *arguments: object) -> tuple[str, Blobs]:
    g = Graph()
    build(g, *arguments)
    program = g.program("B")
    return program.text, program.blobs


def compressed(step: float) -> tuple[str, Blobs]:
    text, blobs = of_graph(compressed_conv)
    (scale,) = (path for path in blobs if "const_0" in path)
    return text, {**blobs, scale: write_blob(np.full((64, 1, 1, 1), step, np.float16), "fp16")}


FULL = np.ones((1, 64, 1, 32), np.float16)
KERNEL = np.eye(64, dtype=np.float16)[:, :, None, None]
DECISIVE: Mapping[str, tuple[tuple[str, Blobs], tuple[str, Blobs]]] = {
    "exponents": (of_graph(power, FULL * 2), of_graph(power, FULL * 3)),
    "kernels of the reference": (
        of_graph(transposed_convolution, KERNEL),
        of_graph(transposed_convolution, KERNEL * 2),
    ),
    "scalars": (one_element(0.5), one_element(3)),
    "compressed weights": (compressed(0.5), compressed(0.25)),
}


@pytest.mark.parametrize("kind", DECISIVE)
def test_contents_that_decide_are_read_each_time(kind: str) -> None:
    dev, reference = (emulator(executor=executor, allow_unproven=True) for executor in ("fast", "reference"))
    (text, _), (same, _) = DECISIVE[kind]
    assert text == same, "programs that differ in their files alone"
    results = []
    for _, blobs in DECISIVE[kind] * 2:
        program = dev.compile(text, blobs)
        assert not was_prepared(program)
        results.append(result(program))
        np.testing.assert_allclose(results[-1], result(reference.compile(text, blobs)), rtol=1e-3, atol=1e-4)
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_rule_about_contents_is_asked_each_time() -> None:
    def product(g: Graph, factor: float) -> None:
        x = g.input("x", (1, 4, 1, 32))
        total = g.reduce_sum(x, axes=(1,), keep_dims=True)
        g.output("y", x + total * g.constant(np.full((1, 4, 1, 32), factor, np.float16), "w"))

    dev = emulator(rules={"zero-product": True})
    text, harmless = of_graph(product, 1.0)
    same, zeros = of_graph(product, 0.0)
    assert text == same
    for _ in range(2):
        dev.compile(text, harmless).unload()
        with pytest.raises(CompileError) as refused:
            dev.compile(text, zeros)
        assert refused.value.rule == "zero-product"
    with pytest.raises(CompileError):
        dev.compile(*of_graph(zero_product))


def test_a_plan_for_other_threads_is_another_one() -> None:
    dev = emulator()
    threads = cpu.threads()
    try:
        cpu.set_threads(1)
        dev.compile(linear().text, weights(0))
        cpu.set_threads(2)
        assert not was_prepared(dev.compile(linear().text, weights(0)))
        cpu.set_threads(1)
        assert was_prepared(dev.compile(linear().text, weights(0)))
    finally:
        cpu.set_threads(threads)


# ---------------------------------------------------------------- memory


def test_the_latest_texts_are_kept() -> None:
    dev = emulator()

    def compiled(number: int, padding: int = 0) -> bool:
        program = dev.compile(linear().text + f"// {number}{' ' * padding}", weights(0))
        found = was_prepared(program)
        program.unload()
        return found

    for number in range(TEXTS):
        assert not compiled(number)
    assert compiled(0), "used again, so now the latest"
    assert not compiled(TEXTS)
    assert compiled(0)
    assert not compiled(1), "the oldest one had to go"
    for number in range(3):
        assert not compiled(number, TEXT_BYTES // 2 - 4000)
    assert compiled(2, TEXT_BYTES // 2 - 4000)
    assert not compiled(0, TEXT_BYTES // 2 - 4000), "together they were too long"
    for _ in range(2):
        assert not compiled(0, TEXT_BYTES), "too long on its own"
