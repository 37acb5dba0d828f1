"""The calls of both sides, aligned by value and dataflow: which tensor is which, and where they first part.

Of each side there is a graph of values (`graph.py`). Where a value of one side is in no tensor of the other though
something that depends on it differs, the search goes back to the first such values: these are made from values that
both sides have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .calls import Call, Calls
from .compare import measure
from .families import family_of
from .graph import Graph, Key, Value
from .tolerance import Noise, epsilon
from .trace import Array


@dataclass(frozen=True)
class Alignment:
    """Both graphs, and which values they share.

    Attributes:
        reference, follower: the sides' graphs.
        there: key of the reference -> keys of the follower with the same numbers.
        back: the other way.
        conditions: key of the reference -> response to one rounding error, relative to its scale.
        sums: n and m of the noise model.
    """

    reference: Graph
    follower: Graph
    there: Mapping[Key, frozenset[Key]]
    back: Mapping[Key, frozenset[Key]]
    conditions: Mapping[Key, float]
    sums: tuple[int, int]

    def allowed(self, key: Key) -> float:
        """How far rounding may move a value of the reference, relative to its scale."""
        terms, alike = self.sums
        return Noise(terms, 1.0, self.conditions.get(key, 0.0), alike).allowed(epsilon("float64"))

    def same(self, key: Key, other: Key) -> bool:
        """Whether a value of the reference and one of the follower are the same numbers."""
        return other in self.there.get(key, ())

    def agreeing(self) -> set[Key]:
        """Values of the reference, made by it from its inputs, that the follower has too."""
        graph = self.reference
        return {k for k in self.there if k in graph.makers and k not in graph.constant and not graph.values[k].still}


def align(
    reference: Graph, follower: Graph, conditions: Mapping[Key, float], sums: tuple[int, int] = (1, 1)
) -> Alignment:
    """Find which values the two sides share.

    Args:
        reference, follower: the graphs of the sides, from one state and one batch.
        conditions: of the reference's values; see `conditions_of`.
        sums: n and m of the noise model.
    """
    bare = Alignment(reference, follower, {}, {}, conditions, sums)
    there: dict[Key, frozenset[Key]] = {}
    back: dict[Key, set[Key]] = {}
    sizes: dict[int, list[Value]] = {}
    for value in follower.values.values():
        sizes.setdefault(value.numbers.size, []).append(value)
    ordered = {size: sorted(values, key=lambda v: v.scale) for size, values in sizes.items()}
    scales = {size: np.array([v.scale for v in values]) for size, values in ordered.items()}
    for key, value in reference.values.items():
        size, allowed = value.numbers.size, bare.allowed(key)
        if size not in ordered:
            continue
        reach = value.scale * min(2.0 * allowed, 1.0) if allowed < 0.5 else math.inf
        first, last = np.searchsorted(scales[size], [value.scale - reach, value.scale + reach])
        close = [v.key for v in ordered[size][first : last + 1] if _agree(value, v, allowed)]
        if close:
            there[key] = frozenset(close)
            for other in close:
                back.setdefault(other, set()).add(key)
    reference.know_constants(k for k, others in there.items() if others <= follower.constant)
    follower.know_constants(k for k, others in back.items() if others <= reference.constant)
    return Alignment(reference, follower, there, {k: frozenset(v) for k, v in back.items()}, conditions, sums)


def _agree(value: Value, other: Value, allowed: float) -> bool:
    if value.key == other.key:
        return True
    if value.exact and other.exact:
        return False
    apart = distance(value, other)
    return apart is not None and apart <= allowed


def distance(value: Value, other: Value) -> float | None:
    """The largest difference of two values' numbers, relative to the first's scale; None where they have no ruler."""
    finite = np.isfinite(value.numbers)
    same = np.array_equal(finite, np.isfinite(other.numbers)) and np.array_equal(
        value.numbers[~finite], other.numbers[~finite], equal_nan=True
    )
    if not same or not finite.any():
        return None
    gap = float(np.abs(value.numbers[finite] - other.numbers[finite]).max())
    return 0.0 if gap == 0.0 else gap / value.scale if value.scale else math.inf


def conditions_of(graph: Graph, twins: Sequence[Calls]) -> dict[Key, float]:
    """How far a rounding error at the start moves each value of the reference, relative to its scale.

    Args:
        graph: of the reference.
        twins: its calls from perturbed starts.
    """
    found: dict[Key, float] = {}
    for twin in twins:
        by_call = {(c.path, c.kind, c.number, c.function): c for c in twin}
        for call in graph.calls:
            other = by_call.get((call.path, call.kind, call.number, call.function))
            for name, key in graph.outputs[call.index].items():
                array, moved = call.outputs[name], None if other is None else other.outputs.get(name)
                if moved is None or moved.shape != array.shape or array.dtype.kind != "f" or not array.size:
                    continue
                if np.isfinite(array).all() and np.isfinite(moved).all():
                    apart = measure(array, moved).element
                    found[key] = max(found.get(key, 0.0), apart)
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where one side has a value that the other does not, though what it depends on agrees.

    Attributes:
        call: that made it.
        output: its name among the outputs.
        key: of the value.
        base: keys that both sides have and that it was made from.
        depth: calls on the longest way from the base to this one, the outermost of those made from it counted as one.
        steps: the same with every innermost call counted.
        parameters: paths of those that took part on the way from the base.
        behind: keys on that way.
    """

    call: Call
    output: str
    key: Key
    base: frozenset[Key]
    depth: int
    steps: int = 1
    parameters: frozenset[str] = frozenset()
    behind: frozenset[Key] = frozenset()

    @property
    def way(self) -> float:
        """How far it is from what both sides have; a module of many calls is further than one of one."""
        return self.depth + 0.2 * (self.steps - self.depth)


