"""The one place that confirms a cause: with one side's setting in the other's place the difference is gone.

There are three states. *Confirmed*: shown on more than one input, or on one where several numbers are compared that
nothing was solved from. *Likely*: a single number comes out, which a coincidence may do too. *Described*: nothing
was computed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..records.result import Cause

ENOUGH = 2
"""Numbers that have to come out: one may do so by chance."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A difference on one input, and what is left of it where one side's setting stands in the other's place.

    Attributes:
        before: the difference that the cause is given for, relative to its scale.
        after: with the setting exchanged.
        allowed: what rounding explains.
        numbers: how many numbers are compared, less those that were solved from them.
    """

    before: float
    after: float
    allowed: float
    numbers: int = 1

    @property
    def tells(self) -> bool:
        """Whether there is a difference on this input that the exchange could take away."""
        return self.before > self.allowed

    @property
    def gone(self) -> bool:
        """Whether the exchange takes it away."""
        return not math.isnan(self.after) and self.after <= self.allowed


def prove(cause: Cause, trials: Sequence[Trial]) -> Cause:
    """A cause with its state and the evidence for it.

    Args:
        cause: an explanation of the difference that the trials measure.
        trials: one for each input that both sides were computed again on; those without a difference say nothing.
    """
    telling = [trial for trial in trials if trial.tells]
    if not telling:
        return replace(cause, confirmed=False)
    worst = max(telling, key=lambda trial: trial.after / trial.allowed if trial.allowed else math.inf)
    evidence = {
        **cause.evidence,
        "before": max(trial.before for trial in telling),
        "after": worst.after,
        "allowed": worst.allowed,
        "inputs": len(telling),
    }
    gone = all(trial.gone for trial in trials)
    enough = len(telling) > 1 or telling[0].numbers >= ENOUGH
    return replace(cause, evidence=evidence, confirmed=gone and enough)


def read_off(cause: Cause, *, shown: bool = True) -> Cause:
    """A cause that is confirmed because the difference is the setting itself, such as a tie that one side lacks.

    Args:
        cause: of a check that compares this setting, so that exchanging it leaves nothing.
        shown: the exchange was made, and left nothing that can be told apart; otherwise it is not confirmed.
    """
    return replace(cause, confirmed=shown)


def state(cause: Cause) -> str:
    """ "confirmed", "likely" or "described".

    Args:
        cause: as `prove` gave it.
    """
    if cause.confirmed:
        return "confirmed"
    before, after = cause.evidence.get("before"), cause.evidence.get("after")
    return "likely" if isinstance(before, float) and isinstance(after, float) and after < before else "described"
