"""How far free runs drift, and when their drift no longer says anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..numerics.tolerance import LUCK
from ..records.result import Check, Verdict


@dataclass
class Envelope:
    """The difference that rounding explains in a free run, step by step.

    Where training multiplies errors, the drift of a run becomes that of its most unstable direction. Two twins show
    the factor of its growth, but hardly how much of it the initial roundings contained: that is one number in each
    twin, and may be close to zero in both. So a drift may exceed theirs by the factor by which it has grown since the
    run began, up to `LUCK`; where nothing grows, it may not exceed theirs.

    Attributes:
        first: name -> allowance of the first step.
        growth: the largest growth of an allowance since then.
    """

    first: dict[str, float] = field(default_factory=dict[str, float])
    growth: float = 1.0

    def widened(self, checks: Sequence[Check]) -> list[Check]:
        """The checks of one more step, with allowances widened by the growth of the run."""
        for c in checks:
            if c.allowed:
                self.growth = max(self.growth, c.allowed / self.first.setdefault(c.name, c.allowed))
        factor = min(self.growth, LUCK)
        return [self._widened(c, c.error, factor * (c.allowed or 0.0)) for c in checks]

    def _widened(self, check: Check, error: float | None, allowed: float) -> Check:
        if error is None:
            return check
        explained = check.verdict is Verdict.DIFFERENT and error <= allowed
        return replace(check, allowed=allowed, verdict=Verdict.EQUIVALENT if explained else check.verdict)


def diverged(compared: int, planned: int) -> str:
    """The note on a free run that ended because its twins diverged.

    Args:
        compared: number of compared steps.
        planned: number of planned steps.
    """
    return (
        f"the free run ended after {compared} of {planned} steps: from there on, rounding errors make the "
        "reference's own perturbed runs diverge completely, so it shows nothing about the other side; the re-synced "
        "steps do"
    )
