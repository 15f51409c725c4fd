"""What executes lowered plans: programs, surfaces, requests, the step. See base.py, static.py, docs/pipeline.md."""

from anetrain.pipeline.background import BackgroundBaking
from anetrain.pipeline.base import Loss, Pipeline
from anetrain.pipeline.errors import NonFiniteError, PlanError
from anetrain.pipeline.layer import Layer, Traffic
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.stack import Stack
from anetrain.pipeline.static import StaticPipeline, UpdateBudget, make_pipeline
from anetrain.pipeline.surfaces import SurfacePool

__all__ = [
    "BackgroundBaking",
    "CompiledPlan",
    "Layer",
    "Loss",
    "NonFiniteError",
    "Pipeline",
    "PlanError",
    "Stack",
    "StaticPipeline",
    "SurfacePool",
    "Traffic",
    "UpdateBudget",
    "make_pipeline",
]
