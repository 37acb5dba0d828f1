"""Parameters of the reference that the other side ties: no layer of the other side remains to be matched with them.

If they are tied in the reference, too, during one forward pass, both sides agree: that identifies the partner.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..records.calls import everywhere
from ..records.inventory import Entry
from ..records.sides import SideName
from ..records.trace import State
from .activations import Look
from .fingerprints import Known
from .guess import Guess
from .layers import Unit
from .plan import Match, MatchPlan
from .sequences import Group, group_of

if TYPE_CHECKING:
    from .matcher import Matcher

Unmatched = Mapping[SideName, set[str]]
"""Side -> the paths of its parameters that have no counterpart."""

MOST_TRIED = 30
"""At most this many pairs of parameters, with a layout each, are tried."""


def tied_there(matcher: Matcher, look: Look) -> list[Guess]:
    """Further matches with parameters of the follower that already have a counterpart.

    Args:
        matcher: with its final guesses; its sides are restored.
        look: the last one.
    """
    plan = matcher.plan()
    if look.solved:
        return []
    unmatched: Unmatched = {side: set(plan.unmatched(side)) for side in (plan.reference, plan.follower)}
    before = State({path: matcher.state.value(path) for path in unmatched[plan.reference]})
    found: list[Guess] = []
    known = _known(look)
    try:
        while unmatched[plan.reference]:
            tied = next(
                (
                    t
                    for p in sorted(unmatched[plan.reference])
                    if (t := _tied(matcher, look, plan, p, unmatched, known))
                ),
                None,
            )
            if tied is None:
                break
            guesses, known = tied
            found += guesses
            for guess in guesses:
                for side, left in unmatched.items():
                    for entry in (e for unit in guess.units(side) for e in unit.entries):
                        left.discard(entry.path)
    finally:
        matcher.reference.write(before)
    return found


def _tied(
    matcher: Matcher, look: Look, plan: MatchPlan, path: str, unmatched: Unmatched, known: int
) -> tuple[list[Guess], int] | None:
    """The matches that make more of the follower known if the reference has one value at both places, which it keeps.

    Returns:
        The match of the parameter and of those next to it, and the number of known calls.
    """
    beside = _beside(matcher, plan, path, unmatched)
    if unmatched[plan.follower] and not beside:  # an unmatched parameter may be the missing one
        return None
    calls = tuple(seen.call for seen in look.seen)
    theirs, ours = matcher.follower.read(), matcher.reference.read()
    for guess, match, twin in itertools.islice(_candidates(matcher, plan, path), MOST_TRIED):
        values = {path: twin.value_to(plan.follower, matcher.state.value(twin.path(plan.reference)))}
        values[path] = match.value_to(plan.reference, values[path])
        for _, other in beside:
            values[other.path(plan.reference)] = other.value_to(plan.reference, theirs.value(other.path(plan.follower)))
        kept = State({p: ours.value(p) for p in values})
        matcher.reference.write(State(values))
        again = Look(calls, Known(matcher.reference.calls(matcher.batch, inside=everywhere)), matcher.forced)
        if again.solved or _known(again) > known:
            guesses = [guess, *(other for other, _ in beside)]
            for accepted in guesses:
                accepted.by_value = True
            return guesses, _known(again)
        matcher.reference.write(kept)
    return None


def _beside(matcher: Matcher, plan: MatchPlan, path: str, unmatched: Unmatched) -> list[tuple[Guess, Match]]:
    """Matches of the other unmatched parameters of a layer, such as a bias: the follower has one of that size left."""
    own, other = matcher.torch, matcher.keras
    if plan.reference == "keras":
        own, other = other, own
    lone = own.find(path)
    rest = [e for p in unmatched[plan.reference] if p != path and (e := own.find(p)) is not None]
    left = [e for p in unmatched[plan.follower] if (e := other.find(p)) is not None]
    found: list[tuple[Guess, Match]] = []
    for entry in (e for e in rest if lone is not None and e.owner == lone.owner):
        fitting = [e for e in left if e.size == entry.size]
        pair = [_alone(entry)], [_alone(e) for e in fitting]
        group = group_of(*(pair if plan.reference == "torch" else pair[::-1])) if len(fitting) == 1 else None
        if group is not None:
            guess = Guess(group)
            ((match, _, _),) = guess.matches(matcher.torch, matcher.keras)
            found.append((guess, match))
    return found


def _known(look: Look) -> int:
    """Calls with only known outputs."""
    return sum(look.shown(at) for at in range(len(look.seen)))


def _candidates(matcher: Matcher, plan: MatchPlan, path: str) -> Iterator[tuple[Guess, Match, Match]]:
    """Candidates: a parameter of the reference with each equal-sized one of the follower and its current match."""
    own, other = matcher.torch, matcher.keras
    if plan.reference == "keras":
        own, other = other, own
    lone = own.find(path)
    for twin in plan.parameters:
        aliases = (e for e in other.entries if other.canonical_path(e.path) == twin.path(plan.follower))
        for entry in aliases if twin.plain else ():
            if lone is None or lone.size != entry.size or len(lone.shape) < 2:
                continue
            pair = [_alone(lone)], [_alone(entry)]
            group = group_of(*(pair if plan.reference == "torch" else pair[::-1]))
            for guess in _variants(group) if group is not None else ():
                ((match, _, _),) = guess.matches(matcher.torch, matcher.keras)
                yield guess, match, twin


def _variants(group: Group) -> Iterator[Guess]:
    for variant in Guess(group).variants():
        guess = Guess(group)
        guess.variant = variant
        yield guess


def _alone(entry: Entry) -> Unit:
    return Unit(entry.owner, entry.kind, (entry,))
