"""Parameters of the reference that the other side has tied: none of its layers is left to be matched with them.

Tied in the reference as well, for the length of a forward pass, the two compute the same; that says with which.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..records.calls import everywhere
from ..records.inventory import Entry
from ..records.trace import State
from .activations import Look
from .fingerprints import Known
from .guess import Guess
from .layers import Unit
from .plan import Match, MatchPlan
from .sequences import Group, group_of

if TYPE_CHECKING:
    from .matcher import Matcher

MOST_TRIED = 30
"""Pairs of parameters, and layouts between them, that are tried."""


def tied_there(matcher: Matcher, look: Look) -> list[Guess]:
    """What is the same as a parameter of the follower that has another counterpart already.

    Args:
        matcher: whose guesses are as good as they get; its sides are left as they are.
        look: the last one.
    """
    plan = matcher.plan()
    if look.solved or plan.unmatched(plan.follower):  # which may be what is lacking
        return []
    return [g for path in plan.unmatched(plan.reference) if (g := _tied(matcher, look, plan, path)) is not None]


def _tied(matcher: Matcher, look: Look, plan: MatchPlan, path: str) -> Guess | None:
    """What makes more of the follower known, where the reference has one value in both places."""
    calls = tuple(seen.call for seen in look.seen)
    before, seen = matcher.state.value(path), _known(look)
    for guess, match, twin in itertools.islice(_candidates(matcher, plan, path), MOST_TRIED):
        value = twin.value_to(plan.follower, matcher.state.value(twin.path(plan.reference)))
        matcher.reference.write(State({path: match.value_to(plan.reference, value)}))
        try:
            made = matcher.reference.calls(matcher.batch, inside=everywhere)
        finally:
            matcher.reference.write(State({path: before}))
        again = Look(calls, Known(made), matcher.forced)
        if again.solved or _known(again) > seen:
            guess.by_value = True
            return guess
    return None


def _known(look: Look) -> int:
    """Calls of which everything that they made is known."""
    return sum(look.shown(at) for at in range(len(look.seen)))


def _candidates(matcher: Matcher, plan: MatchPlan, path: str) -> Iterator[tuple[Guess, Match, Match]]:
    """A parameter of the reference as each of the follower's of its size, and what that is matched with."""
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
