"""The lowering's choices: what is cut, what is kept for backward and what computed again, what lies where."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import Block, LlamaBlock, Qwen3Block, SwiGLU, build
from anetrain.graph import BlockGraph, Value, gain, matrix
from anetrain.lower import GRANULARITIES, LAYOUTS, Layout, lower
from anetrain.lower.plan import Receive, Send
from anetrain.lower.taps import _Flow
from anetrain.pipeline import CompiledPlan, Layer, SurfacePool
from anetrain.spec import ModelSpec
from tests.support import emulator

SPEC = ModelSpec(dim=48, hidden=171, layers=1, heads=6, kv_heads=3, head_dim=8, vocab=11, seq=64)
LAYERS = {"llama": (LlamaBlock(), SPEC), "qwen3": (Qwen3Block(), replace(SPEC, qk_norm=True, rope="half"))}


def derived(block: Block, spec: ModelSpec = SPEC, **options: Any) -> Derived:
    return differentiate(build(block, spec, **options))


class ComputedWeights(Block):
    """A norm's gain and a factor that the device makes of a parameter: programs that read weights and nothing else."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"p": gain(s.dim), "w": matrix(s.dim, s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.rms_norm(x, w.p + 1.0)
        return x + g.linear(h, w.w) * (w.p + 2.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_programs_of_weights_alone(layout: Layout) -> None:
    """As many tokens as channels: a vector must go along the channels, not the width."""
    spec = replace(SPEC, seq=SPEC.dim)
    graph = derived(ComputedWeights(), spec, precision="fp32")
    rng = np.random.default_rng(0)
    weights = {p.name: rng.uniform(0.2, 1.0, p.shape).astype(np.float32) for p in graph.graph.parameters.values()}
    x, dy = (rng.standard_normal((1, spec.dim, 1, spec.tokens), dtype=np.float32) for _ in range(2))
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    layer = Layer(CompiledPlan(emulator(fp32=True), lower(graph, layout), weights), weights, gradients, SurfacePool())
    layer.stage()
    y, dx = layer.forward({"x": x})["y"], layer.backward({"y": dy})["x"]
    expected = reference.run(graph, {"x": x, "d_y": dy}, weights)
    for found, right in (
        (y, expected.outputs["y"]),
        (dx, expected.gradients["x"]),
        *((gradients[name], expected.parameters[name]) for name in weights),
    ):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5 * np.abs(right).max())


# ---------------------------------------------------------------- what is kept


def test_short_rows_of_attention_are_kept_and_long_ones_computed_again() -> None:
    graph = derived(LlamaBlock())
    kept, again = lower(graph, save_probabilities_up_to=64), lower(graph, save_probabilities_up_to=63)
    probabilities = f"softmax [1, 6, {SPEC.seq}, {SPEC.seq}]"
    assert probabilities in kept.saved
    assert probabilities not in kept.recomputed
    assert probabilities not in again.saved
    assert probabilities in again.recomputed
    assert again.saved_bytes == kept.saved_bytes - 6 * SPEC.seq * SPEC.seq * 2
    assert len(again.programs) == len(kept.programs) == 4


def test_products_with_weights_are_never_computed_again() -> None:
    for (block, spec), granularity in itertools.product(LAYERS.values(), GRANULARITIES):
        plan = lower(derived(block, spec), granularity=granularity)
        assert not [name for name in plan.recomputed if name.startswith(("dense", "conv"))]


def test_an_ffn_keeps_what_its_activation_takes_and_no_more() -> None:
    plan = lower(derived(SwiGLU()))
    assert plan.saved == ["dense [1, 171, 1, 64]"] * 2
    assert plan.saved_bytes == 2 * 171 * 64 * 2


