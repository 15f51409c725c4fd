"""What earlier trainers got wrong, by the numbers of PITFALLS: B1 the norm's gradient, B2 which heads belong together,
B3 positions, B4 Qwen3 as published, B14 large losses. (B12 is in test_blocks_device_norms.) And causality."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import differentiate
from anetrain.blocks import (
    Attention,
    Classifier,
    LlamaBlock,
    ModelSpec,
    Qwen3Block,
    RMSNorm,
    build,
    build_loss,
    qwen3_spec,
    rope_tables,
)
from anetrain.graph import Place
from anetrain.mil.types import Array
from tests.block_runs import Run, assert_close, run_block, spec


def outputs(run: Run, **changed: Array) -> Array:
    """The output of a block with other inputs or parameters."""
    inputs = {**run.inputs, **{name: array for name, array in changed.items() if name in run.inputs}}
    parameters = {**run.parameters, **{name: array for name, array in changed.items() if name in run.parameters}}
    return reference.run(run.derived, inputs, parameters).outputs["y"]


@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("kind", ["random", "aligned", "constant gain"])
def test_b1_the_gradient_of_rms_norm(kind: str, norms: Place) -> None:
    """dx = r (w dy - x r^2 mean(w dy x)): the second term is not multiplied by w. With gains of 1 nobody sees it."""
    s = spec()
    run = run_block(RMSNorm(), s, norms)
    x, gain = run.inputs["x"], run.parameters["gain"]
    if kind == "aligned":
        run.inputs["d_y"] = x.copy()
    if kind == "constant gain":
        gain[...] = 2.0
    dy, w = run.inputs["d_y"], gain[None, :, None, None]
    r = 1.0 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + s.norm_eps)
    right = r * (w * dy - x * r**2 * np.mean(w * dy * x, axis=1, keepdims=True))
    wrong = w * r * (dy - x * r**2 * np.mean(w * dy * x, axis=1, keepdims=True))
    found = reference.run(run.derived, run.inputs, run.parameters).gradients["x"]
    assert_close(found, right, "dx")
    assert np.abs(wrong - right).max() > 0.01 * np.abs(right).max()


@pytest.mark.parametrize("kv_heads", [6, 3, 2, 1])
def test_b2_query_head_h_reads_kv_head_h_div_ratio(kv_heads: int) -> None:
    """Forward and backward: a value of kv head j reaches the rows of its query heads and no others."""
    s = spec(kv_heads=kv_heads, heads=6, head_dim=10, batch=2)
    run = run_block(Attention(), s)
    ratio = s.heads // kv_heads
    run.parameters["wo"][...] = np.eye(s.dim)  # y shows the heads
    before = outputs(run)
    for kv_head in range(kv_heads):
        rows = slice(kv_head * s.head_dim, (kv_head + 1) * s.head_dim)
        wv = run.parameters["wv"].copy()
        wv[rows] += 1.0
        moved = np.abs(outputs(run, wv=wv) - before).max(axis=(0, 2, 3)).reshape(s.heads, s.head_dim).max(axis=1)
        expected = [h for h in range(s.heads) if h // ratio == kv_head]
        assert [h for h in range(s.heads) if moved[h] > 0] == expected

        dy = np.zeros_like(run.inputs["d_y"])
        dy[:, expected[0] * s.head_dim] = 1.0  # only one of its query heads asks
        gradients = reference.run(run.derived, {**run.inputs, "d_y": dy}, run.parameters).parameters
        for name in ("wk", "wv"):
            reached = np.abs(gradients[name]).max(axis=1).reshape(kv_heads, s.head_dim).max(axis=1) > 0
            assert reached.tolist() == [j == kv_head for j in range(kv_heads)], name


@pytest.mark.parametrize("rope", ["interleaved", "half"])
def test_b3_attention_knows_positions(rope: str) -> None:
    """Without RoPE the last token does not see it when two earlier tokens change places."""
    for kind, differs in ((rope, True), ("none", False)):
        s = spec(rope=kind)
        run = run_block(Attention(), s)
        swapped = run.inputs["x"].copy()
        swapped[..., [3, 11]] = swapped[..., [11, 3]]
        change = np.abs(outputs(run, x=swapped) - outputs(run))[..., -1].max()
        assert (change > 1e-3) == differs
        assert differs or change < 1e-12


@pytest.mark.parametrize("rope", ["interleaved", "half"])
def test_b3_only_distances_count(rope: str) -> None:
    """RoPE is a rotation: all tokens later by the same number of positions, and nothing changes."""
    s, shift = spec(rope=rope, seq=32), 7
    x = np.random.default_rng(3).standard_normal((1, s.dim, 1, s.seq))
    run = run_block(Attention(window=8), s)
    later = np.roll(x, shift, axis=3)
    early, late = outputs(run, x=x)[..., 8 : s.seq - shift], outputs(run, x=later)[..., 8 + shift :]
    assert_close(late, early, "y")


def test_b3_tables_of_rope() -> None:
    straight, crossed = rope_tables(8, 5, base=10_000.0)
    for t in range(5):
        for i in range(4):
            angle = t / 10_000.0 ** (2 * i / 8)
            assert np.allclose(straight[0, 0, [i, i + 4], t], math.cos(angle), rtol=0, atol=1e-15)
            assert np.allclose(crossed[0, 0, [i, i + 4], t], [-math.sin(angle), math.sin(angle)], rtol=0, atol=1e-15)


def test_b4_qwen3_is_what_was_published() -> None:
    sizes = {"dim": 24, "hidden": 20, "layers": 1, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 9, "seq": 8}
    s = qwen3_spec(**sizes)
    assert (s.rope, s.rope_base, s.norm_eps, s.qk_norm, s.tied) == ("half", 1e6, 1e-6, True, True)
    shapes = {known.name: known.shape for known in build(Qwen3Block(), s).parameters.values()}
    assert shapes["attention.wq"] == (64, 24)  # head_dim is not dim / heads
    assert shapes["attention.q_norm"] == shapes["attention.k_norm"] == (16,)
    for name, value in (("qk_norm", False), ("rope", "interleaved")):
        with pytest.raises(ValueError, match=f"Qwen3Block: {name} is {value!r}, expected"):
            build(Qwen3Block(), qwen3_spec(**sizes, **{name: value}))


@pytest.mark.parametrize("classifier", [Classifier("host"), Classifier("device", chunk_rows=3)])
def test_b14_the_loss_of_a_hopeless_target_is_not_capped(classifier: Classifier) -> None:
    s = ModelSpec(dim=4, hidden=4, layers=1, heads=1, kv_heads=1, head_dim=4, vocab=7, seq=2)
    derived = differentiate(build_loss(classifier, s, precision="fp32"))
    x = np.tile(np.array([1.0, 0, 0, 0]), (2, 1)).T.reshape(1, 4, 1, 2)
    table = np.zeros((7, 4))
    table[5, 0] = 40.0 / 2.0  # the norm makes 2 of the 1: logit 40 for id 5, 0 for all others
    parameters = {"final_norm": np.ones(4), "embedding": table}
    targets = np.array([0, 5])
    for scale in (1.0, 1024.0):
        inputs = {"x": x, "targets": targets, "scale": np.array([scale])}
        result = reference.run(derived, inputs, parameters)
        assert result.outputs["loss"].item() == pytest.approx(40.0 / 2, rel=1e-4)  # 40 for one of two tokens
        assert np.abs(result.parameters["embedding"][5]).max() == pytest.approx(scale / 2 * 2, rel=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("window", [None, 4])
def test_causality(window: int | None, batch: int) -> None:
    """A token changes what comes from it on, in its own sequence, and nothing else."""
    s = spec(batch=batch)
    run = run_block(LlamaBlock(Attention(window=window)), s)
    before = outputs(run)
    for sequence in range(batch):
        position = 20
        changed = run.inputs["x"].copy()
        changed[..., sequence * s.seq + position] += 1.0
        differs = (np.abs(outputs(run, x=changed) - before).max(axis=(0, 1, 2)) > 0).reshape(batch, s.seq)
        end = s.seq if window is None else position + window
        expected = np.zeros((batch, s.seq), bool)
        expected[sequence, position:end] = True
        np.testing.assert_array_equal(differs, expected)
