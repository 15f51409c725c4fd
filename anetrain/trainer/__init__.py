"""Training as a library. See base.py and docs/training.md."""

from anetrain.trainer.arguments import Batches, Resumable
from anetrain.trainer.base import Trainer
from anetrain.trainer.errors import DeviceFailedError, DeviceLostError, DivergedError
from anetrain.trainer.results import Evaluation, FitResult, StepResult, TrainerState

__all__ = [
    "Batches",
    "DeviceFailedError",
    "DeviceLostError",
    "DivergedError",
    "Evaluation",
    "FitResult",
    "Resumable",
    "StepResult",
    "Trainer",
    "TrainerState",
]
