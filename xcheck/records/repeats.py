"""A training step that gave different results when run twice from the same state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .trace import StepRecord, differing_groups

PHASES = {
    "inference": "forward",
    "outputs": "forward",
    "settings": "forward",
    "losses": "loss",
    "gradients": "gradient",
    "uses": "gradient",
    "after.buffers": "state",
}
"""First word of a group name in a record -> the phase that compares it; all other groups belong to the update."""

ORDER = ("forward", "loss", "gradient", "update", "state")


@dataclass(frozen=True, slots=True)
class Unrepeated:
    """The part of a step that did not repeat.

    Attributes:
        side: "torch" or "keras".
        step: from 1.
        phase: the first phase whose numbers did not repeat; "" where all did, and only state left for the next step
            did not.
        moved: where the changed state is stored, in words.
    """

    side: str
    step: int
    phase: str
    moved: Sequence[str] = ()

    def reaches(self, step: int, phase: str) -> bool:
        """Whether the missing repeatability may explain a difference in a number.

        Args:
            step, phase: of the number.
        """
        if step != self.step:
            return step > self.step
        return bool(self.phase) and phase in ORDER and ORDER.index(phase) >= ORDER.index(self.phase)


def unrepeated(side: str, record: StepRecord, again: StepRecord, moved: Sequence[str]) -> Unrepeated | None:
    """The part of a step that did not repeat; None if all of it did.

    Args:
        side: of the step.
        record, again: the step, run twice from one state.
        moved: where the two runs left different values, in words.
    """
    groups = (group.partition(".slots")[0] for group in differing_groups(record, again))
    phases = [PHASES.get(group.partition(".use")[0], "update") for group in groups]
    if not phases and not moved:
        return None
    return Unrepeated(side, record.step, min(phases, key=ORDER.index, default=""), moved)
