"""Parameters of the reference that the other side ties: no layer of the other side remains to be matched with them.

If they are tied in the reference, too, during one forward pass, both sides agree: that identifies the partner.
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
"""At most this many pairs of parameters, with a layout each, are tried."""


def tied_there(matcher: Matcher, look: Look) -> list[Guess]:
    """Further matches with parameters of the follower that already have a counterpart.

    Args:
        matcher: with its final guesses; its sides are restored.
        look: the last one.
    """
    plan = matcher.plan()
    if look.solved or plan.unmatched(plan.follower):  # which may be the missing one
        return []
    return [g for path in plan.unmatched(plan.reference) if (g := _tied(matcher, look, plan, path)) is not None]


def _tied(matcher: Matcher, look: Look, plan: MatchPlan, path: str) -> Guess | None:
    """The match that makes more of the follower known if the reference has one value at both places."""
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
