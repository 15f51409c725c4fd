"""What a micro-step costs, counted exactly: dispatches, compiles, bytes over the border, staged bytes, memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from anetrain.pipeline import Traffic
from anetrain.spec import ModelSpec
from tests.small_models import SPEC, batch, model_of, step
from tests.support import emulator

ITEM = 2  # bytes of fp16
PADDED = 32  # tokens of a sequence on the device


def expected_traffic(s: ModelSpec) -> tuple[Traffic, Traffic]:
    """(of forward, of backward): per layer two programs each way, and every value once. The device gets what the norms
    make and the gradients of what it put out; it gives what is added to the residual stream, the gradients of its
    inputs, and of each weight's gradient the factors that the host has not."""
    tokens, q, kv = s.batch * PADDED, s.heads * s.head_dim, s.kv_heads * s.head_dim
    attention_factors = q + 2 * kv + q  # of Wq, Wk and Wv, and the input of Wo
    ffn_factors = 2 * s.hidden + s.hidden
    forward, backward = Traffic(), Traffic()
    forward.dispatches = backward.dispatches = 2 * s.layers
    forward.sent_bytes = forward.received_bytes = backward.sent_bytes = s.layers * 2 * s.dim * tokens * ITEM
    backward.received_bytes = s.layers * (2 * s.dim + attention_factors + ffn_factors) * tokens * ITEM
    return forward, backward


def layer_matrices(s: ModelSpec) -> int:
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    return s.layers * (2 * q * s.dim + 2 * kv * s.dim + 3 * s.hidden * s.dim)


def test_every_number_of_a_micro_step() -> None:
    device = emulator()
    before = device.counters()
    pipeline = model_of(device=device)
    assert pipeline.traffic == Traffic(staged_bytes=ITEM * layer_matrices(SPEC))
    assert pipeline.compiles == device.counters().compiles - before.compiles == 4
    texts = {spec.program.text for layer in pipeline.stack.layers for spec in layer.compiled.plan.programs}
    assert len(texts) == 4, "some program was compiled twice"
    pipeline.clear_traffic()
    forward, backward = expected_traffic(SPEC)
    pipeline.evaluate(*batch())
    assert pipeline.traffic == forward
    pipeline.clear_traffic()
    step(pipeline, *batch())
    both = Traffic()
    both.add(forward)
    both.add(backward)
    assert pipeline.traffic == both
    after = device.counters()
    assert after.evaluations - before.evaluations == forward.dispatches + both.dispatches
    assert both.staged_bytes == 0, "weights went to the device between updates"
    pipeline.clear_traffic()
    pipeline.stage()
    assert pipeline.traffic == Traffic(staged_bytes=ITEM * layer_matrices(SPEC))


def test_compiles_that_led_nowhere_count() -> None:
    device = emulator()
    before = device.counters().compiles
    device.inject_fault("compile", after=1)
    pipeline = model_of(device=device)
    assert pipeline.compiles == device.counters().compiles - before
    assert pipeline.compiles > sum(layer.compiled.compiles for layer in pipeline.stack.layers[:2])


def test_a_thousand_micro_steps_compile_nothing_and_keep_nothing() -> None:
    spec = ModelSpec(dim=16, hidden=24, layers=2, heads=2, kv_heads=1, head_dim=8, vocab=19, seq=9)
    device = emulator()
    pipeline = model_of(spec, device=device)
    given = batch(spec)
    step(pipeline, *given)
    pipeline.clear_traffic()
    first = device.counters()
    for number in range(1000):
        pipeline.micro_step(*given)
        if number % 100 == 99:
            pipeline.clear_gradients()
            pipeline.stage()
    last = device.counters()
    assert last == replace(first, evaluations=first.evaluations + 1000 * 8)
    assert pipeline.traffic.dispatches == 1000 * 8
    assert pipeline.traffic.staged_bytes == 10 * ITEM * layer_matrices(spec)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_micro_step_allocates_no_array(overlap: bool) -> None:
    spec = replace(SPEC, seq=250, batch=2)
    pipeline = model_of(spec, overlap=overlap)
    given = batch(spec)
    smallest = spec.tokens * 4 * SPEC.kv_heads * SPEC.head_dim  # of the arrays of a step
    step(pipeline, *given)
    tracemalloc.start()
    step(pipeline, *given)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in range(5):
        step(pipeline, *given)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < smallest / 4
    assert after - before < 2048


def test_a_loss_is_a_sum_and_a_count() -> None:
    one, two = batch(replace(SPEC, batch=1), 7), batch(replace(SPEC, batch=1), 8)
    two[1][0, 5:] = -1
    single = model_of(replace(SPEC, batch=1), fp32=True, trains=False)
    losses = [single.evaluate(*each) for each in (one, two)]
    assert [loss.count for loss in losses] == [19, 4]
    ids, targets = (np.concatenate(pair) for pair in zip(one, two, strict=True))
    together = model_of(fp32=True)
    assert together.micro_step(ids, targets) == together.evaluate(ids, targets).mean
    mean = sum(loss.sum for loss in losses) / sum(loss.count for loss in losses)
    assert mean == pytest.approx(together.evaluate(ids, targets).mean, rel=1e-5)
    assert mean != pytest.approx(np.mean([loss.mean for loss in losses]), rel=1e-3), "the case shows nothing"
    nothing = single.evaluate(one[0], np.full_like(one[1], -1))
    assert (nothing.sum, nothing.count, nothing.mean) == (0.0, 0, 0.0)


def test_an_evaluation_leaves_gradients_alone() -> None:
    pipeline = model_of()
    step(pipeline, *batch())
    expected = {name: gradient.copy() for name, gradient in pipeline.gradients.items()}
    pipeline.clear_gradients()
    pipeline.micro_step(*batch(), weight=0.5)
    pipeline.evaluate(*batch(seed=9))
    pipeline.micro_step(*batch(), weight=0.5)
    for name, gradient in pipeline.gradients.items():
        assert np.allclose(gradient, expected[name], rtol=1e-5, atol=1e-6 * np.abs(expected[name]).max()), name


def test_forward_only_compiles_and_keeps_less() -> None:
    training, forward = model_of(), model_of(trains=False)
    assert (training.compiles, forward.compiles) == (4, 2)
    kept, shared = (pipeline.device.counters().surface_bytes for pipeline in (training, forward))
    assert shared < kept
    assert not forward.gradients
    assert forward.evaluate(*batch()) == training.evaluate(*batch())
    with pytest.raises(ValueError, match="forward only"):
        forward.micro_step(*batch())


def test_the_largest_output_is_of_gradients_alone() -> None:
    """It follows the loss scale; activations, which backward reads from the device too, do not."""
    pipeline = model_of(fp32=True)
    for name, weight in pipeline.weights.items():
        if name.endswith(("w1", "w3", "wv")):
            weight *= 16.0
    pipeline.stage()
    found = []
    for scale in (2.0**-8, 2.0**-4):
        step(pipeline, *batch(), loss_scale=scale)
        found.append(pipeline.largest_output)
    assert found[1] == pytest.approx(16.0 * found[0], rel=1e-3)
    layer = pipeline.stack.layers[1]
    assert max(float(np.abs(layer._values[value]).max()) for value in layer._received) > 10.0 * found[1]
    assert pipeline.largest_output == 0.0, "it was asked for before"
