"""What executes lowered plans: programs, surfaces, requests, the step. See trainable.py, layer.py, docs/pipeline.md."""

from anetrain.pipeline.errors import NonFiniteError, PlanError
from anetrain.pipeline.layer import Layer, Traffic
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.stack import Stack
from anetrain.pipeline.surfaces import SurfacePool
from anetrain.pipeline.trainable import Trainable, compile_block

__all__ = [
    "CompiledPlan",
    "Layer",
    "NonFiniteError",
    "PlanError",
    "Stack",
    "SurfacePool",
    "Traffic",
    "Trainable",
    "compile_block",
]
