"""One block's steps on a device: right numbers, staged when asked, nothing allocated, nothing half done."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from anetrain import reference
from anetrain.cpu import half_split_order
from anetrain.errors import CompileError, EvalError
from anetrain.lower.plan import Compute, Dispatch, Plan, Receive, Region, Send
from anetrain.mil.types import Array
from anetrain.pipeline import CompiledPlan, Layer, NonFiniteError, PlanError, SurfacePool
from anetrain.pipeline.rows import row_runs
from tests.hand_plan import HEAD, IN, OUT, TOKENS, WIDTH, arrays, hand_plan
from tests.support import emulator


def zeros_like(parameters: dict[str, Array]) -> dict[str, Array]:
    return {name: np.zeros_like(array) for name, array in parameters.items()}


def layer_of(plan: Plan, parameters: dict[str, Array], *, train: bool = True, **options: bool) -> Layer:
    compiled = CompiledPlan(emulator(**options), plan, parameters, backward=train)
    layer = Layer(compiled, parameters, zeros_like(parameters) if train else None, SurfacePool())
    layer.stage()
    return layer


def gradients_of(layer: Layer) -> dict[str, Array]:
    known = layer.compiled.plan.derived.graph.parameters
    return {known[value].name: array for value, array in layer._gradients.items()}


def close(found: Array, expected: Array, limit: float) -> None:
    assert found.shape == expected.shape
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    assert error < limit, f"relative error {error:.1e}"


@pytest.mark.parametrize(("fp32", "limit"), [(True, 1e-5), (False, 4e-3)])
@pytest.mark.parametrize("baked", [False, True])
def test_forward_and_backward_equal_the_reference(fp32: bool, limit: float, baked: bool) -> None:
    plan = hand_plan(baked=baked)
    inputs, parameters = arrays()
    expected = reference.run(plan.derived, inputs, parameters)
    if fp32 and baked:
        limit = 4e-3  # the blob holds fp16
    layer = layer_of(plan, parameters, fp32=fp32)
    for _ in range(2):  # the second step finds what the first one left
        close(layer.forward({"x": inputs["x"]})["y"], expected.outputs["y"], limit)
        close(layer.backward({"y": inputs["d_y"]}, alpha=0.5)["x"], expected.gradients["x"], limit)
    for name, gradient in gradients_of(layer).items():  # twice one half
        close(gradient, expected.parameters[name], limit)


def test_weights_are_those_of_the_last_staging() -> None:
    plan = hand_plan()
    inputs, parameters = arrays()
    layer = layer_of(plan, parameters)
    before = layer.forward({"x": inputs["x"]})["y"].copy()
    parameters["w"] *= 2.0
    assert np.array_equal(layer.forward()["y"], before), "weights moved without stage()"
    layer.stage()
    expected = reference.run(plan.derived, inputs, parameters)
    close(layer.forward()["y"], expected.outputs["y"], 4e-3)


def test_forward_before_the_first_staging_is_refused() -> None:
    inputs, parameters = arrays()
    layer = Layer(CompiledPlan(emulator(), hand_plan()), parameters, zeros_like(parameters), SurfacePool())
    with pytest.raises(PlanError, match="call stage"):
        layer.forward({"x": inputs["x"]})


def test_the_weight_surface_holds_rows_in_device_order_and_zeros_elsewhere() -> None:
    _, parameters = arrays()
    layer = layer_of(hand_plan(), parameters, fp32=True)
    order = half_split_order(OUT, HEAD)
    expected = np.zeros((OUT + 2, WIDTH), np.float32)
    expected[:OUT, 3 : 3 + IN] = parameters["w"][order]
    flat = np.zeros(24, np.float32)
    flat[:OUT] = parameters["b"][order]
    expected[OUT:, 4:16] = flat.reshape(2, 12)
    assert np.array_equal(layer.surfaces["w"].surface.read(OUT + 2, WIDTH), expected)


def test_parts_of_a_vector_are_staged_where_they_belong() -> None:
    _, parameters = arrays()
    plan = hand_plan()
    whole = plan.weights.pop()
    for begin, end, row in ((0, 12, OUT), (12, 16, OUT + 1)):
        plan.weights.append(replace(whole, begin=begin, end=end, region=Region("w", row, 1, 12, column=4)))
    parts, at_once = (layer_of(each, parameters) for each in (plan, hand_plan()))
    read = [layer.surfaces["w"].surface.read(OUT + 2, WIDTH) for layer in (parts, at_once)]
    assert np.array_equal(*read)


@pytest.mark.parametrize(("begin", "end"), [(0, 48), (5, 9), (7, 31), (16, 32)])
@pytest.mark.parametrize("head", [0, 8, 16])
def test_row_runs_are_the_half_split_order(begin: int, end: int, head: int) -> None:
    stored = np.arange(48)
    expected = (stored[half_split_order(48, head)] if head else stored)[begin:end]
    found = np.full(end - begin, -1)
    for position, rows in row_runs(begin, end, head):
        part = stored[rows]
        found[position : position + len(part)] = part
    assert np.array_equal(found, expected)


def test_padding_stays_zero_on_what_the_host_writes() -> None:
    inputs, parameters = arrays()
    layer = layer_of(hand_plan(), parameters)
    layer.forward({"x": inputs["x"]})
    layer.backward({"y": inputs["d_y"]})
    for name in ("a", "d"):
        surface = layer.surfaces[name]
        rows = surface.surface.read(surface.surface.nbytes // (2 * WIDTH), WIDTH)
        assert np.any(rows[:, :TOKENS])
        assert not np.any(rows[:, TOKENS:])


def test_layers_share_scratch_and_own_what_they_keep() -> None:
    plan = hand_plan()
    inputs, _ = arrays()
    device = emulator()
    compiles = device.counters().compiles
    compiled = CompiledPlan(device, plan)
    pool = SurfacePool()
    layers = []
    for seed in (0, 1):
        _, own = arrays(seed)
        layers.append(Layer(compiled, own, zeros_like(own), pool))
        layers[-1].stage()
    shared = {name for name in plan.surfaces if layers[0].surfaces[name].surface is layers[1].surfaces[name].surface}
    assert shared == {"a", "y", "d", "dz", "dh"}
    assert device.counters().compiles - compiles == compiled.compiles == 2
    (dz,) = (step.value for step in plan.backward if isinstance(step, Receive) and step.paired_head)
    (h,) = (step.value for step in plan.forward if isinstance(step, Send))
    assert layers[0]._values[dz] is layers[1]._values[dz], "a host buffer of backward alone is scratch"
    assert layers[0]._values[h] is not layers[1]._values[h], "forward's, needed in backward"
    expected = []
    for seed in (0, 1):
        expected.append(reference.run(plan.derived, inputs, arrays(seed)[1]))
    for layer in layers:
        layer.forward({"x": inputs["x"]})
    for layer, want in zip(reversed(layers), reversed(expected), strict=True):
        close(layer.outputs["y"], want.outputs["y"], 4e-3)
        close(layer.backward({"y": inputs["d_y"]})["x"], want.gradients["x"], 4e-3)
        for name, gradient in gradients_of(layer).items():
            close(gradient, want.parameters[name], 4e-3)


def test_traffic_is_exact_and_nothing_is_copied_between_programs() -> None:
    inputs, parameters = arrays()
    layer = layer_of(hand_plan(), parameters)
    evaluations = layer.compiled.device.counters().evaluations
    assert layer.traffic.staged_bytes == 2 * (OUT * IN + 24)
    layer.forward({"x": inputs["x"]})
    layer.backward({"y": inputs["d_y"]})
    assert layer.traffic.sent_bytes == 2 * (IN + OUT) * TOKENS  # the tap z is not among them
    assert layer.traffic.received_bytes == 2 * (OUT + OUT + IN) * TOKENS
    assert layer.traffic.dispatches == 2 == layer.compiled.device.counters().evaluations - evaluations
    spec = layer.compiled.plan.programs
    assert spec[0].outputs["z"] == spec[1].inputs["c_z"] == "z"
    layer.traffic.clear()
    layer.forward()
    assert (layer.traffic.staged_bytes, layer.traffic.dispatches) == (0, 1)


def test_a_step_allocates_nothing() -> None:
    inputs, parameters = arrays(tokens=2048)  # the smallest array is larger than all objects of calls
    layer = layer_of(hand_plan(tokens=2048), parameters)
    surfaces = layer.compiled.device.counters().live_surfaces

    def step() -> None:
        layer.forward({"x": inputs["x"]})
        layer.backward({"y": inputs["d_y"]})

    step()
    tracemalloc.start()
    step()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 4 * 2048, "more than the objects of calls: an array was made"
    assert layer.compiled.device.counters().live_surfaces == surfaces


def test_arrays_of_neighbours_are_used_where_they_are() -> None:
    inputs, parameters = arrays()
    compiled = CompiledPlan(emulator(), hand_plan())
    dx = np.zeros_like(inputs["x"])
    layer = Layer(compiled, parameters, zeros_like(parameters), SurfacePool(), arrays=inputs, gradient_arrays={"x": dx})
    layer.stage()
    layer.forward()
    assert layer.inputs["x"] is inputs["x"]
    assert layer.backward()["x"] is dx
    close(dx, reference.run(compiled.plan.derived, inputs, parameters).gradients["x"], 4e-3)


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("evaluation", [0, 1])
def test_a_failed_dispatch_leaves_gradients_alone_and_can_be_repeated(evaluation: int) -> None:
    plan = hand_plan()
    inputs, parameters = arrays()
    layer = layer_of(plan, parameters)
    layer.compiled.device.inject_fault("evaluate", after=evaluation)

    def step() -> None:
        layer.forward({"x": inputs["x"]})
        layer.backward({"y": inputs["d_y"]})

    with pytest.raises(EvalError, match="forward" if evaluation == 0 else "backward"):
        step()
    assert not any(gradient.any() for gradient in gradients_of(layer).values())
    step()
    expected = reference.run(plan.derived, inputs, parameters)
    for name, gradient in gradients_of(layer).items():
        close(gradient, expected.parameters[name], 4e-3)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e6])
def test_a_result_that_is_not_finite_leaves_gradients_alone(bad: float) -> None:
    inputs, parameters = arrays()
    layer = layer_of(hand_plan(), parameters)
    layer.forward({"x": inputs["x"]})
    seed = inputs["d_y"].copy()
    seed[0, 3, 0, 7] = bad
    with pytest.raises(NonFiniteError, match="half the loss scale") as error:
        layer.backward({"y": seed})
    assert error.value.values
    assert not any(gradient.any() for gradient in gradients_of(layer).values())


def test_the_largest_value_of_backward_is_known() -> None:
    inputs, parameters = arrays()
    layer = layer_of(hand_plan(), parameters)
    layer.forward({"x": inputs["x"]})
    layer.backward({"y": np.float32(64.0) * inputs["d_y"]})
    surfaces = [layer.surfaces[name].surface.read(rows, WIDTH) for name, rows in (("dz", OUT), ("dh", IN))]
    largest = max(float(np.abs(array).max()) for array in surfaces)
    assert layer.largest_received == largest
    layer.backward({"y": inputs["d_y"]})
    assert layer.largest_received == largest, "a smaller one took its place"


def test_forward_alone_needs_no_gradients_and_compiles_no_backward() -> None:
    plan = hand_plan()
    inputs, parameters = arrays()
    layer = layer_of(plan, parameters, train=False)
    assert layer.compiled.compiles == 1
    expected = reference.run(plan.derived, inputs, parameters)
    close(layer.forward({"x": inputs["x"]})["y"], expected.outputs["y"], 4e-3)
    with pytest.raises(PlanError, match="only runs forward"):
        layer.backward({"y": inputs["d_y"]})


# ---------------------------------------------------------------- programs


def test_equal_programs_are_compiled_once() -> None:
    plan = hand_plan()
    plan.programs.append(plan.programs[0])
    plan.forward.insert(3, Dispatch(2))
    device = emulator()
    before = device.counters()
    with CompiledPlan(device, plan) as compiled:
        assert compiled.compiles == 2 == device.counters().compiles - before.compiles
        assert compiled.programs[2] is compiled.programs[0]
        assert device.counters().live_programs == before.live_programs + 2
    assert device.counters().live_programs == before.live_programs


def test_a_refused_program_is_named_and_nothing_stays_loaded() -> None:
    plan = hand_plan()
    device = emulator()
    device.inject_fault("compile", after=1)
    before = device.counters().live_programs
    with pytest.raises(CompileError, match=r"^backward: ") as error:
        CompiledPlan(device, plan)
    assert error.tb is not None  # what it refers to is alive
    assert device.counters().live_programs == before


def test_baked_weights_are_needed_and_must_fit() -> None:
    _, parameters = arrays()
    with pytest.raises(PlanError, match="forward: no weights for 'w'"):
        CompiledPlan(emulator(), hand_plan(baked=True))
    with pytest.raises(PlanError, match="w has shape"):
        CompiledPlan(emulator(), hand_plan(baked=True), {**parameters, "w": parameters["w"].T})


# ---------------------------------------------------------------- wrong plans and arrays


def broken(change: str) -> Plan:
    plan = hand_plan()
    surfaces = dict(plan.surfaces)
    if change == "width":
        surfaces["a"] = replace(surfaces["a"], width=40)
    elif change == "not kept":
        surfaces["z"] = replace(surfaces["z"], kept=False)
    elif change == "no such surface":
        plan.programs[0].inputs["a_x"] = "q"
    elif change == "port":
        plan.programs[0].inputs["a_x"] = "d"
    elif change == "region":
        plan.weights[0] = replace(plan.weights[0], region=replace(plan.weights[0].region, column=10))  # type: ignore[type-var]
    elif change == "vector":
        plan.weights[1] = replace(plan.weights[1], region=replace(plan.weights[1].region, columns=7))  # type: ignore[type-var]
    elif change == "order":
        plan.forward[0], plan.forward[1] = plan.forward[1], plan.forward[0]
    elif change == "twice":
        plan.forward.append(plan.forward[3])
    elif change == "missing":
        plan.backward = [step for step in plan.backward if not (isinstance(step, Receive) and step.paired_head)]
    elif change == "shape":
        receive = plan.forward[3]
        assert isinstance(receive, Receive)
        plan.forward[3] = replace(receive, region=replace(receive.region, columns=TOKENS - 1))
    plan.surfaces = surfaces
    return plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("width", "the width is 40, expected a multiple of 32"),
        ("not kept", "backward reads surface z as forward left it, but it is not kept"),
        ("no such surface", "no surface 'q'"),
        ("port", "forward: input a_x"),
        ("region", "16 x 24 at .* do not fit surface w"),
        ("vector", "16 elements do not fill a region of 2 x 7"),
        ("order", "Send reads host_rms_norm_0 before any step makes it"),
        ("twice", "Receive makes y a second time"),
        ("missing", "Accumulate reads .* before any step makes it"),
        ("shape", "Receive y: .* in a region of 16 x 19"),
    ],
)
def test_a_wrong_plan_is_refused(change: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        CompiledPlan(emulator(), broken(change))


def test_arrays_that_do_not_fit_are_refused_by_name() -> None:
    inputs, parameters = arrays()
    compiled = CompiledPlan(emulator(), hand_plan())
    pool = SurfacePool()
    with pytest.raises(PlanError, match="no parameter 'b'"):
        Layer(compiled, {name: parameters[name] for name in ("norm", "w")}, None, pool)
    with pytest.raises(PlanError, match=r"parameter w is float32 \[24, 16\].* expected .*float32 \[16, 24\]"):
        Layer(compiled, {**parameters, "w": parameters["w"].T}, None, pool)
    with pytest.raises(PlanError, match="parameter b is float64"):
        Layer(compiled, {**parameters, "b": parameters["b"].astype(np.float64)}, None, pool)
    with pytest.raises(PlanError, match="no gradient of 'norm'"):
        Layer(compiled, parameters, {"w": parameters["w"]}, pool)
    layer = Layer(compiled, parameters, zeros_like(parameters), pool)
    layer.stage()
    with pytest.raises(PlanError, match="takes no 'z'; it has x"):
        layer.forward({"z": inputs["x"]})
    with pytest.raises(PlanError, match=r"x is float32 \[1, 24, 1, 19\]"):
        layer.forward({"x": inputs["x"][..., 1:]})


def test_programs_of_another_plan_are_not_shared() -> None:
    device, plan = emulator(), hand_plan()
    forward = CompiledPlan(device, plan, backward=False)
    with pytest.raises(PlanError, match="of another plan"):
        CompiledPlan(device, hand_plan(), like=forward)
    with pytest.raises(PlanError, match="lacks its backward"):
        CompiledPlan(device, plan, like=forward)
    before = device.counters().compiles
    assert CompiledPlan(device, plan, like=CompiledPlan(device, plan), backward=False).compiles == 0
    assert device.counters().compiles == before + 2


def test_an_op_that_the_host_has_not_is_named() -> None:
    _, parameters = arrays()
    plan = hand_plan()
    node = next(node for node in plan.derived.graph.nodes if node.op.name == "to_device")
    plan.forward.insert(1, Compute(node))
    with pytest.raises(PlanError, match=r"the host cannot compute 'to_device'.*it has host_add, "):
        layer_of(plan, parameters)
