"""Outputs that hold the same numbers in another order: which call moves them, and how, on each side.

A value is known by its numbers, so a shuffle, a flip or a shift makes no new one. From the call that made the numbers
to the one that takes them, each side's moves are read off as one index map, which is written as an einops pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...numerics.align import Alignment
from ...numerics.align.graph import Graph, Key
from ...numerics.align.orders import Order, closest
from ...numerics.compare import measure
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName
from ...records.trace import Array
from ..prove import Trial, prove
from .replay import Scene, named

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Names of axes in a pattern."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How one side moves a value between the call that makes it and the last that has it.

    Attributes:
        born: as it was made.
        call: the first that moves it; the one that made it where none does.
        last: the call whose output is taken.
        output: its name there.
        array: as it is taken.
        how: in words; "" where the axes alone are in another order.
    """

    born: Array
    call: Call
    last: Call
    output: str
    array: Array
    how: str


@isolated(list[Cause])
def reordered_outputs(scene: Scene) -> list[Cause]:
    """Why outputs hold the same numbers in another order, where one call on either side moves them.

    Args:
        scene: both sides.
    """
    first = _moves(scene)
    if first is None:
        return []
    trials = [_trial(scene, *first)]
    other = scene.at_other_weights()
    again = _moves(other)
    if again is not None and [m.how for m in again] == [m.how for m in first]:
        trials.append(_trial(other, *again))
    torch, keras = first if scene.plan.reference == "torch" else first[::-1]
    shown: dict[SideName, str] = {"torch": _shown(torch), "keras": _shown(keras)}
    cause = Cause(
        id="permuted_axes",
        phase="forward",
        torch=torch.call.name,
        keras=keras.call.name,
        summary=f"the output has the same numbers in a different order: {shown['torch']} in torch, {shown['keras']} "
        "in keras",
        evidence={"torch": torch.how, "keras": keras.how},
        fix=f"keras: {torch.how or 'leave the order as it is'}; or torch: {keras.how or 'leave the order as it is'}",
    )
    made = prove(cause, trials)
    return [made] if made.confirmed else []


def _shown(moved: Moved) -> str:
    return f"{moved.call.name} moves {moved.born.shape} as {moved.how}" if moved.how else "nothing is moved"


def _moves(scene: Scene) -> tuple[Moved, Moved] | None:
    """How the reference and the follower move the first value that both make in one order and take in another."""
    alignment = scene.aligned({})
    shared = [call.index for call in alignment.reference.calls]
    keys = dict.fromkeys(key for index in shared for key in alignment.reference.outputs[index].values())
    for key in keys:
        for other in sorted(alignment.there.get(key, ())):
            mine, theirs = _moved(alignment.reference, key), _moved(alignment.follower, other)
            if mine is None or theirs is None or not (mine.how or theirs.how) or mine.how == theirs.how:
                continue
            order = closest(mine.born, theirs.born)
            if order is not None and measure(order.apply(mine.born), theirs.born).element <= alignment.allowed(key):
                return mine, theirs
    return None


def _moved(graph: Graph, key: Key) -> Moved | None:
    views = [
        (call, name, call.outputs[name])
        for call in graph.calls
        for name, k in graph.outputs[call.index].items()
        if k == key and call.parent is not None
    ]
    if key not in graph.makers or not views or graph.values[key].still:
        return None
    born, (last, output, array) = views[0][2], views[-1]
    call = next((call for call, _, view in views if not _in_order(born, view)), views[0][0])
    return Moved(born, call, last, output, array, "" if _in_order(born, array) else pattern(born, array))


def _in_order(array: Array, other: Array) -> bool:
    order = closest(array, other)
    return order is not None and np.array_equal(order.apply(array), other)


def _trial(scene: Scene, mine: Moved, theirs: Moved) -> Trial:
    """What is left of the difference of the outputs with the reference's order in the follower."""
    alignment = scene.aligned({})
    array = mine.array
    if array.shape != theirs.array.shape or not _as_usual(mine, theirs):
        order = closest(mine.born, theirs.born)
        if order is not None and not order.after and len(order.axes) == array.ndim:
            array = array.transpose(order.axes)
    if array.shape != theirs.array.shape:
        return Trial(0.0, 0.0, 1.0)
    after = scene.aligned({named(theirs.last): {theirs.output: array}})
    allowed = max((alignment.allowed(key) for key in alignment.there), default=0.0)
    return Trial(_apart(alignment), _apart(after), allowed, mine.array.size)


