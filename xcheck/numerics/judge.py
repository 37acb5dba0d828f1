"""The verdict on two arrays, given their noise: one quantity at a time, each in the reference's layout.

The precision of the frame selects the question. In float64 it is the semantic one: is the difference more than
rounding can explain? In float32 it is the numeric one, only for pairs that passed the first: measured against the
reference's own float64 values, does one side lose far more precision than the other?
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..records.result import Check, Verdict
from ..records.sides import SideName, other_side
from ..records.trace import Array
from .compare import METRICS, Measure, measurable, measure, nonfinite, rms, structure
from .own_noise import furthest
from .tolerance import CONTRAST, KAPPA, Noise, epsilon

FLOAT32_EXPLAINS = "explained by float32 constants inside the models"
"""Detail of a check that is within its allowance only for that reason."""

BROKEN = 2.0**-5
"""A float32 error from which a side computes something different: larger than the rounding of the narrowest float in
use for networks, of 8 bits with 3 for the mantissa, whose rounding error is at most half of 2^-4."""

HIDDEN = "one element, measured by its own rounding error: larger elements hide its difference"
"""Detail of a check that is DIFFERENT because of an element that its neighbours would hide."""

Twins = tuple[Array | None, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One quantity to compare, both sides in the reference's layout.

    Attributes:
        name: on the reference.
        torch, keras: paths; None where a side has no such quantity.
        reference, other: the values; None where a side has none. In a float32 frame the reference's value is its
            float64 value.
        twins: the reference's value in each perturbed run. In a float32 frame the first is the reference's own
            float32 value, and the others are perturbed runs of that.
        source: root mean square of the numbers whose difference the quantity is; 0 if it is not a difference.
        problem: reason known in advance why the two cannot be compared.
        moved: both values with the float32 numbers of the sides moved; see `islands.py`.
        amplification: metric -> a of the noise model; only for values that an optimizer computes from a gradient.
        unmeasured: elements without measured noise, shape of the values; None where each has it.
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
    unmeasured: Array | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """The common properties of all items of one phase of one step.

    Attributes:
        phase, precision, step: as in `Check`.
        reference: the side of T.
        terms: n of the noise model.
        batch_terms: m of the noise model.
    """

    phase: str
    precision: str
    step: int | None
    reference: SideName
    terms: int = 1
    batch_terms: int = 1

    def check(self, item: Item, verdict: Verdict, detail: str = "") -> Check:
        """A check of this frame without numbers."""
        return Check(self.phase, self.precision, self.step, item.name, item.torch, item.keras, verdict, detail=detail)


def compare_items(
    frame: Frame, items: Iterable[Item], floor: float | None = None, *, semantic: bool | None = None
) -> list[Check]:
    """One check per item.

    Args:
        frame: shared by the items.
        items: quantities of one kind; their sizes set the common scale floor.
        floor: smallest scale; None uses `floor_of`. With a number the items are iterated only once, so that they may
            be created one at a time.
        semantic: judge whether the two differ, not which loses more precision; None does so only in float64.
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
    """The smallest scale among items of one kind: the median root mean square of those that are not zero."""
    return floor_among(item.reference for item in items)


def floor_among(references: Iterable[Array | None]) -> float:
    """As `floor_of`, from the reference values only."""
    sizes = [rms(array) for array in references if array is not None and measurable(array)]
    return statistics.median([size for size in sizes if size > 0] or [0.0])


def _structural(frame: Frame, item: Item, semantic: bool) -> Check | None:
    """A verdict without measuring: a value is missing, has a different shape, or is not finite."""
    missing = _missing(frame, item)
    if missing is not None:
        return missing
    t, k = _values(item)
    problem = item.problem or structure(t, k)
    if problem is not None:
        nothing_to_compare = problem.startswith("empty") or "cannot be measured" in problem
        verdict = Verdict.INCONCLUSIVE if nothing_to_compare else Verdict.DIFFERENT
        return frame.check(item, verdict, problem)
    float32_value = item.twins[0] if item.twins else None
    if not semantic and float32_value is not None and float32_value.shape == t.shape:
        return _nonfinite_check(frame, item, float32_value, k, t)
    return _nonfinite_check(frame, item, t, k)


def _values(item: Item) -> tuple[Array, Array]:
    assert item.reference is not None
    assert item.other is not None
    return item.reference, item.other


