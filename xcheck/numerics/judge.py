"""Two arrays, the noise, and the verdict on them: one quantity at a time, each in the reference's layout.

The precision of the frame says which question is asked. In float64 it is the semantic one: is the difference more
than rounding can explain? In float32 it is the numeric one, asked only of pairs that passed the first: measured
against the reference's own float64 values, does one side lose far more precision than the other?
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..records.result import Check, Verdict
from ..records.sides import SideName, other_side
from ..records.trace import Array
from .compare import METRICS, Measure, furthest, measurable, measure, nonfinite, rms, structure
from .tolerance import CONTRAST, KAPPA, Noise, epsilon

FLOAT32_EXPLAINS = "no more than numbers of float32 that the sides compute with explain"
"""Detail of a check that is within its allowance for that reason alone."""

BROKEN = 2.0**-5
"""An error of float32 from which on a side computes something else: worse than the rounding of the narrowest float that
nets are computed in, of 8 bits with 3 for the mantissa, which is off by half of 2^-4 at most."""
HIDDEN = "one element measured against its own rounding: beside larger numbers its difference does not show"
"""Detail of a check that is DIFFERENT for the sake of an element that its neighbours would hide."""

Twins = tuple[Array | None, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One quantity to compare, both sides in the reference's layout.

    Attributes:
        name: in the reference's words.
        torch, keras: paths; None where a side has no such thing.
        reference, other: the values; None where a side gave none. In a float32 frame the reference's value is
            the one it has in float64.
        twins: the reference's value in each perturbed run. In a float32 frame the first is the reference's own
            value in float32, and the others are the perturbed runs of that.
        source: root mean square of the numbers that the quantity was read off from; 0 where it was not.
        problem: what makes the two incomparable, known before.
        moved: both values with the numbers of float32 moved that the sides compute with; see `islands.py`.
        amplification: ruler -> a of the noise model; empty for all but what an optimizer made of a gradient.
        unruled: elements without a ruler of their own, shape of the values; None where each has one.
    """

    name: str
    torch: str | None
    keras: str | None
    reference: Array | None
    other: Array | None
    twins: Twins = ()
    source: float = 0.0
    problem: str | None = None
    moved: tuple[tuple[Array | None, Array | None], ...] = ()
    amplification: Mapping[str, float] = field(default_factory=dict[str, float])
    unruled: Array | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """What all items of one phase of one step share.

    Attributes:
        phase, precision, step: as in `Check`.
        reference: which side is T.
        terms: n of the noise model.
        alike: m of the noise model.
    """

    phase: str
    precision: str
    step: int | None
    reference: SideName
    terms: int = 1
    alike: int = 1

    def check(self, item: Item, verdict: Verdict, detail: str = "") -> Check:
        """A check of this frame without numbers."""
        return Check(self.phase, self.precision, self.step, item.name, item.torch, item.keras, verdict, detail=detail)


def compare_items(
    frame: Frame, items: Iterable[Item], floor: float | None = None, *, semantic: bool | None = None
) -> list[Check]:
    """One check per item.

    Args:
        frame: shared by the items.
        items: quantities of one kind, whose sizes set the scale floor of each other.
        floor: least scale; None takes that of `floor_of`. With one the items are gone through once, so that they may
            be made one at a time.
        semantic: ask whether the two differ, and not which loses more precision; None does so in float64 alone.
    """
    if floor is None:
        items = list(items)
        floor = floor_of(items)
    if semantic is None:
        semantic = frame.precision == "float64"
    judge = _semantic if semantic else _numeric
    checks: list[Check] = []
    for item in items:
        checks.append(_structural(frame, item, semantic) or judge(frame, item, floor))
        del item  # before the next one is made
    return checks


def floor_of(items: Iterable[Item]) -> float:
    """The least scale among items of one kind: the median root mean square of those that are not zero."""
    return floor_among(item.reference for item in items)


def floor_among(references: Iterable[Array | None]) -> float:
    """As `floor_of`, of the references alone."""
    sizes = [rms(array) for array in references if array is not None and measurable(array)]
    return statistics.median([size for size in sizes if size > 0] or [0.0])


def _structural(frame: Frame, item: Item, semantic: bool) -> Check | None:
    """A verdict that needs no measuring: something is missing, has another shape, or is not finite."""
    lack = _missing(frame, item)
    if lack is not None:
        return lack
    t, k = _values(item)
    problem = item.problem or structure(t, k)
    if problem is not None:
        nothing = problem.startswith("empty") or "cannot be measured" in problem
        verdict = Verdict.INCONCLUSIVE if nothing else Verdict.DIFFERENT
        return frame.check(item, verdict, problem)
    own = item.twins[0] if item.twins else None
    if not semantic and own is not None and own.shape == t.shape:
        return _nonfinite_check(frame, item, own, k, t)
    return _nonfinite_check(frame, item, t, k)


