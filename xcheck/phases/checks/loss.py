"""The loss of a training step, term by term: records of both sides -> checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...matching import MatchPlan
from ...numerics.judge import Frame, Item, compare_items
from ...numerics.tolerance import KAPPA
from ...records.result import Check, Verdict
from ...records.trace import Array, Arrays, total_of
from ...stepping.lockstep import StepPair


def loss_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The data loss and the penalties separately, their sum, and every term that both sides name.

    A term that only one side names is compared only within the sums; its absence is not a difference. A user's own
    step may name no data loss or no total: then the terms that both sides name are compared, and the run is
    INCONCLUSIVE unless these are all terms of one side. A sum of terms is compared only if it equals the other side's
    total; a different sum proves nothing, since a step may return values that are not part of its loss.
    """
    frame = Frame("loss", precision, step.number, plan.reference, *step.reference.sums)
    reference, follower = step.reference.record.losses, _renamed_losses(plan, step.follower.losses)
    moved = [
        (reference_run.losses, _renamed_losses(plan, follower_run.losses)) for reference_run, follower_run in step.moved
    ]
    summed = len({"total" in of for of in (reference, follower) if of}) == 2  # a sum of terms, which may not be a total
    zero = np.zeros(())
    names = [n for n in ("data", "penalty") if n in reference or n in follower]
    # Terms that a side does not separate are compared in the total.
    if not ("data" in reference and "data" in follower):
        names = [n for n in names if n in reference and n in follower]
    names += sorted(n for n in reference if "/" in n and n in follower)
    names += ["total"] if summed or ("total" in reference and "total" in follower) else []
    items: list[Item] = []
    for name in names:
        # A side without penalties has a penalty of zero; a side whose data loss was not seen has none to compare.
        absent = zero if name == "penalty" and reference and follower else None

        def of(losses: Arrays, name: str = name, absent: Array | None = absent) -> Array | None:
            return total_of(losses) if name == "total" else losses.get(name, absent)

        twins = tuple(of(twin.losses) for twin in step.reference.twins)
        moved_values = tuple((of(reference_run), of(follower_run)) for reference_run, follower_run in moved)
        values = of(reference), of(follower)
        items.append(Item(name, name, name, *values, twins, moved=moved_values))
    if not reference and not follower:
        return [frame.check(Item("loss", None, None, None, None), Verdict.INCONCLUSIVE, "neither side reported a loss")]
    # A term below one rounding error of the largest counts as zero: kappa * eps * sqrt(n) * floor = eps.
    largest = max((float(np.abs(i.reference)) for i in items if i.reference is not None), default=0.0)
    checks = _in_sum(compare_items(frame, items, floor=largest / (KAPPA * np.sqrt(frame.terms))))
    if summed and any(c.name == "total" and c.verdict is Verdict.DIFFERENT for c in checks):
        checks, names = [c for c in checks if c.name != "total"], [n for n in names if n != "total"]
    detail = "" if "total" in names else _missing_total(plan, reference, follower, names)
    return (
        [*checks, frame.check(Item("total", None, None, None, None), Verdict.INCONCLUSIVE, detail)]
        if detail
        else checks
    )


def _missing_total(plan: MatchPlan, reference: Arrays, follower: Arrays, names: Sequence[str]) -> str:
    """Why the total loss is not compared where a step returns no total; empty where its terms are compared."""
    sides = ((plan.reference, reference), (plan.follower, follower))
    silent = [side for side, losses in sides if not losses]
    if silent:
        return f"no loss of the {silent[0]} side was seen: let its step return it"
    if names and any(set(losses) - {"total"} <= set(names) for _, losses in sides):
        return ""
    shown = "; ".join(f"{side} returns {', '.join(n.removeprefix('data/') for n in losses)}" for side, losses in sides)
    return f"not compared: the step returns no total, and its terms have different names ({shown}): use the same names"


def _in_sum(checks: list[Check]) -> list[Check]:
    """The checks of a loss without those of its two parts, if both parts differ and the total does not.

    A term that one side adds inside the model is a penalty there, but may be part of the other's loss function.
    """
    by_name = {check.name: check for check in checks}
    parts = [by_name[name] for name in ("data", "penalty") if name in by_name]
    both_differ = len(parts) == 2 and all(part.verdict is Verdict.DIFFERENT for part in parts)
    if not both_differ or "total" not in by_name or by_name["total"].verdict is not Verdict.EQUIVALENT:
        return checks
    detail = "the sides call other terms of it a penalty, and are compared in sum"
    return [replace(c, detail=c.detail or detail) if c.name == "total" else c for c in checks if c not in parts]


def _renamed_losses(plan: MatchPlan, losses: Arrays) -> dict[str, Array]:
    """The losses, with penalties named by a parameter's path renamed to the reference's path."""
    paths = {m.path(plan.follower): m.path(plan.reference) for m in plan.parameters if m.plain}
    renamed: dict[str, Array] = {}
    for name, value in losses.items():
        kind, _, path = name.partition("/")
        renamed[f"{kind}/{paths.get(path, path)}" if path else name] = value
    return renamed
