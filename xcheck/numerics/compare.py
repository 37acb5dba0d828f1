"""Arrays against arrays: structure first, values second, in one pass and bounded memory.

A difference is measured by three rulers, all relative to the scale of the quantity: the norm (the whole), the
worst row along any axis (one wrong embedding row must not hide in a norm) and the worst element. The scale is
the root mean square of the reference, but not less than the floor the caller gives, which comes from the other
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
"""Below this a number may have been rounded to a multiple of the least one, or to zero: TensorFlow does the latter."""

METRICS = ("norm", "row", "element")


@dataclass(frozen=True, slots=True)
class Measure:
    """How far apart two arrays are.

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
    """What keeps two arrays from being compared value by value, in words; None if nothing does."""
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
    """Counts of positions that are not finite: on the reference alone (or with another infinity), on the
    other side alone, and on both alike. Equal infinities are equal values and count in none."""
    if reference.dtype.kind != "f":
        return 0, 0, 0
    bad_reference, bad_other = ~np.isfinite(reference), ~np.isfinite(other)
    if not bad_reference.any() and not bad_other.any():
        return 0, 0, 0
    same_infinity = (reference == other) & np.isinf(reference)
    both_nan = np.isnan(reference) & np.isnan(other)
    only_reference = bad_reference & ~same_infinity & ~both_nan
    only_other = bad_other & ~bad_reference
    return int(only_reference.sum()), int(only_other.sum()), int(both_nan.sum())


def rms(array: Array) -> float:
    """Root mean square of the finite elements; 0.0 of none."""
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
    """A power of two that brings the largest element near one where squares would leave the range of float64."""
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
        at = int(gap.argmax())
        if gap[at] > worst:
            worst, worst_at = float(gap[at]), start + at
        apart = gap > 0
        if apart.any():
            sizes = scale + np.abs(part_t[apart].astype(np.float64)) * unit
            with np.errstate(divide="ignore"):
                required = max(required, float((gap[apart] / sizes).max()))
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
    """The element that is furthest off for its own noise.

    Attributes:
        ratio: its difference divided by what it is allowed.
        index: of it, in the array's own shape.
        gap: its difference, in the units of the arrays.
    """

    ratio: float
    index: tuple[int, ...]
    gap: float


def furthest(reference: Array, other: Array, moves: Sequence[tuple[Array, Array]], factor: float) -> Furthest | None:
    """The element that is furthest off in units of how far rounding was seen to move that very element.

    Args:
        reference, other: T and K of one shape, every element finite or equal on both sides.
        moves: arrays of that shape before and after rounding has moved them.
        factor: what an element is allowed, in units of its own movement.

    Returns:
        It; None where no element was moved, or none is off.
    """
    t, k = reference.reshape(-1), other.reshape(-1)
    pairs = [(before.reshape(-1), after.reshape(-1)) for before, after in moves]
    if not pairs:
        return None
    of_size = _moved_by_size(t, pairs)
    found: Furthest | None = None
    for start in range(0, t.size, CHUNK):
        part = slice(start, start + CHUNK)
        gap, noise = _gap(t[part], k[part]), _moved(part, pairs)
        # An element that nothing moves has no ruler of its own, and what has underflowed has lost its digits.
        ratio = np.where((noise > 0) & (gap > UNDERFLOWN), gap, 0.0)
        noise = np.maximum(noise, of_size[_sizes(t[part], noise)])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = np.where(ratio > 0, ratio / (factor * noise), 0.0)
        at = int(ratio.argmax())
        if ratio[at] > (found.ratio if found else 0.0):
            index = tuple(int(i) for i in np.unravel_index(start + at, reference.shape))
            found = Furthest(float(ratio[at]), index, float(gap[at]))
    return found


BITS = 8
"""Width of a class of sizes, as a power of two."""


def _moved(part: slice, pairs: Sequence[tuple[Array, Array]]) -> Array:
    """How far rounding was seen to move each element."""
    noise = np.zeros(len(pairs[0][0][part]))
    for before, after in pairs:
        noise = np.fmax(noise, _gap(before[part], after[part]))
    return noise


def _sizes(values: Array, noise: Array) -> Array:
    """The class of sizes that each element belongs to, from 0."""
    size = np.abs(values.astype(np.float64))
    exponents = np.frexp(np.where(np.isfinite(size) & (size > 0), size, noise))[1]
    return (np.asarray(exponents, np.int64) + 1100) // BITS


def _moved_by_size(values: Array, pairs: Sequence[tuple[Array, Array]]) -> Array:
    """Per class of sizes, the root mean square of how far its elements are moved.

    A few twins are few samples. What a sum that cancels leaves is a small multiple of the last digit of its terms, and
    may be the same in all of them by chance; seldom so in every element of its size.
    """
    total, count = np.zeros(2300 // BITS), np.zeros(2300 // BITS)
    for start in range(0, values.size, CHUNK):
        part = slice(start, start + CHUNK)
        noise = _moved(part, pairs)
        of = _sizes(values[part], noise)
        with np.errstate(over="ignore", under="ignore"):
            total += np.bincount(of, np.where(np.isfinite(noise), noise, 0.0) ** 2, len(total))
        count += np.bincount(of, minlength=len(count))
    return np.sqrt(total / np.maximum(count, 1))


def _gap(t: Array, k: Array) -> Array:
    """|k - t| in float64; whole numbers are subtracted as such, since float64 does not hold all of them."""
    if t.dtype.kind in "iu" and k.dtype.kind in "iu":
        return np.where(t > k, t - k, k - t).astype(np.float64)
    left, right = t.astype(np.float64), k.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(right - left)
    gap[left == right] = 0.0  # equal infinities
    return gap


def _worst_row(squares: Array) -> float:
    """Largest root mean square over one index of one axis; axes of one index say nothing and are skipped."""
    worst = 0.0
    for axis in range(squares.ndim):
        if squares.shape[axis] > 1:
            others = tuple(a for a in range(squares.ndim) if a != axis)
            worst = max(worst, float(squares.mean(axis=others).max()))
    return math.sqrt(worst if worst else float(squares.mean()))


def masked(array: Array, mask: Bool[Array, "*positions"] | None) -> Array:
    """The positions of `array` that mean something, flattened to one axis where a mask is given.

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
