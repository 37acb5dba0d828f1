"""Which of the arrays that a side keeps are averages of its weights: told from what a step makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .trace import Array, Arrays

ROUNDINGS = 64
"""Roundings that an average may be off by: a handful of operations, and the conversion of what is written back."""

TELLING = 3
"""Elements from which one number cannot make an average of any two arrays by chance."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An array that a side keeps.

    Attributes:
        array: its values.
        group: what it is kept with; averages of one group are of different weights.
        known: it is a slot of the optimizer that is known for an average.
    """

    array: Array
    group: str
    known: bool = False


def averages(before: Mapping[str, Kept], after: Mapping[str, Kept], old: Arrays, new: Arrays) -> list[dict[str, str]]:
    """Where -> path of the weight that it is an average of, one dict for each set of averages.

    An average is what a step leaves between what was there before and a weight: `share * before + (1 - share) * weight`
    with one share below 1, of the weight before or after its update. What the step made anew started from the weight
    before its update, from its first value, or from zero.

    Args:
        before, after: where it is kept -> what is kept around the step.
        old, new: path -> weight, before and after the step.
    """
    moved = {
        at: kept
        for at, kept in after.items()
        if not kept.known and (at not in before or not np.array_equal(before[at].array, kept.array))
    }

    def tracks(at: str, path: str) -> bool:
        starts = [before[at].array] if at in before else [old[path], np.zeros_like(old[path])]
        return any(_between(s, after[at].array, weights[path]) for s in starts for weights in (new, old))

    def idle(at: str, path: str) -> bool:  # a weight that has not moved is its own average
        return (at in moved and tracks(at, path)) or _close(after[at].array, new[path], new[path])

    return _assigned(after, moved, new, tracks, idle)


def copies(kept: Mapping[str, Kept], weights: Arrays) -> dict[str, str]:
    """Where -> path of the weight that it is a copy of, bit for bit.

    Args:
        kept: where it is kept -> what is kept.
        weights: by path.
    """

    def equal(at: str, path: str) -> bool:
        return np.array_equal(kept[at].array, weights[path])

    return {at: path for one in _assigned(kept, kept, weights, equal, equal) for at, path in one.items()}


def _assigned(
    kept: Mapping[str, Kept],
    telling: Iterable[str],
    weights: Arrays,
    fits: Callable[[str, str], bool],
    may: Callable[[str, str], bool],
) -> list[dict[str, str]]:
    """Sets of what belongs to weights, group by group: first what values tell apart, then in order what they do not."""
    found: list[dict[str, str]] = []
    groups: dict[str, list[str]] = {}
    for at, each in kept.items():
        groups.setdefault(each.group, []).append(at)
    told = {path for path, w in weights.items() if w.size >= TELLING and w.dtype.kind == "f" and np.ptp(w) > 0}
    told_by = set(telling)
    for members in groups.values():
        left = [at for at in members if kept[at].array.dtype.kind == "f"]
        while True:
            pins: dict[str, str] = {}
            for at in left:
                shape = kept[at].array.shape
                fit = (p for p in told if at in told_by and p not in pins.values() and weights[p].shape == shape)
                path = next((p for p in fit if fits(at, p)), None)
                if path is not None:
                    pins[at] = path
            if not pins:
                break
            for path in weights:
                if path not in pins.values():
                    near = _nearest(left, list(weights), pins, path)
                    same = (at for at in near if kept[at].array.shape == weights[path].shape and may(at, path))
                    at = next(same, None)
                    if at is not None:
                        pins[at] = path
            found.append(pins)
            left = [at for at in left if at not in pins]
    return found


def _nearest(left: Sequence[str], paths: Sequence[str], pins: Mapping[str, str], path: str) -> list[str]:
    """What is not assigned, the nearest first to where the weight's neighbours say that it is kept."""
    at = paths.index(path)
    known = [(left.index(way), paths.index(of)) for way, of in pins.items()]
    place, of = min(known, key=lambda pin: abs(pin[1] - at))
    expected = place + at - of
    free = [way for way in left if way not in pins]
    return sorted(free, key=lambda way: abs(left.index(way) - expected))


def _between(start: Array, end: Array, weight: Array) -> bool:
    if start.shape != end.shape:
        return _close(end, weight, weight)
    apart = np.asarray(start, np.float64) - weight
    size = float(np.vdot(apart, apart))
    share = float(np.vdot(np.asarray(end, np.float64) - weight, apart)) / size if size else 0.0
    share = min(max(share, 0.0), 1.0)
    return share < 1 and _close(end, share * start + (1 - share) * weight, np.maximum(np.abs(start), np.abs(weight)))


def _close(one: Array, other: Array, size: Array) -> bool:
    eps = max(float(np.finfo(a.dtype).eps) for a in (one, size) if a.dtype.kind == "f")
    return bool((np.abs(one - other) <= ROUNDINGS * eps * (np.abs(size) + np.abs(one))).all())
