"""Finding an activation of one side among those of the other, in any layout and under any name.

This decides which parameters correspond, not whether values are equal; that is the work of the comparison.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from ..records.calls import Call
from ..records.trace import Array, Arrays

EXACT = 1e-7
"""Relative distance up to which two fingerprints belong to one value: above the effect of hard-coded float32, below
that of any setting."""

CLOSE = 1e-3
"""Relative distance up to which a value may differ only by a setting, such as a different epsilon."""

Print = np.ndarray[tuple[int], np.dtype[np.float64]]


def print_of(array: Array) -> Print | None:
    """Numbers that depend on the values of an array, but not on their order or a repetition of all of them.

    Returns:
        None for arrays that cannot be distinguished: integers, constants, and non-finite numbers.
    """
    if array.dtype.kind != "f" or array.size < 2:
        return None
    flat = array.reshape(-1).astype(np.float64, copy=False)
    low, high = float(flat.min()), float(flat.max())
    if not np.isfinite(low + high) or low == high:
        return None
    with np.errstate(over="ignore"):  # a mask with the lowest float
        square = flat * flat
        rms = float(np.sqrt(square.mean()))
    if not np.isfinite(rms):
        return None
    cubic = float((square * (flat / rms)).mean()) / rms
    return np.array([rms, low, high, float(flat.mean()), float(np.abs(flat).mean()), cubic])


def key_of(array: Array) -> Hashable:
    """A key for the numbers of an array, in any order; None for arrays that it does not identify, such as zeros."""
    if array.size < 2 or array.dtype.kind not in "fiu":
        return None
    low, high = array.min(), array.max()
    if low == high or not np.isfinite(low + high):
        return None
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")  # a sum that does not depend on the order
    return array.size, float(low) + 0.0, float(high) + 0.0, int(bits.sum(dtype=np.uint64))


class Known:
    """The activations of one side.

    Args:
        calls: of one forward pass.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        seen: dict[int, Print] = {}
        for call in calls:
            for array in (*call.inputs.values(), *call.outputs.values()):
                found = print_of(array) if id(array) not in seen else None
                if found is not None:
                    seen[id(array)] = found
        prints = sorted(seen.values(), key=lambda p: p[0])
        self._prints = np.array(prints) if prints else np.zeros((0, 6))

    def distance(self, wanted: Print) -> float:
        """Distance of the closest activation, relative to its size; infinite if none is near."""
        reach = CLOSE * wanted[0]
        first, last = np.searchsorted(self._prints[:, 0], [wanted[0] - reach, wanted[0] + reach])
        if first == last:
            return float("inf")
        return float(np.abs(self._prints[first:last] - wanted).max(axis=1).min() / wanted[0])

    def nearest(self, wanted: Print) -> float:
        """Distance of the closest of all activations, even if it is far."""
        if not len(self._prints):
            return float("inf")
        return float(np.abs(self._prints - wanted).max(axis=1).min() / wanted[0])


def apart(one: Print, other: Print) -> float:
    """The relative distance of two fingerprints."""
    return float(np.abs(one - other).max() / one[0])


def prints_of(arrays: Arrays) -> tuple[Print, ...]:
    """The fingerprints of the arrays that have one."""
    return tuple(p for array in arrays.values() if (p := print_of(array)) is not None)


def in_shape_of(array: Array, shape: tuple[int, ...]) -> Array | None:
    """An activation in the layout of the other framework, as its shape suggests; None if no usual order fits."""
    if array.shape == shape:
        return array
    for source, target in ((1, -1), (-1, 1), (1, 2)):
        if array.ndim > 2 and np.moveaxis(array, source, target).shape == shape:
            return np.moveaxis(array, source, target)
    return array.reshape(shape) if array.size == int(np.prod(shape)) and array.shape[0] == shape[0] else None


def nearly(array: Array, own: Array) -> Array | None:
    """The activation in the layout of `own` if they differ only by a setting, element by element; otherwise None."""
    fitted = (
        in_shape_of(array, own.shape) if array.size == own.size and own.dtype.kind == array.dtype.kind == "f" else None
    )
    if fitted is None or not np.isfinite(fitted).all() or not np.isfinite(own).all():
        return None
    return fitted if float(np.abs(fitted - own).max()) <= 2 * CLOSE * float(np.sqrt(np.mean(own**2))) else None
