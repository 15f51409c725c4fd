"""Lowering: a differentiated graph becomes programs, surfaces and steps. See lowering.py."""

from anetrain.lower.lowering import GRANULARITIES, LAYOUTS, lower
from anetrain.lower.plan import Granularity, Layout, Plan

__all__ = ["GRANULARITIES", "LAYOUTS", "Granularity", "Layout", "Plan", "lower"]
