"""What is compared of matched parameters: one item per match, in the reference's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ...matching import Match, MatchPlan
from ...numerics.judge import Item, floor_among
from ...records.trace import Array, StepRecord
from ...stepping.lockstep import StepPair

Get = Callable[[StepRecord, str], Array | None]
"""(record, path) -> what is compared of it."""


def parameter_items(
    plan: MatchPlan,
    matches: Sequence[Match],
    step: StepPair,
    get: Get,
    suffix: str = "",
    values: bool = False,
) -> Iterator[Item]:
    """One item per match: what `get` finds under each side's paths, the other side's in the reference's layout.

    Args:
        plan, step: of the run.
        matches: whose pieces.
        get: (record, path) -> array.
        suffix: of the names.
        values: the arrays are values, not differences of values.
    """
    for match in matches:
        if not is_idle_copy(plan, match, step, get):
            yield _item(plan, match, step, get, suffix, values)


def _item(plan: MatchPlan, match: Match, step: StepPair, get: Get, suffix: str, values: bool) -> Item:
    mine, theirs = match.piece(plan.reference), match.piece(plan.follower)
    found, *twins = (mine.total(partial(get, r)) for r in (step.reference.record, *step.reference.twins))
    to = match.value_to if values else match.to
    other, *others = (theirs.total(partial(get, r)) for r in (step.follower, *(r for _, r in step.moved)))
    problem = None
    lone = found is None or not found.ndim  # a number of the optimizer, or a parameter of no axes
    if other is not None and (other.ndim or not lone):
        if other.shape == theirs.shape:
            other, *others = (a if a is None else to(plan.reference, a) for a in (other, *others))
        else:
            problem = f"shape {other.shape} against {theirs.shape}"
    ours = (mine.total(partial(get, r)) for r, _ in step.moved)
    names = (match.name("torch"), match.name("keras"))
    moved = tuple(zip(ours, others, strict=True))
    return Item(mine.name + suffix, *names, found, other, tuple(twins), problem=problem, moved=moved)


def floor_of_matches(plan: MatchPlan, matches: Sequence[Match], step: StepPair, get: Get) -> float:
    """`floor_of` the items of these matches, of which not all are held at once."""
    compared = (m.piece(plan.reference) for m in matches if not is_idle_copy(plan, m, step, get))
    return floor_among(piece.total(partial(get, step.reference.record)) for piece in compared)


def is_idle_copy(plan: MatchPlan, match: Match, step: StepPair, get: Get) -> bool:
    """Whether a declared copy has nothing to compare because another one is trained for it."""
    record = step.reference.record if plan.reference == "keras" else step.follower
    having = [m.keras for m in plan.copies_of(match) if get(record, m.keras) is not None]
    return bool(having) and match.keras not in having


def gradient_of(record: StepRecord, path: str) -> Array | None:
    """The gradient of the total loss with respect to a parameter; None where none was seen."""
    return record.gradients.get(path)
