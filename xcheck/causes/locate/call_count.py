"""A layer that one side calls more often: the other's output is what one of its calls gives, its own output is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...numerics.align import Alignment, distance
from ...numerics.align.graph import Graph, Key
from ...numerics.align.orders import closest
from ...numerics.compare import measure
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import Cause
from ...records.sides import SideName
from ...records.trace import Array
from ..prove import Trial, prove
from .replay import Scene

WAYS: Mapping[str, Callable[[Array], Array]] = {
    "the mean of all": lambda made: made.mean(axis=0),
    "the sum of all": lambda made: made.sum(axis=0),
    "the largest of all": lambda made: made.max(axis=0),
}
"""What becomes of the outputs of several calls, stacked."""


@dataclass(frozen=True)
class _Half:
    """One side.

    Attributes:
        side: which.
        graph: of it.
        shared: its keys that the other side has.
    """

    side: SideName
    graph: Graph
    shared: Mapping[Key, frozenset[Key]]

    def end(self) -> tuple[Key, Array] | None:
        """The one output of the model; None where there are several."""
        model = self.graph.model()
        outputs = {} if model is None else self.graph.outputs[model.index]
        if model is None or len(outputs) != 1:
            return None
        ((name, key),) = outputs.items()
        return key, model.outputs[name]

    def layer_calls(self, path: str) -> list[Call]:
        """The calls of a layer, in order."""
        calls = (c for c in self.graph.calls if c.path == path and not c.function)
        return sorted(calls, key=lambda call: call.index)

    def layers_of(self, key: Key) -> list[Call]:
        """The layers that a value comes out of."""
        return [c for c in self.graph.makers.get(key, ()) if not c.function and c.parent is not None]


@isolated(nothing)
def number_of_calls(scene: Scene) -> Cause | None:
    """Why outputs differ: a layer that makes them is called more often on one side.

    Confirmed where the output of the side with more calls is made again from what its calls give, and where one of
    these calls alone gives the output of the other side.

    Args:
        scene: both sides.
    """
    alignment = scene.aligned({})
    halves = (
        _Half(scene.plan.reference, alignment.reference, alignment.there),
        _Half(scene.plan.follower, alignment.follower, alignment.back),
    )
    for few, many in (halves, halves[::-1]):
        for one, several in _counted(few, many):
            found = _made(alignment, few, many, one, several)
            if found is not None:
                return _cause(alignment, few, many, one, several, *found)
    return None


def _counted(few: _Half, many: _Half) -> Iterator[tuple[Sequence[Call], Sequence[Call]]]:
    """The calls of a layer that makes the output of one side, and the more calls of one that makes it in the other."""
    end, other = few.end(), many.end()
    if end is None or other is None or other[0] in few.shared.get(end[0], ()):
        return
    for inner in sorted(few.shared.get(end[0], ())):
        for mine in few.layers_of(end[0]):
            for theirs in many.layers_of(inner):
                one, several = few.layer_calls(mine.path), many.layer_calls(theirs.path)
                if len(one) < len(several):
                    yield one, several


def _made(
    alignment: Alignment, few: _Half, many: _Half, one: Sequence[Call], several: Sequence[Call]
) -> tuple[str, int, float] | None:
    """How the output of the side with more calls comes of them, which of them is the other's output, and how nearly."""
    end, other = few.end(), many.end()
    outputs = [next(iter(call.outputs.values())) for call in several if len(call.outputs) == 1]
    if end is None or other is None or len(outputs) != len(several) or len({a.shape for a in outputs}) != 1:
        return None
    kept = [i for i, call in enumerate(several) if _gives(few, many, end[0], call)]
    ways = {name: way(np.stack(outputs)) for name, way in WAYS.items()}
    ways |= {f"that of call {i + 1}": array for i, array in enumerate(outputs) if i not in kept}
    allowed = alignment.allowed(end[0] if few.graph is alignment.reference else other[0])
    for name, array in ways.items():
        order = closest(array, other[1]) if array.size == other[1].size else None
        if kept and order is not None and measure(order.apply(array), other[1]).element <= allowed:
            inner = few.shared[end[0]]
            apart = min(distance(few.graph.values[end[0]], many.graph.values[k]) or 0.0 for k in inner)
            return name, kept[0] + 1, apart
    return None


def _gives(few: _Half, many: _Half, end: Key, call: Call) -> bool:
    """Whether a call of the one side gives the output of the other."""
    return bool({*many.graph.outputs[call.index].values()} & few.shared[end])


def _cause(
    alignment: Alignment,
    few: _Half,
    many: _Half,
    one: Sequence[Call],
    several: Sequence[Call],
    way: str,
    call: int,
    after: float,
) -> Cause:
    names: dict[SideName, str] = {few.side: one[0].path, many.side: several[0].path}
    end, other = few.end(), many.end()
    before = None if end is None or other is None else distance(few.graph.values[end[0]], many.graph.values[other[0]])
    times = f"{len(one)} time{'s' if len(one) > 1 else ''}"
    cause = Cause(
        id="number_of_calls",
        phase="forward",
        torch=names["torch"],
        keras=names["keras"],
        summary=(
            f"{many.side} calls {several[0].path} {len(several)} times and returns {way}; {few.side} calls "
            f"{one[0].path} {times}: its output is that of call {call} in {many.side}"
        ),
        evidence={
            few.side: len(one),
            many.side: len(several),
        },
        fix=f"{many.side}: return the output of call {call} of {several[0].path}, or {few.side}: return {way} there",
    )
    allowed = alignment.allowed((end or other or (b"",))[0])
    return prove(
        cause, [Trial(math.inf if before is None else before, after, allowed, len(end[1].reshape(-1)) if end else 1)]
    )