def _values(item: Item) -> tuple[Array, Array]:
    assert item.reference is not None
    assert item.other is not None
    return item.reference, item.other


def _semantic(frame: Frame, item: Item, floor: float) -> Check:
    t, k = _values(item)
    floor = floor if floor or rms(t) else item.source  # no quantity of this kind moves: by what they were read off from
    found = measure(t, k, floor)
    cancellation = _cancellation(item, max(rms(t), floor))
    eps = epsilon(frame.precision)
    noises = [measure(t, twin, floor) for twin in item.twins if twin is not None and twin.shape == t.shape]
    noise = Noise(frame.terms, cancellation, alike=frame.alike)
    metric, error, allowed = _closest(found, noises, noise, item.amplification, eps)
    verdict, detail = Verdict.EQUIVALENT if error <= allowed else Verdict.DIFFERENT, ""
    responses = _responses(item, floor) if verdict is Verdict.DIFFERENT else []
    if responses:
        explained = _closest(found, [*noises, *responses], noise, item.amplification, eps)
        if explained[1] <= explained[2]:
            (metric, error, allowed), verdict, detail = explained, Verdict.EQUIVALENT, FLOAT32_EXPLAINS
        elif explained[2] > allowed:
            detail = f"the numbers of float32 that the sides compute with explain {explained[2]:.1e} of it at most"
    if verdict is Verdict.EQUIVALENT and (hidden := _hidden(frame, item)):
        return hidden
    if verdict is Verdict.EQUIVALENT and allowed >= 1.0:
        verdict = Verdict.INCONCLUSIVE
        detail = "rounding alone moves this by its whole size: the comparison says nothing"
    return _measured(frame.check(item, verdict, detail), frame, found, metric, error, allowed)


def _hidden(frame: Frame, item: Item) -> Check | None:
    """The check of an element that is off by more than its own rounding can be, though not by its neighbours'.

    The rulers above take the size of a whole tensor, and of others of its kind; what is huge among them hides what is
    small. Here each element has its own movement in the twins for its ruler. Only PyTorch's twins are perturbed where
    rounding happens, operation by operation: those of Keras do not move what is saturated, which is rounded all the
    same.
    """
    t, k = _values(item)
    if frame.reference != "torch" or frame.precision != "float64" or t.dtype.kind != "f":
        return None
    twins = [(t, twin) for twin in item.twins if twin is not None and twin.shape == t.shape]
    moved = [(side, to) for pair in item.moved for side, to in zip((t, k), pair, strict=True) if to is not None]
    if item.unruled is not None and item.unruled.shape == t.shape:
        k = np.where(item.unruled, t, k)
    found = furthest(t, k, twins + [m for m in moved if m[1].shape == t.shape], KAPPA * CONTRAST)
    if found is None or found.ratio <= 1:
        return None
    values = float(t[found.index]), float(k[found.index])
    error = found.gap / max(map(abs, values))
    return replace(
        frame.check(item, Verdict.DIFFERENT, HIDDEN),
        error=error,
        allowed=error / found.ratio,
        required_tolerance=error,
        metric="element",
        worst_index=found.index,
        torch_value=values[0],
        keras_value=values[1],
    )


def _responses(item: Item, floor: float) -> list[Measure]:
    """How far each side goes when its numbers of float32 are moved."""
    t, k = _values(item)
    both = [(mine, moved) for pair in item.moved for mine, moved in zip((t, k), pair, strict=True)]
    return [measure(mine, moved, floor) for mine, moved in both if moved is not None and moved.shape == mine.shape]


