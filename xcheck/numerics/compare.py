"""Arrays against arrays: structure first, values second, in one pass and bounded memory.

A difference is measured by three metrics, all relative to the scale of the quantity: the norm (the whole), the
worst row along any axis (one wrong embedding row must not hide in a norm) and the worst element. The scale is
the root mean square of the reference, but at least the floor that the caller gives, which comes from the other
quantities of the same kind: a gradient that is truly zero is not divided by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from ..records.trace import Array

CHUNK = 1 << 16
"""Elements per pass: three float64 buffers of this size stay in a second-level cache."""

UNDERFLOWN = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
"""Smaller numbers may have been rounded to a multiple of the smallest float, or to zero (TensorFlow)."""

METRICS = ("norm", "row", "element")


@dataclass(frozen=True, slots=True)
class Measure:
    """The difference of two arrays.

    Attributes:
        norm: rms(K - T) / scale.
        row: largest rms over one slice along one axis of K - T, / scale.
        element: max |K - T| / scale.
        required_tolerance: the smallest t with |K - T| <= t * (scale + |T|) everywhere.
        worst_index: of the element, in the array's own shape.
        reference_value, other_value: T and K there.
    """

    norm: float
    row: float
    element: float
    required_tolerance: float
    worst_index: tuple[int, ...]
    reference_value: float
    other_value: float

    def get(self, metric: str) -> float:
        """The value of one of `METRICS`."""
        return {"norm": self.norm, "row": self.row, "element": self.element}[metric]


def structure(reference: Array, other: Array) -> str | None:
    """The reason why two arrays cannot be compared value by value; None if they can."""
    if reference.shape != other.shape:
        return f"shape {_shape(reference)} against {_shape(other)}"
    if reference.size == 0:
        return f"empty, shape {_shape(reference)}"
    if not (measurable(reference) and measurable(other)):
        return f"dtype {reference.dtype} against {other.dtype} cannot be measured"
    if (reference.dtype.kind == "f") != (other.dtype.kind == "f"):
        return f"dtype {reference.dtype} against {other.dtype}: one is a float and the other is not"
    return None


def measurable(array: Array) -> bool:
    """Whether the elements are real numbers or truth values."""
    return array.dtype.kind in "fiub"


def nonfinite(reference: Array, other: Array) -> tuple[int, int, int]:
    """Counts of non-finite positions: only on the reference (or with a different infinity), only on the other
    side, and NaN on both. Equal infinities are equal values and are not counted."""
    if reference.dtype.kind != "f":
        return 0, 0, 0
    nonfinite_reference, nonfinite_other = ~np.isfinite(reference), ~np.isfinite(other)
    if not nonfinite_reference.any() and not nonfinite_other.any():
        return 0, 0, 0
    same_infinity = (reference == other) & np.isinf(reference)
    both_nan = np.isnan(reference) & np.isnan(other)
    only_reference = nonfinite_reference & ~same_infinity & ~both_nan
    only_other = nonfinite_other & ~nonfinite_reference
    return int(only_reference.sum()), int(only_other.sum()), int(both_nan.sum())


def rms(array: Array) -> float:
    """Root mean square of the finite elements; 0.0 if there are none."""
    flat = array.reshape(-1)
    unit = _unit(flat)
    total, count = 0.0, 0
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK].astype(np.float64)
        if not np.isfinite(part).all():
            part = part[np.isfinite(part)]
        part *= unit
        total += float(part @ part)
        count += part.size
    return math.sqrt(total / count) / unit if count else 0.0


def _unit(*arrays: Array) -> float:
    """A power of two that scales the largest element to about one, where squares would leave the range of float64."""
    peak = 0.0
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = np.abs(flat[start : start + CHUNK].astype(np.float64))
            peak = max(peak, float(np.max(part, initial=0.0, where=np.isfinite(part))))
    if peak == 0.0 or 1e-100 < peak < 1e100:
        return 1.0
    return 2.0 ** -math.frexp(peak)[1]


def measure(reference: Shaped[Array, "*shape"], other: Shaped[Array, "*shape"], floor: float = 0.0) -> Measure:
    """Measure two arrays of one shape.

    Args:
        reference: T, any shape with at least one element, every element finite or equal on both sides.
        other: K, likewise.
        floor: least scale to measure against, in the units of the arrays.

    Returns:
        The measures; all are infinite where the scale is zero and the arrays differ.
    """
    if reference.shape != other.shape or reference.size == 0:
        raise ValueError("measure() needs two arrays of one shape; ask structure() first")
    t, k = reference.reshape(-1), other.reshape(-1)
    unit = _unit(t, k)
    scale = max(rms(t), floor) * unit
    total = worst = required = 0.0
    worst_at = 0
    squares = np.empty(t.size if reference.ndim > 1 else 0)
    for start in range(0, t.size, CHUNK):
        part_t, part_k = t[start : start + CHUNK], k[start : start + CHUNK]
        gap = _gap(part_t, part_k) * unit
        total += float(gap @ gap)
        position = int(gap.argmax())
        if gap[position] > worst:
            worst, worst_at = float(gap[position]), start + position
        differing = gap > 0
        if differing.any():
            sizes = scale + np.abs(part_t[differing].astype(np.float64)) * unit
            with np.errstate(divide="ignore"):
                required = max(required, float((gap[differing] / sizes).max()))
        if squares.size:
            np.multiply(gap, gap, out=squares[start : start + CHUNK])
    index = tuple(int(i) for i in np.unravel_index(worst_at, reference.shape))
    rows = _worst_row(np.reshape(squares, reference.shape)) if squares.size else math.sqrt(total / t.size)
    return Measure(
        norm=_ratio(math.sqrt(total / t.size), scale),
        row=_ratio(rows, scale),
        element=_ratio(worst, scale),
        required_tolerance=required,
        worst_index=index,
        reference_value=float(t[worst_at]),
        other_value=float(k[worst_at]),
    )


@dataclass(frozen=True, slots=True)
class Furthest:
    """The element with the largest difference relative to its own noise.

    Attributes:
        ratio: its difference divided by its allowance.
        index: of the element, in the array's own shape.
        gap: its difference, in the units of the arrays.
    """

    ratio: float
    index: tuple[int, ...]
    gap: float


def furthest(reference: Array, other: Array, moves: Sequence[tuple[Array, Array]], factor: float) -> Furthest | None:
    """The element with the largest difference in units of its own movement by rounding.

    Args:
        reference, other: T and K of one shape, every element finite or equal on both sides.
        moves: arrays of that shape, before and after a movement by rounding.
        factor: allowance of an element, in units of its own movement.

    Returns:
        The element; None where no element was moved, or none differs.
    """
    t, k = reference.reshape(-1), other.reshape(-1)
    pairs = [(before.reshape(-1), after.reshape(-1)) for before, after in moves]
    if not pairs:
        return None
    noise_by_size = _moved_by_size(t, pairs)
    result: Furthest | None = None
    for start in range(0, t.size, CHUNK):
        part = slice(start, start + CHUNK)
        gap, noise = _gap(t[part], k[part]), _moved(part, pairs)
        # An element without movement has no noise of its own, and an underflown number has lost its digits.
        ratio = np.where((noise > 0) & (gap > UNDERFLOWN), gap, 0.0)
        noise = np.maximum(noise, noise_by_size[_sizes(t[part], noise)])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = np.where(ratio > 0, ratio / (factor * noise), 0.0)
        position = int(ratio.argmax())
        if ratio[position] > (result.ratio if result else 0.0):
            index = tuple(int(i) for i in np.unravel_index(start + position, reference.shape))
            result = Furthest(float(ratio[position]), index, float(gap[position]))
    return result


BITS = 8
"""Width of a size class, in binary exponents."""


def _moved(part: slice, pairs: Sequence[tuple[Array, Array]]) -> Array:
    """The largest observed movement of each element by rounding."""
    noise = np.zeros(len(pairs[0][0][part]))
    for before, after in pairs:
        noise = np.fmax(noise, _gap(before[part], after[part]))
    return noise


def _sizes(values: Array, noise: Array) -> Array:
    """The size class of each element, from 0."""
    size = np.abs(values.astype(np.float64))
    exponents = np.frexp(np.where(np.isfinite(size) & (size > 0), size, noise))[1]
    return (np.asarray(exponents, np.int64) + 1100) // BITS


def _moved_by_size(values: Array, pairs: Sequence[tuple[Array, Array]]) -> Array:
    """The root mean square of the movement of the elements, per size class.

    A few twins are few samples. The rest of a cancelling sum is a small multiple of the last digit of its terms, and
    may be equal in all twins by chance; but seldom for all elements of its size.
    """
    total, count = np.zeros(2300 // BITS), np.zeros(2300 // BITS)
    for start in range(0, values.size, CHUNK):
        part = slice(start, start + CHUNK)
        noise = _moved(part, pairs)
        size_classes = _sizes(values[part], noise)
        with np.errstate(over="ignore", under="ignore"):
            total += np.bincount(size_classes, np.where(np.isfinite(noise), noise, 0.0) ** 2, len(total))
        count += np.bincount(size_classes, minlength=len(count))
    return np.sqrt(total / np.maximum(count, 1))


def _gap(t: Array, k: Array) -> Array:
    """|k - t| in float64; integers are subtracted as integers, since float64 cannot represent all of them."""
    if t.dtype.kind in "iu" and k.dtype.kind in "iu":
        return np.where(t > k, t - k, k - t).astype(np.float64)
    left, right = t.astype(np.float64), k.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(right - left)
    gap[left == right] = 0.0  # equal infinities
    return gap


def _worst_row(squares: Array) -> float:
    """Largest root mean square over one index of one axis; axes of length one are skipped."""
    worst = 0.0
    for axis in range(squares.ndim):
        if squares.shape[axis] > 1:
            others = tuple(a for a in range(squares.ndim) if a != axis)
            worst = max(worst, float(squares.mean(axis=others).max()))
    return math.sqrt(worst if worst else float(squares.mean()))


def masked(array: Array, mask: Bool[Array, "*positions"] | None) -> Array:
    """The valid positions of `array`, flattened to one axis if a mask is given.

    Args:
        array: shape (*positions, *rest).
        mask: shape (*positions), or None for everything.

    Raises:
        ValueError: the mask does not cover the first axes of the array.
    """
    if mask is None:
        return array
    if array.shape[: mask.ndim] != mask.shape:
        raise ValueError(f"mask {_shape(mask)} does not cover the first axes of an output {_shape(array)}")
    return array[mask]


def _ratio(value: float, scale: float) -> float:
    if value == 0.0:
        return 0.0
    return value / scale if scale else math.inf


def _shape(array: np.ndarray[Any, Any]) -> str:
    return "(" + ", ".join(str(n) for n in array.shape) + ("," if array.ndim == 1 else "") + ")"
