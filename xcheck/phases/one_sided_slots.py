"""Optimizer slots whose form differs between the sides: they are judged by their effect on later updates.

Examples are a momentum with or without the learning rate in it, a second moment in two factors, an unread slot. In a
user's own optimizer the names of such slots say little, and a different form is not a different computation. Such a
slot is not copied to the follower. Each side continues with its own slot, and the updates are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..records.result import Check, Verdict
from ..stepping.lockstep import StepPair
from .checks.update import judged_by_effect
from .phase import Live

KEPT_APART = "not compared directly, but by their effect on the next updates (each side kept its own): "
"""Begins the note on such slots."""


class SeparateSlots:
    """The slots that the sides of a run keep in different forms; their roles are in `Findings.by_effect`."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.names: dict[str, None] = {}

    def after(self, step: StepPair) -> None:
        """Note the slots that differ in form after a step."""
        by_effect = self.live.findings.by_effect
        by_effect.update(judged_by_effect(self.live.plan, step))
        self.names |= dict.fromkeys([*_unmapped(self.live), *sorted(by_effect)])

    def judge(self, steps: int) -> None:
        """Note the slots judged by effect, and add checks for those that too few steps left undecided.

        Args:
            steps: number of steps of the run.
        """
        if self.names:
            self.live.findings.notes.append(KEPT_APART + ", ".join(self.names))
            self.live.findings.checks += unjudged(self.names) if steps < 2 else []


def unjudged(names: Iterable[str]) -> list[Check]:
    """Checks for a run that ended before the slots could have an effect.

    Args:
        names: names or roles of the slots.
    """
    detail = (
        "the other side has no such slot, so it is judged by its effect on the next updates, but the run made only "
        "one step: run with --steps 2 or more"
    )
    return [Check("update", "float64", 1, name, None, None, Verdict.INCONCLUSIVE, detail=detail) for name in names]


ADDED_UP = (
    "Keras accumulates gradients over several steps (gradient_accumulation_steps), and the reference has no "
    "accumulator to start from, so the run ends here: make one batch contain the data of one update, and call the "
    "model on parts of it inside the step"
)


def accumulated(live: Live, step: int) -> list[Check]:
    """Checks of gradients that Keras sums over several steps: the next step cannot start from the reference's state."""
    names = _accumulators(live)
    return [Check("update", "float64", step, name, None, None, Verdict.INCONCLUSIVE, detail=ADDED_UP) for name in names]


def not_applied(live: Live, step: StepPair) -> list[Check]:
    """The checks so far; gradients that both sides only sum are undecided, since a factor may be applied later.

    Args:
        live: both sides.
        step: that was compared last.
    """
    checks = live.findings.checks
    if not _accumulators(live):
        return checks
    updates = (*step.reference.record.updates().values(), *step.follower.updates().values())
    if any(update.any() for update in updates):
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
