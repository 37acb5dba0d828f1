"""Causes in the precision of numbers: what float32 has rounded on its way into a float64 computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..numerics.judge import FLOAT32_EXPLAINS
from ..phases.trajectory import FLOAT32_OPERATION
from ..records.islands import NO_FLOAT64
from ..records.isolated_hypotheses import isolated
from ..records.result import Cause, Check
from ..records.sides import SIDES, SideName
from .prove import read_off
from .text import listed

MOST = 5
"""Places that are named."""


@isolated(list[Cause])
def float32_constants(checks: Sequence[Check], places: Mapping[SideName, Sequence[str]]) -> list[Cause]:
    """One cause for all checks that are within their allowance because numbers of float32 explain the rest.

    It is confirmed by having been measured: the step was made again with those numbers moved by one rounding of
    float32, and the difference is no larger than what that does.

    Args:
        checks: of one step.
        places: side -> where it computes with such numbers.
    """
    explained = [c for c in checks if c.detail == FLOAT32_EXPLAINS and c.error is not None and c.allowed]
    if not explained:
        return []
    worst = max(explained, key=lambda c: c.error or 0.0)
    sides: list[SideName] = [side for side in SIDES if places.get(side)]
    whose = f"the {sides[0]} side computes" if len(sides) == 1 else "both sides compute"
    id, what, fix = (
        "float32_constant",
        f"{whose} with numbers rounded to float32; a float64 run cannot restore their digits",
        "create tables and constants in the float type of the model: numpy.float64, or cast before computing them",
    )
    if all(NO_FLOAT64 in place for side in sides for place in places[side]):
        id = FLOAT32_OPERATION
        what = f"{whose} an operation in float32, because the framework has no float64 kernel for it on this device"
        fix = "none in the port; an operation with float64, such as keras.ops.conv, can be compared more closely"
    return [
        read_off(
            Cause(
                id=id,
                phase=explained[0].phase,
                torch=_listed(places.get("torch", ())),
                keras=_listed(places.get("keras", ())),
                summary=f"{what}; perturbing these numbers by their rounding error explains the whole difference",
                evidence={
                    "checks_explained": len(explained),
                    "largest_error": worst.error,
                    "explained_there": worst.allowed,
                    "item": worst.name,
                },
                fix=fix,
            )
        )
    ]


def _listed(places: Sequence[str]) -> str | None:
    return listed(places, MOST) if places else None
