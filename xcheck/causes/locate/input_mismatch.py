"""What goes into the models: whether both get the same numbers, before anything is asked of what they compute."""

from __future__ import annotations

import numpy as np

from ...numerics.align import Alignment
from ...numerics.align.graph import Graph, Key
from ...numerics.compare import measure
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import Cause
from ...records.trace import Array
from ..forward.activation import fewest_digits
from .replay import Scene

OTHER_INPUTS = "other_inputs"
"""Id of the cause that the models get other numbers."""

INPUTS = "(the inputs)"
"""Where they differ, in words."""


@isolated(nothing)
def other_inputs(scene: Scene) -> Cause | None:
    """Say that the models are given other numbers; None where one of them has, anywhere, what the other is given.

    Where one side makes of its inputs what the other is given, such as by a layer that rescales them, they are the
    same. Nothing is computed again, so that this stays a suspicion.

    Args:
        scene: both sides.
    """
    alignment = scene.aligned({})
    mine, theirs = _given(alignment.reference), _given(alignment.follower)
    if not mine or any(key in alignment.there for key in mine) or any(key in alignment.back for key in theirs):
        return None
    pairs = [(a, b) for a in mine.values() for b in theirs.values() if a.size == b.size]
    if not pairs:
        return None
    sides = (scene.plan.reference, scene.plan.follower)
    told = next((words for a, b in pairs if (words := _relation(a, b, *sides))), "they have no number in common")
    return Cause(
        id=OTHER_INPUTS,
        phase="forward",
        torch=INPUTS,
        keras=INPUTS,
        summary=f"the inputs of the models differ: {told}",
        evidence={"before": _apart(alignment, *pairs[0]), "allowed": alignment.allowed(next(iter(mine)))},
        confirmed=False,
        fix="make `prepare` of both sides return the same numbers",
    )


def _given(graph: Graph) -> dict[Key, Array]:
    """The measured numbers that a model is given, by their keys."""
    model = graph.model()
    if model is None:
        return {}
    keys = graph.inputs[model.index]
    return {keys[n]: a for n, a in model.inputs.items() if a.dtype.kind == "f" and not graph.values[keys[n]].still}


def _apart(alignment: Alignment, a: Array, b: Array) -> float:
    return measure(np.sort(a, axis=None), np.sort(b, axis=None)).element


def _relation(a: Array, b: Array, mine: str, theirs: str) -> str | None:
    """In what the sorted numbers of one side are those of the other."""
    x, y = np.sort(a, axis=None), np.sort(b, axis=None)
    for one, other, name in ((x, y, theirs), (y, x, mine)):
        if np.array_equal(one.astype(np.float32).astype(one.dtype), other):
            return f"the {name} side rounds it to float32"
    spread = float(x.std())
    factor = float(y.std()) / spread if spread else 0.0
    offset = float((y - factor * x).mean())
    if not factor or measure(y, factor * x + offset).element > 1e-9:
        return None
    shift = f" plus {fewest_digits(offset, 1e-9):.9g}" if abs(offset) > 1e-12 * float(np.abs(y).max()) else ""
    return f"that of {theirs} is {fewest_digits(factor, 1e-9):.9g} times that of {mine}{shift}"
