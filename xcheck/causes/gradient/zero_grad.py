"""The cause of gradients that are off by those of the step before: nothing sets them back to zero."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...matching import MatchPlan
from ...numerics.tolerance import KAPPA, epsilon
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import Arrays, StepRecord
from ..prove import Trial, prove
from ..recomputed import REPRODUCED, gap

NOT_RESET = "gradient_not_reset"
"""Id of the cause."""

SAMPLE = 64
"""Elements of each gradient that are kept from one step to the next: agreeing in all digits they tell enough."""


def sampled(plan: MatchPlan, records: Mapping[SideName, StepRecord]) -> dict[SideName, Arrays]:
    """The first elements of each gradient of both sides.

    Args:
        plan: of the run.
        records: of one step.
    """
    found: dict[SideName, Arrays] = {}
    for side in SIDES:
        totals = {m.path(side): m.piece(side).total(records[side].gradients.get) for m in plan.trained}
        found[side] = {path: g.reshape(-1)[:SAMPLE].copy() for path, g in totals.items() if g is not None}
    return found


@isolated(list[Cause])
def kept_gradients(
    plan: MatchPlan, before: Mapping[SideName, Arrays], records: Mapping[SideName, StepRecord]
) -> list[Cause]:
    """The side whose gradients are those of the other side and its own of the step before; none where neither is.

    Args:
        plan: of the run.
        before: `sampled` in the step before.
        records: of this step.
    """
    for side in SIDES:
        apart = _apart(plan, side, before.get(side, {}), records)
        if apart is not None and max(apart) <= REPRODUCED:
            paths = {own: ", ".join(m.path(own) for m in plan.trained[:1]) for own in SIDES}
            return [
                prove(
                    Cause(
                        id=NOT_RESET,
                        phase="gradient",
                        torch=paths["torch"],
                        keras=paths["keras"],
                        summary=f"each gradient of the {side} side includes that of the step before: nothing sets "
                        "the gradients to zero between steps",
                        evidence={"gradients": len(apart)},
                        fix=f"{side}: optimizer.zero_grad() before each backward pass"
                        if side == "torch"
                        else "keras: compute new gradients in each step",
                    ),
                    [Trial(math.inf, left, REPRODUCED, SAMPLE) for left in apart],
                )
            ]
    return []


def _apart(
    plan: MatchPlan, side: SideName, before: Arrays, records: Mapping[SideName, StepRecord]
) -> list[float] | None:
    """How far each rest is from the gradient of the step before; None where one cannot be told, or all are zero.

    Gradients that are what rounding makes of zero beside the largest one, as that of a bias before a norm, say nothing.
    """
    apart: list[float] = []
    sizes = [float(np.abs(g).max(initial=0)) for g in records[side].gradients.values() if g is not None]
    noise = KAPPA * epsilon("float64") * max(sizes, default=0.0)
    for match in plan.trained:
        there = match.piece(other_side(side))
        mine, theirs = (records[s].gradients.get for s in (side, other_side(side)))
        own, other, kept = match.piece(side).total(mine), there.total(theirs), before.get(match.path(side))
        if own is None or other is None or kept is None or other.shape != there.shape:
            return None
        rest = (own - match.to(side, other)).reshape(-1)[:SAMPLE]
        if max(float(np.abs(a).max(initial=0)) for a in (own, other, kept)) > noise:
            apart.append(gap(kept, rest, float(np.abs(own).max())))
    return apart or None
