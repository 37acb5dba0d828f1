"""Two arrays with the same numbers in a different order of axes: the order that turns one into the other.

Frameworks lay out activations differently (channels first or last, heads before or after positions, flattened or
not). An order is a permutation of the axes of one of the two, together with a reshape; other rearrangements are not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...records.trace import Array

Shape = tuple[int, ...]

MOST_AXES = 6
"""Number of axes longer than one above which only the usual orders are tried."""

PROBES = 512
"""Largest number of positions at which orders are compared."""


@dataclass(frozen=True, slots=True)
class Order:
    """The conversion of an array of one shape to a different shape.

    Attributes:
        source, target: the shapes.
        axes: permutation of the axes of `source` before the reshape, or of `target` after it.
        after: the permutation applies to `target`.
    """

    source: Shape
    target: Shape
    axes: tuple[int, ...]
    after: bool = False

    def apply(self, array: Array) -> Array:
        """An array of `source` as one of `target`."""
        if self.after:
            permuted = tuple(self.target[a] for a in self.axes)
            return array.reshape(permuted).transpose(np.argsort(self.axes))
        return array.transpose(self.axes).reshape(self.target)

    def inverse(self) -> Order:
        """From `target` to `source`."""
        return Order(self.target, self.source, self.axes, not self.after)

    @property
    def plain(self) -> bool:
        """Whether no number changes its place in memory."""
        shape = self.target if self.after else self.source
        long = [a for a in self.axes if shape[a] > 1]
        return long == sorted(long)

    def at(self, positions: Array) -> Array:
        """Flat positions in `target` -> the flat positions in `source` that they come from."""
        if self.after:
            index: tuple[Array, ...] = np.unravel_index(positions, self.target)
            permuted = tuple(self.target[a] for a in self.axes)
            return np.asarray(np.ravel_multi_index(tuple(index[a] for a in self.axes), permuted))
        index = np.unravel_index(positions, tuple(self.source[a] for a in self.axes))
        back: list[int] = np.argsort(self.axes).tolist()
        return np.asarray(np.ravel_multi_index(tuple(index[i] for i in back), self.source))


def orders(source: Shape, target: Shape) -> Iterator[Order]:
    """All orders between two shapes of one size, the usual ones first."""
    if math.prod(source) != math.prod(target) or not source or not target:
        return
    yielded: set[tuple[bool, tuple[int, ...]]] = set()
    for after, shape in ((False, source), (True, target)):
        for axes in _permutations(shape):
            key = tuple(a for a in axes if shape[a] > 1)
            if (key == tuple(sorted(key)) and (False, ()) in yielded) or (after, key) in yielded:
                continue
            yielded |= {(after, key), (False, ())} if key == tuple(sorted(key)) else {(after, key)}
            yield Order(source, target, axes, after)


def _permutations(shape: Shape) -> Iterator[tuple[int, ...]]:
    n = len(shape)
    yield tuple(range(n))
    if n > 2:
        yield (0, *range(2, n), 1)
        yield (0, n - 1, *range(1, n - 1))
    long = [a for a in range(n) if shape[a] > 1]
    if len(long) > MOST_AXES:
        return
    short = [a for a in range(n) if shape[a] <= 1]
    for axes in itertools.permutations(long):
        yield (*short, *axes) if short else axes


ABOUT_AS_CLOSE = 2.0
"""Factor by which a more usual order may be further off than the closest one where the numbers differ: then no order
fits, and the closest one is chance."""


def as_close(array: Array, other: Array) -> Iterator[Order]:
    """All permutations of the axes with the result of the closest order; several where an axis has length 1.

    Args:
        array, other: with the same number of axes.
    """
    if array.ndim != other.ndim or array.ndim > MOST_AXES or sorted(array.shape) != sorted(other.shape):
        return
    best = closest(array, other)
    for axes in itertools.permutations(range(array.ndim)):
        moved = array.transpose(axes)
        if best is not None and moved.shape == other.shape and np.array_equal(moved, best.apply(array)):
            yield Order(array.shape, other.shape, axes)


def closest(array: Array, other: Array, slack: float = 1.0) -> Order | None:
    """The order in which `array` is closest to `other`; of equally close ones the most usual.

    Args:
        array: of any shape.
        other: of the same size.
        slack: factor by which a more usual order may be further off than the closest one.

    Returns:
        The order from the shape of `array` to that of `other`; None if there is none.
    """
    rng = np.random.default_rng(0)
    positions = np.arange(other.size) if other.size <= PROBES else rng.integers(0, other.size, PROBES)
    target = other.reshape(-1)[positions].astype(np.float64)
    flat = array.reshape(-1)
    distances: list[tuple[float, Order]] = []
    for order in orders(array.shape, other.shape):
        gap = float(np.abs(flat[order.at(positions)].astype(np.float64) - target).sum())
        distances.append((gap if math.isfinite(gap) else math.inf, order))
        if gap == 0.0:
            break
    least = min((gap for gap, _ in distances), default=0.0)
    return next((order for gap, order in distances if gap <= slack * least), None)
