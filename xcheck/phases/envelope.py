"""How far runs that are left alone drift, and when that says nothing any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..numerics.tolerance import LUCK
from ..records.result import Check, Verdict


@dataclass
class Envelope:
    """What rounding explains in a free run, step by step.

    Where training multiplies errors, the drift of a run becomes that of its most unstable direction. Two twins say by
    what it grows, and little of how much of it the roundings held that it grew from: that is one number in each, which
    may be next to nothing in both. So a drift may be larger than theirs by as much as it has grown since the run began,
    up to `LUCK`; where nothing grows, by nothing.

    Attributes:
        first: name -> what was allowed in the first step.
        growth: since then, of the quantity that has grown most.
    """

    first: dict[str, float] = field(default_factory=dict[str, float])
    growth: float = 1.0

    def widened(self, checks: Sequence[Check]) -> list[Check]:
        """The checks of one more step, by what the growth of the run allows."""
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


def diverged(made: int, asked: int) -> str:
    """What a reader should know of a free run that its twins end.

    Args:
        made: steps that were compared.
        asked: steps that were asked for.
    """
    return (
        f"the free run ended after {made} of {asked} steps: rounding errors alone then drive the reference's own "
        "perturbed runs apart by as much as they hold, and it says nothing of the other side; the re-synced steps do"
    )
