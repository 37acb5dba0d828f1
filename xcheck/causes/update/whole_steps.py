"""Causes in the update that need no formula: averages of the weights, batches that are collected, rates of some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...matching import MatchPlan
from ...records.isolated import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import Array, StepRecord
from ..prove import Trial, prove, read_off
from ..recomputed import REPRODUCED, gap, reproduces
from ..text import listed

AVERAGE = "average"
"""Role of the slot that holds the decaying mean of a weight."""

ACCUMULATED = "gradient_accumulation_steps"
"""How Keras calls the number of batches that it collects the gradients of."""


@isolated(list[Cause])
def whole_step_causes(
    plan: MatchPlan, record: StepRecord, other: StepRecord, torch: Mapping[str, Any], keras: Mapping[str, Any]
) -> list[Cause]:
    """What makes updates differ whatever the optimizer is, where the gradients agree.

    Args:
        plan: of the run.
        record, other: the step of the reference, and of the other side.
        torch, keras: environments of the sides.
    """
    records: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    return [
        *_collected(plan, records, keras),
        *_averages(plan, records, {"torch": torch, "keras": keras}),
    ]


def _moved_alike(plan: MatchPlan, records: Mapping[SideName, StepRecord]) -> bool:
    """Whether the weights themselves make the same step, so that what differs is the means that are kept of them."""
    for match in plan.trained:
        mine, theirs = (match.piece(side).total(records[side].update) for side in SIDES)
        if mine is None or theirs is None or theirs.shape != match.keras_piece.shape:
            return False
        weight = match.torch_piece.total(records["torch"].before.value)
        size = 0.0 if weight is None else float(np.abs(weight).max(initial=0))
        if not reproduces(match.to("keras", mine), theirs, size):
            return False
    return True


@isolated(list[Cause])
def rates_of_some(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Cause]:
    """Parameters whose update is a multiple of what it is on the other side, where all other updates agree.

    Args:
        plan: of the run.
        record, other: the step of the reference, and of the other side.
    """
    records: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    found: dict[str, list[str]] = {}
    factors: dict[str, float] = {}
    same, before, after = 0, 0.0, 0.0
    for match in plan.trained:
        mine, theirs = (match.piece(side).total(records[side].update) for side in SIDES)
        if mine is None or theirs is None or theirs.shape != match.keras_piece.shape:
            return []
        moved = match.to("torch", theirs)
        weight = match.torch_piece.total(records["torch"].before.value)
        size = 0.0 if weight is None else float(np.abs(weight).max(initial=0))
        if not mine.any() and not moved.any():
            continue
        factor = float(np.vdot(mine, moved) / np.vdot(mine, mine)) if mine.any() else np.inf
        if not np.isfinite(factor) or not factor or not reproduces(moved, factor * mine, size):
            return []
        if reproduces(moved, mine, size):
            same += 1
        else:
            before, after = max(before, gap(mine, moved, size)), max(after, gap(moved, factor * mine, size))
            key = next((k for k, f in factors.items() if abs(f - factor) <= REPRODUCED * abs(f)), str(factor))
            factors.setdefault(key, factor)
            found.setdefault(key, []).append(match.name(plan.reference))
    if not same:
        return []
    return [_of_some(plan, names, factors[key], same, (before, after)) for key, names in found.items()]


def _of_some(plan: MatchPlan, names: list[str], factor: float, same: int, gaps: tuple[float, float]) -> Cause:
    ours = {m.name(plan.reference): m for m in plan.trained}
    shown = {side: listed([ours[name].name(side) for name in names]) for side in SIDES}
    cause = Cause(
        id="rate_of_some",
        phase="update",
        torch=shown["torch"],
        keras=shown["keras"],
        summary=f"the keras side moves {shown[plan.reference]} by {factor:.6g} times what the torch side does, and "
        f"the other {same} parameters alike: they have a learning rate of their own",
        evidence={"factor": factor, "alike": same},
        fix=f"torch: give {shown['torch']} the learning rate of the others in the parameter groups times "
        f"{factor:.6g}, or keras: scale what moves {shown['keras']} by {1 / factor:.6g} in a subclass's update_step",
    )
    numbers = sum(int(np.prod(ours[name].torch_piece.shape)) for name in names)
    return prove(cause, [Trial(*gaps, REPRODUCED, numbers - 1)])


def _collected(plan: MatchPlan, records: Mapping[SideName, StepRecord], keras: Mapping[str, Any]) -> Iterator[Cause]:
    """Keras keeps the gradients of several batches before it moves anything."""
    steps = keras.get("optimizer_settings", {}).get(ACCUMULATED)
    if not isinstance(steps, int) or steps < 2:
        return
    moved: dict[SideName, int] = {
        side: sum(_moves(records[side], m.piece(side).paths[0]) for m in plan.trained) for side in SIDES
    }
    if moved["keras"] or not moved["torch"]:
        return
    yield read_off(
        Cause(
            id="accumulated_gradients",
            phase="update",
            torch="the optimizer",
            keras=f"{ACCUMULATED}={steps}",
            summary=f"the keras side collects the gradients of {steps} batches before it moves a weight, and takes "
            f"their mean; the torch side moves {moved['torch']} parameters after each",
            evidence={"torch": moved["torch"], "keras": 0, ACCUMULATED: steps},
            fix=f"keras: no {ACCUMULATED}, or torch: optimizer.step() after each {steps} batches, of losses divided by "
            f"{steps}",
        )
    )


def _moves(record: StepRecord, path: str) -> bool:
    update = record.update(path)
    return update is not None and bool(update.any())


def _averages(
    plan: MatchPlan, records: Mapping[SideName, StepRecord], facts: Mapping[SideName, Mapping[str, Any]]
) -> Iterator[Cause]:
    """Decaying means of the weights that one side alone keeps, or with another share, or writes over the weights."""
    kept: dict[SideName, Averages] = {side: _kept(plan, records[side], side) for side in SIDES}
    having: list[SideName] = [side for side in SIDES if kept[side]]
    # Of weights that move otherwise the means that are kept of them are no cause.
    alike = bool(having) and _moved_alike(plan, records)
    if len(having) == 1:
        side = having[0]
        every = facts[side].get("optimizer_settings", {}).get("ema_overwrite_frequency")
        writes = f", which it writes over them every {every} steps" if isinstance(every, int) else ""
        yield _average(
            "averaged_weights",
            kept,
            f"the {side} side keeps decaying means of its weights{writes}, the {other_side(side)} side does not",
            {"averages": len(kept[side]), "on_the_other_side": 0},
            "keras: use_ema=False"
            if side == "keras"
            else "keras: use_ema=True, or torch: without averages of the weights",
            alike,
        )
    if len(having) < 2:
        return
    over = {side: all(np.array_equal(w, new) for _, new, w in kept[side].values()) for side in SIDES}
    if over["torch"] != over["keras"]:
        side = "torch" if over["torch"] else "keras"
        yield _average(
            "averages_over_weights",
            kept,
            f"after this step the {side} side has written the decaying means over its weights, the {other_side(side)} "
            "side has not",
            {"weights_equal_to_their_mean": len(kept[side])},
            "keras: ema_overwrite_frequency as torch has it (None: never), or torch: copy the means when keras does",
        )
        return
    shares = {side: _share(kept[side]) for side in SIDES}
    torch, keras = shares["torch"], shares["keras"]
    if torch is not None and keras is not None and abs(torch - keras) > REPRODUCED * abs(torch):
        yield _average(
            "average_momentum",
            kept,
            f"the decaying means of the weights keep {torch:.12g} of what they were in torch and {keras:.12g} in keras",
            {"torch": torch, "keras": keras, "made_again_to": REPRODUCED},
            f"keras: ema_momentum={torch:.12g}, or torch: {keras:.12g}",
            alike,
        )


Averages = dict[str, tuple[Array, Array, Array]]
"""Path -> mean before and after the step, and the weight after it."""


def _kept(plan: MatchPlan, record: StepRecord, side: SideName) -> Averages:
    found: Averages = {}
    for path in {path for m in plan.trained for path in m.piece(side).paths}:
        new = record.after.slots.get(path, {}).get(AVERAGE)
        if new is not None:
            found[path] = (
                record.before.slots.get(path, {}).get(AVERAGE, np.zeros_like(new)),
                new,
                record.after.value(path),
            )
    return found


def _share(kept: Averages) -> float | None:
    """How much of a mean is kept in a step; None where no one number gives them all."""
    path = max(kept, key=lambda p: float(np.abs(kept[p][0] - kept[p][2]).max(initial=0)))
    old, new, weight = kept[path]
    apart = old - weight
    if not apart.any():
        return None
    share = float(np.vdot(new - weight, apart) / np.vdot(apart, apart))
    made = all(reproduces(new, share * old + (1 - share) * w, float(np.abs(w).max())) for old, new, w in kept.values())
    return share if made else None


def _average(
    name: str, kept: Mapping[SideName, Averages], summary: str, evidence: Any, fix: str, alike: bool = True
) -> Cause:
    where = {side: f"averages of {len(kept[side])} weights" if kept[side] else "no averages" for side in SIDES}
    cause = Cause(name, "update", where["torch"], where["keras"], summary, evidence, fix=fix)
    return read_off(cause) if alike else cause
