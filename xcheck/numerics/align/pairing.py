"""Pairs of places that may be the same computation with different results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .alignment import Alignment, distance
from .families import family_of
from .graph import Key
from .places import Place, unshared_places


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place of each side; both may be the same computation with different results.

    Attributes:
        reference, follower: the places. Where one side has an operation that the other lacks, the other's place is
            the source of the operation's input.
        score: strength of the evidence; higher is better.
        lacking: the side, reference or follower, without an operation here.
        whole: both have the same parameters, and one side uses one or two calls, such as a recurrent layer and a
            slice of its output, for what the other computes in many.
        alike: the parameters of both are the same, and there are some.
    """

    reference: Place
    follower: Place
    score: float
    lacking: Literal["", "reference", "follower"] = ""
    whole: bool = False
    alike: bool = False

    @property
    def distance(self) -> float:
        """Distance of the places from values that both sides have."""
        if self.whole:
            return self.reference.depth + self.follower.depth
        return self.reference.distance + self.follower.distance + 1.5 * bool(self.lacking)


OPAQUE_CALLS = 2
"""Largest number of calls of a layer without recorded inner calls: its own, and a slice or a sum of its output."""

MOST_PLACES = 200
"""Largest number of places per side that are paired, those with the fewest calls before them first."""


def suspects(
    alignment: Alignment, ends: Sequence[Key], other_ends: Sequence[Key], partners: Mapping[str, frozenset[str]]
) -> list[Suspect]:
    """Pairs of places where the sides may first differ, sorted by calls since the last agreement, then by likelihood.

    Args:
        alignment: of both sides.
        ends, other_ends: keys of the reference and of the follower that differ.
        partners: the reference's path of a parameter -> the follower's paths that are set from it.
    """
    there, back = alignment.follower.without_unused(alignment.there), alignment.reference.without_unused(alignment.back)
    places = _nearest(unshared_places(alignment.reference, there, ends))
    other_places = _nearest(unshared_places(alignment.follower, back, other_ends))
    pairs = [
        Suspect(
            place,
            other,
            _score(alignment, place, other, partners),
            whole=_is_opaque_layer(place, other, partners),
            alike=bool(other.parameters) and other.parameters == _counterparts(place, partners),
        )
        for place in places
        for other in other_places
        if _sizes_fit(alignment, place.key, other.key)
    ]
    pairs += [
        _one_sided(alignment, place, source, "follower") for place in places for source in _sources(alignment, place)
    ]
    pairs += [
        _one_sided(alignment, place, source, "reference")
        for place in other_places
        for source in _sources(alignment, place, follower=True)
    ]
    return sorted(pairs, key=lambda s: (s.distance, -s.score))


def _nearest(places: Sequence[Place]) -> list[Place]:
    return sorted(places, key=lambda place: place.depth)[:MOST_PLACES]


def _counterparts(place: Place, partners: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The follower's counterparts of the parameters of a place of the reference."""
    return frozenset(counterpart for path in place.parameters for counterpart in partners.get(path, ()))


def _is_opaque_layer(place: Place, other: Place, partners: Mapping[str, frozenset[str]]) -> bool:
    """Whether two places are one layer that one side computes in one or two calls and the other in many."""
    fewer, more = sorted((place.steps, other.steps))
    return (
        fewer <= OPAQUE_CALLS < more and bool(other.parameters) and other.parameters <= _counterparts(place, partners)
    )


def _sizes_fit(alignment: Alignment, key: Key, other: Key) -> bool:
    return alignment.reference.values[key].numbers.size == alignment.follower.values[other].numbers.size


def _sources(alignment: Alignment, place: Place, *, follower: bool = False) -> list[Place]:
    """Places of the other side with the input of a first operation, if it has the size of the output."""
    if place.depth > 1:
        return []
    shared, graph, graph_here = alignment.there, alignment.follower, alignment.reference
    if follower:
        shared, graph, graph_here = alignment.back, alignment.reference, alignment.follower
    sources: list[Place] = []
    for key in place.base:
        for other in shared[key]:
            if (
                graph_here.values[key].numbers.size == graph_here.values[place.key].numbers.size
                and other in graph.makers
            ):
                call = graph.makers[other][0]
                name = next(n for n, k in graph.outputs[call.index].items() if k == other)
                sources.append(Place(call, name, other, frozenset((other,)), 0))
    return sources


def _one_sided(alignment: Alignment, place: Place, source: Place, side: Literal["reference", "follower"]) -> Suspect:
    score = 1.0 - 2.0 * bool(place.parameters)
    return Suspect(place, source, score, side) if side == "follower" else Suspect(source, place, score, side)


def _score(alignment: Alignment, place: Place, other: Place, partners: Mapping[str, frozenset[str]]) -> float:
    """Evidence that two places match: their parameters, dependencies, kinds and values.

    The weights only rank the evidence: a pair is tested by putting one value in place of the other.
    """
    score = 0.0
    counterparts = _counterparts(place, partners)
    if counterparts or other.parameters:
        score += 6.0 if counterparts == other.parameters else 3.0 if counterparts & other.parameters else -4.0
    reached = {k for key in place.base for k in alignment.there[key]}
    if place.base and all(any(k in other.base for k in alignment.there[key]) for key in place.base):
        score += 2.0 + (1.0 if other.base <= reached else 0.0)
    elif place.base and not reached & other.base:
        score -= 4.0
    score += 2.0 * (family_of(place.call.kind) == family_of(other.call.kind))
    difference = distance(alignment.reference.values[place.key], alignment.follower.values[other.key])
    score += 2.0 * (1.0 - min(1.0, difference)) if difference is not None else 0.0
    return score - 0.1 * (place.steps + other.steps)
