"""Parameters whose gradient is exactly zero on both sides, so that nothing of them was compared."""

from __future__ import annotations

from collections.abc import Sequence

from ..matching import Match, MatchPlan
from ..numerics.judge import Frame, Item
from ..records.result import Check, Verdict
from ..records.sides import SideName
from ..records.trace import StepRecord
from ..stepping.lockstep import StepPair


def silent_gradients(plan: MatchPlan, checks: Sequence[Check], zero: set[str], precision: str) -> list[Check]:
    """Parameters whose gradient was exactly zero on both sides in every step: nothing of them was compared.

    Args:
        plan: of the run.
        checks: of the run so far.
        zero: names, on the reference, of what had an all-zero gradient in every step.
        precision: of the run.
    """
    frame = Frame("gradient", precision, None, plan.reference)
    compared = {c.name for c in checks if c.phase == "gradient" and c.error is not None}
    return [
        frame.check(
            Item(m.name(plan.reference), m.name("torch"), m.name("keras"), None, None),
            Verdict.INCONCLUSIVE,
            "exactly zero on both sides in every step: nothing was compared; use batches that reach it, or waive it",
        )
        for m in plan.trained
        if m.name(plan.reference) in zero & compared
    ]


def zero_gradients(plan: MatchPlan, step: StepPair) -> set[str]:
    """Names, on the reference, of the matches whose gradient is exactly zero on both sides in this step.

    Where the parts of several uses cancel, as those of a critic's last bias do, these parts were compared.
    """
    record, other = step.reference.record.gradients, step.follower.gradients
    zero: set[str] = set()
    for m in plan.trained:
        both = (m.piece(plan.reference).total(record.get), m.piece(plan.follower).total(other.get))
        if all(g is not None and not g.any() for g in both) and not _used(plan, m, step):
            zero.add(m.name(plan.reference))
    return zero


def _used(plan: MatchPlan, match: Match, step: StepPair) -> bool:
    """Whether both sides told uses of a match apart whose gradients are not zero."""
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    return all(
        any(part.any() for path in match.piece(side).paths for part in record.uses.get(path, {}).values())
        for side, record in records.items()
    )
