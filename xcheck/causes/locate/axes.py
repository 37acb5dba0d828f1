"""How the axes of what one side has at a place lie in what the other has there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...numerics.align import Alignment, Place, Suspect
from ...numerics.align.graph import Graph, Key
from ...numerics.align.orders import ABOUT_AS_CLOSE, Order, as_close, closest
from ...numerics.compare import measure
from ...records.trace import Array


def order_of(alignment: Alignment, suspect: Suspect) -> Order | None:
    """From the reference's axes to the follower's: as they are before the place, or else as the values come closest."""
    value = suspect.reference.call.outputs[suspect.reference.output]
    other = suspect.follower.call.outputs[suspect.follower.output]
    if value.size == other.size == 1:
        return Order(value.shape, other.shape, tuple(range(value.ndim)))
    best = closest(value, other)
    if best is None:
        return None
    for before in _orders_before(alignment, suspect):
        if (before.source, before.target) == (value.shape, other.shape):
            return before
        if not before.after and len(before.axes) == value.ndim:
            usual = Order(value.shape, other.shape, before.axes)
            permuted = tuple(value.shape[a] for a in before.axes)
            if permuted == other.shape and _gap(usual, value, other) <= ABOUT_AS_CLOSE * _gap(best, value, other):
                return usual
    return closest(value, other, ABOUT_AS_CLOSE)


def _orders_before(alignment: Alignment, suspect: Suspect) -> Iterator[Order]:
    """How the axes of what a place was made from are permuted between the sides.

    Where that holds the same numbers and no permutation of its axes, as what is joined in another order does, those of
    what it was made from itself are taken, and so on back; its own, which are chance then, come last.
    """
    mine, theirs = suspect.reference, suspect.follower
    chance: list[Order] = []
    waiting = [(key, other) for key in sorted(mine.base) for other in _same(alignment, key, theirs.base)]
    seen = {*waiting}
    for key, other in waiting:  # which grows
        for array in _shapes(alignment.reference, mine, key):
            for there in _shapes(alignment.follower, theirs, other):
                order = closest(array, there)
                if order is None:
                    continue
                if measure(order.apply(array), there).element > alignment.allowed(key):
                    chance.append(order)
                    further = [pair for pair in _made_of(alignment, key, other) if pair not in seen]
                    waiting += further
                    seen |= {*further}
                    continue
                yield order
                yield from as_close(array, there) if 1 in array.shape else ()
    yield from chance


def _same(alignment: Alignment, key: Key, among: frozenset[Key]) -> list[Key]:
    return sorted(alignment.there.get(key, frozenset()) & among)


def _made_of(alignment: Alignment, key: Key, other: Key) -> list[tuple[Key, Key]]:
    """Pairs of the same numbers among what two values are made of directly."""
    needs: list[frozenset[Key]] = []
    for graph, made in ((alignment.reference, key), (alignment.follower, other)):
        makers = graph.makers.get(made, ())
        needs.append(frozenset(need for call in makers[:1] for need in graph.needs(call, made)))
    return [(need, there) for need in sorted(needs[0]) for there in _same(alignment, need, needs[1])]


def _shapes(graph: Graph, place: Place, key: Key) -> list[Array]:
    """A value in the shapes in which a place takes it, or it was made or is taken first."""
    takers = [place.call, *graph.users.get(key, ())[:1]]
    found = [call.inputs[n] for call in takers for n, k in graph.inputs[call.index].items() if k == key]
    found += [
        c.outputs[n] for c in graph.makers.get(key, ())[:1] for n, k in graph.outputs[c.index].items() if k == key
    ]
    return list({array.shape: array for array in found}.values())


def _gap(order: Order, value: Array, other: Array) -> float:
    return float(np.abs(order.apply(value).astype(np.float64) - other).sum())
