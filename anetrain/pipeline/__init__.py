"""What executes lowered plans: programs, surfaces, requests, the step. See layer.py and docs/pipeline.md."""

from anetrain.pipeline.errors import NonFiniteError, PlanError
from anetrain.pipeline.layer import Layer, Traffic
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.surfaces import SurfacePool

__all__ = ["CompiledPlan", "Layer", "NonFiniteError", "PlanError", "SurfacePool", "Traffic"]
