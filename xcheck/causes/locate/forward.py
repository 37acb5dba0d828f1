"""Where two sides first part: both are run again from one state, call by call, and what they compute is aligned.

Whether two calls are the same computation come out differently is decided by trying: the reference's value is put in
the place of the follower's, and if what comes after agrees again, they are. The error at such a place is local, since
what went in agrees; and the search goes on behind it for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...numerics.align import Alignment, Place, Suspect, distance, suspects
from ...numerics.align.families import family_of
from ...numerics.align.graph import Graph, Key, Value
from ...numerics.align.orders import Order
from ...numerics.judge import Frame, Item, compare_items
from ...numerics.tolerance import Noise, epsilon
from ...records.calls import Call, Calls
from ...records.islands import made_in_float32
from ...records.result import Check
from ...records.sides import SideName
from ...records.trace import Array, Arrays
from ..forward.masks import masks_in
from ..forward.one_computation import Local, Seen
from .axes import order_of
from .replay import Name, Scene, named
from .seen import seen_at, shown

TRIES = 10
"""Suspects whose value is put in the other's place before the search gives up."""

MORE_TRIES = 5
"""Further suspects that are tried because their values are nearly the same."""

ALIKE = 0.01
"""Distance of the sorted numbers of two values, relative to their size, that no other computation would come to."""

NEAR = 0.05
"""Distance of the sorted numbers of two values that differ in a setting, such as the epsilon of a norm."""

MUCH_FURTHER = 10.0
"""Times as far from the reference's outputs as without a change: what it undoes was made good elsewhere."""

MOST_FOUND, FEW_CALLS, MANY_FOUND = 3, 2000, 24
"""Independent places that are reported, and how many more of a model with few calls, which is soon run again."""


@dataclass(frozen=True)
class Parting:
    """A place where the sides part though what goes in agrees.

    Attributes:
        suspect: the value of each side, and the calls that made it.
        torch, keras: the calls as a reader should know them: the module where all of it is one, else the function.
        order: from the reference's axes to the follower's.
        check: the local comparison.
        alignment: of the run in which it was found.
        proven: with the reference's value in its place, what comes after agrees.
    """

    suspect: Suspect
    torch: Call
    keras: Call
    order: Order
    check: Check
    alignment: Alignment
    proven: bool


