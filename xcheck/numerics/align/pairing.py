"""Which place of one side is which of the other: what may be the same computation, come out differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .alignment import Alignment, distance
from .families import family_of
from .graph import Key
from .places import Place, parting


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place of each side that may be the same computation, come out differently.

    Attributes:
        reference, follower: the places. Where one side has an operation that the other lacks, the other's place is
            where the value comes from that the operation was made on.
        score: how much speaks for it; higher is better.
        lacking: the side, reference or follower, that does nothing here.
        alike: the parameters of both are the same, and there are some.
        whole: the parameters of both are the same and one is a call or two, such as a recurrent layer and what is
            taken of it, that the other side makes of many.
    """

    reference: Place
    follower: Place
    score: float
    lacking: Literal["", "reference", "follower"] = ""
    whole: bool = False
    alike: bool = False

    @property
    def way(self) -> float:
        """How far the places are from what both sides have."""
        if self.whole:
            return self.reference.depth + self.follower.depth
        return self.reference.way + self.follower.way + 1.5 * bool(self.lacking)


FEW = 2
"""Calls that a layer is made of where nothing inside of it is seen: its own, and a slice or a sum of what it gives."""

MOST_PLACES = 200
"""Places per side that are paired: those that the fewest calls lie behind are what is asked for."""


def suspects(
    alignment: Alignment, ends: Sequence[Key], other_ends: Sequence[Key], partners: Mapping[str, frozenset[str]]
) -> list[Suspect]:
    """Pairs of places where the sides may first part: the fewest calls behind what agrees first, then the likeliest.

    Args:
        alignment: of both sides.
        ends, other_ends: keys of the reference and of the follower that differ.
        partners: the reference's path of a parameter -> the follower's that are made from it.
    """
    there, back = alignment.follower.taken(alignment.there), alignment.reference.taken(alignment.back)
    mine = _nearest(parting(alignment.reference, there, ends))
    theirs = _nearest(parting(alignment.follower, back, other_ends))
    pairs = [
        Suspect(
            place,
            other,
            _score(alignment, place, other, partners),
            whole=_whole(place, other, partners),
            alike=bool(other.parameters) and other.parameters == _held(place, partners),
        )
        for place in mine
        for other in theirs
        if _sizes_fit(alignment, place.key, other.key)
    ]
    pairs += [_lack(alignment, place, source, "follower") for place in mine for source in _sources(alignment, place)]
    pairs += [
        _lack(alignment, place, source, "reference")
        for place in theirs
        for source in _sources(alignment, place, follower=True)
    ]
    return sorted(pairs, key=lambda s: (s.way, -s.score))


def _nearest(places: Sequence[Place]) -> list[Place]:
    return sorted(places, key=lambda place: place.depth)[:MOST_PLACES]


def _held(place: Place, partners: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The follower's parameters that those of a place of the reference are."""
    return frozenset(theirs for path in place.parameters for theirs in partners.get(path, ()))


def _whole(place: Place, other: Place, partners: Mapping[str, frozenset[str]]) -> bool:
    """Whether two places are one layer, which one side does in a call or two and the other in many."""
    few, many = sorted((place.steps, other.steps))
    return few <= FEW < many and bool(other.parameters) and other.parameters <= _held(place, partners)


def _sizes_fit(alignment: Alignment, key: Key, other: Key) -> bool:
    return alignment.reference.values[key].numbers.size == alignment.follower.values[other].numbers.size


def _sources(alignment: Alignment, place: Place, *, follower: bool = False) -> list[Place]:
    """Places of the other side that have what a first operation was made on, in the size of what it gives."""
    if place.depth > 1:
        return []
    shared, graph, own = alignment.there, alignment.follower, alignment.reference
    if follower:
        shared, graph, own = alignment.back, alignment.reference, alignment.follower
    found: list[Place] = []
    for key in place.base:
        for other in shared[key]:
            if own.values[key].numbers.size == own.values[place.key].numbers.size and other in graph.makers:
                call = graph.makers[other][0]
                name = next(n for n, k in graph.outputs[call.index].items() if k == other)
                found.append(Place(call, name, other, frozenset((other,)), 0))
    return found


def _lack(alignment: Alignment, place: Place, source: Place, side: Literal["reference", "follower"]) -> Suspect:
    score = 1.0 - 2.0 * bool(place.parameters)
    return Suspect(place, source, score, side) if side == "follower" else Suspect(source, place, score, side)


def _score(alignment: Alignment, place: Place, other: Place, partners: Mapping[str, frozenset[str]]) -> float:
    """What speaks for two places being one: their parameters, what they are made from, what they are, what they give.

    The weights rank evidence, they decide nothing: a pair is tried by putting the one's value in the other's place.
    """
    score = 0.0
    held = _held(place, partners)
    if held or other.parameters:
        score += 6.0 if held == other.parameters else 3.0 if held & other.parameters else -4.0
    reached = {k for key in place.base for k in alignment.there[key]}
    if place.base and all(any(k in other.base for k in alignment.there[key]) for key in place.base):
        score += 2.0 + (1.0 if other.base <= reached else 0.0)
    elif place.base and not reached & other.base:
        score -= 4.0
    score += 2.0 * (family_of(place.call.kind) == family_of(other.call.kind))
    apart = distance(alignment.reference.values[place.key], alignment.follower.values[other.key])
    score += 2.0 * (1.0 - min(1.0, apart)) if apart is not None else 0.0
    return score - 0.1 * (place.steps + other.steps)
