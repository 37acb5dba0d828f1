"""The gradient of a table in which one row gets none on one side: PyTorch's padding_idx, which Keras does not have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...matching import Match, MatchPlan
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array, StepRecord
from ..prove import Trial, prove

PADDING_ROW = "padding_row"
"""Id of the cause."""

REPRODUCED = 1e-9
"""Largest difference of two rows that are the same, relative to the largest number of the gradient."""


@isolated(list[Cause])
def row_causes(plan: MatchPlan, record: StepRecord, other: StepRecord, kinds: Mapping[str, str]) -> list[Cause]:
    """Tables whose gradients differ in one row alone, which is zero on one side; confirmed by leaving it out.

    Args:
        plan: of the run.
        record: step of the reference.
        other: the same step of the other side.
        kinds: the follower's path of a parameter -> kind of the layer that holds it.
    """
    causes: list[Cause] = []
    for match in plan.trained:
        if "Embedding" not in kinds.get(match.path(plan.follower), ""):
            continue
        mine = match.piece(plan.reference).total(record.gradients.get)
        theirs = match.piece(plan.follower).total(other.gradients.get)
        if mine is None or theirs is None or mine.ndim != 2:
            continue
        cause = _one_row(plan, match, mine, match.to(plan.reference, theirs))
        causes += [cause] if cause is not None else []
    return causes


def _one_row(plan: MatchPlan, match: Match, mine: Array, theirs: Array) -> Cause | None:
    scale = float(max(np.abs(mine).max(), np.abs(theirs).max()))
    apart = np.abs(mine - theirs).max(axis=1)
    rows = np.flatnonzero(apart > REPRODUCED * scale)
    if len(rows) != 1:
        return None
    row = int(rows[0])
    zero = [not gradient[row].any() for gradient in (mine, theirs)]
    if zero[0] == zero[1]:
        return None
    side: SideName = plan.reference if zero[0] else other_side(plan.reference)
    fix = {
        "torch": f"keras: where(ids == {row}, stop_gradient(rows), rows), or torch: padding_idx=None",
        "keras": f"torch: padding_idx={row}, or keras: let the gradient of row {row} through",
    }
    cause = Cause(
        id=PADDING_ROW,
        phase="gradient",
        torch=match.name("torch"),
        keras=match.name("keras"),
        summary=f"row {row} of the table gets no gradient in {side} (padding_idx={row}), but gets one in "
        f"{other_side(side)}; all other rows agree",
        evidence={"row": row},
        fix=fix[side],
    )
    left = float(np.delete(apart, row).max(initial=0.0)) / scale
    return prove(cause, [Trial(float(apart[row]) / scale, left, REPRODUCED, mine[row].size)])
