"""A plan written by hand, for tests of what executes plans: y = silu(W rms_norm(x) + b), rows of W and b in RoPE pairs.

Nothing lies where a mistake would not show: 20 tokens on a width of 32, the vector in rows with an offset and an
unfilled end, two programs, a tap that forward leaves for backward, a gradient read back in stored row order.
"""

from __future__ import annotations

import numpy as np

from anetrain.autodiff import Derived, differentiate
from anetrain.graph import BlockGraph, Node, Value, bias, gain, matrix
from anetrain.lower.plan import (
    Accumulate,
    Compute,
    Dispatch,
    Plan,
    ProgramReport,
    ProgramSpec,
    Receive,
    Region,
    Send,
    SurfaceSpec,
    WeightPlace,
)
from anetrain.mil import Graph
from anetrain.mil.types import Array
from anetrain.spec import ModelSpec

IN, OUT, TOKENS, WIDTH, HEAD = 24, 16, 20, 32, 8
WEIGHTS = "@model_path/weights/w.bin"

MATRIX_AT = Region("w", 0, OUT, IN, column=3)
VECTOR_AT = Region("w", OUT, 2, 12, column=4)


def surfaces(width: int) -> dict[str, SurfaceSpec]:
    specs = (
        SurfaceSpec("a", IN, width),
        SurfaceSpec("w", OUT + 2, WIDTH, weights=True),
        SurfaceSpec("z", OUT, width, kept=True),
        SurfaceSpec("y", OUT, width),
        SurfaceSpec("d", OUT, width),
        SurfaceSpec("dz", OUT, width),
        SurfaceSpec("dh", IN, width),
    )
    return {spec.name: spec for spec in specs}


def derived_block(tokens: int) -> Derived:
    spec = ModelSpec(dim=IN, hidden=8, layers=1, heads=2, kv_heads=2, head_dim=HEAD, vocab=10, seq=tokens)
    g = BlockGraph(spec)
    x = g.activation("x", IN)
    w = g.weights({"norm": gain(IN), "w": matrix(OUT, IN, paired_head=HEAD), "b": bias(OUT, paired_head=HEAD)})
    g.output("y", g.to_host(g.silu(g.linear(g.rms_norm(x, w.norm), w.w, w.b))))
    return differentiate(g)


def hand_plan(*, baked: bool = False, tokens: int = TOKENS) -> Plan:
    derived = derived_block(tokens)
    width = -(-tokens // 32) * 32
    graph = derived.graph
    weight, vector = (_parameter(graph, name) for name in ("w", "b"))
    norm, norm_backward = (_node(graph, name) for name in ("host_rms_norm", "host_rms_norm_backward"))
    (y,) = derived.outputs
    records = {record.kind + record.parameter.name: record for record in derived.records}
    dz = records["gemmp_w"].a
    # A constant of the backward program would do as well; one is enough to show how it is filled.
    constants = {WEIGHTS: WeightPlace(weight, 0, OUT, HEAD, shape=(OUT, IN, 1, 1))} if baked else {}
    programs = [_forward_program(baked, width), _backward_program(width)]
    programs[0].constants.update(constants)
    return Plan(
        derived,
        "stacked",
        "fused",
        surfaces(width),
        [WeightPlace(weight, 0, OUT, HEAD, region=MATRIX_AT), WeightPlace(vector, 0, OUT, HEAD, region=VECTOR_AT)],
        programs,
        forward=[
            Compute(norm),
            Send(norm.outputs[0], Region("a", 0, IN, tokens)),
            Dispatch(0),
            Receive(y, Region("y", 0, OUT, tokens)),
        ],
        backward=[
            Send(derived.seeds[y], Region("d", 0, OUT, tokens)),
            Dispatch(1),
            Receive(dz, Region("dz", 0, OUT, tokens), HEAD),
            Accumulate(records["rowsump_b"]),
            Accumulate(records["gemmp_w"]),
            Receive(norm_backward.tensors["dy"], Region("dh", 0, IN, tokens)),  # type: ignore[arg-type]
            Compute(norm_backward),
            Accumulate(records["rowsump_norm"]),
        ],
        saved_bytes=2 * OUT * width,
        recomputed=[],
    )


def _forward_program(baked: bool, width: int) -> ProgramSpec:
    g = Graph()
    x, w = g.input("a_x", (1, IN, 1, width)), g.input("b_w", (1, OUT + 2, 1, WIDTH))
    if baked:
        product = g.conv(x=x, weight=g.constant(np.zeros((OUT, IN, 1, 1)), name="w"))
    else:
        product = g.reshape(g.matmul(_matrix(g, w), g.reshape(x, (1, IN, width))), (1, OUT, 1, width))
    vector = g.reshape(_block(g, w, VECTOR_AT), (24,))
    vector = g.slice_by_index(vector, begin=(0,), end=(OUT,))
    z = g.output("z", product + g.reshape(vector, (1, OUT, 1, 1)))
    g.output("y", g.silu(z))
    return _spec(g, "forward", {"a_x": "a", "b_w": "w"}, {"y": "y", "z": "z"})


def _backward_program(width: int) -> ProgramSpec:
    g = Graph()
    d, w = g.input("a_d", (1, OUT, 1, width)), g.input("b_w", (1, OUT + 2, 1, WIDTH))
    z = g.input("c_z", (1, OUT, 1, width))
    s = g.sigmoid(z)
    dz = g.output("dz", d * s * (1.0 + z * (1.0 - s)))
    dh = g.matmul(_matrix(g, w), g.reshape(dz, (1, OUT, width)), transpose_x=True)
    g.output("dh", g.reshape(dh, (1, IN, 1, width)))
    return _spec(g, "backward", {"a_d": "d", "b_w": "w", "c_z": "z"}, {"dh": "dh", "dz": "dz"})


def _matrix(g: Graph, w: Value) -> Value:
    return g.reshape(_block(g, w, MATRIX_AT), (1, OUT, IN))


def _block(g: Graph, w: Value, at: Region) -> Value:
    ends = (1, at.channel + at.rows, 1, at.column + at.columns)
    return g.slice_by_index(w, begin=(0, at.channel, 0, at.column), end=ends)


def _spec(g: Graph, label: str, inputs: dict[str, str], outputs: dict[str, str]) -> ProgramSpec:
    return ProgramSpec(label, g.program(), inputs, outputs, ProgramReport({}, {}, 0, 0, 0, 0, 0, 0))


def _node(graph: BlockGraph, op_name: str) -> Node:
    return next(node for node in graph.nodes if node.op.name == op_name)


def _parameter(graph: BlockGraph, name: str) -> Value:
    return next(value for value, known in graph.parameters.items() if known.name == name)


def arrays(seed: int = 0, tokens: int = TOKENS) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs with the seed, and parameters; gains are not 1."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    inputs = {"x": normal(1, IN, 1, tokens), "d_y": normal(1, OUT, 1, tokens)}
    gains = rng.uniform(0.2, 3.0, IN).astype(np.float32)
    return inputs, {"norm": gains, "w": normal(OUT, IN) / 5, "b": normal(OUT)}
