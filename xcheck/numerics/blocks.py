"""Large arrays, block by block: each block stays in a cache while it is worked on, and threads share the blocks.

No number depends on how many threads there are: sums are taken per part, and added in the order of the parts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..records.trace import Array

T = TypeVar("T")
Block = tuple[slice, slice]
"""Rows and columns of a matrix."""

CHUNK = 1 << 14
"""Elements of a block: a few float64 buffers of this size stay in a second-level cache."""

PART = 1 << 20
"""Elements that a thread takes at a time: milliseconds of work, beside which starting it costs nothing."""


def sizes_of(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of an array that are longer than one, cut in two groups of about equal size."""
    sizes = tuple(size for size in shape if size != 1)
    cuts = range(1, len(sizes)) or (len(sizes),)
    cut = min(cuts, key=lambda i: max(math.prod(sizes[:i]), math.prod(sizes[i:])))
    return sizes[:cut], sizes[cut:]


def as_matrix(array: Array) -> Array:
    """An array as a matrix in its own order: rows are its first axes, columns the others; a view where possible."""
    rows, columns = sizes_of(array.shape)
    return array.reshape((math.prod(rows), math.prod(columns)) if columns else (1, array.size))


def blocks_of(shape: tuple[int, ...], size: int | None = None) -> Iterator[Block]:
    """The blocks of a matrix, in the order of its elements.

    Args:
        shape: of the matrix.
        size: elements of a block at most; None for `CHUNK`.
    """
    size = CHUNK if size is None else size
    width = min(shape[1], size)
    height = max(size // width, 1) if width else 1
    for row in range(0, shape[0], height):
        for column in range(0, shape[1], width or 1):
            yield slice(row, min(row + height, shape[0])), slice(column, min(column + width, shape[1]))


def in_parts(work: Callable[[Block], T], shape: tuple[int, ...]) -> list[tuple[Block, T]]:
    """Each part of a matrix and what a function gives for it, in the order of the elements.

    Args:
        work: called in several threads where there are several parts.
        shape: of the matrix.
    """

    def quietly(part: Block) -> tuple[Block, T]:
        with np.errstate(all="ignore"):  # a thread has settings of its own
            return part, work(part)

    parts = list(blocks_of(shape, PART))
    threads = threads_for(len(parts))
    if threads < 2:
        return [quietly(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(quietly, parts))


def threads_for(parts: int) -> int:
    """Threads that work on so many parts: no more than this process may use cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(parts, cores)


def place(block: Block, at: int, width: int) -> int:
    """The place in a flattened matrix of this width of an element of a block, from its place in the flattened block."""
    row, column = divmod(at, block[1].stop - block[1].start)
    return (block[0].start + row) * width + block[1].start + column


def distance(t: Array, k: Array) -> Array:
    """|k - t| in float64; integers are subtracted as integers, since float64 cannot represent all of them."""
    if t.dtype.kind in "iu" and k.dtype.kind in "iu":
        return np.where(t > k, t - k, k - t).astype(np.float64)
    left, right = t.astype(np.float64), k.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(right - left)
    gap[left == right] = 0.0  # equal infinities
    return gap
