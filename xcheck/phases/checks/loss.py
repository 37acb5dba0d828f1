"""The loss of a training step, term by term: records of both sides -> checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...matching import MatchPlan
from ...numerics.judge import Frame, Item, compare_items
from ...numerics.tolerance import KAPPA
from ...records.result import Check, Verdict
from ...records.trace import Array, Arrays
from ...stepping.lockstep import StepPair


def loss_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The data loss and the penalties apart, their sum, and every term that both sides name.

    A term that one side alone names is left to the sums; its absence is no difference. A step of the user's own may
    name no data loss, or no total: then the terms that both name are compared, and the run is INCONCLUSIVE where these
    are not all of one side's.
    """
    frame = Frame("loss", precision, step.number, plan.reference, *step.reference.sums)
    record, other = step.reference.record.losses, _renamed_losses(plan, step.follower.losses)
    moved = [(ours.losses, _renamed_losses(plan, others.losses)) for ours, others in step.moved]
    zero = np.zeros(())
    names = [n for n in ("data", "penalty") if n in record or n in other]
    if not ("data" in record and "data" in other):  # what a side does not tell apart is compared in the total
        names = [n for n in names if n in record and n in other]
    names += sorted(n for n in record if "/" in n and n in other)
    names += ["total"] if "total" in record and "total" in other else []
    items: list[Item] = []
    for name in names:
        # A side without penalties has a penalty of zero; one whose data loss was not seen has none to compare.
        absent = zero if name == "penalty" and record and other else None
        twins = tuple(twin.losses.get(name, absent) for twin in step.reference.twins)
        again = tuple((ours.get(name, absent), others.get(name, absent)) for ours, others in moved)
        values = record.get(name, absent), other.get(name, absent)
        items.append(Item(name, name, name, *values, twins, moved=again))
    if not record and not other:
        return [frame.check(Item("loss", None, None, None, None), Verdict.INCONCLUSIVE, "neither side reported a loss")]
    # A term below one rounding error of the largest is zero for every purpose: kappa * eps * sqrt(n) * floor = eps.
    largest = max((float(np.abs(i.reference)) for i in items if i.reference is not None), default=0.0)
    checks = _in_sum(compare_items(frame, items, floor=largest / (KAPPA * np.sqrt(frame.terms))))
    told = "" if "total" in names else _not_told(plan, record, other, names)
    return [*checks, frame.check(Item("total", None, None, None, None), Verdict.INCONCLUSIVE, told)] if told else checks


def _not_told(plan: MatchPlan, record: Arrays, other: Arrays, names: Sequence[str]) -> str:
    """Why the loss is not compared whole where a step returns no total; nothing where its terms are compared."""
    sides = ((plan.reference, record), (plan.follower, other))
    silent = [side for side, of in sides if not of]
    if silent:
        return f"no loss of the {silent[0]} side was seen: let its step return it"
    if names and any(set(of) - {"total"} <= set(names) for _, of in sides):
        return ""
    shown = "; ".join(f"{side} returns {', '.join(n.removeprefix('data/') for n in of)}" for side, of in sides)
    return f"not compared, since a step returns no total and its terms have other names ({shown}): name them alike"


def _in_sum(checks: list[Check]) -> list[Check]:
    """The checks of a loss without those of its two parts, where both differ and the total does not.

    What one side adds inside of the model is a penalty there, and may be part of the other's loss function.
    """
    by_name = {check.name: check for check in checks}
    parts = [by_name[name] for name in ("data", "penalty") if name in by_name]
    moved = len(parts) == 2 and all(part.verdict is Verdict.DIFFERENT for part in parts)
    if not moved or by_name["total"].verdict is not Verdict.EQUIVALENT:
        return checks
    told = "the sides call other terms of it a penalty, and are compared in sum"
    return [replace(c, detail=c.detail or told) if c.name == "total" else c for c in checks if c not in parts]


def _renamed_losses(plan: MatchPlan, losses: Arrays) -> dict[str, Array]:
    """Penalties that go by a parameter's path get the reference's path."""
    paths = {m.path(plan.follower): m.path(plan.reference) for m in plan.parameters if m.plain}
    renamed: dict[str, Array] = {}
    for name, value in losses.items():
        kind, _, path = name.partition("/")
        renamed[f"{kind}/{paths.get(path, path)}" if path else name] = value
    return renamed