def _as_usual(mine: Moved, theirs: Moved) -> bool:
    """Whether both have the same axes when the value is made."""
    order = closest(mine.born, theirs.born)
    return order == Order(mine.born.shape, theirs.born.shape, tuple(range(mine.born.ndim)))


def _apart(alignment: Alignment) -> float:
    """How far the outputs of the models are from each other, number by number, in the order of axes that fits best."""
    model, other = alignment.reference.model(), alignment.follower.model()
    if model is None or other is None or len(model.outputs) != len(other.outputs):
        return float("nan")
    gaps: list[float] = []
    for array, there in zip(model.outputs.values(), other.outputs.values(), strict=True):
        order = closest(array, there) if array.size == there.size else None
        gaps.append(float("inf") if order is None else measure(order.apply(array), there).element)
    return max(gaps, default=float("nan"))


# An index map in words -------------------------------------------------------------------------------------------


def pattern(array: Array, moved: Array) -> str:
    """How an array becomes another with the same numbers: a flip, a shift, or an einops pattern.

    Args:
        array: before.
        moved: after.
    """
    if array.shape == moved.shape:
        for axis in range(array.ndim):
            if np.array_equal(np.flip(array, axis), moved):
                return f"a flip along axis {axis}"
            for shift in range(1, array.shape[axis]):
                if np.array_equal(np.roll(array, shift, axis), moved):
                    return f"a shift by {shift} along axis {axis} of {array.shape[axis]}, around its end"
    flat: Array = array.reshape(-1)
    if len(np.unique(flat)) == flat.size:
        positions: Array = np.zeros(moved.shape, np.int64)
        positions.reshape(-1)[np.argsort(moved, axis=None)] = np.argsort(flat)
        found = _einops(array.shape, positions)
        if found:
            return found
    return f"another order of {array.shape} as {moved.shape}"


def _einops(source: Sequence[int], positions: Array) -> str:
    """The pattern of an index map: shape of what is moved, and where each number of the result comes from."""
    factors: list[list[tuple[int, int]]] = []
    for axis in range(positions.ndim):
        along = positions[tuple(slice(None) if a == axis else 0 for a in range(positions.ndim))]
        split = _split(along - along[0])
        if split is None:
            return ""
        factors.append(split)
    names: dict[str, tuple[int, int]] = {}
    after: list[str] = []
    for letter, split in zip(LETTERS[: len(factors)], factors, strict=True):
        parts = [letter if len(split) == 1 else f"{letter}{i + 1}" for i in range(len(split))]
        names |= dict(zip(parts, split, strict=True))
        after.append(parts[0] if len(parts) == 1 else f"({' '.join(parts)})")
    made = np.zeros(positions.shape, np.int64) + positions.reshape(-1)[0]
    for axis, split in enumerate(factors):
        along = np.zeros(1, np.int64)
        for length, stride in split:
            along = (along[:, None] + stride * np.arange(length)).reshape(-1)
        made = made + along.reshape([-1 if a == axis else 1 for a in range(positions.ndim)])
    ordered = sorted((name for name in names if names[name][0] > 1), key=lambda name: -names[name][1])
    before: list[str] = []
    for length in source:
        group: list[str] = []
        while ordered and int(np.prod([names[n][0] for n in group])) < length:
            group.append(ordered.pop(0))
        if int(np.prod([names[n][0] for n in group])) != length:
            return ""
        before.append(f"({' '.join(group)})" if len(group) != 1 else group[0])
    sizes = ", ".join(f"{n}={names[n][0]}" for n in names if len(n) > 1)
    return f'"{" ".join(before)} -> {" ".join(after)}" ({sizes})' if np.array_equal(made, positions) else ""


def _split(along: Array) -> list[tuple[int, int]] | None:
    """An index map along one axis as (length, stride) of its factors, the outermost first; None where it has none."""
    n = len(along)
    if n == 1 or np.array_equal(along, along[1] * np.arange(n)):
        return [(n, int(along[1]) if n > 1 else 0)]
    for inner in (k for k in range(n - 1, 1, -1) if n % k == 0):
        if np.array_equal(along[:inner], along[1] * np.arange(inner)):
            table = along.reshape(-1, inner)
            if np.array_equal(table, table[:, :1] + along[:inner]):
                outer = _split(table[:, 0])
                return None if outer is None else [*outer, (inner, int(along[1]))]
    return None
