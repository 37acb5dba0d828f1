"""Which arrays of a side are averages of its weights, inferred from how a step changes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from .trace import Array, Arrays

ROUNDINGS = 64
"""Roundings allowed in an average: a handful of operations, and the conversion of the value written back."""

TELLING = 3
"""Least number of elements with which one factor does not fit an average to arbitrary arrays by chance."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array that a side stores.

    Attributes:
        array: its values.
        group: the collection it is stored in; averages of one group belong to different weights.
        known: it is an optimizer slot already known to be an average.
    """

    array: Array
    group: str
    known: bool = False


def averages(
    before: Mapping[str, StoredArray], after: Mapping[str, StoredArray], old: Arrays, new: Arrays
) -> list[dict[str, str]]:
    """Location of an average -> path of its weight, one dict for each set of averages.

    After a step an average lies between its previous value and a weight: `share * before + (1 - share) * weight`
    with one share below 1, for the weight before or after its update. An average that the step created started from
    the weight before its update, from its first value, or from zero.

    Args:
        before, after: location -> array, before and after the step.
        old, new: path -> weight, before and after the step.
    """
    new = {path: weight for path, weight in new.items() if path in old}  # a step may break a tie
    moved = {
        at: stored
        for at, stored in after.items()
        if not stored.known and (at not in before or not np.array_equal(before[at].array, stored.array))
    }

    def tracks(at: str, path: str) -> bool:
        starts = [before[at].array] if at in before else [old[path], np.zeros_like(old[path])]
        return any(_between(start, after[at].array, weights[path]) for start in starts for weights in (new, old))

    def idle(at: str, path: str) -> bool:  # a weight that has not moved is its own average
        return (at in moved and tracks(at, path)) or _close(after[at].array, new[path], new[path])

    return _assigned(after, moved, new, tracks, idle)


def copies(stored: Mapping[str, StoredArray], weights: Arrays) -> dict[str, str]:
    """Location of a copy -> path of the weight with the same bits.

    Args:
        stored: location -> array.
        weights: by path.
    """

    def equal(at: str, path: str) -> bool:
        return np.array_equal(stored[at].array, weights[path])

    return {at: path for pins in _assigned(stored, stored, weights, equal, equal) for at, path in pins.items()}


def _assigned(
    stored: Mapping[str, StoredArray],
    usable_locations: Iterable[str],
    weights: Arrays,
    fits: Callable[[str, str], bool],
    possible: Callable[[str, str], bool],
) -> list[dict[str, str]]:
    """Assign arrays to weights, group by group: by values, where the name or else the order decides between several.

    In float32 the first step of an average may be within rounding of a step towards several weights.
    """
    sets: list[dict[str, str]] = []
    groups: dict[str, list[str]] = {}
    for at, each in stored.items():
        groups.setdefault(each.group, []).append(at)
    distinctive = [path for path, w in weights.items() if w.size >= TELLING and w.dtype.kind == "f" and np.ptp(w) > 0]
    usable = set(usable_locations)
    named = {at: _named(at, weights) for at in stored}
    for members in groups.values():
        unassigned = [at for at in members if stored[at].array.dtype.kind == "f"]
        while True:
            pins: dict[str, str] = {}
            fitting = ((at, [named[at]]) for at in unassigned if named[at] in distinctive)
            others = ((at, distinctive) for at in unassigned if at not in pins)
            for at, paths in chain(fitting, others):
                shape = stored[at].array.shape
                free = (p for p in paths if at in usable and p not in pins.values() and weights[p].shape == shape)
                path = next((p for p in free if fits(at, p)), None)
                if path is not None:
                    pins[at] = path
            if not pins:
                break
            for path in weights:
                if path not in pins.values():
                    nearest = _nearest(unassigned, list(weights), pins, path)
                    nearest.sort(key=lambda at: named[at] != path)
                    matches = (
                        at for at in nearest if stored[at].array.shape == weights[path].shape and possible(at, path)
                    )
                    at = next(matches, None)
                    if at is not None:
                        pins[at] = path
            sets.append(pins)
            unassigned = [at for at in unassigned if at not in pins]
    return sets


def _named(at: str, paths: Iterable[str]) -> str:
    """The weight whose path a location ends with, such as ["norm.weight"] of a dict, or module.norm.weight; or ""."""
    words = re.split(r"[^\w]+", at.rstrip("]'\""))
    ending = (p for p in paths if (own := re.split(r"[^\w]+", p)) == words[-len(own) :])
    return max(ending, key=len, default="")


def _nearest(unassigned: Sequence[str], paths: Sequence[str], pins: Mapping[str, str], path: str) -> list[str]:
    """Unassigned locations, sorted by distance from the one expected from the weight's assigned neighbours."""
    index = paths.index(path)
    assigned = [(unassigned.index(location), paths.index(weight_path)) for location, weight_path in pins.items()]
    nearest_location, nearest_index = min(assigned, key=lambda pair: abs(pair[1] - index))
    expected = nearest_location + index - nearest_index
    free = [location for location in unassigned if location not in pins]
    return sorted(free, key=lambda location: abs(unassigned.index(location) - expected))


def _between(start: Array, end: Array, weight: Array) -> bool:
    if start.shape != end.shape:
        return _close(end, weight, weight)
    distance = np.asarray(start, np.float64) - weight
    size = float(np.vdot(distance, distance))
    share = float(np.vdot(np.asarray(end, np.float64) - weight, distance)) / size if size else 0.0
    share = min(max(share, 0.0), 1.0)
    return share < 1 and _close(end, share * start + (1 - share) * weight, np.maximum(np.abs(start), np.abs(weight)))


def _close(actual: Array, expected: Array, size: Array) -> bool:
    eps = max(float(np.finfo(a.dtype).eps) for a in (actual, size) if a.dtype.kind == "f")
    return bool((np.abs(actual - expected) <= ROUNDINGS * eps * (np.abs(size) + np.abs(actual))).all())
