"""A layer that one side calls more often than the other, anywhere in the model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ...numerics.align import Alignment, distance
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ..prove import Trial, prove
from .replay import Name, Scene, named
from .tries import ends_of

TRIES = 8
"""Calls that are left out, one at a time, before the search gives up."""


@isolated(nothing)
def extra_call(scene: Scene) -> Cause | None:
    """A layer with weights that one side calls more often; None if there is none.

    Confirmed where all outputs agree once one of its calls is left out: its input is put in the place of its output.

    Args:
        scene: both sides.
    """
    alignment = scene.aligned({})
    tries, suspected = 0, None
    for side, few, many in _unequal(scene, alignment):
        suspected = suspected or _cause(side, few, many, None)
        for call in reversed(many):
            if tries == TRIES:
                break
            tries += 1
            trial = _without(scene, alignment, side, named(call))
            if trial is not None and trial.gone:
                other = scene.at_other_weights()
                again = _without(other, other.aligned({}), side, named(call))
                return prove(_cause(side, few, many, call), [trial] if again is None else [trial, again])
    return suspected


def _without(scene: Scene, alignment: Alignment, side: SideName, name: Name) -> Trial | None:
    """The outputs with one call left out; None where its output does not have the shape of what goes in."""
    graph = alignment.reference if side == scene.plan.reference else alignment.follower
    call = next((c for c in graph.calls if named(c) == name), None)
    if call is None or len(call.outputs) != 1:
        return None
    ((output, value),) = call.outputs.items()
    given = next((a for a in call.inputs.values() if a.shape == value.shape), None)
    if given is None:
        return None
    after = scene.aligned_with(side, {name: {output: given}})
    before, allowed, numbers = _outputs(alignment)
    return Trial(before, math.inf if any(ends_of(after)) else _outputs(after)[0], allowed, numbers)


def _unequal(scene: Scene, alignment: Alignment) -> Iterator[tuple[SideName, Sequence[Call], Sequence[Call]]]:
    """The side that calls a layer more often, and the calls of its counterpart and of itself, for each such layer."""
    reference, follower = _by_parameters(alignment.reference.calls), _by_parameters(alignment.follower.calls)
    partners = scene.partners(scene.plan.reference)
    for paths, calls in reference.items():
        wanted = frozenset[str]().union(*(partners.get(path, frozenset()) for path in paths))
        others = follower.get(wanted, [])
        if others and len(calls) < len(others):
            yield scene.plan.follower, calls, others
        elif others and len(calls) > len(others):
            yield scene.plan.reference, others, calls


def _by_parameters(calls: Sequence[Call]) -> dict[frozenset[str], list[Call]]:
    """The calls of each module or layer with weights of its own, in order."""
    found: defaultdict[frozenset[str], list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda c: c.index):
        if call.parameters and not call.function and call.parent is not None:
            found[frozenset(call.parameters)].append(call)
    return found


def _outputs(alignment: Alignment) -> tuple[float, float, int]:
    """How far the outputs of both models are apart, what is allowed, and how many numbers they are."""
    mine, theirs = (graph.model() for graph in (alignment.reference, alignment.follower))
    if mine is None or theirs is None:
        return math.inf, 0.0, 0
    keys = [alignment.reference.outputs[mine.index][n] for n in mine.outputs]
    others = [alignment.follower.outputs[theirs.index][n] for n in theirs.outputs]
    if len(keys) != len(others):
        return math.inf, 0.0, 0
    apart = [
        distance(alignment.reference.values[a], alignment.follower.values[b]) or 0.0
        for a, b in zip(keys, others, strict=True)
    ]
    return max(apart, default=0.0), max(map(alignment.allowed, keys)), sum(a.size for a in mine.outputs.values())


def _cause(side: SideName, few: Sequence[Call], many: Sequence[Call], extra: Call | None) -> Cause:
    other = other_side(side)
    names = {side: many[0].path, other: few[0].path}
    without = f"; without call {extra.number} all outputs agree" if extra is not None else ""
    return Cause(
        id="number_of_calls",
        phase="forward",
        torch=names["torch"],
        keras=names["keras"],
        summary=f"{side} calls {many[0].path} {_times(many)}, {other} calls {few[0].path} {_times(few)}{without}",
        evidence={side: len(many), other: len(few)},
        fix=f"{side}: remove call {extra.number} of {many[0].path}"
        if extra is not None
        else f"{side}: call {many[0].path} {_times(few)}, or {other}: call {few[0].path} {_times(many)}",
    )


def _times(calls: Sequence[Call]) -> str:
    return "once" if len(calls) == 1 else f"{len(calls)} times"
