"""Which positions count: masks and lengths that a model has anywhere, as what an operation of one side may be given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...records.calls import Call
from ...records.trace import Array, Arrays

ALL = "all"
"""No mask: every position counts."""

MASK = "mask "
"""Begins the name of an array of a problem that is a mask."""

BLOCKED = -1e3
"""A number added to a score that blocks it, whatever the score."""

MOST_MASKS = 8
"""Masks that are tried at one place."""


def masks_in(calls: Iterable[Call], compare: Array | None = None) -> dict[str, Array]:
    """What may be a mask or lengths among all that a model computes: truth values, zeros and ones, small numbers.

    Args:
        calls: of one forward pass of each side.
        compare: the positions that the pair compares, which come last.
    """
    found: dict[str, Array] = {}
    for call in calls:
        for array in (*call.outputs.values(), *call.inputs.values()):
            truth = array.dtype.kind == "b" or (array.dtype.kind == "f" and bool(np.isin(array, (0.0, 1.0)).all()))
            lengths = array.dtype.kind in "iu" and array.ndim == 1 and array.size > 1
            if (truth and array.ndim > 1 and array.any() and not array.all()) or lengths:
                found.setdefault(call.name, array)
    return found if compare is None else {**found, "the pair's compare": compare}


def fitting(masks: Arrays, shape: Sequence[int]) -> dict[str, Array]:
    """By their names, those of the first axes of a tensor, as truth values; lengths as the positions before them.

    Args:
        masks: see `masks_in`.
        shape: of the tensor, the examples first.
    """
    found: dict[str, Array] = {}
    for name, array in masks.items():
        mask = array
        while mask.ndim > 2 and mask.shape[-1] == 1:
            mask = mask[..., 0]
        if mask.ndim == 1 and len(shape) > 2 and len(mask) == shape[0] and 0 < mask.min() < mask.max() <= shape[1]:
            mask = np.arange(shape[1]) < mask[:, None]
        if mask.ndim < 2 or mask.shape != tuple(shape[: mask.ndim]) or mask.ndim == len(shape):
            continue
        for words, kept in ((name, mask.astype(bool)), (f"{name} (inverted)", ~mask.astype(bool))):
            if not any(np.array_equal(kept, other) for other in found.values()) and len(found) < MOST_MASKS:
                found[f"{MASK}{words}, {int(kept.sum())} of {kept.size}"] = kept
    return found


def possible_masks(arrays: Arrays) -> Sequence[Any]:
    """What else may say which positions count, by its name among the arrays of a problem."""
    return [ALL, *(name for name in arrays if name.startswith(MASK))]


def mask_of(arrays: Arrays, settings: Mapping[str, Any]) -> Array | None:
    """The positions that count; None where all do.

    Args:
        arrays, settings: of a problem.
    """
    return arrays.get(settings.get("mask", ALL))


def shown_mask(name: str) -> str:
    """In words: all positions, or those of a mask."""
    return "all positions" if name == ALL else f"those that {name.removeprefix(MASK)}, lets through"


def blocked(array: Array) -> Array | None:
    """Where an additive mask of zeros and large negative numbers blocks; None where it is none.

    Args:
        array: of any shape.
    """
    at = array < BLOCKED if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    return at if at.any() and bool((array[~at] == 0).all()) else None


def blocked_words(at: Array) -> str:
    """Which positions are blocked, in words: those of a window around the own one, or how many.

    Args:
        at: truth values, shape (..., queries, keys).
    """
    if not at.any():
        return "nothing"
    told = f"{int(at.sum())} of {at.size} positions"
    if at.ndim < 2:
        return told
    one = at.reshape(-1, *at.shape[-2:])[0]
    queries, keys = int(at.shape[-2]), int(at.shape[-1])
    apart: Any = np.subtract.outer(np.arange(queries), np.arange(keys))
    if one.all() or not (at == one).all():
        return told
    back, ahead = int(apart[~one].max()), int(-apart[~one].min())
    if not np.array_equal(~one, (apart <= back) & (-apart <= ahead)):
        return told
    sides = ((back, queries - 1, "before"), (ahead, keys - 1, "after"))
    words = [
        f"more than {n} {way} the own one" if n > 0 else f"{way} the own one" for n, most, way in sides if n < most
    ]
    return f"what is {' or '.join(words)} ({told})"
