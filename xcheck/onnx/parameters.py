"""Which constants of a graph hold a parameter: found by value, whatever their names and layouts.

Every parameter has values of its own while this is asked (`probe.py`), so that two that differ are never taken for
each other, and equal values mean one origin.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..layouts import LAYOUTS, Shape
from ..numerics.compare import CHUNK
from ..records.trace import Array
from .files import Weight

ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Relative rounding error of the types that weights are stored in to save space: half a spacing at 1."""

ALIKE = 0.5
"""From this share of equal elements on, a constant is a parameter that was changed, and not another one."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A constant that holds a parameter.

    Attributes:
        name: of the initializer.
        layout: from the parameter to the constant.
        nbytes: that it takes.
    """

    name: str
    layout: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Located:
    """Where a parameter is in a file.

    Attributes:
        path: of the parameter.
        holders: constants that hold the whole of it.
        pieces: names of constants that hold it together with others, or in parts.
        rounded: what it was rounded to, where the file holds it with fewer digits.
        altered: what is wrong with the constant that should hold it.
        suspect: name of that constant, and its right value.
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
    """Size, and a number that depends on the elements but not on their order; equal ones are looked at closely."""
    flat, total = array.reshape(-1), 0
    kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[array.dtype.itemsize]
    for start in range(0, flat.size, CHUNK):
        part = np.ascontiguousarray(flat[start : start + CHUNK]).view(kind).astype(np.uint64)
        part = (part + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        part ^= part >> np.uint64(31)
        total += int((part * np.uint64(0x94D049BB133111EB)).sum(dtype=np.uint64))
    return flat.size, total % 2**64


def arrangement(source: Array, target: Array) -> str | None:
    """The name of what turns `source` into `target`, bit for bit; None if only a new order of elements would."""
    if source.shape == target.shape and np.array_equal(source, target):
        return "identity"
    if np.array_equal(source.reshape(-1), target.reshape(-1)):
        return "reshaped"
    for layout in LAYOUTS.values():
        for turn in (layout.forward, layout.inverse):
            made = _turned(turn, source, target.shape)
            if made is not None and np.array_equal(made, target):
                return layout.name
    for axes in permutations(source.shape, target.shape):
        if np.array_equal(source.transpose(axes), target):
            return f"axes {axes}"
    turned = source.T.reshape(-1)
    return "transpose, reshaped" if np.array_equal(turned, target.reshape(-1)) else None


def _turned(turn: Callable[[Array, Shape], Array], source: Array, shape: Shape) -> Array | None:
    try:
        made = turn(source, shape)
    except (ValueError, IndexError):
        return None
    return made if made.shape == shape else None


def permutations(shape: Sequence[int], other: Sequence[int]) -> list[tuple[int, ...]]:
    """The orders of axes, but for the given one, that turn one shape into the other."""
    if len(shape) != len(other) or not 2 <= len(shape) <= 5:
        return []
    orders = itertools.permutations(range(len(shape)))
    next(orders)
    return [axes for axes in orders if tuple(shape[a] for a in axes) == tuple(other)]


def locate(values: Mapping[str, Array], weights: Sequence[Weight]) -> list[Located]:
    """Find each parameter among the constants of a file.

    Args:
        values: path -> value, as the side lays it out; whole numbers are left out.
        weights: the constants.
    """
    by_print: dict[tuple[int, int], list[Weight]] = {}
    for weight in weights:
        by_print.setdefault(fingerprint(weight.value), []).append(weight)
    found: dict[str, Located] = {}
    taken: set[str] = set()
    for path, value in values.items():
        if value.dtype.kind == "f" and value.size:
            same = [w for w in by_print.get(fingerprint(value), []) if w.value.dtype == value.dtype]
            holders = tuple(Holder(w.name, arrangement(value, w.value) or "rearranged", w.nbytes) for w in same)
            found[path] = Located(path, holders)
            taken |= {w.name for w in same}
    free = [w for w in weights if w.name not in taken and w.value.size]
    return [_closer(at, values[at.path], free) for at in found.values()]


def _closer(at: Located, value: Array, free: Sequence[Weight]) -> Located:
    """A parameter with what no constant's exact values say: a copy rounded or altered, or its pieces."""
    for weight in free:
        near = _nearest(value, weight) if weight.value.size == value.size else None
        if near is not None:
            return _judged(at, value, weight, *near)
    if at.holders:
        return at
    pieces = [w.name for w in free if np.isin(w.value, value).all() or np.isin(value, w.value).all()]
    whole = np.concatenate([w.value.reshape(-1) for w in free if w.name in pieces] or [np.zeros(0)])
    return replace(at, pieces=tuple(pieces)) if pieces and np.isin(value, whole).all() else at


def _nearest(value: Array, weight: Weight) -> tuple[Array, float] | None:
    """The value as the constant would hold it, and the share of elements that agree, if it is this parameter."""
    shapes = [value] if value.shape == weight.value.shape else []
    shapes += [value.transpose(axes) for axes in permutations(value.shape, weight.value.shape)]
    shapes += [value.reshape(weight.value.shape)]
    best: tuple[Array, float] | None = None
    for made in shapes:
        close = np.abs(weight.value.astype(np.float64) - made) <= ROUNDING["bfloat16"] * np.abs(made)
        share = float(close.mean())
        if share >= ALIKE and (best is None or share > best[1]):
            best = made, share
    return best


def _judged(at: Located, value: Array, weight: Weight, made: Array, share: float) -> Located:
    gap = np.abs(weight.value.astype(np.float64) - made)
    suspect = (weight.name, np.ascontiguousarray(made, dtype=weight.value.dtype))
    for name, error in ROUNDING.items():
        if share == 1.0 and (gap <= error * np.abs(made)).all() and (gap > 0).mean() > ALIKE:
            return replace(at, rounded=f"{name} precision, in {weight.name}", suspect=suspect)
    told = f"{weight.name} should hold it, and {int((gap > 0).sum())} of {value.size} elements are others"
    return replace(at, altered=told, suspect=suspect)
