"""Averages of the weights that only one side keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..matching import MatchPlan
from ..records.result import Check, Verdict
from ..records.sides import SIDES, SideName, other_side
from ..records.slots import AVERAGE
from ..records.trace import StepRecord
from ..stepping.lockstep import StepPair

OVERWRITE = "ema_overwrite_frequency"
"""Keras setting: the number of updates after which Keras writes its averages over the weights."""


def one_sided_averages(plan: MatchPlan, step: StepPair) -> dict[SideName, int]:
    """Side -> the number of trained weights of which only this side keeps an average after this step.

    Args:
        plan, step: of the run.
    """
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    counts: dict[SideName, int] = {}
    for match in plan.trained:
        has = {side: AVERAGE in records[side].after.slots.get(match.piece(side).paths[0], {}) for side in SIDES}
        for side in SIDES:
            if has[side] and not has[other_side(side)]:
                counts[side] = counts.get(side, 0) + 1
    return counts


def average_notes(plan: MatchPlan, step: StepPair) -> list[str]:
    """Notes on averages that are not compared: only one side keeps them, and no update of this run depends on them."""
    return [
        f"the {side} side keeps averages of {count} weights, the {other_side(side)} side does not: nothing in this "
        "run reads them, so they were not compared" + (KERAS_FIT if side == "keras" else "")
        for side, count in one_sided_averages(plan, step).items()
    ]


KERAS_FIT = "; with use_ema=True, Keras writes them over the weights when fit ends"


def overwriting(plan: MatchPlan, step: StepPair, environment: Mapping[str, Any]) -> list[Check]:
    """Checks of averages that only one side keeps and, by its settings, writes over its weights in some step.

    Args:
        plan, step: of the run.
        environment: side -> its settings and versions.
    """
    checks: list[Check] = []
    for side in one_sided_averages(plan, step):
        every = environment.get(side, {}).get("optimizer_settings", {}).get(OVERWRITE)
        if isinstance(every, int) and every and step.number == 1:
            difference = (
                f"the {side} side writes averages over its weights every {every} updates, the {other_side(side)} side"
            )
            names = (OVERWRITE, None) if side == "torch" else (None, OVERWRITE)
            name, detail = "averages over the weights", f"{difference} keeps none"
            checks.append(Check("update", "float64", step.number, name, *names, Verdict.DIFFERENT, detail=detail))
    return checks
