"""Causes in the sum of all penalties: of which weights it is, and how much of each, read off their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...matching import MatchPlan
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import Array, StepRecord
from ...records.uses import PENALTY
from ..prove import ENOUGH, Trial, prove, read_off
from ..recomputed import REPRODUCED, reproduces
from ..text import listed
from ..update.clipping import rounded

NONE = ("", 0.0)

Penalty = tuple[str, float]
"""Norm and factor of the penalty of one weight."""


@isolated(list[Cause])
def penalised_causes(
    plan: MatchPlan, record: StepRecord, other: StepRecord, torch: Mapping[str, Any], keras: Mapping[str, Any]
) -> list[Cause]:
    """Why the penalties differ, where each weight has an L1 or an L2 penalty or none, and those add up to all of it.

    Args:
        plan: of the run.
        record, other: the step of the reference, and of the other side.
        torch, keras: environments of the sides.
    """
    records: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    if not all("data" in r.losses for r in records.values()) or not reproduces(
        record.losses["data"], other.losses["data"]
    ):
        return []
    totals: dict[SideName, float] = {side: float(records[side].losses.get(PENALTY, np.zeros(()))) for side in SIDES}
    if abs(totals["torch"] - totals["keras"]) <= REPRODUCED * max(abs(t) for t in totals.values()):
        return []
    of: dict[SideName, dict[str, Penalty]] = {side: _penalties(plan, records[side], side) for side in SIDES}
    if not any(of.values()):
        return list(_of_no_weight(totals, {side: float(records[side].losses.get("total", np.nan)) for side in SIDES}))
    explained = all(
        abs(_sum(plan, records[s], s, of[s]) - totals[s]) <= REPRODUCED * max(abs(totals[s]), 1e-300) for s in SIDES
    )
    groups: dict[tuple[Penalty, Penalty], list[str]] = {}
    for match in plan.parameters:
        pair = tuple(of[side].get(match.name(side), NONE) for side in SIDES)
        if not _same(*pair) and any(_shared(records[side], match.path(side)) for side in SIDES):
            return []  # it may be counted once per use, which the uses tell
        if not _same(*pair):
            groups.setdefault((pair[0], pair[1]), []).append(match.name(plan.reference))
    facts: dict[SideName, Mapping[str, Any]] = {"torch": torch, "keras": keras}
    rates: dict[SideName, Any] = {side: facts[side].get("optimizer_settings", {}).get("weight_decay") for side in SIDES}
    return [_cause(plan, names, pair, totals, rates, explained) for pair, names in groups.items()]


def _shared(record: StepRecord, path: str) -> bool:
    return len(record.uses.get(path, {}).keys() - {PENALTY}) > 1


def _same(one: Penalty, two: Penalty) -> bool:
    return one[0] == two[0] and abs(one[1] - two[1]) <= REPRODUCED * abs(one[1])


def _penalties(plan: MatchPlan, record: StepRecord, side: SideName) -> dict[str, Penalty]:
    """Weight -> what its penalty is; those that have one of a known form."""
    found: dict[str, Penalty] = {}
    for match in plan.parameters:
        piece = match.piece(side)
        gradient = record.uses.get(piece.paths[0], {}).get(PENALTY) if match.plain else None
        weight = piece.total(record.before.value)
        if gradient is None or weight is None or not gradient.any() or gradient.shape != weight.shape:
            continue
        forms: dict[str, Array] = {"L2": 2 * weight, "L1": np.sign(weight)}
        for form, slope in forms.items():
            factor = float(np.vdot(gradient, slope) / np.vdot(slope, slope)) if slope.any() else 0.0
            if factor and reproduces(gradient, factor * slope):
                found[match.name(side)] = form, rounded(factor, 6) or factor
                break
    return found


def _sum(plan: MatchPlan, record: StepRecord, side: SideName, penalties: Mapping[str, Penalty]) -> float:
    total, counted = 0.0, set[str]()
    for match in plan.parameters:
        form, factor = penalties.get(match.name(side), NONE)
        weight = match.piece(side).total(record.before.value)
        if form and weight is not None and match.name(side) not in counted:
            counted.add(match.name(side))
            total += factor * float((weight**2).sum() if form == "L2" else np.abs(weight).sum())
    return total


def _of_no_weight(totals: Mapping[SideName, float], losses: Mapping[SideName, float]) -> Iterator[Cause]:
    """A term of one side alone that is of what the model computes.

    Args:
        totals: of the penalties.
        losses: with them.
    """
    if not totals["torch"] or not totals["keras"]:
        side: SideName = "torch" if totals["torch"] else "keras"
        value, other = totals[side], losses[other_side(side)]
        before, after = (abs(losses[side] - term - other) / abs(other or np.nan) for term in (0.0, value))
        how = "add_loss or an activity regularizer" if side == "keras" else "penalty="
        cause = Cause(
            "extra_loss_term",
            "loss",
            PENALTY,
            PENALTY,
            f"the {side} side adds {value:.6g} to its loss by {how}; the term depends on activations, not on "
            f"weights; the {other_side(side)} side adds nothing",
            {"torch": totals["torch"], "keras": totals["keras"]},
            fix=f"{other_side(side)}: add the same term, or {side}: remove it",
        )
        yield prove(cause, [Trial(before, after, REPRODUCED, ENOUGH)])  # the term is read, and not solved for


def _cause(
    plan: MatchPlan,
    names: list[str],
    pair: tuple[Penalty, Penalty],
    totals: Mapping[SideName, float],
    rates: Mapping[SideName, Any],
    explained: bool,
) -> Cause:
    matches = {m.name(plan.reference): m for m in plan.parameters}
    shown: dict[SideName, str] = {side: listed([matches[name].name(side) for name in names]) for side in SIDES}
    told = {
        side: f"{f!r} times {_words(form)}" if form else "nothing" for side, (form, f) in zip(SIDES, pair, strict=True)
    }
    missing: list[SideName] = [side for side, (form, _) in zip(SIDES, pair, strict=True) if not form]
    id_ = "penalty_missing" if missing else "penalty_factor" if pair[0][0] == pair[1][0] else "penalty_norm"
    summary = f"the penalty of {shown[plan.reference]} is {told['torch']} in torch and {told['keras']} in keras"
    for side in missing:
        factor, rate = pair[SIDES.index(other_side(side))][1], rates[side]
        if isinstance(rate, int | float) and rate and pair[SIDES.index(other_side(side))][0] == "L2":
            summary += f"; its gradient is {2 * factor!r} times the weight, weight_decay={rate!r} of the {side} side's "
            summary += f"optimizer takes {rate!r} times the weight, and is in no loss"
    (torch_form, torch_factor), (keras_form, keras_factor) = pair
    keras_fix = f"kernel_regularizer=keras.regularizers.{torch_form}({torch_factor!r})"
    keras_fix = keras_fix if torch_form else "kernel_regularizer=None"
    torch_fix = "no penalty of it"
    if keras_form:
        torch_fix = f"penalty={keras_factor!r} * " + ("w.square().sum()" if keras_form == "L2" else "w.abs().sum()")
    cause = Cause(
        id=id_,
        phase="loss",
        torch=shown["torch"],
        keras=shown["keras"],
        summary=summary,
        evidence={
            "torch": totals["torch"],
            "keras": totals["keras"],
            "weights": len(names),
            "both_penalties_recomputed": explained,
        },
        fix=_decayed_instead(shown, pair, rates) or f"keras: {keras_fix}, or torch: {torch_fix}",
    )
    return read_off(cause, shown=explained)


def _decayed_instead(
    shown: Mapping[SideName, str], pair: tuple[Penalty, Penalty], rates: Mapping[SideName, Any]
) -> str:
    """What mends a weight decay of PyTorch's optimizer against L2 penalties in Keras; "" where it is something else."""
    (torch_form, _), (keras_form, factor) = pair
    rate = rates["torch"]
    if torch_form or keras_form != "L2" or not isinstance(rate, int | float) or not rate:
        return ""
    return (
        f"keras: keras.regularizers.L2({rate / 2!r}) on every weight that torch decays, whose gradient is {rate!r} "
        "times the weight (the reported loss still has it), or torch: two parameter groups, "
        f"dict(params=[{shown['torch']}], weight_decay={2 * factor!r}) and dict(params=the others, weight_decay=0.0)"
    )


def _words(form: str) -> str:
    return "the sum of the squares" if form == "L2" else "the sum of the absolute values"
