"""The programs of every block, as every chip's strict rules have them: nothing is refused, forward or backward."""

from __future__ import annotations

import pytest

from anetrain import device
from anetrain.autodiff import differentiate
from anetrain.blocks import (
    Attention,
    Block,
    Classifier,
    GeluFFN,
    LayerNorm,
    LlamaBlock,
    ModelSpec,
    Qwen3Block,
    build,
    build_loss,
    qwen3_spec,
)
from anetrain.graph import BlockGraph, Place
from anetrain.lower import Layout, Plan, lower
from tests.block_runs import spec

CHIPS = [name for name in device.profiles() if name != "exact"]

STORIES = ModelSpec(dim=768, hidden=2048, layers=1, heads=12, kv_heads=12, head_dim=64, vocab=32_000, seq=256)
QWEN = qwen3_spec(dim=1024, hidden=3072, layers=1, heads=16, kv_heads=8, head_dim=128, vocab=151_936, seq=256, batch=2)
ODD = spec(seq=100, batch=3, qk_norm=True)
BLOCKS: dict[str, tuple[Block, ModelSpec]] = {
    "llama, Stories110M": (LlamaBlock(), STORIES),
    "qwen3, 0.6B": (Qwen3Block(), QWEN),
    "llama, odd": (LlamaBlock(Attention(window=9, qkv_bias=True, out_bias=True), GeluFFN()), ODD),
    "layer norm": (LayerNorm(), ODD),
}


def refusals(plan: Plan, chip: str) -> list[str]:
    findings = [finding for item in plan.programs for finding in device.check(item.program, profile=chip)]
    return [str(finding) for finding in findings if not finding.advice]


def plans(graph: BlockGraph, layout: Layout) -> dict[str, Plan]:
    derived = differentiate(graph)
    return {dialect: lower(derived, layout, dialect=dialect) for dialect in "AB"}


def assert_taken(graph: BlockGraph, layout: Layout) -> None:
    by_dialect = plans(graph, layout)
    for chip in CHIPS:
        assert refusals(by_dialect["A" if chip.startswith(("m1", "m2")) else "B"], chip) == [], chip


@pytest.mark.parametrize("layout", ["stacked", "separate", "packed"])
@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("name", BLOCKS)
def test_every_chip_takes_a_block(name: str, norms: Place, layout: Layout) -> None:
    block, s = BLOCKS[name]
    assert_taken(build(block, s, norms=norms), layout)


@pytest.mark.parametrize("s", [STORIES, QWEN])
def test_every_chip_takes_the_classifier_in_chunks(s: ModelSpec) -> None:
    """No axis is longer than a chip's: 16,384 up to the M3 generation. All chunks at once would be."""
    graph = build_loss(Classifier("device"), s, norms="device")
    assert max(max(value.shape) for node in graph.nodes for value in node.outputs if value.dtype == "fp16") <= 16_384


def test_the_rope_of_earlier_trainers_is_what_a_chip_refuses() -> None:
    """Were it ours, the checker would say so: reshape, slices and concat along the width."""
    g = BlockGraph(spec())
    x = g.reshape(g.linear(g.activation("x", 60), g.weights(Attention().weights(g.spec)).wq), (1, 6, 128, 2))
    even, odd = (g.slice_by_size(x, (0, 0, 0, i), (1, 6, 128, 1)) for i in (0, 1))
    g.output("y", g.to_host(g.concat((g.mul(odd, -1.0), even), axis=3)))
    assert any("width-rope" in text for text in refusals(lower(differentiate(g)), "m3ultra"))
