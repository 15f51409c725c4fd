"""Whole blocks and models on the emulated ANE, through the real path: autodiff, lowering, pipeline. What proofs of them
share; judges are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anetrain import reference
from anetrain.autodiff import differentiate
from anetrain.blocks import Block, Classifier, ModelSpec, build, build_logits
from anetrain.device import Device
from anetrain.graph import Place
from anetrain.graph.builder import Precision
from anetrain.lower import lower
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline import CompiledPlan, Layer, SurfacePool, make_pipeline
from anetrain.pipeline.extras import Extras, chosen
from tests.block_runs import random_parameter

Arrays = dict[str, Array]


class EmulatedBlock:
    """A block with random weights, gains from U(0.2, 3). Gradients travel through the device times `loss_scale`.
    `choices`: layout, granularity and what else anetrain.lower.lower takes."""

    def __init__(
        self,
        block: Block,
        s: ModelSpec,
        device: Device,
        *,
        norms: Place = "host",
        loss_scale: float = 1.0,
        seed: int = 0,
        **choices: Any,
    ) -> None:
        precision: Precision = "fp32" if device.facts["fp32"] else "fp16"
        self.spec, self.loss_scale = s, np.float32(loss_scale)
        self.derived = differentiate(build(block, s, norms=norms, precision=precision))
        random = np.random.default_rng(seed)
        known = self.derived.graph.parameters.values()
        self.parameters = {each.name: random_parameter(each, random).astype(np.float32) for each in known}
        shape = (1, s.dim, 1, s.tokens)
        self.x, self.dy = (random.standard_normal(shape, dtype=np.float32) for _ in range(2))
        self.gradients = {name: np.zeros_like(array) for name, array in self.parameters.items()}
        self.plan = lower(self.derived, dialect=device.facts["dialect"], **choices)
        self.compiled = CompiledPlan(device, self.plan, self.parameters)
        self.layer = Layer(self.compiled, self.parameters, self.gradients, SurfacePool())

    def run(self) -> reference.Result:
        """Forward and backward once; the gradients are those of x, dy and the parameters as they are now."""
        for gradient in self.gradients.values():
            gradient.fill(0.0)
        self.layer.stage()
        outputs = copied(self.layer.forward({"x": self.x}))
        dx = self.layer.backward({"y": self.dy * self.loss_scale}, alpha=float(1.0 / self.loss_scale))
        return reference.Result(
            outputs, {name: array / self.loss_scale for name, array in dx.items()}, copied(self.gradients)
        )

    def expected(self) -> reference.Result:
        """The same on the host alone, in float64."""
        return reference.run(self.derived, {"x": self.x, "d_y": self.dy}, self.parameters)


class EmulatedModel:
    """A model of the Llama or the Qwen3 family with random weights, gains from U(0.2, 3)."""

    def __init__(
        self,
        s: ModelSpec,
        device: Device,
        *,
        extras: Extras = "none",
        classifier: Classifier | None = None,
        loss_scale: float = 2.0**16,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.spec, self.loss_scale = s, loss_scale
        self.norms: Place = "device" if "final_norm" in chosen(extras) else "host"  # of the final one
        self.precision: Precision = "fp32" if device.facts["fp32"] else "fp16"
        model = Model(s, classifier=classifier)
        weights = realistic_weights(model, seed)
        self.pipeline = make_pipeline(device, model, weights, extras=extras, precision=self.precision, **options)
        self.parameters, self.gradients = self.pipeline.weights, self.pipeline.gradients

    def step(self, ids: Array, targets: Array) -> float:
        """The loss; afterwards `gradients` are those of it, with the parameters as they are now."""
        self.pipeline.stage()
        self.pipeline.clear_gradients()
        return self.pipeline.micro_step(ids, targets, loss_scale=self.loss_scale)

    @property
    def layers(self) -> list[Layer]:
        """The embedding, the layers, the classifier."""
        return self.pipeline.stack.layers

    def logits(self) -> Array:
        """[vocab, tokens] of the last step."""
        s = self.pipeline.spec
        derived = differentiate(
            build_logits(self.pipeline.model.classifier, s, norms=self.norms, precision=self.precision)
        )
        own = {known.name: self.parameters[known.name] for known in derived.graph.parameters.values()}
        plan = lower(derived, dialect=self.pipeline.device.facts["dialect"])
        with CompiledPlan(self.pipeline.device, plan, own, backward=False) as compiled:
            layer = Layer(compiled, own, None, SurfacePool())
            layer.stage()
            chunks = layer.forward({"x": self.layers[-1].inputs["x"]})
            wide = np.concatenate([chunks[f"logits_{i}"] for i in range(len(chunks))], axis=1)
        padded = wide.reshape(s.vocab, s.batch, s.seq)
        return padded[:, :, : self.spec.seq].reshape(s.vocab, -1)


# What is multiplied with normalised values, and the norm's gain.
BEHIND_NORMS = {
    **dict.fromkeys(("attention.wq", "attention.wk", "attention.wv"), "attention_norm"),
    **dict.fromkeys(("ffn.w1", "ffn.w3"), "ffn_norm"),
}


def realistic_weights(model: Model, seed: int) -> Arrays:
    """Gains from U(0.2, 3), and every product of about unit size, as in trained models: deviations are by fan-in, and
    less behind a large gain. Scores far from unit size would make a softmax so sharp that fp16 cannot follow it."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, known in model.parameters.items():
        if known.init == "ones":
            weights[name] = random.uniform(0.2, 3.0, known.shape).astype(np.float32)
        else:
            weights[name] = random.standard_normal(known.shape, dtype=np.float32) / np.float32(np.sqrt(known.shape[-1]))
    for name, array in weights.items():
        layer, kind = ".".join(name.split(".")[:2]), ".".join(name.split(".")[2:])
        if kind in BEHIND_NORMS:
            array /= rms(weights[f"{layer}.{BEHIND_NORMS[kind]}"])
    if model.spec.tied:
        weights["embedding"] *= np.float32(0.3 * np.sqrt(model.spec.dim))
    else:
        weights["embedding"] *= np.float32(np.sqrt(model.spec.dim))
        weights["classifier"] /= rms(weights["final_norm"])
    return weights