def _semantic(frame: Frame, item: Item, floor: float) -> Check:
    t, k = _values(item)
    size = rms(t)
    floor = floor if floor or size else item.source  # no quantity of this kind changes: use the size of its source
    measured = measure(t, k, floor, size=size)
    cancellation = _cancellation(item, max(size, floor))
    eps = epsilon(frame.precision)
    twins = [twin for twin in item.twins if twin is not None and twin.shape == t.shape]
    twin_measures = [measure(t, twin, floor, size=size) for twin in twins]
    noise = Noise(frame.terms, cancellation, batch_terms=frame.batch_terms)
    metric, error, allowed = _closest(measured, twin_measures, noise, item.amplification, eps)
    verdict, detail = Verdict.EQUIVALENT if error <= allowed else Verdict.DIFFERENT, ""
    responses = _responses(item, floor) if verdict is Verdict.DIFFERENT else []
    if responses:
        explained = _closest(measured, [*twin_measures, *responses], noise, item.amplification, eps)
        if explained[1] <= explained[2]:
            (metric, error, allowed), verdict, detail = explained, Verdict.EQUIVALENT, FLOAT32_EXPLAINS
        elif explained[2] > allowed:
            detail = f"float32 constants inside the models explain at most {explained[2]:.1e} of it"
    if verdict is Verdict.EQUIVALENT and (hidden := _hidden(frame, item)):
        return hidden
    if verdict is Verdict.EQUIVALENT and allowed >= 1.0:
        verdict = Verdict.INCONCLUSIVE
        detail = "rounding error dominates this value (allowance at least 100 %): it cannot be compared"
    return _with_measure(frame.check(item, verdict, detail), frame, measured, metric, error, allowed)


def _hidden(frame: Frame, item: Item) -> Check | None:
    """The check of an element whose difference exceeds its own rounding, though not that of its neighbours.

    The metrics above use the size of a whole tensor, and of others of its kind; huge numbers hide small ones. Here each
    element is measured by its own movement in the twins. Only PyTorch's twins are perturbed where rounding happens, in
    every operation: those of Keras do not move saturated values, although these are rounded, too.
    """
    t, k = _values(item)
    if frame.reference != "torch" or frame.precision != "float64" or t.dtype.kind != "f":
        return None
    twins = [(t, twin) for twin in item.twins if twin is not None and twin.shape == t.shape]
    moved = [
        (side, moved_value)
        for pair in item.moved
        for side, moved_value in zip((t, k), pair, strict=True)
        if moved_value is not None
    ]
    if item.unmeasured is not None and item.unmeasured.shape == t.shape:
        k = np.where(item.unmeasured, t, k)
    worst = furthest(t, k, twins + [m for m in moved if m[1].shape == t.shape], KAPPA * CONTRAST)
    if worst is None:
        return None
    values = float(t[worst.index]), float(k[worst.index])
    error = worst.gap / max(map(abs, values))
    return replace(
        frame.check(item, Verdict.DIFFERENT, HIDDEN),
        error=error,
        allowed=error / worst.ratio,
        required_tolerance=error,
        metric="element",
        worst_index=worst.index,
        torch_value=values[0],
        keras_value=values[1],
    )


def _responses(item: Item, floor: float) -> list[Measure]:
    """The change of each side when its float32 numbers are moved."""
    t, k = _values(item)
    pairs = [(value, moved) for pair in item.moved for value, moved in zip((t, k), pair, strict=True)]
    return [measure(value, moved, floor) for value, moved in pairs if moved is not None and moved.shape == value.shape]


def _numeric(frame: Frame, item: Item, floor: float) -> Check:
    """The ratio of the precision losses of both sides: their errors against the float64 values.

    Each error is measured by the same three metrics. The ratio divides by the larger of the other side's error and the
    noise of the reference: its measured response to one rounding error, and eps * sqrt(n) for a sum of n terms, which
    one library may sum pairwise and another sequentially. A side may lose `KAPPA` times more, as in float64. Equal
    terms are not allowed for here: a library that sums them sequentially does lose precision.
    """
    truth, k = _values(item)
    float32_value, *twins = item.twins or (None,)
    if float32_value is None or float32_value.shape != truth.shape:
        return frame.check(item, Verdict.INCONCLUSIVE, "the reference has no float32 value for it")
    size = rms(truth)
    other_errors, reference_errors = (measure(truth, value, floor, size=size) for value in (k, float32_value))
    responses = [measure(float32_value, twin, floor) for twin in twins if twin is not None]
    cancellation = _cancellation(item, max(size, floor))
    noise = Noise(frame.terms, cancellation)
    ratios: list[tuple[float, str, str]] = []
    broken: list[tuple[float, str, str]] = []
    for metric in METRICS:
        least = _noise(noise, metric, responses, item.amplification).unit(epsilon(frame.precision))
        errors = (other_errors.get(metric), reference_errors.get(metric))
        sides = (other_side(frame.reference), frame.reference)
        for error, other_error, side in zip(errors, errors[::-1], sides, strict=True):
            ratios.append((error / max(other_error, least), metric, side))
            # An optimizer turns errors of a few tiny gradients into steps of full size: there only the norm counts.
            if error >= BROKEN and (frame.phase != "update" or metric == "norm"):
                broken.append(ratios[-1])
    worst = max(broken, default=(0.0, "", ""))
    ratio, metric, side = max(ratios) if worst[0] <= KAPPA else worst
    verdict = Verdict.EQUIVALENT if ratio <= KAPPA else Verdict.NUMERIC if worst[0] <= KAPPA else Verdict.DIFFERENT
    shown = (
        f"{frame.reference} {reference_errors.get(metric):.1e}, "
        f"{other_side(frame.reference)} {other_errors.get(metric):.1e}"
    )
    problem = "loses more in float32" if verdict is Verdict.NUMERIC else "fails in float32, although float64 agrees"
    detail = "" if verdict is Verdict.EQUIVALENT else f"the {side} side {problem}: errors {shown}"
    return _with_measure(frame.check(item, verdict, detail), frame, other_errors, metric, ratio, KAPPA)


