"""The gradient of a parameter that is used several times, use by use."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ...matching import MatchPlan, Piece
from ...numerics.compare import rms
from ...numerics.judge import Frame, Item, compare_items
from ...records.result import Check, Verdict
from ...records.sides import SideName
from ...records.trace import Array, StepRecord
from ...records.uses import Group, paired
from ...stepping.lockstep import StepPair
from .splits import WHOLE, Split, by_use, splits


def use_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """The gradient of each use against the same use of the other side, and the sum of the uses against the whole.

    Uses are matched by order, or by value where the order does not fit. Where the whole gradients agree, uses that
    agree only together (two calls against one on both batches) are compared in sum.
    """
    if precision != "float64" or step.moved:  # the effect of float32 numbers on a single use is not measured
        return []
    frame = Frame("gradient", precision, step.number, plan.reference, *step.reference.sums)
    all_splits = splits(plan, step.reference.record, step.follower)
    floor = _floor(all_splits, step.reference.record)
    checks: list[Check] = []
    for split in all_splits:
        sums = [_sum_check(frame, split, side, floor) for side in (plan.reference, plan.follower)]
        if all(c is None or c.verdict is Verdict.EQUIVALENT for c in sums):
            checks += [c for c in sums if c is not None]
            checks += _by_use(plan, frame, split, step.reference.twins, floor)
    return checks


def _floor(all_splits: Sequence[Split], record: StepRecord) -> float:
    """The smallest scale: a use may have a gradient of zero, such as a bias before a normalization."""
    wholes = [rms(g) for g in record.gradients.values() if g is not None]
    uses = [rms(g) for split in all_splits for g in split.uses.values()]
    return max(statistics.median([size for size in sizes if size > 0] or [0.0]) for sizes in (wholes, uses))


def unsplit(plan: MatchPlan, step: StepPair) -> list[str]:
    """A note per side on the parameters whose observed uses do not sum to their gradient; the worst has numbers."""
    frame = Frame("gradient", "float64", step.number, plan.reference, *step.reference.sums)
    notes: list[str] = []
    all_splits = splits(plan, step.reference.record, step.follower)
    floor = _floor(all_splits, step.reference.record)
    for side in (plan.reference, plan.follower):
        sums = [(split.match.name(side), _sum_check(frame, split, side, floor)) for split in all_splits]
        missed = [(name, c) for name, c in sums if c and c.error is not None and c.verdict is not Verdict.EQUIVALENT]
        if missed:
            name, worst = max(missed, key=lambda each: each[1].severity)
            others = f" nor that of {len(missed) - 1} more parameters" if len(missed) > 1 else ""
            notes.append(
                f"the gradient of {name} is not split by use{others}: the observed uses on the {side} side miss "
                f"{worst.error:.1e} of it, allowed {worst.allowed:.1e}"
            )
    return notes


def _sum_check(frame: Frame, split: Split, side: SideName, floor: float) -> Check | None:
    of_reference = side == frame.reference
    whole, uses = (split.total, split.uses) if of_reference else (split.other, split.other_uses)
    if WHOLE in uses:
        return None
    path = split.match.name(side)
    sides = (path, None) if side == "torch" else (None, path)
    largest = max(floor, *(rms(g) for g in uses.values()))
    item = Item(f"uses of {path} sum to its gradient", *sides, whole, _sum(uses.values()), source=largest)
    return replace(
        compare_items(frame, [item], floor=largest)[0],
        detail=f"sum of the gradients of its {len(uses)} uses in the {side} model, against its whole gradient",
    )


def _by_use(plan: MatchPlan, frame: Frame, split: Split, twins: Sequence[StepRecord], floor: float) -> list[Check]:
    names, other_names = list(split.uses), list(split.other_uses)
    largest = max(floor, *(rms(g) for g in (*split.uses.values(), *split.other_uses.values())))
    piece = split.match.piece(plan.reference)
    wholes = tuple(piece.total(twin.gradients.get) for twin in twins)
    whole = Item(piece.name, None, None, split.total, split.other, wholes, source=largest)
    agree = compare_items(frame, [whole], floor=largest)[0].verdict is Verdict.EQUIVALENT
    groups = paired(list(split.uses.values()), list(split.other_uses.values()), agree=agree, floor=floor)
    if not any(names and other_names for names, other_names in groups):
        return []  # no use matches: the check of the whole shows it
    checks = _judged(plan, frame, split, twins, groups, floor)
    if agree and any(c.verdict is not Verdict.EQUIVALENT for c in checks):
        everything = tuple(range(len(names))), tuple(range(len(other_names)))
        return _judged(plan, frame, split, twins, [everything], floor)
    return checks


def _judged(
    plan: MatchPlan, frame: Frame, split: Split, twins: Sequence[StepRecord], groups: Sequence[Group], floor: float
) -> list[Check]:
    """One check per group; groups with uses on both sides are measured."""
    names, other_names = list(split.uses), list(split.other_uses)
    piece = split.match.piece(plan.reference)
    items: list[Item] = []
    details: list[str] = []
    for indices, other_indices in groups:
        reference_uses, follower_uses = [names[i] for i in indices], [other_names[j] for j in other_indices]
        by_side = {plan.reference: reference_uses, plan.follower: follower_uses}
        torch, keras = (
            f"{split.match.name(side)} via {_listed(by_side[side])}" if by_side[side] else None
            for side in ("torch", "keras")
        )
        parts = [split.uses[name] for name in reference_uses] + [split.other_uses[name] for name in follower_uses]
        items.append(
            Item(
                f"{piece.name} via {_listed(reference_uses or follower_uses)}",
                torch,
                keras,
                _sum(split.uses[name] for name in reference_uses) if reference_uses else None,
                _sum(split.other_uses[name] for name in follower_uses) if follower_uses else None,
                tuple(_of_twin(twin, piece, reference_uses) for twin in twins),
                source=max(rms(part) for part in parts),
            )
        )
        counts = f"{len(reference_uses)} on the {plan.reference} side, {len(follower_uses)} on the {plan.follower} side"
        details.append(
            "" if len(reference_uses) <= 1 and len(follower_uses) <= 1 else f"uses with equal sums: {counts}"
        )
    judged = compare_items(frame, items, floor)
    missing = "no use on the {} side has this gradient"
    return [
        replace(check, detail=check.detail or detail)
        if item.reference is not None and item.other is not None
        else frame.check(
            item, Verdict.DIFFERENT, missing.format(plan.follower if item.other is None else plan.reference)
        )
        for item, check, detail in zip(items, judged, details, strict=True)
    ]


def _of_twin(twin: StepRecord, piece: Piece, names: Sequence[str]) -> Array | None:
    uses = {WHOLE: piece.total(twin.gradients.get), **by_use(piece, twin)}
    parts = [part for name in names if (part := uses.get(name)) is not None]
    return _sum(parts) if parts and len(parts) == len(names) else None


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _sum(gradients: Iterable[Array]) -> Array:
    first, *rest = gradients
    return np.asarray(sum(rest, first))