def rms(array: Array) -> float:
    return float(np.sqrt(np.mean(array**2)))


def random_tokens(s: ModelSpec, seed: int = 1) -> tuple[Array, Array]:
    """ids and targets [batch, seq]; some of the targets do not count."""
    random = np.random.default_rng(seed)
    ids, targets = (random.integers(0, s.vocab, (s.batch, s.seq)) for _ in range(2))
    targets[:, ::7] = -1
    return ids, targets


def copied(arrays: Mapping[str, Array]) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def tensors(result: reference.Result) -> Arrays:
    """All tensors of a result by one name each."""
    named = {f"output {name}": array for name, array in result.outputs.items()}
    named |= {f"gradient of input {name}": array for name, array in result.gradients.items()}
    return named | {f"gradient of {name}": array for name, array in result.parameters.items()}


def assert_near(
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    relative: float,
    cosine: float = 0.9999,
    *,
    what: str = "",
) -> None:
    """Every tensor: the error's norm relative to the expected one's, and the cosine."""
    assert found.keys() == expected.keys()
    wrong = []
    for name, array in expected.items():
        error, angle = distance(found[name], array)
        if not (error <= relative and angle >= cosine):
            wrong.append(f"{name}: relative error {error:.2e}, cosine {angle:.6f}")
    assert not wrong, f"{what or 'tensors'} (at most {relative:.0e}, at least {cosine}): {'; '.join(wrong)}"


def distance(found: Array, expected: Array) -> tuple[float, float]:
    """(relative error, cosine)"""
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    size = np.linalg.norm(b)
    assert size > 0, "nothing to compare"
    return float(np.linalg.norm(a - b) / size), float(a @ b / (np.linalg.norm(a) * size))