def _cancellation(item: Item, scale: float) -> float:
    """h of the noise model: the size of the numbers whose difference the quantity is, relative to its scale."""
    return max(item.source / scale, 1.0) if scale else 1.0


def _with_measure(check: Check, frame: Frame, measured: Measure, metric: str, error: float, allowed: float) -> Check:
    swapped = frame.reference == "keras"
    values = (
        (measured.other_value, measured.reference_value)
        if swapped
        else (measured.reference_value, measured.other_value)
    )
    return replace(
        check,
        error=error,
        allowed=allowed,
        required_tolerance=measured.required_tolerance,
        metric=metric,
        worst_index=measured.worst_index,
        torch_value=values[0],
        keras_value=values[1],
    )


def _missing(frame: Frame, item: Item) -> Check | None:
    sides = [
        side
        for side, value in ((frame.reference, item.reference), (other_side(frame.reference), item.other))
        if value is None
    ]
    if not sides:
        return None
    if len(sides) == 2:
        unused = ": neither side uses it; waive it, or add a batch that uses it" if frame.phase == "gradient" else ""
        return frame.check(item, Verdict.INCONCLUSIVE, f"missing on both sides, nothing was compared{unused}")
    present = item.reference if item.reference is not None else item.other
    assert present is not None
    verdict = Verdict.DIFFERENT if present.any() else Verdict.INCONCLUSIVE
    return frame.check(item, verdict, f"missing only on the {sides[0]} side")


def _nonfinite_check(frame: Frame, item: Item, t: Array, k: Array, truth: Array | None = None) -> Check | None:
    """The verdict on non-finite numbers; `truth` is the reference's float64 value, if both are in float32."""
    only_t, only_k, both = nonfinite(t, k)
    breaks = "" if truth is None else ": it fails in float32, although float64 agrees"
    if only_t or only_k:
        side, count = (frame.reference, only_t) if only_t else (other_side(frame.reference), only_k)
        values = t if only_t else k
        kind = "NaN" if np.isnan(values).any() else "infinite"
        return frame.check(
            item, Verdict.DIFFERENT, f"{kind} only on the {side} side, {count} of {t.size} elements{breaks}"
        )
    if both:
        detail = f"NaN on both sides, {both} of {t.size} elements: nothing was compared there"
        return frame.check(item, Verdict.INCONCLUSIVE, detail)
    if truth is not None and not np.isfinite(t[np.isfinite(truth)]).all():
        return frame.check(item, Verdict.INCONCLUSIVE, "infinite in float32 on both sides, although float64 is finite")
    return None


def _closest(
    measured: Measure, noises: Sequence[Measure], noise: Noise, amplification: Mapping[str, float], eps: float
) -> tuple[str, float, float]:
    """The metric that is closest to its allowance, its error, and the allowance."""
    judged: list[tuple[float, str, float, float]] = []
    for metric in METRICS:
        allowed = _noise(noise, metric, noises, amplification).allowed(eps)
        error = measured.get(metric)
        judged.append((error / allowed, metric, error, allowed))
    _, metric, error, allowed = max(judged, key=lambda j: j[0])
    return metric, error, allowed


def _noise(noise: Noise, metric: str, twins: Sequence[Measure], amplification: Mapping[str, float]) -> Noise:
    """The noise by one metric, with its measured condition."""
    condition = max((twin.get(metric) for twin in twins), default=0.0)
    return replace(noise, condition=condition, amplification=amplification.get(metric, 0.0))
