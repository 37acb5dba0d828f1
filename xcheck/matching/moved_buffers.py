"""Buffers that no name and no layer matches, matched by what a training step makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..layouts import LAYOUTS
from ..records.sides import SideName
from ..records.trace import Array, StepRecord
from .plan import Match, MatchPlan, Piece

PARALLEL = 1e-9
"""How far from parallel two changes may be, as a part of their size: rounding is far below, chance far above."""

TELLING = 3
"""Elements from which two changes are not parallel by chance."""


def open_buffers(plan: MatchPlan) -> bool:
    """Whether both sides have buffers that are not matched.

    Args:
        plan: without them.
    """
    return len({side for side, _ in plan.unmatched_buffers}) == 2


def buffers_by_value(plan: MatchPlan, record: StepRecord, other: StepRecord) -> MatchPlan:
    """The plan, with the buffers that one step from one state moves in one direction on both sides.

    Running means of one quantity move from one start towards it, further or less far as their momentum is.

    Args:
        plan: without them.
        record, other: the step of the reference, and of the other side.
    """
    sides: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    changes: dict[SideName, dict[str, Array]] = {
        side: {
            path: change
            for of, path in plan.unmatched_buffers
            if of == side and (change := _change(made, path)) is not None
        }
        for side, made in sides.items()
    }
    found: list[Match] = []
    for path, change in changes["torch"].items():
        alike = _alike(sides, path, change, changes["keras"])
        if (
            len(alike) == 1
            and len(_alike(sides, alike[0], changes["keras"][alike[0]], changes["torch"], back=True)) == 1
        ):
            pieces = (Piece((p,), change.shape) for p in (path, alike[0]))
            found.append(Match(*pieces, LAYOUTS["identity"], buffer=True, evidence="by value"))
    taken = {(side, m.path(side)) for m in found for side in sides}
    left = tuple(each for each in plan.unmatched_buffers if each not in taken)
    return replace(plan, matches=(*plan.matches, *found), unmatched_buffers=left)


def _change(record: StepRecord, path: str) -> Array | None:
    """What the step added to a buffer, where it says enough."""
    before, after = record.before.buffers[path], record.after.buffers[path]
    if before.shape != after.shape or before.dtype.kind != "f" or before.size < TELLING:
        return None
    change = after - before
    return change if np.isfinite(change).all() and np.ptp(change) > 0 else None


def _alike(
    sides: Mapping[SideName, StepRecord], path: str, change: Array, others: Mapping[str, Array], back: bool = False
) -> list[str]:
    """The buffers of the other side that start alike and move alike; of several, those that end alike."""
    mine, theirs = (sides["keras"], sides["torch"]) if back else (sides["torch"], sides["keras"])
    start, end = mine.before.buffers[path], mine.after.buffers[path]
    found = [p for p, c in others.items() if _close(start, theirs.before.buffers[p]) and _parallel(change, c)]
    same = [p for p in found if _close(end, theirs.after.buffers[p])]
    return same or found


def _close(one: Array, other: Array) -> bool:
    return one.shape == other.shape and bool(np.linalg.norm(one - other) <= PARALLEL * np.linalg.norm(one))


def _parallel(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    factor = float(np.vdot(one, other) / np.vdot(one, one))
    return factor > 0 and bool(np.linalg.norm(other - factor * one) <= PARALLEL * np.linalg.norm(other))
