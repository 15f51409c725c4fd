"""What a step would take on a chip's engine, by a cost model: an estimate, never a measurement. docs/estimate.md."""

from anetrain.estimate.chips import CHIPS, ChipCosts, Input, costs_of, profile_of
from anetrain.estimate.model import Cost, Estimate, ProgramEstimate, cost_of, estimate, share_of_lanes

__all__ = [
    "CHIPS",
    "ChipCosts",
    "Cost",
    "Estimate",
    "Input",
    "ProgramEstimate",
    "cost_of",
    "costs_of",
    "estimate",
    "profile_of",
    "share_of_lanes",
]
