"""Gradients that differ because one side cuts them off where the other does not: the step is made again with them kept.

Where a tensor loses its gradient (`detach`, `no_grad`, `stop_gradient`) is seen as the step runs, and known by its
numbers. The places of the one side that the other does not have are opened, and the step is made again. It is the cause
if all gradients then are the other side's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...frameworks.protocol import Runner
from ...matching import MatchPlan
from ...numerics.align import distance
from ...numerics.align.graph import value_of
from ...phases.checks.step import gradient_checks
from ...records.calls import Open, Stop
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause, Check, Verdict
from ...records.sides import SideName, other_side
from ...records.trace import State, StepRecord
from ...records.uses import CLOSE
from ...stepping.lockstep import StepPair
from ..prove import ENOUGH, Trial, prove

MOST_NAMED = 4
"""Places that are named; of more, how many there are."""


Stops = dict[SideName, Sequence[Stop]]
"""The places of each side."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One side of a step.

    Attributes:
        side: which.
        runner: to make the step again with.
        start: of the step, in the side's own names.
    """

    side: SideName
    runner: Runner
    start: State


@isolated(list[Cause])
def stopped_gradients(
    plan: MatchPlan, step: StepPair, checks: Sequence[Check], reference: Runner | None, follower: Runner
) -> list[Cause]:
    """Why gradients differ though the losses agree: one side keeps a gradient that the other cuts off.

    Args:
        plan: of the run.
        step: whose gradients differ.
        checks: of its gradients.
        reference: the side to make the step again with, left as it was; None for a recording.
        follower: likewise.
    """
    before = step.reference.record.before
    halves = [_Half(plan.follower, follower, plan.for_follower(before, slots=True))]
    halves += [_Half(plan.reference, reference, before)] if reference is not None else []
    stops: Stops = {half.side: _again(half, step, lambda _: False)[0] for half in halves}
    for opened in _hypotheses(stops):
        tried = step
        for half in halves:
            names = {stop.name for stop in opened.get(half.side, ())}
            if names:
                _, made = _again(half, step, lambda stop, names=names: stop.name in names)
                of_reference = half.side == plan.reference
                changed = {"reference": replace(step.reference, record=made)} if of_reference else {"follower": made}
                tried = replace(tried, **changed)
        after = gradient_checks(plan, tried, "float64")
        if _agree(after, checks):
            return [_cause(opened, checks, after)]
    return []


def _again(half: _Half, step: StepPair, let_through: Open) -> tuple[list[Stop], StepRecord]:
    kept = half.runner.snapshot()
    try:
        half.runner.write(half.start)
        with half.runner.stops(let_through) as found:
            record = half.runner.step(step.number, step.reference.batch)
    finally:
        half.runner.restore(kept)
    return found, record


def _hypotheses(stops: Stops) -> Iterator[Stops]:
    """Places to open, the most telling first: what the other side does not cut off, all of one side, both."""
    own: Stops = {side: _not_among(found, stops.get(other_side(side), ())) for side, found in stops.items()}
    tries = [_of(side, places) for side, places in own.items()]
    tries += [_of(side, places) for side, places in stops.items() if len(places) > len(own[side])]
    tries += [own] if all(own.values()) and len(own) > 1 else []
    yield from (each for each in tries if any(each.values()))


def _of(side: SideName, places: Sequence[Stop]) -> Stops:
    return {side: places}


def _not_among(stops: Sequence[Stop], others: Sequence[Stop]) -> list[Stop]:
    """Those at which none of others cuts off the same tensor."""
    known = [value_of(other.value) for other in others if other.value is not None]
    left: list[Stop] = []
    for stop in stops:
        value = None if stop.value is None else value_of(stop.value)
        same = [k for k in known if value is not None and k.numbers.size == value.numbers.size]
        if not any((apart := distance(value, k)) is not None and apart <= CLOSE for k in same if value is not None):
            left.append(stop)
    return left


def _agree(after: Sequence[Check], before: Sequence[Check]) -> bool:
    """Whether all gradients agree."""
    allowed = _allowed(before)
    usual = min(allowed.values(), default=0.0)
    return bool(after) and all(
        check.error is not None and check.error <= allowed.get(check.name, usual) for check in after
    )


def _cause(opened: Stops, before: Sequence[Check], after: Sequence[Check]) -> Cause:
    wrong = [check for check in before if check.verdict is Verdict.DIFFERENT and check.error is not None]
    first = wrong[0] if wrong else before[0]
    told: dict[SideName, str] = {side: _listed(found) for side, found in opened.items() if found}
    shown: dict[SideName, str] = {"torch": first.torch or "", "keras": first.keras or ""}
    shown |= {side: found[0].name for side, found in opened.items() if found}
    summary = " and ".join(f"the {side} side stops the gradient at {words}" for side, words in told.items())
    summary += ", the other side does not: without that stop, all gradients agree"
    cause = Cause(
        id="stopped_gradient",
        phase="gradient",
        torch=shown["torch"],
        keras=shown["keras"],
        summary=summary,
        evidence={
            "places": {side: [stop.name for stop in found] for side, found in opened.items()},
        },
        fix="; or ".join(
            f"{side}: let the gradient through there, or stop it in {other_side(side)} too" for side in told
        ),
    )
    return prove(cause, _trials(before, after))


def _trials(before: Sequence[Check], after: Sequence[Check]) -> list[Trial]:
    """One for each gradient that differed; one that a side did not have at all was infinitely far from the other's."""
    allowed, left = _allowed(before), {check.name: check.error for check in after}
    different = {check.name: check.error for check in before if check.verdict is Verdict.DIFFERENT}
    return [
        Trial(math.inf if error is None else error, left.get(name) or 0.0, allowed[name], ENOUGH)
        for name, error in different.items()
    ]


def _allowed(before: Sequence[Check]) -> dict[str, float]:
    """What is allowed for each gradient, as it was measured on the step as it is."""
    known = [check.allowed for check in before if check.allowed is not None]
    usual = min(known, default=0.0)  # for a gradient that one side did not have at all
    return {check.name: usual if check.allowed is None else check.allowed for check in before}


def _listed(stops: Sequence[Stop]) -> str:
    if len(stops) <= MOST_NAMED:
        return " and ".join(stop.name for stop in stops)
    return f"{len(stops)} places, from {stops[0].name} to {stops[-1].name}"
