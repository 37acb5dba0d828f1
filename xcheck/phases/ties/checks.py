"""Whether ties persist after the sync and after every step, and whether each optimizer has its parameters once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...matching import MatchPlan
from ...records.inventory import Holdings, Inventory
from ...records.result import Check, Verdict
from ...records.sides import SideName, other_side
from ...records.trace import Groups, State, StepRecord
from ...stepping.lockstep import StepPair


def tie_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """Both sides' ties after the step against those before it; no check without ties."""
    if precision != "float64":
        return []
    checks: list[Check] = []
    records: tuple[tuple[SideName, StepRecord], ...] = (
        (plan.reference, step.reference.record),
        (plan.follower, step.follower),
    )
    for side, record in records:
        checks += _tie_changes("update", step.number, side, record.before, record.after)
    return checks


def synced_ties(plan: MatchPlan, before: State, after: State) -> list[Check]:
    """The other side's ties after it received the reference's values against those it was built with."""
    return _tie_changes("sync", None, plan.follower, before, after)


def holding_checks(
    plan: MatchPlan, torch: Inventory, keras: Inventory, holdings: Mapping[SideName, Holdings | None]
) -> list[Check]:
    """Checks of optimizers that do not have the parameters of their model, each once.

    A parameter that neither optimizer has is not a difference.

    Args:
        plan: of the run.
        torch, keras: inventories of the sides.
        holdings: of the sides; None where they are unknown, or nothing is trained.
    """
    checks: list[Check] = []
    inventories: tuple[tuple[SideName, Inventory], ...] = (("torch", torch), ("keras", keras))
    for side, inventory in inventories:
        holding, other_holding = holdings[side], holdings[other_side(side)]
        if holding is None:
            continue
        for path, times in holding.listed.items():
            if times > 1:
                detail = f"the optimizer lists it {times} times, so every step updates it {times} times"
                checks.append(_holding(side, f"optimizer of {path}", path, Verdict.DIFFERENT, detail))
        counterparts = {m.path(side): m.path(other_side(side)) for m in plan.parameters}
        for entry in inventory.parameters():
            trained = other_holding is None or counterparts.get(entry.path) in other_holding.listed
            if entry.trainable and entry.path not in holding.listed and trained:
                detail = f"trainable, but not in the optimizer of the {side} side: no step changes it"
                checks.append(_holding(side, f"optimizer of {entry.path}", entry.path, Verdict.DIFFERENT, detail))
        if holding.orphans:
            shapes = ", ".join(map(str, holding.orphans))
            detail = f"it holds {len(holding.orphans)} parameters that the model does not, of shape {shapes}: what "
            detail += "becomes of them is not compared"
            checks.append(_holding(side, f"optimizer of the {side} side", None, Verdict.INCONCLUSIVE, detail))
        if holding.hidden:
            detail = (
                f"the loss has a gradient for {len(holding.hidden)} tensors that are not registered in the {side} "
                "model: "
            )
            detail += "no step updates them, and they are not saved"
            first = next(iter(holding.hidden))
            checks.append(_holding(side, f"parameters of the {side} side", first, Verdict.DIFFERENT, detail))
    return checks


def _holding(side: SideName, name: str, path: str | None, verdict: Verdict, detail: str) -> Check:
    paths = (path, None) if side == "torch" else (None, path)
    return Check("inventory", None, None, name, *paths, verdict, detail=detail)


def _tie_changes(phase: str, number: int | None, side: SideName, before: State, after: State) -> list[Check]:
    """One check if no tie changed, otherwise one per changed group."""
    if not before.ties and not after.ties:
        return []
    event = "the sync" if number is None else "the step"
    unchanged = [group for group in before.ties if group in after.ties]
    changed = [
        (group, f"{event} separated them: {_shown(_parts(group, after.ties))}")
        for group in before.ties
        if not any(set(group) <= set(other) for other in after.ties)
    ]
    changed += [
        (group, f"{event} made them one storage, they were {_shown(_parts(group, before.ties))}")
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
                unchanged,
                Verdict.EQUIVALENT,
                f"as before {event}: {len(unchanged)}",
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
    """The paths of a group, divided by the ties of a different moment."""
    parts: list[list[str]] = []
    remaining = list(group)
    while remaining:
        single = (remaining[0],)
        storage: tuple[str, ...] = next((tied for tied in groups if remaining[0] in tied), single)
        parts.append([path for path in remaining if path in storage])
        remaining = [path for path in remaining if path not in storage]
    return parts


def _shown(parts: Sequence[Sequence[str]]) -> str:
    return " | ".join(" = ".join(part) for part in parts)