def partings(scene: Scene, explains: Callable[[Local], bool] = lambda _: False) -> list[Parting]:
    """The places in a forward pass where the sides part, the first first.

    Args:
        scene: both sides.
        explains: whether a cause is confirmed for what both sides did. Where two neighbours differ, no value in the
            place of another makes what comes next agree, and it is the only way to tell the first of them.
    """
    found: list[Parting] = []
    swaps: dict[Name, Arrays] = {}
    alignment = scene.aligned(swaps)
    most = min(max(MOST_FOUND, FEW_CALLS // max(len(scene.graph.calls), 1)), MANY_FOUND)
    while len(found) < most:
        best = best_of(scene, alignment, swaps)
        best = _explained(scene, alignment, swaps, best, explains) or best
        if best is None:
            break
        settled = not any(ends_of(best.after))
        proven = best.gain > 0 or settled or best.near or best.explained
        # What is left behind the others may be what float32 numbers do, or an operation that is done elsewhere.
        if found and (not proven or _left(best.after) > MUCH_FURTHER * _left(alignment)):
            break
        found.append(parting_of(scene, alignment, best.suspect, best.order, proven))
        if settled or not proven:
            break
        alignment, swaps = best.after, best.swaps
    return found


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


def _explained(
    scene: Scene,
    alignment: Alignment,
    swaps: dict[Name, Arrays],
    best: Tried | None,
    explains: Callable[[Local], bool],
) -> Tried | None:
    """Two layers of one kind on the way to what no cause explains, for which one is confirmed; None where none are."""
    if best is not None and best.suspect.lacking:
        return best
    if best is not None and explains(local_of(scene, parting_of(scene, alignment, best.suspect, best.order, True))):
        return replace(best, explained=True)
    ranked = once_each(alignment, suspects_of(scene, alignment))
    if best is not None:
        mine, theirs = best.suspect.reference.behind, best.suspect.follower.behind
        ranked = [s for s in ranked if s.reference.key in mine and s.follower.key in theirs] if best.proven else ranked
    both = [s for s in ranked if not s.lacking]
    for suspect in sorted(both, key=lambda s: -_of_layers(alignment, s))[:TRIES]:
        order = order_of(alignment, suspect)
        parting = None if order is None else parting_of(scene, alignment, suspect, order, False)
        calls = (parting.torch, parting.keras) if parting is not None else ()
        layers = not any(c.function for c in calls) and len({family_of(c.kind) for c in calls}) == 1
        if parting is not None and (layers or suspect.alike) and explains(local_of(scene, parting)):
            tried = tried_at(scene, alignment, swaps, suspect)
            return None if tried is None else replace(tried, explained=True)
    return None


def _of_layers(alignment: Alignment, suspect: Suspect) -> int:
    """How many of both values come out of a layer, and not of something inside of one."""
    makers = alignment.reference.makers[suspect.reference.key], alignment.follower.makers[suspect.follower.key]
    return sum(any(not call.function and call.parent is not None for call in calls) for calls in makers)


def _within(
    scene: Scene, alignment: Alignment, swaps: dict[Name, Arrays], found: Tried, ranked: Sequence[Suspect]
) -> Tried:
    """The same, or an earlier one among the calls that it was made from."""
    mine, theirs = found.suspect.reference.behind, found.suspect.follower.behind
    inside = [s for s in ranked if s.reference.key in mine and s.follower.key in theirs]
    for suspect in inside[:TRIES]:
        tried = tried_at(scene, alignment, swaps, suspect)
        if tried is not None and tried.proven:
            return _within(scene, alignment, swaps, tried, inside)
    return found


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


def _left(alignment: Alignment) -> float:
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


def parting_of(scene: Scene, alignment: Alignment, suspect: Suspect, order: Order, proven: bool) -> Parting:
    """A suspect as a place where the sides part."""
    mine, theirs = suspect.reference, suspect.follower
    value, other = mine.call.outputs[mine.output], theirs.call.outputs[theirs.output]
    twins = tuple(_same_output(twin, mine) for twin in scene.twins)
    calls = {
        scene.plan.reference: shown(alignment.reference, mine),
        scene.plan.follower: shown(alignment.follower, theirs),
    }
    frame = Frame("forward", "float64", scene.step.number, scene.plan.reference, *scene.sums)
    item = Item(
        f"output of {mine.call.name}",
        calls["torch"].name,
        calls["keras"].name,
        value,
        order.inverse().apply(other),
        twins,
    )
    check = compare_items(frame, [item], floor=0.0)[0]
    return Parting(suspect, calls["torch"], calls["keras"], order, check, alignment, proven)


def parting_at(scene: Scene, alignment: Alignment, reference: Place, follower: Place) -> Parting | None:
    """The difference of two places, told without trying them; None where there is no order between them."""
    suspect = Suspect(reference, follower, 0.0)
    order = order_of(alignment, suspect)
    return None if order is None else parting_of(scene, alignment, suspect, order, False)


def _same_output(twin: Calls, place: Place) -> Array | None:
    call = next((c for c in twin if named(c) == named(place.call)), None)
    return None if call is None else call.outputs.get(place.output)


def local_of(scene: Scene, parting: Parting) -> Local:
    """What both sides did at a place where they part."""
    alignment, suspect, plan = parting.alignment, parting.suspect, scene.plan
    halves: tuple[tuple[SideName, Graph, Mapping[Key, frozenset[Key]], Place, bool], ...] = (
        (plan.reference, alignment.reference, alignment.there, suspect.reference, suspect.lacking == "reference"),
        (plan.follower, alignment.follower, alignment.back, suspect.follower, suspect.lacking == "follower"),
    )
    masks = masks_in((*alignment.reference.calls, *alignment.follower.calls), scene.mask)
    seen = {
        side: replace(seen_at(side, graph, shared, place, scene.weights[side], idle), masks=masks)
        for side, graph, shared, place, idle in halves
    }
    order = parting.order if plan.reference == "torch" else parting.order.inverse()
    error = math.inf if parting.check.error is None else parting.check.error
    allowed = alignment.allowed(suspect.reference.key)
    if any(map(_in_float32, seen.values())):
        allowed = max(allowed, Noise(scene.sums[0]).allowed(epsilon("float32")))
    return Local(seen["torch"], seen["keras"], order, allowed, error, scene.partners("torch"), parting.proven)


def _in_float32(side: Seen) -> bool:
    """Whether a kernel of float32 made a value of numbers that have more digits; what only moves them keeps them."""
    return made_in_float32(side.value) and not any(map(made_in_float32, side.given.values()))
