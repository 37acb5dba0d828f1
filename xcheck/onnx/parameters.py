"""The constants of a graph that store a parameter, found by value for any names and layouts.

Every parameter has its own values during the search (`probe.py`), so that different parameters are never confused,
and equal values have one origin.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..layouts import LAYOUTS, Shape
from ..numerics.blocks import CHUNK
from ..records.trace import Array
from .files import Weight

ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Relative rounding errors of compact types for weights: half a spacing at 1."""

ALTERED_SHARE = 0.5
"""From this share of equal elements on, a constant is an altered copy of a parameter, not a different one."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A constant that stores a parameter.

    Attributes:
        name: of the initializer.
        layout: from the parameter to the constant.
        nbytes: its size.
    """

    name: str
    layout: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Located:
    """The location of a parameter in a file.

    Attributes:
        path: of the parameter.
        holders: constants that store the whole parameter.
        pieces: names of constants that store it together with others, or in parts.
        rounded: the stored precision, if the file has fewer digits.
        altered: the error in the constant that should store it.
        suspect: name of that constant, and its correct value.
    """

    path: str
    holders: tuple[Holder, ...] = ()
    pieces: tuple[str, ...] = ()
    rounded: str | None = None
    altered: str | None = None
    suspect: tuple[str, Array] | None = None

    @property
    def wasted(self) -> int:
        """Bytes of the copies beyond the first."""
        return sum(holder.nbytes for holder in self.holders[1:])


def fingerprint(array: Array) -> tuple[int, int]:
    """Size, and a number that depends on the elements but not on their order; equal ones need a comparison."""
    flat, total = array.reshape(-1), 0
    kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[array.dtype.itemsize]
    for start in range(0, flat.size, CHUNK):
        part = np.ascontiguousarray(flat[start : start + CHUNK]).view(kind).astype(np.uint64)
        part = (part + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        part ^= part >> np.uint64(31)
        total += int((part * np.uint64(0x94D049BB133111EB)).sum(dtype=np.uint64))
    return flat.size, total % 2**64


def arrangement(source: Array, target: Array) -> str | None:
    """The name of the layout from `source` to `target`, bit for bit; None if there is none."""
    if source.shape == target.shape and np.array_equal(source, target):
        return "identity"
    if np.array_equal(source.reshape(-1), target.reshape(-1)):
        return "reshaped"
    for layout in LAYOUTS.values():
        for turn in (layout.forward, layout.inverse):
            arranged = _turned(turn, source, target.shape)
            if arranged is not None and np.array_equal(arranged, target):
                return layout.name
    for axes in permutations(source.shape, target.shape):
        if np.array_equal(source.transpose(axes), target):
            return f"axes {axes}"
    turned = source.T.reshape(-1)
    return "transpose, reshaped" if np.array_equal(turned, target.reshape(-1)) else None


def _turned(rearrange: Callable[[Array, Shape], Array], source: Array, shape: Shape) -> Array | None:
    try:
        arranged = rearrange(source, shape)
    except (ValueError, IndexError):
        return None
    return arranged if arranged.shape == shape else None


def permutations(shape: Sequence[int], other: Sequence[int]) -> list[tuple[int, ...]]:
    """The orders of axes, except for the current one, that turn one shape into the other."""
    if len(shape) != len(other) or not 2 <= len(shape) <= 5:
        return []
    orders = itertools.permutations(range(len(shape)))
    next(orders)
    return [axes for axes in orders if tuple(shape[a] for a in axes) == tuple(other)]


def locate(values: Mapping[str, Array], weights: Sequence[Weight]) -> list[Located]:
    """Find each parameter among the constants of a file.

    Args:
        values: path -> value, in the side's layout; integers are skipped.
        weights: the constants.
    """
    by_print: dict[tuple[int, int], list[Weight]] = {}
    for weight in weights:
        by_print.setdefault(fingerprint(weight.value), []).append(weight)
    located: dict[str, Located] = {}
    assigned: set[str] = set()
    for path, value in values.items():
        if value.dtype.kind == "f" and value.size:
            equal_weights = [w for w in by_print.get(fingerprint(value), []) if w.value.dtype == value.dtype]
            holders = tuple(
                Holder(w.name, arrangement(value, w.value) or "rearranged", w.nbytes) for w in equal_weights
            )
            located[path] = Located(path, holders)
            assigned |= {w.name for w in equal_weights}
    unassigned = [w for w in weights if w.name not in assigned and w.value.size]
    return [_with_near_copies(location, values[location.path], unassigned) for location in located.values()]


def _with_near_copies(location: Located, value: Array, unassigned: Sequence[Weight]) -> Located:
    """A parameter with its rounded or altered copy, or its pieces, among the unassigned constants."""
    for weight in unassigned:
        match = _nearest(value, weight) if weight.value.size == value.size else None
        if match is not None:
            return _judged(location, value, weight, *match)
    if location.holders:
        return location
    pieces = [w.name for w in unassigned if np.isin(w.value, value).all() or np.isin(value, w.value).all()]
    joined = np.concatenate([w.value.reshape(-1) for w in unassigned if w.name in pieces] or [np.zeros(0)])
    return replace(location, pieces=tuple(pieces)) if pieces and np.isin(value, joined).all() else location


def _nearest(value: Array, weight: Weight) -> tuple[Array, float] | None:
    """The value in the layout of the constant, and the share of equal elements, if it is this parameter."""
    candidates = [value] if value.shape == weight.value.shape else []
    candidates += [value.transpose(axes) for axes in permutations(value.shape, weight.value.shape)]
    candidates += [value.reshape(weight.value.shape)]
    best: tuple[Array, float] | None = None
    for candidate in candidates:
        close = np.abs(weight.value.astype(np.float64) - candidate) <= ROUNDING["bfloat16"] * np.abs(candidate)
        share = float(close.mean())
        if share >= ALTERED_SHARE and (best is None or share > best[1]):
            best = candidate, share
    return best


def _judged(location: Located, value: Array, weight: Weight, expected: Array, share: float) -> Located:
    gap = np.abs(weight.value.astype(np.float64) - expected)
    suspect = (weight.name, np.ascontiguousarray(expected, dtype=weight.value.dtype))
    for name, error in ROUNDING.items():
        if share == 1.0 and (gap <= error * np.abs(expected)).all() and (gap > 0).mean() > ALTERED_SHARE:
            return replace(location, rounded=f"{name} precision, in {weight.name}", suspect=suspect)
    problem = f"{weight.name} should store it, but {int((gap > 0).sum())} of {value.size} elements differ"
    return replace(location, altered=problem, suspect=suspect)