def test_the_kept_set_has_the_fewest_bytes() -> None:
    """Against every subset, on random graphs of values that may be kept (at a cost) or computed from others."""
    rng = np.random.default_rng(7)
    for _ in range(200):
        count = 7
        costs = rng.integers(1, 9, count).tolist()
        operands = [
            rng.choice(i, rng.integers(1, min(i, 3) + 1), replace=False).tolist() if i else [] for i in range(count)
        ]
        given = {i for i in range(count) if not operands[i] or rng.random() < 0.2}  # cannot be computed again
        needed = set(rng.choice(count, 2, replace=False).tolist())
        found = _cheapest(costs, operands, given, needed)
        kept = {
            subset
            for size in range(count + 1)
            for subset in itertools.combinations(range(count), size)
            if all(_computable(i, set(subset), operands, given) for i in needed)
        }
        assert sum(costs[i] for i in found) == min(sum(costs[i] for i in subset) for subset in kept)
        assert all(_computable(i, found, operands, given) for i in needed)


def _cheapest(costs: list[int], operands: list[list[int]], given: set[int], needed: set[int]) -> set[int]:
    flow = _Flow()
    for i, cost in enumerate(costs):
        flow.edge((i, "in"), (i, "out"), cost)
        if i in given:
            flow.edge("source", (i, "in"), 1 << 60)
        else:
            for j in operands[i]:
                flow.edge((j, "out"), (i, "in"), 1 << 60)
        if i in needed:
            flow.edge((i, "out"), "sink", 1 << 60)
    return {int(end[0]) for end in flow.cut_nearest_to_sink()}  # type: ignore[call-overload]


def _computable(i: int, kept: set[int], operands: list[list[int]], given: set[int]) -> bool:
    return i in kept or (i not in given and all(_computable(j, kept, operands, given) for j in operands[i]))


# ---------------------------------------------------------------- what lies where


@pytest.mark.parametrize(("block", "spec"), LAYERS.values(), ids=LAYERS)
def test_each_program_has_one_surface_of_activations_and_one_of_weights(block: Block, spec: ModelSpec) -> None:
    plan = lower(derived(block, spec))
    assert len(plan.programs) == 4
    for program in plan.programs:
        activations, weights = program.inputs.values()
        assert not plan.surfaces[activations].weights
        assert plan.surfaces[weights].weights
        assert len(program.outputs) == 1
    forward, backward = plan.programs[:2], plan.programs[2:]
    for first, second in zip(forward, reversed(backward), strict=True):
        (left,) = first.outputs.values()
        assert left in second.inputs.values(), "what forward leaves is what backward reads"
        assert list(first.inputs.values())[1] == list(second.inputs.values())[1], "one surface of weights for both"


def test_a_gradient_takes_the_place_of_the_output_it_belongs_to() -> None:
    plan = lower(derived(LlamaBlock()))
    received = {step.region for step in plan.forward if isinstance(step, Receive)}
    sent = {step.region for step in plan.backward if isinstance(step, Send)}
    assert sent == received


def test_widths_are_multiples_of_32_and_regions_do_not_overlap() -> None:
    for layout, (seq, batch) in itertools.product(LAYOUTS, ((20, 1), (33, 3))):
        plan = lower(derived(LlamaBlock(), replace(SPEC, seq=seq, batch=batch)), layout)
        assert all(surface.width % 32 == 0 for surface in plan.surfaces.values())
        taken: dict[str, list[Any]] = {}
        for place in plan.weights:
            assert place.region is not None
            for other in taken.setdefault(place.region.surface, []):
                apart = (
                    place.region.channel >= other.channel + other.rows
                    or other.channel >= place.region.channel + place.region.rows
                    or place.region.column >= other.column + other.columns
                    or other.column >= place.region.column + place.region.columns
                )
                assert apart, f"{place.region} and {other}"
            taken[place.region.surface].append(place.region)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"layout": "stack"}, "layout is 'stack', expected one of 'stacked'"),
        ({"granularity": "layer"}, "granularity is 'layer', expected one of 'fused'"),
    ],
)
def test_unknown_choices_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        lower(derived(SwiGLU()), **arguments)
