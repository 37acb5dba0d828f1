"""Arrays against arrays: structure first, values second, in one pass and bounded memory.

A difference is measured by three metrics, all relative to the scale of the quantity: the norm (the whole), the
worst row along any axis (one wrong embedding row must not hide in a norm) and the worst element. The scale is
the root mean square of the reference, but at least the floor that the caller gives, which comes from the other
quantities of the same kind: a gradient that is truly zero is not divided by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from ..records.trace import Array
from .blocks import CHUNK, Block, as_matrix, blocks_of, distance, in_parts, place, sizes_of

ORDINARY = (1e-200, 1e200)
"""A sum of squares outside of this range may have lost some to an overflow or an underflow."""

NARROW = 64
"""Columns of a block."""

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
    if reference.dtype.kind != "f" or (_all_finite(reference) and _all_finite(other)):
        return 0, 0, 0
    nonfinite_reference, nonfinite_other = ~np.isfinite(reference), ~np.isfinite(other)
    same_infinity = (reference == other) & np.isinf(reference)
    both_nan = np.isnan(reference) & np.isnan(other)
    only_reference = nonfinite_reference & ~same_infinity & ~both_nan
    only_other = nonfinite_other & ~nonfinite_reference
    return int(only_reference.sum()), int(only_other.sum()), int(both_nan.sum())


def _all_finite(array: Array) -> bool:
    matrix = as_matrix(array)

    def finite(part: Block) -> bool:
        values = matrix[part]
        return all(np.isfinite(values[block]).all() for block in blocks_of(values.shape))

    return all(found for _, found in in_parts(finite, matrix.shape))


def rms(array: Array) -> float:
    """Root mean square of the finite elements; 0.0 if there are none."""
    matrix = as_matrix(array)

    def squares(part: Block) -> float:
        values, total = matrix[part], 0.0
        for block in blocks_of(values.shape):
            numbers = values[block].astype(np.float64, order="C")
            total += float(np.multiply(numbers, numbers, out=numbers).sum())
        return total

    total = sum(found for _, found in in_parts(squares, matrix.shape))
    if ORDINARY[0] < total < ORDINARY[1]:
        return math.sqrt(total / array.size)
    return _careful_rms(matrix) if array.any() else 0.0


def _careful_rms(matrix: Array) -> float:
    """As `rms`, where elements are not finite, or squares leave the range of float64."""
    unit, total, count = _unit(matrix), 0.0, 0
    for block in blocks_of(matrix.shape):
        part = matrix[block].astype(np.float64)
        part = part[np.isfinite(part)] * unit
        total += float((part * part).sum())
        count += part.size
    return math.sqrt(total / count) / unit if count else 0.0


def _unit(*matrices: Array) -> float:
    """A power of two that scales the largest element to about one, where squares would leave the range of float64."""
    peak = 0.0
    for matrix in matrices:
        for block in blocks_of(matrix.shape):
            part = np.abs(matrix[block].astype(np.float64))
            peak = max(peak, float(np.max(part, initial=0.0, where=np.isfinite(part))))
    if peak == 0.0 or 1e-100 < peak < 1e100:
        return 1.0
    return 2.0 ** -math.frexp(peak)[1]


def measure(
    reference: Shaped[Array, "*shape"],
    other: Shaped[Array, "*shape"],
    floor: float = 0.0,
    *,
    size: float | None = None,
) -> Measure:
    """Measure two arrays of one shape.

    Args:
        reference: T, any shape with at least one element, every element finite or equal on both sides.
        other: K, likewise.
        floor: least scale to measure against, in the units of the arrays.
        size: `rms(reference)`, where it is known.

    Returns:
        The measures; all are infinite where the scale is zero and the arrays differ.
    """
    if reference.shape != other.shape or reference.size == 0:
        raise ValueError("measure() needs two arrays of one shape; ask structure() first")
    t, k = as_matrix(reference), as_matrix(other)
    scale = max(rms(reference) if size is None else size, floor)
    gaps = _gaps(t, k, scale)
    if gaps.worst != 0.0 and not ORDINARY[0] < gaps.total < ORDINARY[1]:  # or NaN, of equal infinities
        unit = _unit(t, k)
        scale *= unit
        gaps = _gaps(t, k, scale, unit)
    norm = math.sqrt(gaps.total / t.size)
    at = np.unravel_index(gaps.at, t.shape)
    return Measure(
        norm=_ratio(norm, scale),
        row=_ratio(_worst_row(gaps, reference.shape, norm), scale),
        element=_ratio(gaps.worst, scale),
        required_tolerance=gaps.required,
        worst_index=tuple(int(i) for i in np.unravel_index(gaps.at, reference.shape)),
        reference_value=float(t[at]),
        other_value=float(k[at]),
    )


class _Gaps(NamedTuple):
    """The differences of two matrices, summed up.

    Attributes:
        total: of the squares.
        rows, columns: of the squares, by row and by column.
        worst, at: the largest difference, and its place in the flattened matrix.
        required: as in `Measure`.
    """

    total: float
    rows: Array
    columns: Array
    worst: float
    at: int
    required: float


def _gaps(t: Array, k: Array, scale: float, unit: float | None = None) -> _Gaps:
    """The differences of two matrices of one shape, in one pass; without sums by row where there is one row.

    Args:
        t, k: the matrices.
        scale: of the reference, in units.
        unit: factor of each element; None if every element is finite and no square leaves the range of float64.
    """

    def of_part(part: Block) -> _Gaps:
        return _gaps_of_part(t[part], k[part], scale, unit, several)

    several = len(t) > 1
    rows, columns = np.zeros(len(t) * several), np.zeros(t.shape[1] * several)
    total = worst = required = 0.0
    at = 0
    for part, gaps in in_parts(of_part, t.shape):
        if several:
            rows[part[0]] += gaps.rows
            columns[part[1]] += gaps.columns
        total += gaps.total
        if not gaps.worst <= worst:  # or NaN
            worst, at = gaps.worst, place(part, gaps.at, t.shape[1])
        required = max(required, gaps.required)
    return _Gaps(total, rows, columns, worst, at, required)


def _gaps_of_part(t: Array, k: Array, scale: float, unit: float | None, several: bool) -> _Gaps:
    rows, columns, buffer = np.zeros(len(t) * several), np.zeros(t.shape[1] * several), np.empty(CHUNK)
    total = worst = required = 0.0
    at = 0
    floats = unit is None and t.dtype.kind == "f" and k.dtype.kind == "f"
    factor = 1.0 if unit is None else unit
    for block in blocks_of(t.shape):
        part_t, part_k = t[block], k[block]
        if floats:
            gap = np.subtract(part_k, part_t, out=buffer[: part_t.size].reshape(part_t.shape), dtype=np.float64)
            np.abs(gap, out=gap)
        else:
            gap = distance(part_t, part_k) * factor
        flat = gap.reshape(-1)
        position = int(flat.argmax())
        largest = float(flat[position])
        if not largest <= worst:  # or NaN
            worst, at = largest, place(block, position, t.shape[1])
        if largest > required * scale:
            sizes = np.abs(part_t.reshape(-1)[position].astype(np.float64)) * factor
            required = max(required, float(np.divide(largest, scale + sizes)))
            further = np.flatnonzero(flat > required * scale)  # no other element requires more
            if further.size:
                sizes = np.abs(part_t.reshape(-1)[further].astype(np.float64)) * factor
                required = max(required, float((flat[further] / (scale + sizes)).max()))
        np.multiply(gap, gap, out=gap)
        if not several:
            total += float(gap.sum())
        elif gap.shape[1] < NARROW:  # NumPy adds long rows quickly, and short ones slowly
            gap = np.ascontiguousarray(gap.T)
            rows[block[0]] += gap.sum(0)
            columns[block[1]] += gap.sum(1)
        else:
            rows[block[0]] += gap.sum(1)
            columns[block[1]] += gap.sum(0)
    return _Gaps(float(rows.sum()) if several else total, rows, columns, worst, at, required)


def _worst_row(gaps: _Gaps, shape: tuple[int, ...], norm: float) -> float:
    """Largest root mean square over one index of one axis; axes of length one are skipped."""
    if len(shape) < 2:
        return norm
    first, last = sizes_of(shape)
    if not last:
        return gaps.worst if first else norm
    worst, size = 0.0, math.prod(shape)
    for sums, sizes in ((gaps.rows, first), (gaps.columns, last)):
        for axis, length in enumerate(sizes):
            others = tuple(a for a in range(len(sizes)) if a != axis)
            worst = max(worst, float(sums.reshape(sizes).sum(axis=others).max()) * length / size)
    return math.sqrt(worst)


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
