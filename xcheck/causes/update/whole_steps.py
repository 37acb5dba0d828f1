"""Causes in the update that need no formula: batches that are collected, rates of some, and averages of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...matching import MatchPlan
from ...numerics.tolerance import KAPPA, epsilon
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName
from ...records.trace import Array, StepRecord
from ..prove import Trial, prove, read_off
from ..recomputed import REPRODUCED, gap, reproduces
from ..setup.frozen import frozen_later
from ..text import listed
from .averages import average_causes

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
        *frozen_later(plan, records),
        *_collected(plan, records, keras),
        *average_causes(plan, records, {"torch": torch, "keras": keras}),
    ]


@isolated(list[Cause])
def rates_of_some(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Cause]:
    """Parameters whose update is a multiple of what it is on the other side.

    Where all other updates agree, these have a rate of their own; else the multiples are compared with what an
    optimizer may scale each parameter by, such as the norm of the weight.

    Args:
        plan: of the run.
        record, other: the step of the reference, and of the other side.
    """
    records: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    found: dict[str, list[str]] = {}
    factors: dict[str, float] = {}
    every: list[_Scaled] = []
    same, before, after = 0, 0.0, 0.0
    for match in plan.trained:
        mine, theirs = (match.piece(side).total(records[side].update) for side in SIDES)
        if mine is None or theirs is None or theirs.shape != match.keras_piece.shape:
            return []
        moved = match.to("torch", theirs)
        weight = match.torch_piece.total(records["torch"].before.value)
        size = 0.0 if weight is None else float(np.abs(weight).max(initial=0))
        if _is_noise(mine, size) or _is_noise(moved, size):
            continue
        factor = float(np.vdot(mine, moved) / np.vdot(mine, mine)) if mine.any() else np.inf
        if not np.isfinite(factor) or not factor or not reproduces(moved, factor * mine, size):
            return []
        gradient = match.torch_piece.total(records["torch"].gradients.get)
        if weight is not None and gradient is not None and len(match.torch_piece.paths) == 1:
            measured = gap(mine, moved, size), gap(moved, factor * mine, size)
            every.append(_Scaled(factor, {"torch": mine, "keras": moved}, weight, gradient, *measured))
        if reproduces(moved, mine, size):
            same += 1
        else:
            before, after = max(before, gap(mine, moved, size)), max(after, gap(moved, factor * mine, size))
            key = next((k for k, f in factors.items() if abs(f - factor) <= REPRODUCED * abs(f)), str(factor))
            factors.setdefault(key, factor)
            found.setdefault(key, []).append(match.name(plan.reference))
    if len(factors) > 1 or not same:
        recognised = _recognised(every)
        if recognised or not same:
            return recognised
    return [_of_some(plan, names, factors[key], same, (before, after)) for key, names in found.items()]


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A parameter whose update is a multiple of the other side's.

    Attributes:
        factor: that of keras is so many times that of torch.
        updates: of each side, in the layout of torch.
        weight, gradient: in torch.
        before, after: how far the updates are apart, and with the factor.
    """

    factor: float
    updates: Mapping[SideName, Array]
    weight: Array
    gradient: Array
    before: float
    after: float


SCALES: Mapping[str, Callable[[Array, Array, Array], float]] = {
    "the norm of the weight, divided by that of its step": lambda w, g, u: _norm(w) / _norm(u),
    "the norm of the weight, divided by that of its gradient": lambda w, g, u: _norm(w) / _norm(g),
    "the norm of the weight": lambda w, g, u: _norm(w),
    "the root mean square of the weight": lambda w, g, u: _norm(w) / w.size**0.5,
    "1 / the norm of the gradient": lambda w, g, u: 1.0 / _norm(g),
    "1 / the norm of its step": lambda w, g, u: 1.0 / _norm(u),
    "the root of the number of its elements": lambda w, g, u: w.size**0.5,
    "1 / the root of the number of its elements": lambda w, g, u: w.size**-0.5,
}
"""What an optimizer may scale the step of each parameter by: of its weight, its gradient, and its step without it."""


def _norm(array: Array) -> float:
    return float(np.sqrt(np.sum(array * array)))


def _recognised(every: Sequence[_Scaled]) -> list[Cause]:
    """What one side alone multiplies the update of each parameter by, up to one number for all of them."""
    for side, power in (("keras", 1.0), ("torch", -1.0)):
        for words, scale in SCALES.items():
            plain: SideName = "torch" if side == "keras" else "keras"
            with np.errstate(all="ignore"):
                ratios = [one.factor**power / scale(one.weight, one.gradient, one.updates[plain]) for one in every]
            rest = [one for one, ratio in zip(every, ratios, strict=True) if not _near(ratio, ratios[0])]
            # Some leave a parameter of one axis alone.
            if len(every) - len(rest) < 3 or any(one.weight.ndim > 1 or not _near(one.factor, 1.0) for one in rest):
                continue
            cause = Cause(
                id="scaled_step",
                phase="update",
                torch="the optimizer",
                keras="the optimizer",
                summary=f"the {side} side multiplies the step of each parameter by {words}; the {plain} side does not",
                evidence={"times": ratios[0], "parameters": len(every) - len(rest), "left_alone": len(rest)},
                fix=f"{plain}: multiply each parameter's step by it, or {side}: remove this factor",
            )
            return [prove(cause, [Trial(one.before, one.after, REPRODUCED) for one in every[1:]])]
    return []


def _is_noise(update: Array, size: float) -> bool:
    """Whether an update is what rounding makes of a gradient of zero, as that of a bias before a normalisation."""
    return float(np.abs(update).max(initial=0)) <= KAPPA * epsilon("float64") * size


def _near(a: float, b: float) -> bool:
    return bool(abs(a - b) <= REPRODUCED * abs(b))


def _of_some(plan: MatchPlan, names: list[str], factor: float, same: int, gaps: tuple[float, float]) -> Cause:
    ours = {m.name(plan.reference): m for m in plan.trained}
    shown = {side: listed([ours[name].name(side) for name in names]) for side in SIDES}
    cause = Cause(
        id="rate_of_some",
        phase="update",
        torch=shown["torch"],
        keras=shown["keras"],
        summary=f"the keras side moves {shown[plan.reference]} {factor:.6g} times as far as the torch side; the "
        f"other {same} parameters agree: these have a separate learning rate",
        evidence={"factor": factor, "alike": same},
        fix=f"torch: give {shown['torch']} the learning rate of the others in the parameter groups times "
        f"{factor:.6g}, or keras: scale the update of {shown['keras']} by {1 / factor:.6g} in a subclass's update_step",
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
