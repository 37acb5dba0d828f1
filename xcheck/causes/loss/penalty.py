"""Causes in a penalty: another factor, another norm, or a weight that one side alone penalises."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...matching import Match, MatchPlan
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName
from ...records.trace import Array, StepRecord
from ..prove import read_off
from ..recomputed import REPRODUCED
from ..update.clipping import rounded

FORMS: Mapping[str, str] = {"L1": "the sum of the absolute values", "L2": "the sum of the squares"}


@isolated(list[Cause])
def penalty_causes(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Cause]:
    """Why the penalty of a weight differs; only of penalties that both sides name by its path, or one side alone has.

    Args:
        plan: of the run.
        record, other: the step of both sides.
    """
    torch, keras = (record, other) if plan.reference == "torch" else (other, record)
    causes: list[Cause] = []
    for match in plan.parameters:
        if not match.plain:
            continue
        one, two = _of(torch, match, "torch"), _of(keras, match, "keras")
        if one is None or two is None or one == two:
            continue
        if one[0] == two[0] and abs(one[1] - two[1]) <= REPRODUCED * abs(one[1]):
            continue
        names = {"torch": match.torch, "keras": match.keras}
        told = [f"{factor!r} times {FORMS[form]}" for form, factor in (one, two)]
        causes.append(
            read_off(
                Cause(
                    id="penalty_factor" if one[0] == two[0] else "penalty_norm",
                    phase="loss",
                    torch=names["torch"],
                    keras=names["keras"],
                    summary=f"the penalty of {names[plan.reference]} is {told[0]} in torch and {told[1]} in keras",
                    evidence={"torch": told[0], "keras": told[1], "both_penalties_recomputed": True},
                    fix=f"keras: keras.regularizers.{one[0]}({one[1]!r}), or torch: {two[1]!r} * "
                    + ("weight.abs().sum()" if two[0] == "L1" else "weight.square().sum()"),
                )
            )
        )
    return causes


def _of(record: StepRecord, match: Match, side: SideName) -> tuple[str, float] | None:
    """Norm and factor of the penalty of a weight; None where it is neither that people would write."""
    paths = {match.torch, match.keras}
    value = next(
        (v for name, v in record.losses.items() if name.removeprefix("penalty/") in paths and "/" in name), None
    )
    if value is None or not value.any():
        return None
    weight = match.piece(side).total(record.before.value)
    if weight is None:
        return None
    norms: dict[str, Array] = {"L1": np.abs(weight).sum(), "L2": (weight**2).sum()}
    for form, norm in norms.items():
        factor = rounded(float(value / norm)) if norm else None
        if factor is not None:
            return form, factor
    return None
