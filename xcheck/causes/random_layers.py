"""What draws random numbers in training besides dropout: no two frameworks draw alike, so it is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..records.result import Cause, Check, Verdict
from ..records.sides import SIDES, SideName, other_side
from ..records.trace import DROPOUT_RATES
from .prove import read_off

RANDOM_LAYER = "random_layer"
"""Id of the cause."""

NAME = "random numbers in training"
"""Name of the check."""

DRAWN = ("forward", "loss", "gradient", "update", "state")
"""Phases whose quantities may follow from what is drawn."""


def with_dropout(
    draws: Mapping[SideName, Sequence[str]], rates: Mapping[SideName, Sequence[float]]
) -> dict[SideName, Sequence[str]]:
    """What draws on each side, with the dropout of places that the other side lacks, where that side draws by itself.

    Dropout that a model makes by hand, of a mask that it draws, is drawn like any other number; dropout of a layer is
    switched off while a side is watched, and would seem to draw nothing.

    Args:
        draws: though dropout is off, as `Runner.draws` says.
        rates: of the dropout that was switched off.
    """
    found: dict[SideName, Sequence[str]] = {}
    for side in SIDES:
        own, other = rates[side], other_side(side)
        alone = Counter(own) - Counter(rates[other]) if len(own) > len(rates[other]) and draws[other] else ()
        found[side] = [*draws[side], *(f"dropout at a rate of {rate:g}" for rate in alone)]
    return found


def random_layer(draws: Mapping[SideName, Sequence[str]]) -> Cause | None:
    """The side that draws random numbers which its outputs depend on, where the other draws none; None otherwise.

    It is confirmed: made from the same state with several seeds, the outputs of the one side vary and those of the
    other do not.

    Args:
        draws: what draws on each side, as `Runner.draws` says.
    """
    drawing: list[SideName] = [side for side in SIDES if draws[side]]
    if len(drawing) != 1:
        return None
    (side,) = drawing
    names = ", ".join(draws[side])
    place = draws[side][0].rpartition(": ")[0] or draws[side][0]
    other: SideName = "keras" if side == "torch" else "torch"
    return read_off(
        Cause(
            id=RANDOM_LAYER,
            phase="forward",
            torch=place if side == "torch" else None,
            keras=place if side == "keras" else None,
            summary=f"the {side} side draws random numbers in training ({names}), the {other} side does not: with "
            f"a different seed the training outputs of {side} change, those of {other} do not",
            evidence={s: list(draws[s]) for s in SIDES},
            fix=f"add the same noise or augmentation to the {other} model, or move it from the model into the data",
        )
    )


def undecided(checks: Sequence[Check], step: int, draws: Mapping[SideName, Sequence[str]]) -> list[Check]:
    """The checks of a run, where both sides draw: what of this step differs is not judged.

    Args:
        checks: of the run so far.
        step: that was compared last.
        draws: what draws on each side.
    """
    told = "; ".join(f"{side}: {', '.join(draws[side])}" for side in SIDES)
    detail = f"both sides draw random numbers in training ({told}), so they cannot be compared"

    def judged(check: Check) -> Check:
        judged_here = check.error is not None or check.name == DROPOUT_RATES
        of_step = check.step == step and check.phase in DRAWN and judged_here
        if not of_step or check.verdict is not Verdict.DIFFERENT or "(inference)" in check.name:
            return check
        return replace(check, verdict=Verdict.INCONCLUSIVE, detail=detail)

    return [judged(check) for check in checks]


def drawing_check(draws: Mapping[SideName, Sequence[str]], step: int) -> Check | None:
    """Whether a step depends on random numbers, as a check; None where it does on neither side.

    Args:
        draws: what draws on each side.
        step: in which.
    """
    if not any(draws.values()):
        return None
    both = all(draws.values())
    told = "; ".join(f"{side}: {', '.join(draws[side]) or 'none'}" for side in SIDES)
    torch, keras = (", ".join(draws[side]) or None for side in SIDES)
    verdict = Verdict.INCONCLUSIVE if both else Verdict.DIFFERENT
    return Check("forward", "float64", step, NAME, torch, keras, verdict, detail=told)
