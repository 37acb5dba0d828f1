"""Losses that weigh the parts of an output otherwise: found by giving each side's loss outputs made of other parts.

A loss that adds up what it finds of each part of an output, such as the estimate of each iteration, tells its weights
when one part stands in the place of all, and of all but one. They are what it does if they give its value on the
outputs themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ....frameworks.protocol import Runner
from ....matching import MatchPlan
from ....numerics.align.orders import Order, closest
from ....numerics.compare import measure
from ....records.calls import LOSS, Call
from ....records.isolated_hypotheses import isolated
from ....records.result import Cause
from ....records.sides import SideName
from ....records.trace import Array, Arrays, State
from ....records.uses import CLOSE
from ....stepping.lockstep import StepPair
from ...prove import Trial, prove
from ...recomputed import REPRODUCED

MOST_PARTS = 8
"""Parts beyond which an axis is not looked at: each is a run of the model on both sides."""

MOST_AXES = 2
"""Axes that are looked at, from the first behind the examples."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One side, asked for its loss on outputs of another making.

    Attributes:
        runner: of the side.
        start: of the step, in its own names.
        order: from the reference's axes of the output to its own.
    """

    runner: Runner
    start: State
    order: Order | None

    def loss(self, step: StepPair, output: Array | None = None) -> tuple[Array, float]:
        """The one output of the model, and the loss on it or on another one in its place; NaN where none is seen."""

        def swap(call: Call) -> Arrays | None:
            if output is None or call.parent is not None or call.path == LOSS:
                return None
            name = next(iter(call.outputs))
            return {name: output if self.order is None else self.order.apply(output)}

        kept = self.runner.snapshot()
        try:
            self.runner.write(self.start)
            calls = self.runner.calls(step.reference.batch, training=True, swap=swap, gradients=True)
        finally:
            self.runner.restore(kept)
        outputs = [c.outputs for c in calls if c.parent is None and c.path != LOSS]
        value = next((c.outputs["output"] for c in calls if c.path == LOSS), np.nan)
        arrays = [array for named in outputs for array in named.values()]
        return arrays[0] if len(arrays) == 1 else np.zeros(()), float(value)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """What a loss makes of the parts along an axis.

    Attributes:
        each: the loss with one part in the place of all, for each.
        weights: of the parts; they sum to one.
        value: on the outputs themselves.
    """

    each: Array
    weights: Array
    value: float


@isolated(list[Cause])
def weighed_parts(plan: MatchPlan, step: StepPair, reference: Runner, follower: Runner) -> list[Cause]:
    """Why losses differ where outputs do not: they give the parts along an axis other weights.

    Args:
        plan: of the run.
        step: whose losses differ.
        reference: the side to ask, left as it was.
        follower: likewise.
    """
    before = step.reference.record.before
    mine = _Half(reference, State(before.parameters, before.buffers), None)
    theirs = _Half(follower, plan.for_follower(before, slots=False), None)
    (output, own), (other, there) = mine.loss(step), theirs.loss(step)
    order = closest(output, other)
    if not np.isfinite([own, there]).all() or output.ndim < 2 or order is None:
        return []
    if measure(order.apply(output), other).element > CLOSE:
        return []
    theirs = _Half(follower, theirs.start, order)
    axes = [axis for axis in range(1, output.ndim) if 1 < output.shape[axis] <= MOST_PARTS]
    for axis in axes[:MOST_AXES]:
        one = _weighed(mine, step, output, axis, own)
        two = None if one is None else _weighed(theirs, step, output, axis, there)
        if one is None or two is None or np.abs(one.weights - two.weights).max() <= REPRODUCED:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):  # a loss of zero tells nothing, and passes no test below
            scale = two.each / one.each
        again = float((two.weights * scale * one.each).sum())
        if np.ptp(scale) <= REPRODUCED * abs(scale[0]) and abs(again - there) <= REPRODUCED * abs(there):
            return [_cause(plan, output, axis, one, two, again)]
    return []


def _weighed(half: _Half, step: StepPair, output: Array, axis: int, value: float) -> _Weighed | None:
    """None where the loss is no weighted sum over the parts, or they are all alike to it."""
    each = np.array([half.loss(step, made)[1] for made in _alike(output, axis)])
    low, high = int(each.argmin()), int(each.argmax())
    if not np.isfinite(each).all() or each[high] - each[low] <= CLOSE * abs(each[high]):
        return None
    parts = output.shape[axis]
    mixed = [half.loss(step, np.take(output, [high if k == i else low for k in range(parts)], axis))[1]
             for i in range(parts)]  # fmt: skip
    weights = (np.array(mixed) - each[low]) / (each[high] - each[low])
    added = abs(float(weights.sum()) - 1.0) <= REPRODUCED
    return _Weighed(each, weights, value) if added and abs(weights @ each - value) <= REPRODUCED * abs(value) else None


def _alike(output: Array, axis: int) -> Iterator[Array]:
    parts = output.shape[axis]
    for k in range(parts):
        yield np.take(output, [k] * parts, axis)


def _cause(plan: MatchPlan, output: Array, axis: int, one: _Weighed, two: _Weighed, again: float) -> Cause:
    shown: dict[SideName, Sequence[float]] = {
        plan.reference: (one.weights / one.weights.max()).tolist(),
        plan.follower: (two.weights / two.weights.max()).tolist(),
    }
    torch, keras = (", ".join(f"{w:.6g}" for w in shown[side]) for side in ("torch", "keras"))
    turned = np.abs(one.weights - two.weights[::-1]).max() <= REPRODUCED
    cause = Cause(
        id="loss_weights",
        phase="loss",
        torch="data",
        keras="data",
        summary=(
            f"the parts along axis {axis} of the output {output.shape} enter the loss with the weights {torch} in "
            f"torch and {keras} in keras" + (", from the other end" if turned else "")
        ),
        evidence={
            "torch": list(shown["torch"]),
            "keras": list(shown["keras"]),
        },
        fix=f"keras: weight the parts by {torch}, or torch: by {keras}",
    )
    # Each part in the place of all of them is an output of its own, on which the weights were asked for.
    gone = abs(again - two.value) / abs(two.value)
    return prove(cause, [Trial(abs(one.value - two.value) / abs(two.value), gone, REPRODUCED, len(one.each))])
