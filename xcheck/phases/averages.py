"""Averages of the weights that one side alone keeps."""

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
"""How Keras calls the number of updates after which it writes its averages over the weights."""


def lone_averages(plan: MatchPlan, step: StepPair) -> dict[SideName, int]:
    """Side -> of how many trained weights it alone keeps an average, after this step.

    Args:
        plan, step: of the run.
    """
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    found: dict[SideName, int] = {}
    for match in plan.trained:
        has = {side: AVERAGE in records[side].after.slots.get(match.piece(side).paths[0], {}) for side in SIDES}
        for side in SIDES:
            if has[side] and not has[other_side(side)]:
                found[side] = found.get(side, 0) + 1
    return found


def average_notes(plan: MatchPlan, step: StepPair) -> list[str]:
    """What is not compared, since one side alone keeps it and no update of this run depends on it."""
    return [
        f"the {side} side keeps averages of {count} weights, the {other_side(side)} side does not: nothing of this run "
        "reads them, so they were not compared" + (KERAS_FIT if side == "keras" else "")
        for side, count in lone_averages(plan, step).items()
    ]


KERAS_FIT = "; with use_ema=True, Keras writes them over the weights when fit ends"


def overwriting(plan: MatchPlan, step: StepPair, environment: Mapping[str, Any]) -> list[Check]:
    """Averages that one side alone keeps and says that it writes over its weights, in whichever step.

    Args:
        plan, step: of the run.
        environment: side -> what it says of itself.
    """
    checks: list[Check] = []
    for side in lone_averages(plan, step):
        every = environment.get(side, {}).get("optimizer_settings", {}).get(OVERWRITE)
        if isinstance(every, int) and every and step.number == 1:
            told = (
                f"the {side} side writes averages over its weights every {every} updates, the {other_side(side)} side"
            )
            names = (OVERWRITE, None) if side == "torch" else (None, OVERWRITE)
            name, detail = "averages over the weights", f"{told} keeps none"
            checks.append(Check("update", "float64", step.number, name, *names, Verdict.DIFFERENT, detail=detail))
    return checks
