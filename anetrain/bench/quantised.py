"""Weights in fewer bits: integers and what they are multiplied with, as the benches give them to a device.

A row of a weight [out, in] is what makes one output channel; scales lie along rows (ANE_FACTS 4.3, 4.4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

INT8_STEPS = 127  # symmetric: -128 is not used
UINT4_STEPS = 15
PALETTE = 16


def int8_per_channel(weight: Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """[out, in] -> integers [out, in] and scales [out]: weight is about integers * scale."""
    scales = (np.abs(weight).max(axis=1) / INT8_STEPS).astype(np.float16)
    steps = np.rint(weight / scales[:, None].astype(np.float32))
    return np.clip(steps, -INT8_STEPS, INT8_STEPS).astype(np.int8), scales


def uint4_affine(
    weight: Array, block: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
    """[out, in] -> integers [out, in], scales and zero points [out, in / block], one for each block of a row:
    weight is about (integers - zero point) * scale. A block's range is stretched to hold 0."""
    blocks = weight.reshape(weight.shape[0], -1, block)
    low, high = (np.asarray(edge(blocks, axis=2, initial=0.0)) for edge in (np.min, np.max))
    scales = ((high - low) / UINT4_STEPS).astype(np.float16)
    step = scales.astype(np.float32)
    zeros = np.clip(np.rint(-low / step), 0, UINT4_STEPS)
    integers = np.clip(np.rint(blocks / step[..., None]) + zeros[..., None], 0, UINT4_STEPS)
    return integers.reshape(weight.shape).astype(np.uint8), scales, zeros.astype(np.uint8)


def palette(weight: Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """[out, in] -> indices [out, in] and 16 values: each stands for as many weights as any other, whatever their
    distribution."""
    shares = (np.arange(PALETTE) + 0.5) / PALETTE
    values = np.quantile(weight, shares).astype(np.float16)
    borders = (values[1:].astype(np.float32) + values[:-1]) / 2
    return np.searchsorted(borders, weight).astype(np.uint8), values


def uneven_rows(random: np.random.Generator, outputs: int, inputs: int) -> npt.NDArray[np.float32]:
    """A random weight [out, in] that keeps values about as large as they come in. Its rows differ threefold in size:
    whoever takes one scale for all of them, or takes them along the wrong axis, computes something else."""
    weight = random.standard_normal((outputs, inputs), np.float32) / np.sqrt(inputs, dtype=np.float32)
    return np.asarray(weight * row_sizes(random, outputs)[:, None])


def row_sizes(random: np.random.Generator, outputs: int) -> npt.NDArray[np.float32]:
    sizes = random.uniform(0.5, 1.5, outputs).astype(np.float32)
    return np.asarray(sizes / np.sqrt(np.mean(sizes**2)))
