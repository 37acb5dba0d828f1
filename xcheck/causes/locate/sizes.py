"""Tensors on the way to a difference that are not even of one size: which call makes the axis that is longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ...numerics.align import Place
from ...numerics.align.graph import Graph, Key
from ...numerics.align.places import unshared_places
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import Cause
from ...records.sides import SideName
from .forward import Parting
from .replay import Scene


@isolated(nothing)
def other_size(scene: Scene, at: Parting) -> Cause | None:
    """The first tensors that differ in the length of one axis, behind a place where both sides part.

    Nothing is computed again, so that this stays unconfirmed.

    Args:
        scene: both sides.
        at: the place.
    """
    alignment = at.alignment
    mine, theirs = at.suspect.reference, at.suspect.follower
    first = list(_behind(alignment.reference, alignment.follower.without_unused(alignment.there), mine))
    second = list(_behind(alignment.follower, alignment.reference.without_unused(alignment.back), theirs))
    pairs = [(a, b, lengths) for a in first for b in second if (lengths := _lengths(a, b)) is not None]
    sizes = {_shape(place) for place in second}
    if not pairs or any(_shape(place) in sizes for place in first):  # some are of one size
        return None
    a, b, lengths = min(pairs, key=lambda pair: pair[0].depth + pair[1].depth)
    calls = _maker(alignment.reference, a, lengths[0]), _maker(alignment.follower, b, lengths[1])
    sides: tuple[SideName, SideName] = (scene.plan.reference, scene.plan.follower)
    told = {side: f"{next(iter(call.outputs.values())).shape}" for side, call in zip(sides, calls, strict=True)}
    names = {side: call.name for side, call in zip(sides, calls, strict=True)}
    axis = dict(zip(sides, lengths, strict=True))
    return Cause(
        id="other_size",
        phase="forward",
        torch=names["torch"],
        keras=names["keras"],
        summary=f"what is made of the same input is not of one size: {names['torch']} gives {told['torch']} in torch, "
        f"{names['keras']} gives {told['keras']} in keras; an axis has {axis['torch']} entries in torch and "
        f"{axis['keras']} in keras",
        evidence={"torch": axis["torch"], "keras": axis["keras"]},
        confirmed=False,
        fix="compare what decides the number: padding, the length of a frame and the stride, rounding up or down",
    )


def _behind(graph: Graph, shared: Mapping[Key, frozenset[Key]], place: Place) -> Iterator[Place]:
    """The places on the way to one, without itself."""
    places = (p for p in unshared_places(graph, shared, [place.key]) if p.key != place.key)
    return (p for p in places if (array := p.call.outputs[p.output]).ndim > 2 and array.dtype.kind in "fc")


def _shape(place: Place) -> tuple[int, ...]:
    return tuple(sorted(place.call.outputs[place.output].shape))


def _lengths(a: Place, b: Place) -> tuple[int, int] | None:
    """The one length of each side that the other does not have."""
    mine, theirs = Counter(_shape(a)), Counter(_shape(b))
    left, right = list((mine - theirs).elements()), list((theirs - mine).elements())
    same_batch = a.call.outputs[a.output].shape[0] == b.call.outputs[b.output].shape[0]
    return (left[0], right[0]) if same_batch and len(left) == len(right) == 1 else None


def _maker(graph: Graph, place: Place, length: int) -> Call:
    """The first call on the way to a place that gives an axis of a length, shown as the layer that it is made in."""
    call, key = place.call, place.key
    while True:
        makers = graph.makers[key]
        call = next((c for c in makers[::-1] if c.parent is not None and not c.function), makers[0])
        given = [(k, array) for n, array in call.inputs.items() if (k := graph.inputs[call.index][n]) != key]
        longer = next((k for k, array in given if length in array.shape[1:] and array.dtype.kind in "fc"), None)
        if longer is None:
            return call
        if longer not in graph.makers:  # a function that is not recorded, in the same layer
            return next((c for c in graph.ancestors(call) if c.parent is not None), call)
        key = longer
