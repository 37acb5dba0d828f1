"""Whether what is one storage stays one: after the sync, and after every step; and whether the optimizer knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...matching import MatchPlan
from ...records.inventory import Holdings, Inventory
from ...records.result import Check, Verdict
from ...records.sides import SideName, other_side
from ...records.trace import Groups, State, StepRecord
from ...stepping.lockstep import StepPair


def tie_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """Both sides' ties after the step against those before it; no check where nothing is tied."""
    if precision != "float64":
        return []
    checks: list[Check] = []
    records: tuple[tuple[SideName, StepRecord], ...] = (
        (plan.reference, step.reference.record),
        (plan.follower, step.follower),
    )
    for side, record in records:
        checks += _held("update", step.number, side, record.before, record.after)
    return checks


def synced_ties(plan: MatchPlan, before: State, after: State) -> list[Check]:
    """The other side's ties after it received the reference's values against those it was built with."""
    return _held("sync", None, plan.follower, before, after)


def holding_checks(
    plan: MatchPlan, torch: Inventory, keras: Inventory, holdings: Mapping[SideName, Holdings | None]
) -> list[Check]:
    """Whether each side's optimizer holds the parameters of its model, each once; no check where it does.

    A parameter that neither side's optimizer has is trained by neither.

    Args:
        plan: of the run.
        torch, keras: what the sides hold.
        holdings: of the sides; None where nothing was asked, or nothing trains.
    """
    checks: list[Check] = []
    inventories: tuple[tuple[SideName, Inventory], ...] = (("torch", torch), ("keras", keras))
    for side, inventory in inventories:
        held, others = holdings[side], holdings[other_side(side)]
        if held is None:
            continue
        for path, times in held.listed.items():
            if times > 1:
                detail = f"the optimizer lists it {times} times, and every step updates it as often"
                checks.append(_holding(side, f"optimizer of {path}", path, Verdict.DIFFERENT, detail))
        counterparts = {m.path(side): m.path(other_side(side)) for m in plan.parameters}
        for entry in inventory.parameters():
            trained = others is None or counterparts.get(entry.path) in others.listed
            if entry.trainable and entry.path not in held.listed and trained:
                detail = f"trainable, but not in the optimizer of the {side} side: no step changes it"
                checks.append(_holding(side, f"optimizer of {entry.path}", entry.path, Verdict.DIFFERENT, detail))
        if held.orphans:
            shapes = ", ".join(map(str, held.orphans))
            detail = f"it holds {len(held.orphans)} parameters that the model does not, of shape {shapes}: what "
            detail += "becomes of them is not compared"
            checks.append(_holding(side, f"optimizer of the {side} side", None, Verdict.INCONCLUSIVE, detail))
        if held.hidden:
            detail = f"the loss has a gradient for {len(held.hidden)} tensors that the {side} model does not know of: "
            detail += "no step changes them, and no file holds them"
            first = next(iter(held.hidden))
            checks.append(_holding(side, f"parameters of the {side} side", first, Verdict.DIFFERENT, detail))
    return checks


def _holding(side: SideName, name: str, path: str | None, verdict: Verdict, detail: str) -> Check:
    paths = (path, None) if side == "torch" else (None, path)
    return Check("inventory", None, None, name, *paths, verdict, detail=detail)


def _held(phase: str, number: int | None, side: SideName, before: State, after: State) -> list[Check]:
    """One check where everything holds, else one per group that changed."""
    if not before.ties and not after.ties:
        return []
    what = "the sync" if number is None else "the step"
    held = [group for group in before.ties if group in after.ties]
    changed = [
        (group, f"{what} separated them: {_shown(_parts(group, after.ties))}")
        for group in before.ties
        if not any(set(group) <= set(other) for other in after.ties)
    ]
    changed += [
        (group, f"{what} made them one storage, they were {_shown(_parts(group, before.ties))}")
        for group in after.ties
        if not any(set(group) <= set(other) for other in before.ties)
    ]
    if not changed:
        return [
            _check(
                phase,
                number,
                side,
                f"ties of the {side} side",
                held,
                Verdict.EQUIVALENT,
                f"as before {what}: {len(held)}",
            )
        ]
    return [
        _check(phase, number, side, f"tie of {group[0]}", [group], Verdict.DIFFERENT, detail)
        for group, detail in changed
    ]


def _check(
    phase: str,
    number: int | None,
    side: SideName,
    name: str,
    groups: Sequence[Sequence[str]],
    verdict: Verdict,
    detail: str,
) -> Check:
    paths = "; ".join(" = ".join(group) for group in groups)
    sides = (paths, None) if side == "torch" else (None, paths)
    return Check(phase, "float64", number, name, *sides, verdict, detail=detail)


def _parts(group: Sequence[str], groups: Groups) -> list[list[str]]:
    """The storages that the paths of a group lie in, by the ties of another moment."""
    parts: list[list[str]] = []
    left = list(group)
    while left:
        alone = (left[0],)
        of: tuple[str, ...] = next((other for other in groups if left[0] in other), alone)
        parts.append([path for path in left if path in of])
        left = [path for path in left if path not in of]
    return parts


def _shown(parts: Sequence[Sequence[str]]) -> str:
    return " | ".join(" = ".join(part) for part in parts)
