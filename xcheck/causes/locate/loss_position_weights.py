"""Runs that show by what factor each position of the output enters the loss: its gradient has the factor too."""

from __future__ import annotations

import numpy as np

from ...frameworks.protocol import Runner
from ...matching import MatchPlan
from ...numerics.align.orders import closest
from ...numerics.compare import measure
from ...records.calls import LOSS, Call, Calls
from ...records.isolated import isolated
from ...records.result import Cause
from ...records.sides import SideName
from ...records.trace import Array, StepRecord
from ...records.uses import CLOSE
from ...stepping.lockstep import StepPair
from ..loss.positions import counted_causes
from .replay import calls_from_start


@isolated(list[Cause])
def counted_positions(plan: MatchPlan, step: StepPair, reference: Runner, follower: Runner) -> list[Cause]:
    """Why losses differ where outputs do not: by which positions count, and how much.

    Args:
        plan: of the run.
        step: whose losses differ.
        reference: the side to ask, left as it was.
        follower: likewise.
    """
    target = step.reference.batch.targets
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    name = next((n for n in ("data", "total") if all(n in record.losses for record in records.values())), None)
    if name is None or not isinstance(target, np.ndarray):
        return []
    mine, theirs = (_output(calls_from_start(plan, step, runner, gradients=True)) for runner in (reference, follower))
    order = None if mine is None or theirs is None else closest(mine[0], theirs[0])
    if mine is None or theirs is None or order is None or measure(order.apply(mine[0]), theirs[0]).element > CLOSE:
        return []
    gradients: dict[SideName, Array] = {plan.reference: order.apply(mine[1]), plan.follower: theirs[1]}
    output = theirs[0]
    if plan.follower == "torch":  # classes last
        output = mine[0]
        gradients = {plan.reference: mine[1], plan.follower: order.inverse().apply(theirs[1])}
    values: dict[SideName, float] = {side: float(record.losses[name]) for side, record in records.items()}
    return counted_causes(name, output, target, gradients, values)


def _output(calls: Calls) -> tuple[Array, Array] | None:
    """The one output of the model and its gradient, one behind the other where it was called for parts of the batch."""
    models: list[Call] = [call for call in calls if call.parent is None and call.path != LOSS]
    if not models or any(len(call.outputs) != 1 or call.outputs.keys() != call.gradients.keys() for call in models):
        return None
    made = [next(iter(call.outputs.values())) for call in models]
    if len({array.shape[1:] for array in made}) != 1 or not made[0].ndim:
        return None
    return np.concatenate(made), np.concatenate([next(iter(call.gradients.values())) for call in models])
