"""Every program of both families passes the rules of every chip that can run it; where it does not, the table below
says which rule, value and limit."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import NamedTuple

import pytest

from anetrain import device
from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import (
    Attention,
    Block,
    GeluFFN,
    LayerNorm,
    LlamaBlock,
    Qwen3Block,
    build,
    qwen3_spec,
)
from anetrain.device import Finding
from anetrain.graph import BlockGraph, Place
from anetrain.lower import GRANULARITIES, LAYOUTS, Layout, check_plan, choose, lower
from anetrain.lower.check import check_on_device, check_programs, checkable
from anetrain.lower.plan import Dispatch, Granularity
from anetrain.mil.text import Program
from anetrain.model import Model
from anetrain.pipeline import CompiledPlan
from anetrain.pipeline.extras import Extras, chosen
from anetrain.pipeline.graphs import part_graphs
from anetrain.spec import ModelSpec
from tests.block_runs import spec
from tests.support import emulator

STORIES_110M = ModelSpec(dim=768, hidden=2048, layers=12, heads=12, kv_heads=12, head_dim=64, vocab=32_000, seq=256)
QWEN3_06B = qwen3_spec(dim=1024, hidden=3072, layers=28, heads=16, kv_heads=8, head_dim=128, vocab=151_936, seq=256)
TINY_LLAMA = ModelSpec(dim=64, hidden=171, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=100, seq=100)
TINY_QWEN3 = qwen3_spec(dim=48, hidden=72, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=100, seq=32, batch=3)
BLOCKS: dict[str, tuple[Block, ModelSpec]] = {
    "stories110m": (LlamaBlock(), STORIES_110M),
    "qwen3-0.6b": (Qwen3Block(), QWEN3_06B),
    "tiny llama": (LlamaBlock(), TINY_LLAMA),
    "tiny qwen3": (Qwen3Block(), TINY_QWEN3),
}
ODD = spec(seq=100, batch=3, qk_norm=True)
OTHERS: dict[str, tuple[Block, ModelSpec]] = {
    "all options": (LlamaBlock(Attention(window=9, qkv_bias=True, out_bias=True), GeluFFN()), ODD),
    "layer norm": (LayerNorm(), ODD),
}

M1 = ("m1", "m1pro", "m1max", "m1ultra")
M2 = ("m2", "m2max", "m2ultra")
OLD_DIALECT_ONLY = ("m1", "m1ultra", *M2)  # M1 Pro and M1 Max take both
FOUR_DISPATCHES = ("m3pro", "m3ultra", "m4", "m4pro", "m4max", "m5", "m5max")


class Expected(NamedTuple):
    """One line of the table: what stands against fused plans of a layout. `refused`: they do not compile or run."""

    layout: Layout
    profiles: tuple[str, ...]
    refused: bool
    rule: str
    value: str
    limit: str


TABLE = (
    # Weights beside the activations are read at an offset along the width. That compiles, but large numbers do not
    # survive: on M1 and M2 `packed` is for weights and activations below the limit, `stacked` for all.
    Expected(
        "packed", (*M1, *M2), False, "width-slice-saturation",
        "it slices the width at an offset", "magnitudes of at most 4094",
    ),
)  # fmt: skip


@cache
def derived_block(name: str, norms: Place) -> Derived:
    return differentiate(build(*(BLOCKS | OTHERS)[name], norms=norms))


@cache
def dialect(profile: str) -> str:
    found: str = device.open("emulator", profile).facts["dialect"]
    return found


@cache
def alike() -> dict[str, list[str]]:
    """Profiles of the same rules, by one of them: what is true of one is true of all."""
    groups: dict[str, list[str]] = {}
    for profile in device.profiles():
        facts = device.open("emulator", profile).facts
        groups.setdefault(json.dumps([facts["rules"], facts["dialect"]]), []).append(profile)
    return {profiles[0]: profiles for profiles in groups.values()}


@lru_cache(maxsize=2)
def programs(
    name: str, norms: Place, layout: Layout, granularity: Granularity, dialect: str
) -> list[tuple[str, Program]]:
    return checkable(lower(derived_block(name, norms), layout, granularity, dialect=dialect))


def found_in(
    name: str, norms: Place, layout: Layout, profile: str, granularity: Granularity = "fused"
) -> list[tuple[str, Finding]]:
    return check_programs(programs(name, norms, layout, granularity, dialect(profile)), profile)


def test_every_profile_is_looked_at() -> None:
    assert sorted(profile for profiles in alike().values() for profile in profiles) == sorted(device.profiles())
    assert {profile for line in TABLE for profile in line.profiles} <= set(device.profiles())
    assert set(FOUR_DISPATCHES) <= set(device.profiles())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("name", BLOCKS)
def test_programs_under_every_profile(name: str, norms: Place, layout: Layout) -> None:
    for profile, profiles in alike().items():
        findings = [finding for _, finding in found_in(name, norms, layout, profile)]
        for same in profiles:
            lines = [line for line in TABLE if line.layout == layout and same in line.profiles]
            found = {(not finding.advice, finding.rule, finding.value, finding.limit) for finding in findings}
            assert found == {(line.refused, line.rule, line.value, line.limit) for line in lines}, same


@pytest.mark.parametrize("granularity", GRANULARITIES[1:])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["tiny llama", "tiny qwen3"])
def test_lower_rungs_under_every_profile(name: str, layout: Layout, granularity: Granularity) -> None:
    for profile in alike():
        rules = {finding.rule for _, finding in found_in(name, "host", layout, profile, granularity)}
        packed_there = layout == "packed" and profile in (*M1, *M2)
        assert rules == ({"width-slice-saturation"} if packed_there else set()), profile


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_blocks_under_every_profile(name: str, norms: Place, layout: Layout) -> None:
    """The weights of the one with biases are more constants than M4 and M4 Max take in one program."""
    for profile in alike():
        refused = {finding.rule for _, finding in found_in(name, norms, layout, profile) if not finding.advice}
        too_many = name == "all options" and layout == "baked" and profile in ("m4", "m4max")
        assert refused == ({"blobfile-weights"} if too_many else set()), profile


@pytest.mark.parametrize("name", ["stories110m", "qwen3-0.6b"])
def test_where_the_old_dialect_is_needed(name: str) -> None:
    for profile in alike():
        found = check_plan(lower(derived_block(name, "host"), dialect="B"), profile)
        if profile not in OLD_DIALECT_ONLY:
            assert found == [], profile
            continue
        assert len({label for label, _ in found}) == 4, profile
        assert {(finding.rule, finding.value) for _, finding in found} == {("new-dialect", "program(1.3) with ios18")}
        assert all(finding.limit.startswith("program(1.0) with ios16") and not finding.advice for _, finding in found)


@pytest.mark.parametrize("profile", FOUR_DISPATCHES)
@pytest.mark.parametrize("name", ["stories110m", "qwen3-0.6b"])
def test_four_dispatches_for_a_layer(name: str, profile: str) -> None:
    dev = emulator(profile)
    choice = choose(derived_block(name, "host"), dev, lambda plan: CompiledPlan(dev, plan))
    with choice.compiled:
        assert len(choice.compiled.programs) == len(choice.plan.programs) <= 4
        assert choice.explain() == "4 dispatches, fused"


CLASSIFIERS: list[tuple[str, Layout, Extras]] = [("stories110m", layout, "all") for layout in LAYOUTS]
CLASSIFIERS += [("qwen3-0.6b", layout, "all") for layout in LAYOUTS if layout != "baked"]  # beyond every budget there
CLASSIFIERS += [(name, "stacked", "classifier") for name in ("stories110m", "qwen3-0.6b")]


@pytest.mark.parametrize(("name", "layout", "extras"), CLASSIFIERS)
def test_every_profile_takes_a_classifier_in_chunks(name: str, layout: Layout, extras: Extras) -> None:
    """As a pipeline cuts it for the chip: one program where the rows are no more channels than a surface has, or each
    chunk has a surface of its own; else a program for each chunk."""
    for profile in alike():
        dev = emulator(profile)
        end = part_graphs(Model.preset(name, layers=1), dev, layout, chosen(extras), "fp16")[-1]
        plan = choose(differentiate(end.graph), dev, lambda plan: plan, layout=layout).plan
        refused = [(label, found) for label, found in check_on_device(plan, dev) if not found.advice]
        assert refused == [], profile
        assert sum(node.op.name == "dense" for node in end.graph.nodes) == chunks(name, layout, profile), profile
        one_program = layout == "separate" or profile == "exact" or (name == "stories110m" and layout != "packed")
        forward = sum(isinstance(step, Dispatch) for step in plan.forward)
        assert forward == (1 if one_program else chunks(name, layout, profile)), profile


def chunks(name: str, layout: Layout, profile: str) -> int:
    """The axes of chips up to M3 are a fourth as long; "packed" has tokens and the norm's gain beside the rows."""
    if profile[:2] in ("m4", "m5"):
        return 1 if name == "stories110m" else 3
    return (2 if name == "stories110m" else 10) + (1 if layout == "packed" else 0)


def test_the_rope_of_earlier_trainers_is_what_a_chip_refuses() -> None:
    """Were it ours, the checker would say so: reshape, slices and concat along the width."""
    g = BlockGraph(spec())
    x = g.reshape(g.linear(g.activation("x", 60), g.weights(Attention().weights(g.spec)).wq), (1, 6, 128, 2))
    even, odd = (g.slice_by_size(x, (0, 0, 0, i), (1, 6, 128, 1)) for i in (0, 1))
    g.output("y", g.to_host(g.concat((g.mul(odd, -1.0), even), axis=3)))
    assert "width-rope" in {finding.rule for _, finding in check_plan(lower(differentiate(g)), "m3ultra")}