def parting(graph: Graph, shared: Mapping[Key, frozenset[Key]], ends: Sequence[Key]) -> list[Place]:
    """The values behind some ends that the other side does not have, in the order in which they were made.

    Args:
        graph: of one side.
        shared: its keys that the other side has.
        ends: keys to start from, such as outputs that differ.
    """

    def open_(key: Key) -> bool:
        return key not in shared and key in graph.makers and not graph.values[key].still

    reached: set[Key] = set()
    waiting = [key for key in ends if open_(key)]
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += [need for need in graph.needs(graph.makers[key][0], key) if open_(need)]
    known: dict[Key, Place] = {}
    places: list[Place] = []
    for call in graph.calls:
        for name, key in graph.outputs[call.index].items():
            if key not in reached or call not in graph.makers[key] or call.parent is None:
                continue
            if key not in known:
                needs = graph.needs(call, key)
                below = [known[need] for need in needs if need in known]
                base = frozenset(need for need in needs if need in shared and need not in graph.constant)
                known[key] = Place(
                    call,
                    name,
                    key,
                    base.union(*(place.base for place in below)),
                    _depth(graph, key, shared, known),
                    1 + max((place.steps for place in below), default=0),
                    frozenset(call.parameters).union(*(place.parameters for place in below)),
                    frozenset(place.key for place in below).union(*(place.behind for place in below)),
                )
            places.append(replace(known[key], call=call, output=name))
    return places


@dataclass(frozen=True, slots=True)
class Region:
    """What lies between what both sides have and a place.

    Attributes:
        both: tensors that both sides have, as they are used, by the name of the call that they came out of.
        constants: likewise what depends on no input of the model.
        calls: the innermost calls, the last first.
        made_of: name of a constant -> paths of the parameters that it was made of.
    """

    both: Mapping[str, Array]
    constants: Mapping[str, Array]
    calls: Calls
    made_of: Mapping[str, tuple[str, ...]]


def region(graph: Graph, shared: Mapping[Key, frozenset[Key]], place: Place, within: Call) -> Region:
    """What a place was made from.

    Args:
        graph: of one side.
        shared: its keys that the other side has.
        place: of the side.
        within: a call around it, whose inputs have the shapes to show.
    """
    outer = {key: within.inputs[name] for name, key in graph.inputs[within.index].items()}
    both: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    calls: list[Call] = []
    waiting, seen = [place.key], {place.key}
    while waiting:
        key = waiting.pop(0)
        call = graph.makers[key][0]
        calls.append(call)
        given = [(k, call.inputs[name]) for name, k in graph.inputs[call.index].items()]
        given += graph.left_over(call, key)
        for need, array in given:
            if need in seen:
                continue
            seen.add(need)
            array = outer.get(need, array)
            made = graph.makers.get(need)
            name = made[0].name if made else "(the inputs)"
            if need in graph.constant or (not made and need not in shared):
                name = _free(name, constants)
                constants[name] = array
                made_of[name] = tuple(graph.parameters_of(need))
            elif need in shared or not made:
                both[_free(name, both)] = array
            else:
                waiting.append(need)
    return Region(both, constants, tuple(calls), made_of)


def _free(name: str, taken: Mapping[str, Array]) -> str:
    return name if name not in taken else f"{name} [{len(taken)}]"


def _depth(graph: Graph, key: Key, shared: Mapping[Key, frozenset[Key]], known: Mapping[Key, Place]) -> int:
    """Over the calls that a value comes out of, the fewest on the way from what both sides have."""
    depths: list[int] = []
    for call in graph.makers[key]:
        if call.parent is None:  # everything comes out of the model itself
            continue
        inner = graph.needs(call, key) if call.function else list(graph.inputs[call.index].values())
        depths.append(1 + max((known[need].depth for need in inner if need in known), default=0))
    return min(depths, default=1)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place of each side that may be the same computation, come out differently.

    Attributes:
        reference, follower: the places. Where one side has an operation that the other lacks, the other's place is
            where the value comes from that the operation was made on.
        score: how much speaks for it; higher is better.
        lacking: the side, reference or follower, that does nothing here.
        whole: the parameters of both are the same and one is a call or two, such as a recurrent layer and what is
            taken of it, that the other side makes of many.
    """

    reference: Place
    follower: Place
    score: float
    lacking: Literal["", "reference", "follower"] = ""
    whole: bool = False

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
        Suspect(place, other, _score(alignment, place, other, partners), whole=_whole(place, other, partners))
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
