"""Why training stops. In every case weights, optimizer and gradients are as if the failed group had not begun."""

from __future__ import annotations


class DeviceFailedError(RuntimeError):
    """Evaluations failed again and again. The device still answers: training may be tried again later."""


class DeviceLostError(RuntimeError):
    """The device is gone for this process: an evaluation did not come back. Save, exit, and start anew."""


class DivergedError(FloatingPointError):
    """Values are not finite, and no loss scale mends that."""
