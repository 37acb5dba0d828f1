"""Steps that do not repeat: the checks that report them, and the checks that they leave undecided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..records.repeats import Unrepeated
from ..records.result import Check, Verdict
from ..stepping.lockstep import StepPair

REPEATABILITY = "repeatability of"
"""Start of the name of a check that reports a step that does not repeat."""

NAMED = 3
"""Largest number of places that a message names."""


def trusted(step: StepPair, checks: Sequence[Check]) -> list[Check]:
    """The checks; those whose difference may follow from a step that did not repeat become INCONCLUSIVE.

    Args:
        step: of the checks.
        checks: of one phase of it.
    """
    return [_doubted(step, check) if check.verdict is Verdict.DIFFERENT else check for check in checks]


def _doubted(step: StepPair, check: Check) -> Check:
    unrepeated = next((u for u in step.unrepeated if u.reaches(step.number, check.phase)), None)
    if unrepeated is None:
        return check
    reason = f"step {unrepeated.step} of the {unrepeated.side} side does not repeat, and this may follow from it"
    return replace(
        check, verdict=Verdict.INCONCLUSIVE, detail="; ".join([check.detail, reason] if check.detail else [reason])
    )


def repeat_checks(step: StepPair) -> list[Check]:
    """Checks of this step, one per side that did not repeat.

    Args:
        step: of the run.
    """
    return [_check(unrepeated) for unrepeated in step.unrepeated if unrepeated.step == step.number]


def _check(unrepeated: Unrepeated) -> Check:
    moved = ", ".join(unrepeated.moved[:NAMED]) + (
        f" and {count} more" if (count := len(unrepeated.moved) - NAMED) > 0 else ""
    )
    detail = (
        "run twice from the same state, the step gave different numbers: "
        if unrepeated.phase
        else "run twice from the same state, the step left different state for the next one: "
    )
    detail += f"{moved} moved" if moved else "it draws random numbers, or keeps state where xcheck cannot save it"
    todo = "use the framework's seeded generators, and keep counters of the step in attributes, dicts or lists"
    name = f"{REPEATABILITY} the {unrepeated.side} step"
    phase = unrepeated.phase or "update"
    return Check(phase, "float64", unrepeated.step, name, None, None, Verdict.INCONCLUSIVE, detail=f"{detail}; {todo}")
