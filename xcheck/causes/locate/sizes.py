"""Tensors on the way to a difference that are not even of one size: which call makes the axes that are longer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ...numerics.align import Alignment, Place
from ...numerics.align.graph import Graph, Key
from ...numerics.align.orders import Order, closest
from ...numerics.align.places import unshared_places
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName
from ..forward.convolution import CONVOLUTION, TRANSPOSED
from ..forward.forms import search
from ..forward.one_computation import Local
from ..forward.pooling import POOLING
from .forward import Parting
from .replay import Scene
from .seen import seen_at

TRIES = 12
"""Pairs of tensors for which it is tried whether a setting of one layer explains both sizes."""


@isolated(list[Cause])
def other_sizes(scene: Scene, at: Parting) -> list[Cause]:
    """The first tensors that differ in the length of some axes, behind a place where both sides part.

    Where a setting of a convolution or a pool gives the other side's tensor, that is the cause; else nothing is
    computed again, and what is said of the sizes stays unconfirmed.

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
        return []
    pairs.sort(key=lambda pair: (len(pair[2][0]), pair[0].depth + pair[1].depth))
    known = [found for a, b, _ in pairs[:TRIES] if (found := _of_a_layer(scene, alignment, a, b))]
    if known:  # of a layer that one side computes in several calls, a part lacks what comes later, such as the bias
        return min(known, key=len)
    a, b, lengths = pairs[0]
    calls = _maker(alignment.reference, a, lengths[0]), _maker(alignment.follower, b, lengths[1])
    counts = [" and ".join(map(str, several)) for several in lengths]
    sides: tuple[SideName, SideName] = (scene.plan.reference, scene.plan.follower)
    told = {side: f"{next(iter(call.outputs.values())).shape}" for side, call in zip(sides, calls, strict=True)}
    names = {side: call.name for side, call in zip(sides, calls, strict=True)}
    axis = dict(zip(sides, counts, strict=True))
    what = "an axis has" if len(lengths[0]) == 1 else "axes have"
    return [
        Cause(
            id="other_size",
            phase="forward",
            torch=names["torch"],
            keras=names["keras"],
            summary=f"the same input gives outputs of different sizes: {names['torch']} gives {told['torch']} in "
            f"torch, {names['keras']} gives {told['keras']} in keras; {what} {axis['torch']} entries in torch and "
            f"{axis['keras']} in keras",
            evidence={"torch": axis["torch"], "keras": axis["keras"]},
            confirmed=False,
            fix="compare the settings that determine the size: padding, frame length, stride, rounding up or down",
        )
    ]


def _of_a_layer(scene: Scene, alignment: Alignment, a: Place, b: Place) -> list[Cause]:
    """The settings of one layer that give two tensors of unlike sizes from the same input; none if they do not."""
    halves: tuple[tuple[SideName, Graph, Mapping[Key, frozenset[Key]], Place], ...] = (
        (scene.plan.reference, alignment.reference, alignment.there, a),
        (scene.plan.follower, alignment.follower, alignment.back, b),
    )
    seen = {
        side: seen_at(side, graph, shared, place, scene.weights[side], idle=False)
        for side, graph, shared, place in halves
    }
    torch, keras = seen["torch"], seen["keras"]
    before = closest(torch.x, keras.x) if torch.x.size == keras.x.size else None
    if before is None or before.after or len(before.axes) != torch.value.ndim:
        return []
    moved = tuple(torch.value.shape[axis] for axis in before.axes)
    order = Order(torch.value.shape, moved, before.axes)
    local = Local(torch, keras, order, alignment.allowed(a.key), math.inf, scene.partners("torch"))
    every = (cause for form in (CONVOLUTION, TRANSPOSED, POOLING) for cause in search(form, local))
    return [cause for cause in every if cause.confirmed]


def _behind(graph: Graph, shared: Mapping[Key, frozenset[Key]], place: Place) -> Iterator[Place]:
    """The places on the way to one, without itself."""
    places = (p for p in unshared_places(graph, shared, [place.key]) if p.key != place.key)
    return (p for p in places if (array := p.call.outputs[p.output]).ndim > 2 and array.dtype.kind in "fc")


def _shape(place: Place) -> tuple[int, ...]:
    return tuple(sorted(place.call.outputs[place.output].shape))


def _lengths(a: Place, b: Place) -> tuple[list[int], list[int]] | None:
    """The lengths of each side that the other does not have; the examples and one axis more are shared."""
    mine, theirs = Counter(_shape(a)), Counter(_shape(b))
    left, right = list((mine - theirs).elements()), list((theirs - mine).elements())
    same_batch = a.call.outputs[a.output].shape[0] == b.call.outputs[b.output].shape[0]
    return (left, right) if same_batch and 0 < len(left) == len(right) < sum(mine.values()) - 1 else None


def _maker(graph: Graph, place: Place, lengths: Sequence[int]) -> Call:
    """The first call on the way to a place that gives axes of some lengths, shown as the layer that it is made in."""
    call, key = place.call, place.key
    while True:
        makers = graph.makers[key]
        call = next((c for c in makers[::-1] if c.parent is not None and not c.function), makers[0])
        given = [(k, array) for n, array in call.inputs.items() if (k := graph.inputs[call.index][n]) != key]
        longer = next((k for k, array in given if {*lengths} <= {*array.shape[1:]} and array.dtype.kind in "fc"), None)
        if longer is None:
            return call
        if longer not in graph.makers:  # a function that is not recorded, in the same layer
            return next((c for c in graph.ancestors(call) if c.parent is not None), call)
        key = longer