def _numeric(frame: Frame, item: Item, floor: float) -> Check:
    """How much more precision one side loses than the other, as a ratio of errors against the float64 values.

    Each error is measured by the same three rulers. The ratio divides by the larger of the other side's error and the
    noise of the reference: its measured response to one rounding error, and eps * sqrt(n) for a sum of n terms, which
    one library may add up in pairs and another one by one. A side may lose `KAPPA` times more, as in float64. Terms
    that are alike are no excuse here: a library that adds them up one by one does lose precision.
    """
    truth, k = _values(item)
    own, *twins = item.twins or (None,)
    if own is None or own.shape != truth.shape:
        return frame.check(item, Verdict.INCONCLUSIVE, "the reference has no float32 value of this")
    theirs, ours = measure(truth, k, floor), measure(truth, own, floor)
    responses = [measure(own, twin, floor) for twin in twins if twin is not None]
    cancellation = _cancellation(item, max(rms(truth), floor))
    noise = Noise(frame.terms, cancellation)
    ratios: list[tuple[float, str, str]] = []
    broken: list[tuple[float, str, str]] = []
    for metric in METRICS:
        least = _noise(noise, metric, responses, item.amplification).unit(epsilon(frame.precision))
        errors = (theirs.get(metric), ours.get(metric))
        sides = (other_side(frame.reference), frame.reference)
        for error, rest, side in zip(errors, errors[::-1], sides, strict=True):
            ratios.append((error / max(rest, least), metric, side))
            # An optimizer turns the loss of a few tiny gradients into steps of full size: there the whole counts.
            if error >= BROKEN and (frame.phase != "update" or metric == "norm"):
                broken.append(ratios[-1])
    worst = max(broken, default=(0.0, "", ""))
    ratio, metric, side = max(ratios) if worst[0] <= KAPPA else worst
    verdict = Verdict.EQUIVALENT if ratio <= KAPPA else Verdict.NUMERIC if worst[0] <= KAPPA else Verdict.DIFFERENT
    told = f"{frame.reference} {ours.get(metric):.1e}, {other_side(frame.reference)} {theirs.get(metric):.1e}"
    what = "loses more in float32" if verdict is Verdict.NUMERIC else "breaks in float32, where float64 agrees"
    detail = "" if verdict is Verdict.EQUIVALENT else f"the {side} side {what}: errors {told}"
    return _measured(frame.check(item, verdict, detail), frame, theirs, metric, ratio, KAPPA)


def _cancellation(item: Item, scale: float) -> float:
    """h of the noise model: how much larger the numbers are that the quantity was read off from than its ruler."""
    return max(item.source / scale, 1.0) if scale else 1.0


def _measured(check: Check, frame: Frame, found: Measure, metric: str, error: float, allowed: float) -> Check:
    swapped = frame.reference == "keras"
    values = (found.other_value, found.reference_value) if swapped else (found.reference_value, found.other_value)
    return replace(
        check,
        error=error,
        allowed=allowed,
        required_tolerance=found.required_tolerance,
        metric=metric,
        worst_index=found.worst_index,
        torch_value=values[0],
        keras_value=values[1],
    )


def _missing(frame: Frame, item: Item) -> Check | None:
    lacking = [
        side
        for side, value in ((frame.reference, item.reference), (other_side(frame.reference), item.other))
        if value is None
    ]
    if not lacking:
        return None
    if len(lacking) == 2:
        unused = ": neither side uses it; waive it, or let a batch reach it" if frame.phase == "gradient" else ""
        return frame.check(item, Verdict.INCONCLUSIVE, f"missing on both sides, nothing was compared{unused}")
    present = item.reference if item.reference is not None else item.other
    assert present is not None
    verdict = Verdict.DIFFERENT if present.any() else Verdict.INCONCLUSIVE
    return frame.check(item, verdict, f"missing on the {lacking[0]} side alone")


def _nonfinite_check(frame: Frame, item: Item, t: Array, k: Array, truth: Array | None = None) -> Check | None:
    """The verdict on numbers that are not finite; `truth` are the reference's in float64, where both are in float32."""
    only_t, only_k, both = nonfinite(t, k)
    breaks = "" if truth is None else ": it breaks in float32, where float64 agrees"
    if only_t or only_k:
        side, count = (frame.reference, only_t) if only_t else (other_side(frame.reference), only_k)
        values = t if only_t else k
        kind = "NaN" if np.isnan(values).any() else "infinite"
        return frame.check(
            item, Verdict.DIFFERENT, f"{kind} on the {side} side alone, {count} of {t.size} elements{breaks}"
        )
    if both:
        detail = f"NaN on both sides, {both} of {t.size} elements: nothing was compared there"
        return frame.check(item, Verdict.INCONCLUSIVE, detail)
    if truth is not None and not np.isfinite(t[np.isfinite(truth)]).all():
        return frame.check(item, Verdict.INCONCLUSIVE, "infinite in float32 on both sides, where float64 is finite")
    return None


def _closest(
    found: Measure, noises: Sequence[Measure], noise: Noise, amplification: Mapping[str, float], eps: float
) -> tuple[str, float, float]:
    """The metric that comes closest to its allowance, its error, and the allowance."""
    judged: list[tuple[float, str, float, float]] = []
    for metric in METRICS:
        allowed = _noise(noise, metric, noises, amplification).allowed(eps)
        error = found.get(metric)
        judged.append((error / allowed, metric, error, allowed))
    _, metric, error, allowed = max(judged, key=lambda j: j[0])
    return metric, error, allowed


def _noise(noise: Noise, metric: str, twins: Sequence[Measure], amplification: Mapping[str, float]) -> Noise:
    """The noise under one ruler, with what was measured by it."""
    condition = max((twin.get(metric) for twin in twins), default=0.0)
    return replace(noise, condition=condition, amplification=amplification.get(metric, 0.0))
