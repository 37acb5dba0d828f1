"""Trying what is one computation of both sides: the reference's value is put in the place of the follower's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...numerics.align import Alignment, Place, Suspect, distance, suspects
from ...numerics.align.families import family_of
from ...numerics.align.graph import Graph, Key, Value
from ...numerics.align.orders import Order
from ...records.trace import Arrays
from .axes import order_of
from .replay import Name, Scene, named

TRIES = 10
"""Suspects whose value is put in the other's place before the search gives up."""

NEIGHBOURS = 30
"""Pairs of calls whose values are exchanged at once."""

MORE_TRIES = 5
"""Further suspects that are tried because their values are nearly the same."""

ALIKE = 0.01
"""Distance of the sorted numbers of two values, relative to their size, that no other computation would come to."""

NEAR = 0.05
"""Distance of the sorted numbers of two values that differ in a setting, such as the epsilon of a norm."""

MUCH_FURTHER = 10.0
"""Times as far from the reference's outputs as without a change: what it undoes was made good elsewhere."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A suspect with the reference's value in its place.

    Attributes:
        before, after: the alignment without it, and with it.
        gain: values of the reference that the follower has besides, not counting what was put there.
        proven: what is made of it next is among them.
        near: what is made of it next is nearly the same then, and was not before; it has a difference of its own.
        explained: a cause is confirmed for it.
    """

    suspect: Suspect
    order: Order
    swaps: dict[Name, Arrays]
    before: Alignment
    after: Alignment
    gain: int
    proven: bool
    near: bool
    explained: bool = False

    @property
    def rank(self) -> tuple[int, bool, bool, float, bool]:
        """Of several that prove nothing the one that leads furthest, and then layers of one kind."""
        kinds = [
            {family_of(call.kind) for call in graph.makers[place.key] if not call.function and call.parent is not None}
            for graph, place in (
                (self.after.reference, self.suspect.reference),
                (self.before.follower, self.suspect.follower),
            )
        ]
        likely = self.suspect.score if self.near else 0.0  # a norm of what is normalised is nearly the same, too
        alike = bool(kinds[0] & kinds[1]) and not self.suspect.lacking
        return self.gain, not any(ends_of(self.after)), self.near, likely, alike


def best_of(scene: Scene, alignment: Alignment, swaps: dict[Name, Arrays], tries: int = TRIES) -> Tried | None:
    """The first suspect behind which what is made next agrees; if there is none, the one behind which most does."""
    ranked = once_each(alignment, suspects_of(scene, alignment))
    best: Tried | None = None
    for suspect in (*ranked[:tries], *_alike(alignment, ranked[tries:])):
        tried = tried_at(scene, alignment, swaps, suspect)
        if tried is not None and (best is None or tried.rank > best.rank):
            best = tried
        if tried is not None and tried.proven:
            return _within(scene, alignment, swaps, tried, ranked)
    return best


def _alike(alignment: Alignment, ranked: Sequence[Suspect]) -> list[Suspect]:
    """The suspects whose values are nearly the same, such as those of two variants of a function."""
    mine, theirs = alignment.reference.values, alignment.follower.values
    apart = [(s, _same_size(mine[s.reference.key], theirs[s.follower.key])) for s in ranked]
    return [suspect for suspect, gap in apart if gap is not None and gap <= ALIKE and not suspect.lacking][:MORE_TRIES]


def _within(
    scene: Scene, alignment: Alignment, swaps: dict[Name, Arrays], found: Tried, ranked: Sequence[Suspect]
) -> Tried:
    """The same, or an earlier one among the calls that it was made from."""
    mine, theirs = found.suspect.reference.behind, found.suspect.follower.behind
    inside = [s for s in ranked if s.reference.key in mine and s.follower.key in theirs]
    # One operation more on one side: the other has nothing there but what it is made of.
    inside += [s for s in ranked if _one_more(found.suspect, s)]
    for suspect in inside[:TRIES]:
        tried = tried_at(scene, alignment, swaps, suspect)
        if tried is not None and tried.proven:
            return _within(scene, alignment, swaps, tried, inside)
    return found


def _one_more(suspect: Suspect, inner: Suspect) -> bool:
    """Whether it is an operation of one side alone on the way to what differs."""
    mine, theirs = suspect.reference, suspect.follower
    if suspect.lacking:
        return False
    if inner.lacking == "reference":
        return inner.reference.key in mine.base and inner.follower.key in theirs.behind
    return inner.lacking == "follower" and inner.reference.key in mine.behind and inner.follower.key in theirs.base


def tried_at(scene: Scene, alignment: Alignment, swaps: dict[Name, Arrays], suspect: Suspect) -> Tried | None:
    """A suspect with the reference's value in its place; None where there is no order between its values."""
    order = order_of(alignment, suspect)
    if order is None:
        return None
    value, place = suspect.reference.call.outputs[suspect.reference.output], suspect.follower
    tried = swaps | {named(place.call): {place.output: order.apply(value)}}
    after = scene.aligned(tried)
    won = after.agreeing() - alignment.agreeing()
    gain = len(won) - (suspect.lacking != "reference")
    proven = gain > 0 and _next_agrees(alignment.reference, suspect.reference, won)
    near = not suspect.lacking and _next_is_near(suspect.reference, alignment, after)
    return Tried(suspect, order, tried, alignment, after, gain, proven, near)


def _next_agrees(graph: Graph, place: Place, won: set[Key]) -> bool:
    """Whether something that is made of a value directly agrees now and did not before."""
    return any(key in won for call in graph.users.get(place.key, ()) for key in graph.outputs[call.index].values())


