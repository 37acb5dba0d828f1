"""Where two sides first part: both are run again from one state, call by call, and what they compute is aligned.

Whether two calls are the same computation come out differently is decided by trying: the reference's value is put in
the place of the follower's, and if what comes after agrees again, they are. The error at such a place is local, since
what went in agrees; and the search goes on behind it for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ...numerics.align import Alignment, Place, Suspect
from ...numerics.align.families import family_of
from ...numerics.align.graph import Graph, Key
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
from .tries import MUCH_FURTHER, TRIES, Tried, best_of, ends_of, left_over, neighbours, once_each, suspects_of, tried_at

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
        if found and (not proven or left_over(best.after) > MUCH_FURTHER * left_over(alignment)):
            break
        several = None if best.explained or best.suspect.lacking else neighbours(scene, alignment, swaps, best)
        if several is not None:
            earlier = [parting_of(scene, alignment, tried.suspect, tried.order, True) for tried in several[0]]
            if all(explains(local_of(scene, parting)) for parting in earlier):
                found += earlier
                _, swaps, alignment = several
                if not any(ends_of(alignment)):
                    break
                continue
        found.append(parting_of(scene, alignment, best.suspect, best.order, proven))
        if settled or not proven:
            break
        alignment, swaps = best.after, best.swaps
    return found


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


def made_of(first: Parting, second: Parting) -> bool:
    """Whether the value of the second place is made directly of that of the first, on one of the sides."""
    graphs = (first.alignment.reference, first.alignment.follower)
    places = (
        (first.suspect.reference, second.suspect.reference),
        (first.suspect.follower, second.suspect.follower),
    )
    return any(
        later.key in graph.outputs[call.index].values()
        for graph, (earlier, later) in zip(graphs, places, strict=True)
        for call in graph.users.get(earlier.key, ())
    )


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
