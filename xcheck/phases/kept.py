"""State that both sides keep across batches, such as that of a recurrent layer, matched by what a step makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..frameworks.protocol import Runner
from ..layouts.named import layout_named
from ..matching import Match, MatchPlan, Piece
from ..pairs.pair import Batch
from ..records.trace import Array, StepRecord

ALIKE = 1e-6
"""How near in relation to their size two states are that are one: what float32 constants in a model may do to it. Two
that have nothing to do with each other are as far apart as they are large."""

TELLING = 3
"""Elements from which two changes are not parallel by chance."""

States = tuple[Array, Array]
"""Before and after a step."""


def with_kept_state(plan: MatchPlan, reference: Runner, follower: Runner, batch: Batch) -> MatchPlan:
    """The plan, and in it the buffers that no layer kind says anything about and a step changes alike.

    Both sides make one step from the same parameters, and are as before when this ends.

    Args:
        plan: all parameters are matched.
        reference, follower: the sides.
        batch: to train on.

    Raises:
        UserCodeError: a step raises.
    """
    sides = {side for side, _ in plan.unmatched_buffers}
    if plan.needed or len(sides) < 2:
        return plan
    kept = reference.snapshot(), follower.snapshot()
    try:
        follower.write(plan.for_follower(reference.read(), slots=False))
        by_side = {runner.side: runner.step(1, batch, observe=False) for runner in (reference, follower)}
    finally:
        reference.restore(kept[0])
        follower.restore(kept[1])
    torch, keras = (_changed(plan, by_side[side], side) for side in ("torch", "keras"))
    found: list[Match] = []
    for path, states in torch.items():
        alike = _counterparts(states, keras)
        if len(alike) == 1 and _counterparts(keras[alike[0]], torch) == [path]:
            found.append(_match(path, states[0].shape, alike[0], keras[alike[0]][0].shape))
    done = {("torch", m.torch) for m in found} | {("keras", m.keras) for m in found}
    left = tuple(buffer for buffer in plan.unmatched_buffers if buffer not in done)
    return replace(plan, matches=(*plan.matches, *found), unmatched_buffers=left)


def _changed(plan: MatchPlan, record: StepRecord, side: str) -> dict[str, States]:
    """Path -> before and after the step, of the unmatched buffers of a side that the step changes."""
    paths = [path for of, path in plan.unmatched_buffers if of == side]
    both = {path: (record.before.buffers[path], record.after.buffers[path]) for path in paths}
    return {p: (a, b) for p, (a, b) in both.items() if a.dtype.kind in "fiu" and not _same(a, b)}


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _counterparts(states: States, others: Mapping[str, States]) -> list[str]:
    """What starts the step alike and ends it alike; if there is none, what the step moves in the same direction.

    Running means of one quantity move from one start towards it, further or less far as their momentum is.
    """
    start = [path for path, other in others.items() if _near(states[0], other[0])]
    same = [path for path in start if _near(states[1], others[path][1])]
    return same or [path for path in start if _parallel(states, others[path])]


def _near(one: Array, other: Array) -> bool:
    """Whether two arrays are one, but for axes of length one."""
    one, other = one.squeeze(), other.squeeze()
    return one.shape == other.shape and bool(np.linalg.norm(one - other) <= ALIKE * np.linalg.norm(one))


def _parallel(states: States, others: States) -> bool:
    change, other = ((after - before).ravel() for before, after in (states, others))
    if change.size < TELLING or not np.ptp(change):
        return False
    factor = float(change @ other / (change @ change))
    return factor > 0 and bool(np.linalg.norm(other - factor * change) <= ALIKE * np.linalg.norm(other))


def _match(path: str, shape: tuple[int, ...], other: str, there: tuple[int, ...]) -> Match:
    names = [f"n{i}" for i in range(len(shape))]
    layout = layout_named(f"{_axes(shape, names)} -> {_axes(there, names)}")
    assert layout is not None
    pieces = Piece((path,), shape), Piece((other,), there)
    return Match(*pieces, layout, buffer=True, evidence="by value")


def _axes(shape: tuple[int, ...], names: list[str]) -> str:
    left = iter(names)
    return " ".join("1" if n == 1 else next(left) for n in shape)
