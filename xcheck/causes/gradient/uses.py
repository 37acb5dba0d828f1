"""Causes in the gradient of a weight that is used several times: a use that is lost, doubled or averaged.

One side's gradient is made again from the other side's uses. Where it comes out as it was observed, what was changed
on the way is the cause, and it is proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ...matching import MatchPlan
from ...phases.checks.splits import WHOLE, Split, splits
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array, Arrays, StepRecord
from ..prove import Trial, prove, read_off
from ..recomputed import REPRODUCED

SUBSETS = 8
"""Uses up to which every subset is tried; of more, one or all but one."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of the uses of one parameter.

    Attributes:
        id: of the cause.
        side: whose gradient it explains.
        uses: names of the other side's uses that it lacks or counts twice; all of them for an average.
        read: name of the use on `side` itself through which no gradient comes back.
        gap: what is left unexplained, relative to the largest use.
    """

    id: str
    side: SideName
    uses: tuple[str, ...]
    read: str = ""
    gap: float = field(default=0.0, compare=False)


@isolated(list[Cause])
def use_causes(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Cause]:
    """What makes the gradients of weights that are used several times differ, one cause for all that it explains.

    Args:
        plan: of the run.
        record: step of the reference, with its uses.
        other: the same step of the other side.
    """
    whole_factor = _scaled_as_a_whole(plan, record, other)
    open_: dict[str, tuple[Split, list[Told]]] = {}
    for split in splits(plan, record, other):
        told = [each for each in _told(plan, split) if each.id != "averaged_uses" or not whole_factor]
        if told:
            open_[split.match.name(plan.reference)] = split, told
    causes: list[Cause] = []
    while open_:
        ranked: dict[Told, list[str]] = {}
        for name, (_, told) in open_.items():
            for each in told:
                ranked.setdefault(each, []).append(name)
        best = max(ranked, key=lambda each: len(ranked[each]))  # of equals the first, in the order of `_told`
        causes.append(_cause(best, {name: open_[name][0] for name in ranked[best]}))
        for name in ranked[best]:
            del open_[name]
    return causes


def _scaled_as_a_whole(plan: MatchPlan, record: StepRecord, other: StepRecord) -> bool:
    """Whether more than the gradients of shared weights differs: then a factor is not the mean over their uses."""
    shared = {split.match for split in splits(plan, record, other)}
    losses = [made.losses.get("total", np.zeros(())) for made in (record, other)]
    if _gap(losses[0], losses[1], {"": losses[0]}) > REPRODUCED:
        return True
    for match in plan.trained:
        mine = match.piece(plan.reference).total(record.gradients.get)
        theirs = match.piece(plan.follower).total(other.gradients.get)
        if match in shared or mine is None or theirs is None:
            continue
        if _gap(mine, match.to(plan.reference, theirs), {"": mine}) > REPRODUCED:
            return True
    return False


def _told(plan: MatchPlan, split: Split) -> Iterator[Told]:
    """Everything that reproduces what was observed, the likelier first."""
    sides: tuple[tuple[SideName, Array, Arrays, Arrays], ...] = (
        (plan.follower, split.other, split.uses, split.other_uses),
        (plan.reference, split.total, split.other_uses, split.uses),
    )
    if _gap(split.total, split.other, split.uses) <= REPRODUCED:
        return
    for side, observed, full, _ in sides:
        for name, gradient in full.items():
            gap = _gap(observed, _sum(full.values()) + gradient, full)
            if name != WHOLE and gradient.any() and gap <= REPRODUCED:
                yield Told("doubled_use", side, (name,), gap=gap)
    for side, observed, full, own in sides:
        detached = next((name for name, gradient in own.items() if not gradient.any()), "")
        for lost in _subsets([name for name, gradient in full.items() if gradient.any()]):
            gap = _gap(observed, _sum(g for name, g in full.items() if name not in lost), full)
            if gap <= REPRODUCED:
                yield Told("detached_use" if detached else "lost_use", side, lost, detached, gap)
    for side, observed, full, own in sides:
        gap = _gap(observed, _sum(full.values()) / len(full), full)
        if len(own) == len(full) > 1 and gap <= REPRODUCED:  # what a side uses once, it takes no mean of
            yield Told("averaged_uses", side, tuple(full), gap=gap)


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Proper subsets, the smaller first."""
    few = len(names) <= SUBSETS
    for size in range(1, len(names)):
        if few or size in (1, len(names) - 1):
            yield from combinations(names, size)


def _gap(observed: Array, made: Array, uses: Arrays) -> float:
    """Largest difference of two gradients, relative to the largest of the uses."""
    largest = max(float(np.abs(g).max(initial=0)) for g in uses.values())
    apart = float(np.abs(observed - made).max(initial=0))
    return apart / largest if largest else apart


