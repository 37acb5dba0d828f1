"""The same numbers in another order: where both sides still have them in one order, and what loses it.

A tensor is known by its numbers whatever their order, so one that is flattened or joined in another order counts as the
same until something mixes it. From there, or from the outputs, the search goes back to what was still in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...numerics.align import Alignment, Place
from ...numerics.align.graph import Graph, Key
from ...numerics.align.orders import closest
from ...numerics.compare import measure
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array, Arrays
from ..prove import Trial, prove
from .forward import Parting, parting_at
from .replay import Scene, named


def before(scene: Scene, parting: Parting) -> Parting | None:
    """Where the order is lost of what goes into a place where the sides part; None where it is not.

    Args:
        scene: both sides.
        parting: whose inputs hold the same numbers.
    """
    alignment = parting.alignment
    mine, theirs = parting.suspect.reference.base, parting.suspect.follower.base
    for key, other in _shared(alignment, mine, theirs):
        lost = _lost(alignment, key, other)
        if lost is not None:
            places = [_place(*half) for half in zip(_halves(alignment), lost, strict=True)]
            return parting_at(scene, alignment, *places)
    return None


def _halves(alignment: Alignment) -> tuple[tuple[Graph, Mapping[Key, frozenset[Key]]], ...]:
    return (alignment.reference, alignment.there), (alignment.follower, alignment.back)


def _place(half: tuple[Graph, Mapping[Key, frozenset[Key]]], key: Key) -> Place:
    graph, shared = half
    call = graph.makers[key][0]
    output = next(name for name, k in graph.outputs[call.index].items() if k == key)
    return Place(call, output, key, _base(graph, shared, key), 1)


def _shared(alignment: Alignment, mine: frozenset[Key], theirs: frozenset[Key]) -> Iterator[tuple[Key, Key]]:
    """Pairs of keys with the same numbers."""
    for key in sorted(mine):
        for other in sorted(alignment.there.get(key, frozenset()) & theirs):
            yield key, other


def _lost(alignment: Alignment, key: Key, other: Key) -> tuple[Key, Key] | None:
    """The first values on the way to two with the same numbers that come out in another order."""
    graph, there = alignment.reference, alignment.follower
    waiting, seen = [(key, other)], {(key, other)}
    found: tuple[Key, Key] | None = None
    while waiting:
        key, other = waiting.pop()
        if key not in graph.makers or other not in there.makers:
            continue
        if _in_order(alignment, key, _born(graph, key), _born(there, other)):
            continue
        found = key, other
        bases = _base(graph, alignment.there, key), _base(there, alignment.back, other)
        inner = [pair for pair in _shared(alignment, *bases) if pair not in seen]
        seen |= {*inner}
        waiting = inner  # what is in order on one way is left for those behind it that are not
    return found


def _base(graph: Graph, shared: Mapping[Key, frozenset[Key]], key: Key) -> frozenset[Key]:
    """What both sides have that a value was made from."""
    found: set[Key] = set()
    waiting, seen = [key], {key}
    while waiting:
        made = waiting.pop()
        for need in graph.needs(graph.makers[made][0], made) if made in graph.makers else ():
            if need in seen or need in graph.constant:
                continue
            seen.add(need)
            if need in shared:
                found.add(need)
            else:
                waiting.append(need)
    return frozenset(found)


def _born(graph: Graph, key: Key) -> Array:
    call = graph.makers[key][0]
    return next(call.outputs[name] for name, k in graph.outputs[call.index].items() if k == key)


def _in_order(alignment: Alignment, key: Key, array: Array, other: Array) -> bool:
    order = closest(array, other)
    return order is not None and measure(order.apply(array), other).element <= alignment.allowed(key)


@dataclass(frozen=True)
class _Taken:
    """A value as one side takes it.

    Attributes:
        array: in the shape and order it is taken in.
        call: that it came out of in this order.
        output: its name there.
        wide: the last shape it had before, and the call that it came out of.
    """

    array: Array
    call: Call
    output: str
    wide: Array
    source: Call

    @property
    def told(self) -> str:
        """How it got its shape."""
        return f"{self.wide.shape} of {self.source.name} becomes {self.array.shape}"


@isolated(list[Cause])
def flattened_outputs(scene: Scene) -> list[Cause]:
    """Why outputs hold the same numbers in another order: tensors that were flattened in another order of axes.

    Confirmed where the follower gives the reference's outputs once it is given these tensors in the reference's order.

    Args:
        scene: both sides.
    """
    alignment = scene.aligned({})
    model, other_model = alignment.reference.model(), alignment.follower.model()
    if model is None or other_model is None:
        return []
    found: list[tuple[_Taken, _Taken]] = []
    ends = [
        frozenset(graph.outputs[m.index].values())
        for (graph, _), m in zip(_halves(alignment), (model, other_model), strict=True)
    ]
    for end in _shared(alignment, *ends):
        lost = _lost(alignment, *end)
        found += _joined(alignment, *lost) if lost is not None else _retaken(alignment, *end, model, other_model)
    found.sort(key=lambda taken: taken[0].call.index)
    swaps = {named(theirs.call): {theirs.output: mine.array.reshape(theirs.array.shape)} for mine, theirs in found}
    left = _left(alignment, model, scene.aligned(swaps)) if found else None
    return [] if left is None else [_cause(scene, alignment, found, left)]


def _joined(alignment: Alignment, key: Key, other: Key) -> Iterator[tuple[_Taken, _Taken]]:
    """What goes into the calls that lose an order, as far as it has another already."""
    graph, there = alignment.reference, alignment.follower
    for pair in _shared(alignment, _base(graph, alignment.there, key), _base(there, alignment.back, other)):
        yield from _retaken(alignment, *pair, graph.makers[key][0], there.makers[other][0])


def _retaken(
    alignment: Alignment, key: Key, other: Key, call: Call, other_call: Call
) -> Iterator[tuple[_Taken, _Taken]]:
    """A value that was in order when it was made and is not as a call takes it, or gives it."""
    mine, theirs = _taken(alignment.reference, call, key), _taken(alignment.follower, other_call, other)
    if mine is None or theirs is None or mine.array.shape != theirs.array.shape:
        return
    allowed, again = alignment.allowed(key), closest(theirs.wide, mine.wide)
    if again is None or measure(mine.array, theirs.array).element <= allowed:
        return
    if measure(mine.array, again.apply(theirs.wide).reshape(mine.array.shape)).element <= allowed:
        yield mine, theirs


def _taken(graph: Graph, call: Call, key: Key) -> _Taken | None:
    arrays = [call.inputs[name] for name, k in graph.inputs[call.index].items() if k == key]
    arrays += [call.outputs[name] for name, k in graph.outputs[call.index].items() if k == key]
    if not arrays:
        return None
    array = arrays[0]
    wide: tuple[Array, Call] | None = None
    for made in graph.calls:
        for name, k in graph.outputs[made.index].items():
            if k != key:
                continue
            view = made.outputs[name]
            if view.shape == array.shape and np.array_equal(view, array):
                return None if wide is None else _Taken(array, made, name, *wide)
            wide = view, made
    return None


def _left(alignment: Alignment, model: Call, after: Alignment) -> float | None:
    """How far the follower's outputs are from those of the reference, number by number; None where not all agree."""
    again = after.follower.model()
    outputs: Arrays = {} if again is None else again.outputs
    errors: list[float] = []
    for name, key in alignment.reference.outputs[model.index].items():
        array = model.outputs[name]
        same = (measure(array, o).element for o in outputs.values() if o.shape == array.shape)
        errors.append(min(same, default=np.inf))
        if errors[-1] > alignment.allowed(key):
            return None
    return max(errors) if outputs else None


def _cause(scene: Scene, alignment: Alignment, found: list[tuple[_Taken, _Taken]], after: float) -> Cause:
    first = found[0]
    torch, keras = first if scene.plan.reference == "torch" else first[::-1]
    places = sorted({theirs.call.name for _, theirs in found})
    cause = Cause(
        id="permuted_axes",
        phase="forward",
        torch=torch.call.name,
        keras=keras.call.name,
        summary=f"the outputs have the same numbers in a different order: {torch.told} in torch, {keras.told} in keras",
        evidence={"places": places},
        fix=f"keras: give {keras.source.name} the order of axes that torch has before flattening, "
        f"so that {torch.wide.shape} becomes {torch.array.shape}, or the other way round in torch",
    )
    wrong = max(measure(mine.array, theirs.array).element for mine, theirs in found)
    allowed = max(alignment.allowed(key) for key in alignment.there)
    return prove(cause, [Trial(wrong, after, allowed, first[0].array.size)])
