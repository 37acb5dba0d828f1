"""The phase of the update: what a step added to each parameter, and what the optimizer now remembers of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ...matching import MatchPlan, Piece
from ...numerics.compare import METRICS, Measure, measure, rms
from ...numerics.judge import Frame, Item, compare_items
from ...numerics.tolerance import KAPPA, epsilon
from ...records.result import Check, Verdict
from ...records.slots import ADDED_UP, AVERAGE
from ...records.trace import Array, StepRecord
from ...stepping.lockstep import StepPair
from .matched import floor_of_matches, gradient_of, is_idle_copy, parameter_items


def update_checks(plan: MatchPlan, step: StepPair, precision: str) -> list[Check]:
    """What the step added to each parameter, and what the optimizer now remembers of it."""
    frame = Frame("update", precision, step.number, plan.reference, *step.reference.sums)
    before = step.reference.record.before
    # An update is read off as a difference of two weights, each known to eps of its own size.
    items = (
        replace(item, source=max(rms(before.value(path)) for path in match.piece(plan.reference).paths))
        for match, item in zip(
            plan.parameters, parameter_items(plan, plan.parameters, step, StepRecord.update), strict=True
        )
    )
    gradients = _Gradients.of(plan, step)
    floor = floor_of_matches(plan, plan.parameters, step, StepRecord.update)
    checks = compare_items(frame, gradients.carried_to(items, floor, precision), floor)
    return checks + _slot_checks(plan, step, frame, gradients)


@dataclass(frozen=True)
class _Gradients:
    """Gradients by the names of their parameters on the reference, and the least scale among them."""

    step: StepPair
    by_name: Mapping[str, Piece]
    floor: float

    @classmethod
    def of(cls, plan: MatchPlan, step: StepPair) -> _Gradients:
        pieces = [m.piece(plan.reference) for m in plan.trained if not is_idle_copy(plan, m, step, gradient_of)]
        floor = floor_of_matches(plan, plan.trained, step, gradient_of)
        return cls(step, {piece.name: piece for piece in pieces}, floor)

    def carried_to(self, items: Iterable[Item], floor: float, precision: str, suffix: str = "") -> Iterator[Item]:
        """Items that an optimizer made of gradients, each with how far it amplifies the noise of its own."""
        for item in items:
            piece = self.by_name.get(item.name.removesuffix(suffix))
            if piece is not None:
                item = replace(
                    item, amplification=self._of(item, piece, floor, precision), unruled=self._of_rounding(piece)
                )
            yield item
            del item  # before the next one is made

    def _of_rounding(self, piece: Piece) -> Array | None:
        """Elements of what an optimizer made that the movement of the twins says nothing about.

        Their gradients are what a sum that cancels leaves, in whole units of the last digit of its terms: no twin
        moves their size, or they lie below the rounding of the gradients themselves. The other side may leave other
        units, and the optimizer makes something of each, its square or its sign.
        """
        records = (self.step.reference.record, *self.step.reference.twins)
        gradient, *found = (piece.total(partial(gradient_of, record)) for record in records)
        if gradient is None:
            return None
        twins = [twin for twin in found if twin is not None and twin.shape == gradient.shape]
        size = np.abs(gradient)
        unmoved = np.logical_and.reduce([gradient != 0, *(size == np.abs(twin) for twin in twins)])
        return unmoved | (size <= KAPPA * epsilon("float64") * self.floor)

    def _of(self, item: Item, piece: Piece, floor: float, precision: str) -> dict[str, float]:
        records = (self.step.reference.record, *self.step.reference.twins)
        gradient, *twins = (piece.total(partial(gradient_of, record)) for record in records)
        made = _runs(item.reference, item.twins, precision)
        given = _runs(gradient, twins, precision)
        if len(made) < 2 or len(made) != len(given) or made[0].shape != given[0].shape or item.reference is None:
            return {}
        assert gradient is not None
        scale, eps, unit = max(rms(gradient), self.floor), epsilon(precision), max(rms(item.reference), floor)
        if not scale:
            return {}
        measures: list[Measure] = []
        for moved, by in zip(made[1:], given[1:], strict=True):
            slope = _apart(made[0], moved)
            slope -= KAPPA * eps * np.maximum(np.abs(made[0]), item.source)  # rounded by the optimizer, too
            slope = np.maximum(slope, 0.0, out=slope)
            size = _apart(given[0], by)
            size /= scale
            slope /= np.maximum(size, eps, out=size)
            del size
            if np.isfinite(slope).all():
                measures.append(measure(np.zeros_like(slope), slope, unit))
        return {metric: max(m.get(metric) for m in measures) for metric in METRICS} if measures and unit else {}


def _runs(reference: Array | None, twins: Sequence[Array | None], precision: str) -> list[Array]:
    """The run whose elements the twins moved, and the twins; in float32 the run is the reference's own in float32."""
    runs = [reference, *twins] if precision == "float64" else list(twins)
    found = [run for run in runs if run is not None]
    return found if len(found) == len(runs) and len({run.shape for run in found}) == 1 else []


def _apart(base: Array, moved: Array) -> Array:
    gap = np.asarray(np.asarray(moved, np.float64) - base)
    return np.abs(gap, out=gap)


def _slot_checks(plan: MatchPlan, step: StepPair, frame: Frame, gradients: _Gradients) -> list[Check]:
    by_role = _slots_by_role(plan, step, frame, gradients)
    return [c for role, checks in by_role.items() if role not in _refuted(step, by_role) for c in checks]


def judged_by_effect(plan: MatchPlan, step: StepPair) -> set[str]:
    """Roles of slots that the sides keep in different forms: what they do shows in the updates of the next steps."""
    if not (step.reference.record.after.guessed or step.follower.after.guessed):
        return set()
    frame = Frame("update", "float64", step.number, plan.reference, *step.reference.sums)
    return _refuted(step, _slots_by_role(plan, step, frame, _Gradients.of(plan, step)))


def _refuted(step: StepPair, by_role: Mapping[str, Sequence[Check]]) -> set[str]:
    """Roles that were guessed from a name in an optimizer of the user's own, where the values refute the guess."""
    guessed = step.reference.record.after.guessed or step.follower.after.guessed
    roles = {r: checks for r, checks in by_role.items() if guessed and not r.startswith(AVERAGE)}  # which is measured
    return {r for r, checks in roles.items() if any(c.verdict is Verdict.DIFFERENT for c in checks)}


def _slots_by_role(plan: MatchPlan, step: StepPair, frame: Frame, gradients: _Gradients) -> dict[str, list[Check]]:
    checks: dict[str, list[Check]] = {}
    states = (step.reference.record.after.slots, step.follower.after.slots)
    roles = sorted({role for slots in states for by_role in slots.values() for role in by_role})
    for role in (role for role in roles if role not in step.by_effect):

        def slot(record: StepRecord, path: str, role: str = role) -> Array | None:
            return record.after.slots.get(path, {}).get(role)

        summed = [m.trained_part() for m in plan.parameters if m.trainable]
        matches = summed if role in ADDED_UP else plan.trained
        suffix = f" [{role}]"
        items = parameter_items(plan, matches, step, slot, suffix=suffix)
        needed = all if role.startswith(AVERAGE) else any  # of what one side alone averages: `averages.py`
        items = (i for i in items if needed(a is not None for a in (i.reference, i.other)))
        floor = floor_of_matches(plan, matches, step, slot)
        checks[role] = compare_items(frame, gradients.carried_to(items, floor, frame.precision, suffix), floor)
    return checks
