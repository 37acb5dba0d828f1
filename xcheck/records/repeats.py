"""A training step that was made twice from one state, and did not come out the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .trace import StepRecord, unlike

PHASES = {"inference": "forward", "outputs": "forward", "settings": "forward", "losses": "loss"}
PHASES |= {"gradients": "gradient", "uses": "gradient", "after.buffers": "state"}
"""First word of what a record calls a group of arrays -> the phase that compares them; all others are of the update."""

ORDER = ("forward", "loss", "gradient", "update", "state")


@dataclass(frozen=True, slots=True)
class Unrepeated:
    """What did not repeat.

    Attributes:
        side: "torch" or "keras".
        step: from 1.
        phase: the first whose numbers did not repeat; "" where all numbers of the step did, and what it leaves to the
            next one did not.
        moved: where what moved is kept, in words.
    """

    side: str
    step: int
    phase: str
    moved: Sequence[str] = ()

    def reaches(self, step: int, phase: str) -> bool:
        """Whether what did not repeat may be why a number differs.

        Args:
            step, phase: of the number.
        """
        if step != self.step:
            return step > self.step
        return bool(self.phase) and phase in ORDER and ORDER.index(phase) >= ORDER.index(self.phase)


def unrepeated(side: str, record: StepRecord, again: StepRecord, moved: Sequence[str]) -> Unrepeated | None:
    """What of a step did not repeat; None where all of it did.

    Args:
        side: of the step.
        record, again: the step, made twice from one state.
        moved: where the two runs have left different values, in words.
    """
    groups = (group.partition(".slots")[0] for group in unlike(record, again))
    phases = [PHASES.get(group.partition(".use")[0], "update") for group in groups]
    if not phases and not moved:
        return None
    return Unrepeated(side, record.step, min(phases, key=ORDER.index, default=""), moved)
