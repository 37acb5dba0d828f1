"""What a product or a convolution is fed with, measured at its own call: a factor there is none of the weight."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...records.trace import Array
from ..recomputed import REPRODUCED, reproduces
from .activation import fewest_digits
from .forms import Setting
from .one_computation import Seen


def fed(seen: Seen, channels: int) -> tuple[Any, bool]:
    """The factor on what goes in, a number or one for each channel, and whether the side does nothing else besides.

    Where that is not so, no number may be solved from what comes out: it would be blamed on the weight.

    Args:
        seen: a side's product or convolution, with what is done before and after it.
        channels: axis of the channels of the input.
    """
    for call in seen.calls:
        for array in call.inputs.values():
            factor = _factor(seen.x, array, channels) if array.size == seen.x.size else None
            if factor is not None:
                return factor, any(map(_adds(seen.value), call.outputs.values()))
    return 1.0, False


def _factor(x: Array, array: Array, channels: int) -> Any:
    if array.dtype.kind != "f" or not x.any():
        return None
    if array.shape != x.shape:  # the same numbers in another shape have one factor
        size = float(np.sqrt((array * array).sum() / (x * x).sum()))
        ordered = np.sort(array.reshape(-1))
        found = (c for c in (size, -size) if reproduces(ordered, np.sort(c * x.reshape(-1))))
        return next(map(fewest_digits, found), None)
    axes = tuple(a for a in range(x.ndim) if a != channels % x.ndim)
    of_each = (x * x).sum(axis=axes, keepdims=True)
    if not of_each.all():
        return 1.0 if np.array_equal(array, x) else None
    factor = (array * x).sum(axis=axes, keepdims=True) / of_each
    if not reproduces(array, factor * x):
        return None
    one = np.ptp(factor) <= REPRODUCED * np.abs(factor).max()
    return fewest_digits(float(factor.mean())) if one else factor.reshape(-1)


def _adds(value: Array) -> Any:
    """Whether a value is what comes out of a call, or has the same number added for all of a channel."""

    def adds(out: Array) -> bool:
        if out.size != value.size or out.dtype.kind != "f":
            return False
        if out.shape != value.shape:
            return reproduces(np.sort(value.reshape(-1)), np.sort(out.reshape(-1)))
        added = value - out
        every = tuple(range(value.ndim))
        means = (added.mean(axis=tuple(a for a in every if a != kept), keepdims=True) for kept in {1, value.ndim - 1})
        return any(reproduces(value, out + mean) for mean in means)

    return adds


def _shown(factor: Any) -> str:
    if type(factor) is not np.ndarray:
        return f"{factor:.12g}"
    return f"a number for each channel, from {factor.min():.6g} to {factor.max():.6g}"


FACTOR = Setting(
    "factor",
    "constant_factor",
    "the factor on the input",
    "multiply the input by {}",
    "multiply the input by {}",
    shown=_shown,
)
"""Of a product or a convolution; it is measured, never solved for."""
