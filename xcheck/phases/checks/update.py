"""The update phase: the change of each parameter in a step, and the optimizer's slots after it."""

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
    """Compare the change of each parameter in a step, and the optimizer's slots after it."""
    frame = Frame("update", precision, step.number, plan.reference, *step.reference.sums)
    before = step.reference.record.before
    # An update is the difference of two weights, each known to eps of its own size.
    items = (
        replace(item, source=max(rms(before.value(path)) for path in match.piece(plan.reference).paths))
        for match, item in zip(
            plan.parameters, parameter_items(plan, plan.parameters, step, StepRecord.update), strict=True
        )
    )
    gradients = _Gradients.of(plan, step)
    floor = floor_of_matches(plan, plan.parameters, step, StepRecord.update)
    checks = compare_items(frame, gradients.with_noise(items, floor, precision), floor)
    return checks + _slot_checks(plan, step, frame, gradients)


@dataclass(frozen=True)
class _Gradients:
    """Gradients by the names of their parameters on the reference, and their smallest scale."""

    step: StepPair
    by_name: Mapping[str, Piece]
    floor: float

    @classmethod
    def of(cls, plan: MatchPlan, step: StepPair) -> _Gradients:
        pieces = [m.piece(plan.reference) for m in plan.trained if not is_idle_copy(plan, m, step, gradient_of)]
        floor = floor_of_matches(plan, plan.trained, step, gradient_of)
        return cls(step, {piece.name: piece for piece in pieces}, floor)

    def with_noise(self, items: Iterable[Item], floor: float, precision: str, suffix: str = "") -> Iterator[Item]:
        """Items computed by an optimizer, each with its amplification of the noise of its gradient."""
        for item in items:
            piece = self.by_name.get(item.name.removesuffix(suffix))
            if piece is not None:
                item = replace(
                    item,
                    amplification=self._amplification(item, piece, floor, precision),
                    unmeasured=self._rounding_elements(piece),
                )
            yield item
            del item  # before the next one is made

    def _rounding_elements(self, piece: Piece) -> Array | None:
        """Elements whose noise the twins do not show.

        Their gradients are the rest of a cancelling sum, in whole units of the last digit of its terms: no twin
        changes their size, or they lie below the rounding of the gradients themselves. The other side may have
        different units, and the optimizer uses each of them, as a square or a sign.
        """
        records = (self.step.reference.record, *self.step.reference.twins)
        gradient, *candidates = (piece.total(partial(gradient_of, record)) for record in records)
        if gradient is None:
            return None
        twins = [twin for twin in candidates if twin is not None and twin.shape == gradient.shape]
        size = np.abs(gradient)
        unmoved = np.logical_and.reduce([gradient != 0, *(size == np.abs(twin) for twin in twins)])
        return unmoved | (size <= KAPPA * epsilon("float64") * self.floor)

    def _amplification(self, item: Item, piece: Piece, floor: float, precision: str) -> dict[str, float]:
        records = (self.step.reference.record, *self.step.reference.twins)
        gradient, *twins = (piece.total(partial(gradient_of, record)) for record in records)
        item_runs = _same_shape_runs(item.reference, item.twins, precision)
        gradient_runs = _same_shape_runs(gradient, twins, precision)
        if (
            len(item_runs) < 2
            or len(item_runs) != len(gradient_runs)
            or item_runs[0].shape != gradient_runs[0].shape
            or item.reference is None
        ):
            return {}
        assert gradient is not None
        scale, eps, unit = max(rms(gradient), self.floor), epsilon(precision), max(rms(item.reference), floor)
        if not scale:
            return {}
        measures: list[Measure] = []
        for moved, moved_gradient in zip(item_runs[1:], gradient_runs[1:], strict=True):
            slope = _distance(item_runs[0], moved)
            slope -= KAPPA * eps * np.maximum(np.abs(item_runs[0]), item.source)  # the optimizer rounds, too
            slope = np.maximum(slope, 0.0, out=slope)
            size = _distance(gradient_runs[0], moved_gradient)
            size /= scale
            slope /= np.maximum(size, eps, out=size)
            del size
            if np.isfinite(slope).all():
                measures.append(measure(np.zeros_like(slope), slope, unit))
        return {metric: max(m.get(metric) for m in measures) for metric in METRICS} if measures and unit else {}


def _same_shape_runs(reference: Array | None, twins: Sequence[Array | None], precision: str) -> list[Array]:
    """The run that the twins perturb, and the twins; in float32 it is the reference's own run in float32."""
    runs = [reference, *twins] if precision == "float64" else list(twins)
    present = [run for run in runs if run is not None]
    return present if len(present) == len(runs) and len({run.shape for run in present}) == 1 else []


def _distance(base: Array, moved: Array) -> Array:
    gap = np.asarray(np.asarray(moved, np.float64) - base)
    return np.abs(gap, out=gap)


def _slot_checks(plan: MatchPlan, step: StepPair, frame: Frame, gradients: _Gradients) -> list[Check]:
    by_role = _slots_by_role(plan, step, frame, gradients)
    return [c for role, checks in by_role.items() if role not in _refuted(step, by_role) for c in checks]


def judged_by_effect(plan: MatchPlan, step: StepPair) -> set[str]:
    """Roles of slots that the sides keep in different forms; their effect shows in the updates of the next steps."""
    if not (step.reference.record.after.guessed or step.follower.after.guessed):
        return set()
    frame = Frame("update", "float64", step.number, plan.reference, *step.reference.sums)
    return _refuted(step, _slots_by_role(plan, step, frame, _Gradients.of(plan, step)))


def _refuted(step: StepPair, by_role: Mapping[str, Sequence[Check]]) -> set[str]:
    """Roles guessed from names in a user's own optimizer, if the values refute the guess."""
    guessed = step.reference.record.after.guessed or step.follower.after.guessed
    roles = {
        r: checks for r, checks in by_role.items() if guessed and not r.startswith(AVERAGE)
    }  # averages are measured
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
        needed = all if role.startswith(AVERAGE) else any  # averages that only one side keeps: see `averages.py`
        items = (i for i in items if needed(a is not None for a in (i.reference, i.other)))
        floor = floor_of_matches(plan, matches, step, slot)
        checks[role] = compare_items(frame, gradients.with_noise(items, floor, frame.precision, suffix), floor)
    return checks
