"""Lowering: a differentiated graph becomes programs, surfaces and steps. See lowering.py and docs/lowering.md."""

from anetrain.lower.check import check_plan
from anetrain.lower.describe import describe, plan_report
from anetrain.lower.ladder import Choice, choose
from anetrain.lower.lowering import GRANULARITIES, LAYOUTS, lower
from anetrain.lower.memory import Descent, LadderMemory
from anetrain.lower.plan import Granularity, Layout, Plan

__all__ = [
    "GRANULARITIES",
    "LAYOUTS",
    "Choice",
    "Descent",
    "Granularity",
    "LadderMemory",
    "Layout",
    "Plan",
    "check_plan",
    "choose",
    "describe",
    "lower",
    "plan_report",
]
