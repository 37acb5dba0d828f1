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
    """The gradient of each use against the same use of the other side, and that the uses sum to the whole.

    Uses are matched by order, or by value where the order does not fit. Where the wholes agree, uses that do the same
    only together (two calls against one on both batches) are compared in sum.
    """
    if precision != "float64" or step.moved:  # what numbers of float32 do to a single use is not measured
        return []
    frame = Frame("gradient", precision, step.number, plan.reference, *step.reference.sums)
    found = splits(plan, step.reference.record, step.follower)
    floor = _floor(found, step.reference.record)
    checks: list[Check] = []
    for split in found:
        sums = [_sum_check(frame, split, side, floor) for side in (plan.reference, plan.follower)]
        if all(c is None or c.verdict is Verdict.EQUIVALENT for c in sums):
            checks += [c for c in sums if c is not None]
            checks += _by_use(plan, frame, split, step.reference.twins, floor)
    return checks


def _floor(found: Sequence[Split], record: StepRecord) -> float:
    """The least scale: a use may have a gradient of zero, as the bias before a normalization has."""
    wholes = [rms(g) for g in record.gradients.values() if g is not None]
    uses = [rms(g) for split in found for g in split.uses.values()]
    return max(statistics.median([size for size in sizes if size > 0] or [0.0]) for sizes in (wholes, uses))


def unsplit(plan: MatchPlan, step: StepPair) -> list[str]:
    """One line per parameter whose uses, as far as they were seen, do not sum to its gradient."""
    frame = Frame("gradient", "float64", step.number, plan.reference, *step.reference.sums)
    notes: list[str] = []
    found = splits(plan, step.reference.record, step.follower)
    floor = _floor(found, step.reference.record)
    for split in found:
        for side in (plan.reference, plan.follower):
            summed = _sum_check(frame, split, side, floor)
            if summed is not None and summed.error is not None and summed.verdict is not Verdict.EQUIVALENT:
                notes.append(
                    f"the gradient of {split.match.name(side)} is not split by use: what was seen of its uses on the "
                    f"{side} side misses the whole by {summed.error:.1e} of the largest, allowed {summed.allowed:.1e}"
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
    return replace(compare_items(frame, [item], floor=largest)[0], detail=f"{len(uses)} uses on the {side} side")


def _by_use(plan: MatchPlan, frame: Frame, split: Split, twins: Sequence[StepRecord], floor: float) -> list[Check]:
    mine, theirs = list(split.uses), list(split.other_uses)
    largest = max(floor, *(rms(g) for g in (*split.uses.values(), *split.other_uses.values())))
    piece = split.match.piece(plan.reference)
    wholes = tuple(piece.total(twin.gradients.get) for twin in twins)
    whole = Item(piece.name, None, None, split.total, split.other, wholes, source=largest)
    agree = compare_items(frame, [whole], floor=largest)[0].verdict is Verdict.EQUIVALENT
    groups = paired(list(split.uses.values()), list(split.other_uses.values()), agree=agree, floor=floor)
    if not any(mine and theirs for mine, theirs in groups):
        return []  # nothing fits: the whole says as much
    checks = _judged(plan, frame, split, twins, groups, floor)
    if agree and any(c.verdict is not Verdict.EQUIVALENT for c in checks):
        everything = tuple(range(len(mine))), tuple(range(len(theirs)))
        return _judged(plan, frame, split, twins, [everything], floor)
    return checks


def _judged(
    plan: MatchPlan, frame: Frame, split: Split, twins: Sequence[StepRecord], groups: Sequence[Group], floor: float
) -> list[Check]:
    """One check per group; those with uses on both sides are measured."""
    mine, theirs = list(split.uses), list(split.other_uses)
    piece = split.match.piece(plan.reference)
    items: list[Item] = []
    details: list[str] = []
    for ours, others in groups:
        left, right = [mine[i] for i in ours], [theirs[j] for j in others]
        named = {plan.reference: left, plan.follower: right}
        torch, keras = (
            f"{split.match.name(side)} via {_listed(named[side])}" if named[side] else None
            for side in ("torch", "keras")
        )
        parts = [split.uses[name] for name in left] + [split.other_uses[name] for name in right]
        items.append(
            Item(
                f"{piece.name} via {_listed(left or right)}",
                torch,
                keras,
                _sum(split.uses[name] for name in left) if left else None,
                _sum(split.other_uses[name] for name in right) if right else None,
                tuple(_of_twin(twin, piece, left) for twin in twins),
                source=max(rms(part) for part in parts),
            )
        )
        counts = f"{len(left)} on the {plan.reference} side, {len(right)} on the {plan.follower} side"
        details.append("" if len(left) <= 1 and len(right) <= 1 else f"uses that are the same in sum: {counts}")
    judged = compare_items(frame, items, floor)
    lost = "no use on the {} side has this gradient"
    return [
        replace(check, detail=check.detail or detail)
        if item.reference is not None and item.other is not None
        else frame.check(item, Verdict.DIFFERENT, lost.format(plan.follower if item.other is None else plan.reference))
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
