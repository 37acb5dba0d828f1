"""State that both sides keep across batches, such as a recurrent layer's; it is matched by how a step changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..frameworks.protocol import Runner
from ..layouts.named import layout_named
from ..matching import Match, MatchPlan, Piece
from ..pairs.pair import Batch
from ..records.trace import Array, StepRecord

SAME_STATE = 1e-6
"""Largest relative distance of two equal states: what float32 constants in a model may change. Unrelated states are as
far apart as they are large."""

PARALLEL_ELEMENTS = 3
"""Number of elements from which two changes are not parallel by chance."""

States = tuple[Array, Array]
"""Before and after a step."""


def with_kept_buffers(plan: MatchPlan, reference: Runner, follower: Runner, batch: Batch) -> MatchPlan:
    """The plan with matches for buffers of unknown layer kinds that a step changes in the same way.

    Both sides make one step from the same parameters; their states are restored afterwards.

    Args:
        plan: matches all parameters.
        reference, follower: the sides.
        batch: to train on.

    Raises:
        UserCodeError: a step raises.
    """
    sides = {side for side, _ in plan.unmatched_buffers}
    if plan.needed or len(sides) < 2:
        return plan
    snapshots = reference.snapshot(), follower.snapshot()
    try:
        follower.write(plan.for_follower(reference.read(), slots=False))
        by_side = {runner.side: runner.step(1, batch, observe=False) for runner in (reference, follower)}
    finally:
        reference.restore(snapshots[0])
        follower.restore(snapshots[1])
    torch, keras = (_changed(plan, by_side[side], side) for side in ("torch", "keras"))
    matches: list[Match] = []
    for path, states in torch.items():
        candidates = _counterparts(states, keras)
        if len(candidates) == 1 and _counterparts(keras[candidates[0]], torch) == [path]:
            matches.append(_match(path, states[0].shape, candidates[0], keras[candidates[0]][0].shape))
    matched = {("torch", m.torch) for m in matches} | {("keras", m.keras) for m in matches}
    unmatched = tuple(buffer for buffer in plan.unmatched_buffers if buffer not in matched)
    return replace(plan, matches=(*plan.matches, *matches), unmatched_buffers=unmatched)


def _changed(plan: MatchPlan, record: StepRecord, side: str) -> dict[str, States]:
    """Path -> values before and after the step, for the unmatched buffers of a side that the step changes."""
    paths = [path for owner, path in plan.unmatched_buffers if owner == side]
    states = {path: (record.before.buffers[path], record.after.buffers[path]) for path in paths}
    return {p: (a, b) for p, (a, b) in states.items() if a.dtype.kind in "fiu" and not _same(a, b)}


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _counterparts(states: States, others: Mapping[str, States]) -> list[str]:
    """Buffers with the same values before and after the step; if there are none, those that move in the same direction.

    Running means of one quantity start equal and move towards it, by a distance that depends on their momentum.
    """
    same_start = [path for path, other in others.items() if _near(states[0], other[0])]
    same_end = [path for path in same_start if _near(states[1], others[path][1])]
    return same_end or [path for path in same_start if _parallel(states, others[path])]


def _near(array: Array, other: Array) -> bool:
    """Whether two arrays are equal, except for axes of length one."""
    array, other = array.squeeze(), other.squeeze()
    return array.shape == other.shape and bool(np.linalg.norm(array - other) <= SAME_STATE * np.linalg.norm(array))


def _parallel(states: States, others: States) -> bool:
    change, other = ((after - before).ravel() for before, after in (states, others))
    if change.size < PARALLEL_ELEMENTS or not np.ptp(change):
        return False
    factor = float(change @ other / (change @ change))
    return factor > 0 and bool(np.linalg.norm(other - factor * change) <= SAME_STATE * np.linalg.norm(other))


def _match(path: str, shape: tuple[int, ...], other: str, other_shape: tuple[int, ...]) -> Match:
    names = [f"n{i}" for i in range(len(shape))]
    layout = layout_named(f"{_axes(shape, names)} -> {_axes(other_shape, names)}")
    assert layout is not None
    pieces = Piece((path,), shape), Piece((other,), other_shape)
    return Match(*pieces, layout, buffer=True, evidence="by value")


def _axes(shape: tuple[int, ...], names: list[str]) -> str:
    remaining = iter(names)
    return " ".join("1" if n == 1 else next(remaining) for n in shape)
