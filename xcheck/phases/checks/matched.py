"""The compared items of matched parameters: one per match, in the reference's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ...matching import Match, MatchPlan
from ...numerics.judge import Item, floor_among
from ...records.trace import Array, StepRecord
from ...stepping.lockstep import StepPair

Get = Callable[[StepRecord, str], Array | None]
"""(record, path) -> the compared array."""


def parameter_items(
    plan: MatchPlan,
    matches: Sequence[Match],
    step: StepPair,
    get: Get,
    suffix: str = "",
    values: bool = False,
) -> Iterator[Item]:
    """One item per match: the arrays that `get` reads from both records, in the reference's layout.

    Args:
        plan, step: of the run.
        matches: the compared matches.
        get: (record, path) -> array.
        suffix: of the names.
        values: the arrays are values, not differences of values.
    """
    for match in matches:
        if not is_idle_copy(plan, match, step, get):
            yield _item(plan, match, step, get, suffix, values)


def _item(plan: MatchPlan, match: Match, step: StepPair, get: Get, suffix: str, values: bool) -> Item:
    reference_piece, follower_piece = match.piece(plan.reference), match.piece(plan.follower)
    value, *twins = (reference_piece.total(partial(get, r)) for r in (step.reference.record, *step.reference.twins))
    convert = match.value_to if values else match.to
    other, *follower_moved = (
        follower_piece.total(partial(get, r)) for r in (step.follower, *(r for _, r in step.moved))
    )
    problem = None
    scalar = value is None or not value.ndim  # a number of the optimizer, or a scalar parameter
    if other is not None and (other.ndim or not scalar):
        if other.shape == follower_piece.shape:
            other, *follower_moved = (a if a is None else convert(plan.reference, a) for a in (other, *follower_moved))
        else:
            problem = f"shape {other.shape} against {follower_piece.shape}"
    reference_moved = (reference_piece.total(partial(get, r)) for r, _ in step.moved)
    names = (match.name("torch"), match.name("keras"))
    moved = tuple(zip(reference_moved, follower_moved, strict=True))
    return Item(reference_piece.name + suffix, *names, value, other, tuple(twins), problem=problem, moved=moved)


def floor_of_matches(plan: MatchPlan, matches: Sequence[Match], step: StepPair, get: Get) -> float:
    """`floor_of` the items of these matches, without keeping all of them in memory."""
    compared = (m.piece(plan.reference) for m in matches if not is_idle_copy(plan, m, step, get))
    return floor_among(piece.total(partial(get, step.reference.record)) for piece in compared)


def is_idle_copy(plan: MatchPlan, match: Match, step: StepPair, get: Get) -> bool:
    """Whether a declared copy has nothing to compare because a different copy is trained instead."""
    record = step.reference.record if plan.reference == "keras" else step.follower
    trained = [m.keras for m in plan.copies_of(match) if get(record, m.keras) is not None]
    return bool(trained) and match.keras not in trained


def gradient_of(record: StepRecord, path: str) -> Array | None:
    """The gradient of the total loss with respect to a parameter; None without one."""
    return record.gradients.get(path)
