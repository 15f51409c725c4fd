"""The geometry that convolutions and pools share: padding and output sizes over [N, C, H, W]."""

from __future__ import annotations

from collections.abc import Sequence

from anetrain.mil.ops.base import length_is, mismatch, one_of

PAD_TYPES = ("valid", "custom", "same", "same_lower")
Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


def check_pairs(**pairs: Sequence[int] | None) -> None:
    """Kernel sizes, strides and dilations: two positive numbers each."""
    for name, values in pairs.items():
        if values is None:
            continue
        length_is(name, values, 2)
        if min(values) < 1:
            mismatch(name, f"is {list(values)}, expected positive numbers")


def padding_of(
    pad_type: str, pad: Sequence[int] | None, size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> Padding:
    """`window` is the kernel with its dilations; "same" keeps ceil(size / stride), "same_lower" pads more on top."""
    one_of("pad_type", pad_type, PAD_TYPES)
    if pad_type == "valid":
        return (0, 0), (0, 0)
    if pad_type == "custom":
        amounts = list(pad or (0, 0, 0, 0))
        length_is("pad", amounts, 4)
        if min(amounts) < 0:
            mismatch("pad", f"is {amounts}, expected no negative number")
        return (amounts[0], amounts[1]), (amounts[2], amounts[3])
    sides = []
    for extent, span, stride in zip(size, window, strides, strict=True):
        total = max((-(-extent // stride) - 1) * stride + span - extent, 0)
        small, large = total // 2, total - total // 2
        sides.append((small, large) if pad_type == "same" else (large, small))
    return sides[0], sides[1]


def window_of(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def output_size(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding, ceil_mode: bool = False
) -> tuple[int, int]:
    sizes = []
    for extent, span, stride, (before, after) in zip(size, window, strides, padding, strict=True):
        room = extent + before + after - span
        if room < 0:
            mismatch("x", f"{extent} elements with padding {before} + {after} are fewer than the window of {span}")
        count = (room + stride - 1 if ceil_mode else room) // stride + 1
        if ceil_mode and (before or after) and (count - 1) * stride >= extent + before:
            count -= 1  # the last window would lie wholly in the padding
        sizes.append(count)
    return sizes[0], sizes[1]
