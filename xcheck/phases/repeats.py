"""What a step that does not repeat says, and what it cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..records.repeats import Unrepeated
from ..records.result import Check, Verdict
from ..stepping.lockstep import StepPair

NAMED = 3
"""Places that a message names at most."""


def trusted(step: StepPair, checks: Sequence[Check]) -> list[Check]:
    """Checks, those INCONCLUSIVE whose difference may follow from what did not repeat.

    Args:
        step: of the checks.
        checks: of one phase of it.
    """
    return [_doubted(step, check) if check.verdict is Verdict.DIFFERENT else check for check in checks]


def _doubted(step: StepPair, check: Check) -> Check:
    why = next((u for u in step.unrepeated if u.reaches(step.number, check.phase)), None)
    if why is None:
        return check
    said = f"step {why.step} of the {why.side} side does not repeat, and this may follow from it"
    return replace(
        check, verdict=Verdict.INCONCLUSIVE, detail="; ".join([check.detail, said] if check.detail else [said])
    )


def repeat_checks(step: StepPair) -> list[Check]:
    """What did not repeat in this step, side by side.

    Args:
        step: of the run.
    """
    return [_check(found) for found in step.unrepeated if found.step == step.number]


def _check(found: Unrepeated) -> Check:
    named = ", ".join(found.moved[:NAMED]) + (f" and {more} more" if (more := len(found.moved) - NAMED) > 0 else "")
    detail = (
        "made twice from one state, the step gave different numbers: "
        if found.phase
        else "made twice from one state, the step left different values for the next one: "
    )
    detail += f"{named} moved" if named else "it draws at random, or keeps something where xcheck cannot follow"
    todo = (
        "draw with the framework's own seeded generators, and keep what the step counts in attributes, dicts or lists"
    )
    name = f"repeatability of the {found.side} step"
    phase = found.phase or "update"
    return Check(phase, "float64", found.step, name, None, None, Verdict.INCONCLUSIVE, detail=f"{detail}; {todo}")
