"""What an optimizer remembers in a form that the other side does not have: judged by what it does to later updates.

A momentum with or without the learning rate in it, a second moment in two factors, a slot that nothing reads: a name
says little of these where the optimizer is the user's own, and another form is no other computation. Such a slot is
not carried over. Each side goes on with what it made of the same gradients, and its updates are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..records.result import Check, Verdict
from ..stepping.lockstep import StepPair
from .checks.update import judged_by_effect
from .phase import Live

KEPT_APART = "not compared as such, but by the updates of the next steps, for which each side kept its own: "
"""Begins the note on such slots."""


class KeptApart:
    """The slots that the sides of a run keep in different forms; `Findings.by_effect` holds their roles."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.names: dict[str, None] = {}

    def after(self, step: StepPair) -> None:
        """Note what a step showed of the slots of both sides."""
        by_effect = self.live.findings.by_effect
        by_effect.update(judged_by_effect(self.live.plan, step))
        self.names |= dict.fromkeys([*_unmapped(self.live), *sorted(by_effect)])

    def judge(self, made: int) -> None:
        """Say what was judged by its effect, and what a run of too few steps has left open.

        Args:
            made: steps.
        """
        if self.names:
            self.live.findings.notes.append(KEPT_APART + ", ".join(self.names))
            self.live.findings.checks += unjudged(self.names) if made < 2 else []


def unjudged(names: Iterable[str]) -> list[Check]:
    """Checks for a run that ended before the slots could have an effect.

    Args:
        names: of the slots, or their roles.
    """
    detail = (
        "the other side does not keep this in the same form, so it is judged by what it does to the updates of the "
        "next steps, and the run made only one step: run with --steps 2 or more"
    )
    return [Check("update", "float64", 1, name, None, None, Verdict.INCONCLUSIVE, detail=detail) for name in names]


ADDED_UP = (
    "Keras adds gradients up over several steps (gradient_accumulation_steps), and the reference has no such "
    "memory to start from, so the run ends here: let one batch be what one update is made from, and call the "
    "model on parts of it within the step"
)


def added_up(live: Live, step: int) -> list[Check]:
    """Gradients that Keras adds up over several steps: the next step could not start from the reference's state."""
    names = _accumulators(live)
    return [Check("update", "float64", step, name, None, None, Verdict.INCONCLUSIVE, detail=ADDED_UP) for name in names]


def not_applied(live: Live, step: StepPair) -> list[Check]:
    """The checks so far, gradients undecided that both sides only add up: the factor may come with each, or at the end.

    Args:
        live: both sides.
        step: that was compared last.
    """
    checks = live.findings.checks
    moved = (*step.reference.record.updates().values(), *step.follower.updates().values())
    if not _accumulators(live) or any(update.any() for update in moved):
        return checks
    of_step = ("gradient", step.number, Verdict.DIFFERENT)
    return [
        replace(c, verdict=Verdict.INCONCLUSIVE, detail=ADDED_UP) if (c.phase, c.step, c.verdict) == of_step else c
        for c in checks
    ]


def _accumulators(live: Live) -> list[str]:
    return [name for name in _unmapped(live) if "gradient_accumulator" in name]


def _unmapped(live: Live) -> list[str]:
    return [*live.reference.unmapped_slots(), *live.follower.unmapped_slots()]