def _cause(told: Told, found: Mapping[str, Split]) -> Cause:
    side, full = told.side, other_side(told.side)
    first = next(iter(found.values()))
    weight = first.match.name(side)
    uses = " and ".join(told.uses)
    paths = {side: weight, full: f"{first.match.name(full)} via {uses}"}
    if told.id == "doubled_use":
        summary = f"the {side} side counts the use of {weight} through {uses} twice: its gradient is the {full} "
        summary += "side's with that part added twice"
    elif told.id == "averaged_uses":
        summary = f"the {side} side averages the {len(told.uses)} uses of {weight}: its gradient is the {full} side's "
        summary += f"divided by {len(told.uses)}"
    else:
        summary = f"the {side} side loses the gradient of {weight} through {uses}: its gradient is the {full} side's "
        summary += "without that part"
        if told.read:
            summary += f"; {told.read} reads the weight there, but no gradient comes back"
    cause = Cause(
        id=told.id,
        phase="gradient",
        torch=paths["torch"],
        keras=paths["keras"],
        summary=summary,
        evidence={
            "parameters": [split.match.name(side) for split in found.values()],
            "uses": list(told.uses),
        },
        fix=_FIXES[told.id, side].format(uses=uses, weight=weight),
    )
    return prove(
        cause, [Trial(_gap(s.total, s.other, s.uses), told.gap, REPRODUCED, s.total.size) for s in found.values()]
    )


_FIXES: dict[tuple[str, SideName], str] = {
    (
        "lost_use",
        "keras",
    ): "keras: let {uses} read the variable itself; a copy of it, or stop_gradient, has no gradient",
    ("lost_use", "torch"): "torch: let {uses} read the parameter itself, not a copy, .data or .detach() of it",
    ("detached_use", "keras"): "keras: remove stop_gradient from {weight}, or also stop the gradient on the torch side",
    ("detached_use", "torch"): "torch: remove .detach(), .data or no_grad from {weight}, or also stop the gradient "
    "in keras",
    ("doubled_use", "keras"): "keras: add the use through {uses} to the loss once",
    ("doubled_use", "torch"): "torch: add the use through {uses} to the loss once",
    ("averaged_uses", "keras"): "keras: sum the gradients of the uses; do not average them",
    ("averaged_uses", "torch"): "torch: sum the gradients of the uses; do not average them",
}


@isolated(list[Cause])
def transferred_copies(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Cause]:
    """Variables that are kept equal by copying, each trained by a part of the uses of the one parameter they stand for.

    Args:
        plan: of the run, with the copies that were declared.
        record, other: the same step of both sides.
    """
    torch, keras = (record, other) if plan.reference == "torch" else (other, record)
    causes: list[Cause] = []
    for path in sorted(plan.copies):
        matches = [m for m in plan.parameters if m.torch == path]
        uses, whole = torch.uses.get(path, {}), torch.gradients.get(path)
        trained = [(m, g) for m in matches if (g := keras.gradients.get(m.keras)) is not None]
        if whole is None or len(uses) < 2 or not trained:
            continue
        parts = [(m, part) for m, g in trained if (part := _part(m.to("torch", g), uses)) is not None]
        if len(parts) < len(trained):
            continue
        donor, part = parts[0]
        causes.append(
            read_off(
                Cause(
                    id="transferred_copy",
                    phase="gradient",
                    torch=f"{path} via {' and '.join(part)}",
                    keras=" = ".join(m.keras for m in matches),
                    summary=(
                        f"{len(matches)} variables are kept equal by copying, and {donor.keras} learns only from "
                        f"{' and '.join(part)}: torch's single parameter learns from {len(uses)} uses"
                    ),
                    evidence={
                        "uses": list(uses),
                        "learnt_from": {m.keras: list(names) for m, names in parts},
                        "equal_to_a_relative": REPRODUCED,
                    },
                    fix="keras: use one layer in all places; a copy after the step carries the value, not the gradient",
                )
            )
        )
    return causes


def _part(gradient: Array, uses: Arrays) -> tuple[str, ...] | None:
    """The uses that a gradient is the sum of; None where it is all of them, or no sum of them."""
    if _gap(gradient, _sum(uses.values()), uses) <= REPRODUCED:
        return None
    sums = ((names, _sum(uses[name] for name in names)) for names in _subsets(list(uses)))
    return next((names for names, total in sums if _gap(gradient, total, uses) <= REPRODUCED), None)


def _sum(gradients: Iterable[Array]) -> Array:
    first, *rest = gradients
    return np.asarray(sum(rest, first))