def _next_is_near(place: Place, before: Alignment, after: Alignment) -> bool:
    """Whether something that is made of a value directly is nearly the same now, and was far from it before."""
    graph = before.reference
    made = {key for call in graph.users.get(place.key, ()) for key in graph.outputs[call.index].values()}
    gaps = [(_nearest(graph.values[key], before), _nearest(graph.values[key], after)) for key in made - {place.key}]
    return any(now <= NEAR and now * MUCH_FURTHER <= then for then, now in gaps)


def _nearest(value: Value, alignment: Alignment) -> float:
    """How far a value is from the follower's that is nearest."""
    gaps = (_same_size(value, other) for other in alignment.follower.values.values() if not other.still)
    return math.inf if value.still else min((gap for gap in gaps if gap is not None), default=math.inf)


def ends_of(alignment: Alignment) -> tuple[list[Key], list[Key]]:
    """The outputs of the model that the other side does not have, on each side."""
    ends: list[list[Key]] = []
    for graph, shared in ((alignment.reference, alignment.there), (alignment.follower, alignment.back)):
        model = graph.model()
        keys = [] if model is None else list(graph.outputs[model.index].values())
        ends.append([key for key in dict.fromkeys(keys) if key not in shared])
    return ends[0], ends[1]


def left_over(alignment: Alignment) -> float:
    """How far the outputs of the reference that the follower does not have are from any of its own."""
    mine, theirs = ends_of(alignment)
    numbers = alignment.reference.values, alignment.follower.values
    gaps = [
        min(
            (gap for other in theirs if (gap := _same_size(numbers[0][key], numbers[1][other])) is not None),
            default=0.0,
        )
        for key in mine
    ]
    return max(gaps, default=0.0)


def _same_size(value: Value, other: Value) -> float | None:
    return distance(value, other) if value.numbers.size == other.numbers.size else None


def suspects_of(scene: Scene, alignment: Alignment) -> list[Suspect]:
    """Pairs of values that may be the same computation come out differently, those made of the fewest calls first."""
    return suspects(alignment, *ends_of(alignment), scene.partners(scene.plan.reference))


def once_each(alignment: Alignment, ranked: Sequence[Suspect]) -> list[Suspect]:
    """The best of each pair of values, at the innermost calls: which call it is swapped at makes no difference."""
    first: dict[tuple[Key, Key], Suspect] = {}
    for suspect in ranked:
        first.setdefault((suspect.reference.key, suspect.follower.key), suspect)
    found: list[Suspect] = []
    for suspect in first.values():
        mine, theirs = (
            _innermost(alignment.reference, suspect.reference),
            _innermost(alignment.follower, suspect.follower),
        )
        sizes = mine.call.outputs[mine.output].size, theirs.call.outputs[theirs.output].size
        if sizes[0] != sizes[1]:  # one is packed: only the positions that count are in it
            mine = _padded(alignment.reference, mine, sizes[1])
            theirs = _padded(alignment.follower, theirs, sizes[0])
        found.append(replace(suspect, reference=mine, follower=theirs))
    return found


def _innermost(graph: Graph, place: Place) -> Place:
    call = graph.makers[place.key][0]
    return replace(place, call=call, output=next(n for n, k in graph.outputs[call.index].items() if k == place.key))


def _padded(graph: Graph, place: Place, size: int) -> Place:
    """A value as it is used last in some size; as it was where there is no such use."""
    calls = (c for c in reversed(graph.calls) if c.parent is not None)
    outputs = ((c, n, k) for c in calls for n, k in graph.outputs[c.index].items() if c.outputs[n].size == size)
    return next((replace(place, call=c, output=n) for c, n, k in outputs if k == place.key), place)


def neighbours(
    scene: Scene, alignment: Alignment, swaps: dict[Name, Arrays], best: Tried | None
) -> tuple[list[Tried], dict[Name, Arrays], Alignment] | None:
    """Earlier places that, with all their values exchanged at once, do what the best one does; None where none do.

    Such as the sums above and below in a quotient: with the one exchanged alone the quotient still differs. Without a
    best one, places with which nothing of the loss differs.
    """
    pairs, more = suspects_of(scene, alignment), list[Suspect]()
    if best is not None:
        more = [s for s in once_each(alignment, pairs) if _one_more(best.suspect, s)]
        mine, theirs = best.suspect.reference.behind, best.suspect.follower.behind
        pairs = [s for s in pairs if s.reference.key in mine and s.follower.key in theirs]
    taken: list[Tried] = []
    twins = [s for s in once_each(alignment, pairs) if _twins(alignment, s)]
    for suspect in (twins or more)[:NEIGHBOURS]:
        used = {t.suspect.reference.key for t in taken}, {t.suspect.follower.key for t in taken}
        if suspect.reference.key in used[0] or suspect.follower.key in used[1]:
            continue
        tried = tried_at(scene, alignment, swaps, suspect)
        if tried is not None:
            taken.append(tried)
    if not taken:
        return None
    together = dict(swaps)
    for tried in taken:
        together |= tried.swaps
    after = scene.aligned(together)
    reached = not any(ends_of(after)) if best is None else best.suspect.reference.key in after.there
    return (taken, together, after) if reached else None


def _twins(alignment: Alignment, suspect: Suspect) -> bool:
    """Whether both are one call of the same kind of function, and of one value at least that both have."""
    mine, theirs = suspect.reference, suspect.follower
    single = mine.behind <= alignment.reference.constant and theirs.behind <= alignment.follower.constant
    if suspect.lacking or family_of(mine.call.kind) != family_of(theirs.call.kind) or not single:
        return False
    return bool({k for key in mine.base for k in alignment.there[key]} & theirs.base)
