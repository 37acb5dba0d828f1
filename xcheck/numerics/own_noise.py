"""Each element measured by its own movement under rounding: huge numbers do not hide the difference of small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..records.trace import Array
from .blocks import Block, as_matrix, blocks_of, distance, in_parts, place

UNDERFLOWN = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
"""Smaller numbers may have been rounded to a multiple of the smallest float, or to zero (TensorFlow)."""

BITS = 8
"""Width of a size class, in binary exponents."""


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
    """The element that exceeds its allowance most, in units of its own movement by rounding.

    Args:
        reference, other: T and K of one shape, every element finite or equal on both sides.
        moves: arrays of that shape, before and after a movement by rounding.
        factor: allowance of an element, in units of its own movement.

    Returns:
        The element; None where none exceeds its allowance.
    """
    t, k, pairs = as_matrix(reference), as_matrix(other), [(as_matrix(b), as_matrix(a)) for b, a in moves]

    def suspicious(part: Block) -> bool:
        return any(_suspects(t[part], k[part], [(b[part], a[part]) for b, a in pairs], factor))

    if not pairs or not any(found for _, found in in_parts(suspicious, t.shape)):
        return None
    noise_by_size = _moved_by_size(t, pairs)
    result: Furthest | None = None
    for block in blocks_of(t.shape):
        gap, noise = distance(t[block], k[block]), _moved(block, pairs)
        # An element without movement has no noise of its own, and an underflown number has lost its digits.
        ratio = np.where((noise > 0) & (gap > UNDERFLOWN), gap, 0.0)
        noise = np.maximum(noise, noise_by_size[_sizes(t[block], noise)])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = np.where(ratio > 0, ratio / (factor * noise), 0.0)
        position = int(ratio.argmax())
        worst = float(ratio.reshape(-1)[position])
        if worst > (result.ratio if result else 1.0):
            index = np.unravel_index(place(block, position, t.shape[1]), reference.shape)
            result = Furthest(worst, tuple(int(i) for i in index), float(gap.reshape(-1)[position]))
    return result


def _suspects(t: Array, k: Array, pairs: Sequence[tuple[Array, Array]], factor: float) -> Iterator[bool]:
    """For each block whether an element exceeds its own movement; that of others of its size may still allow it."""
    for block in blocks_of(t.shape):
        gap, noise = np.subtract(k[block], t[block], dtype=np.float64), np.zeros(t[block].shape)
        for before, after in pairs:
            moved = np.subtract(after[block], before[block], dtype=np.float64)
            np.fmax(noise, np.abs(moved, out=moved), out=noise)
        beyond = np.abs(gap, out=gap) > factor * noise
        yield bool(beyond.any()) and bool((beyond & (noise > 0) & (gap > UNDERFLOWN)).any())


def _moved(block: Block, pairs: Sequence[tuple[Array, Array]]) -> Array:
    """The largest observed movement of each element by rounding."""
    noise = np.zeros(pairs[0][0][block].shape)
    for before, after in pairs:
        noise = np.fmax(noise, distance(before[block], after[block]))
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
    for block in blocks_of(values.shape):
        noise = _moved(block, pairs).reshape(-1)
        size_classes = _sizes(values[block].reshape(-1), noise)
        with np.errstate(over="ignore", under="ignore"):
            total += np.bincount(size_classes, np.where(np.isfinite(noise), noise, 0.0) ** 2, len(total))
        count += np.bincount(size_classes, minlength=len(count))
    return np.sqrt(total / np.maximum(count, 1))
