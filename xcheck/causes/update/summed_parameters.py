"""The cause of an update that is several times too large: one side trains several parameters that it adds up.

PyTorch's recurrent layers have two biases where Keras's have one. Only their sum matters, each of them gets the
gradient of the sum, and so the sum moves twice as far.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...matching import Match, MatchPlan
from ...numerics.compare import measure
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import StepRecord
from ..prove import ENOUGH, Trial, prove
from ..recomputed import REPRODUCED


@isolated(list[Cause])
def added_up_parameters(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Cause]:
    """One cause for each side that trains several parameters where the other trains one.

    Confirmed where each of them alone moves exactly as the one on the other side.

    Args:
        plan: of the run.
        record: step of the reference.
        other: the same step of the other side.
    """
    sides: tuple[SideName, ...] = ("torch", "keras")
    causes: list[Cause] = []
    for side in sides:
        several = [m for m in plan.parameters if len(m.piece(side).trained) > 1]
        if not several:
            continue
        errors = [error for m in several for error in _alone(plan, m, record, other)]
        names = {s: ", ".join(m.name(s) for m in several) for s in sides}
        first = several[0].piece(side)
        causes.append(
            prove(
                Cause(
                    id="two_biases",
                    phase="update",
                    torch=names["torch"],
                    keras=names["keras"],
                    summary=f"the {side} side trains {len(first.trained)} parameters and uses their sum, where the "
                    f"{other_side(side)} side trains one: each gets the whole gradient, so their sum moves "
                    f"{len(first.trained)} times as far",
                    evidence={"each_alone_differs_by": max(errors, default=0.0), "sums": len(several)},
                    fix=f"{side}: train one of them and keep the others zero: {first.trained[-1]}"
                    + (".requires_grad_(False)" if side == "torch" else " with trainable=False"),
                ),
                [Trial(1.0, error, REPRODUCED, ENOUGH) for error in errors],
            )
        )
    return causes


def _alone(plan: MatchPlan, match: Match, record: StepRecord, other: StepRecord) -> Iterator[float]:
    """How far the update of each term is from the update of the parameter on the other side."""
    for term in match.terms():
        mine = term.piece(plan.reference).total(record.update)
        theirs = term.piece(plan.follower).total(other.update)
        if mine is None or theirs is None or theirs.shape != term.shape(plan.follower):
            yield float("inf")
        else:
            yield measure(mine, term.to(plan.reference, theirs)).element
