"""Two arrays, the noise, and the verdict on them: one quantity at a time, each in the reference's layout."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .compare import METRICS, Measure, measure, nonfinite, rms, structure
from .matching import SideName
from .result import Check, Verdict
from .tolerance import Noise, epsilon
from .trace import Array

Twins = tuple[Array | None, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One quantity to compare, both sides in the reference's layout.

    Attributes:
        name: in the reference's words.
        torch, keras: paths; None where a side has no such thing.
        reference, other: the values; None where a side gave none.
        twins: the reference's value in each perturbed run.
        cancellation: h of the noise model.
    """

    name: str
    torch: str | None
    keras: str | None
    reference: Array | None
    other: Array | None
    twins: Twins = ()
    cancellation: float = 1.0


@dataclass(frozen=True, slots=True)
class Frame:
    """What all items of one phase of one step share.

    Attributes:
        phase, precision, step: as in `Check`.
        reference: which side is T.
        terms: n of the noise model.
    """

    phase: str
    precision: str
    step: int | None
    reference: SideName
    terms: int = 1

    def check(self, item: Item, verdict: Verdict, detail: str = "") -> Check:
        """A check of this frame without numbers."""
        return Check(self.phase, self.precision, self.step, item.name, item.torch, item.keras, verdict, detail=detail)


def compare_items(frame: Frame, items: Sequence[Item], floor: float | None = None) -> list[Check]:
    """One check per item.

    Args:
        frame: shared by the items.
        items: quantities of one kind, whose sizes set the scale floor of each other.
        floor: least scale; None takes the median root mean square of the items that are not zero.
    """
    if floor is None:
        sizes = [rms(item.reference) for item in items if item.reference is not None and item.reference.size]
        floor = statistics.median([size for size in sizes if size > 0] or [0.0])
    return [_compare(frame, item, floor) for item in items]


def _compare(frame: Frame, item: Item, floor: float) -> Check:
    lack = _missing(frame, item)
    if lack is not None:
        return lack
    t, k = item.reference, item.other
    assert t is not None
    assert k is not None
    problem = structure(t, k)
    if problem is not None:
        verdict = Verdict.INCONCLUSIVE if problem.startswith("empty") else Verdict.DIFFERENT
        return frame.check(item, verdict, problem)
    one_sided = _nonfinite_check(frame, item, t, k)
    if one_sided is not None:
        return one_sided
    found = measure(t, k, floor)
    eps = epsilon(frame.precision)
    noises = [measure(t, twin, floor) for twin in item.twins if twin is not None and twin.shape == t.shape]
    metric, error, allowed = _closest(found, noises, frame.terms, item.cancellation, eps)
    swapped = frame.reference == "keras"
    values = (found.other_value, found.reference_value) if swapped else (found.reference_value, found.other_value)
    verdict, detail = Verdict.EQUIVALENT if error <= allowed else Verdict.DIFFERENT, ""
    if verdict is Verdict.EQUIVALENT and allowed >= 1.0:
        verdict = Verdict.INCONCLUSIVE
        detail = "rounding alone moves this by its whole size: the comparison says nothing"
    return replace(
        frame.check(item, verdict, detail),
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
        for side, value in (
            (frame.reference, item.reference),
            ("keras" if frame.reference == "torch" else "torch", item.other),
        )
        if value is None
    ]
    if not lacking:
        return None
    if len(lacking) == 2:
        return frame.check(item, Verdict.INCONCLUSIVE, "missing on both sides: nothing was compared")
    present = item.reference if item.reference is not None else item.other
    assert present is not None
    verdict = Verdict.DIFFERENT if present.any() else Verdict.INCONCLUSIVE
    return frame.check(item, verdict, f"missing on the {lacking[0]} side alone")


def _nonfinite_check(frame: Frame, item: Item, t: Array, k: Array) -> Check | None:
    only_t, only_k, both = nonfinite(t, k)
    if only_t or only_k:
        other = "keras" if frame.reference == "torch" else "torch"
        side, count = (frame.reference, only_t) if only_t else (other, only_k)
        values = t if only_t else k
        kind = "NaN" if np.isnan(values).any() else "infinite"
        return frame.check(item, Verdict.DIFFERENT, f"{kind} on the {side} side alone, {count} of {t.size} elements")
    if both:
        detail = f"NaN on both sides, {both} of {t.size} elements: nothing was compared there"
        return frame.check(item, Verdict.INCONCLUSIVE, detail)
    return None


def _closest(
    found: Measure, noises: Sequence[Measure], terms: int, cancellation: float, eps: float
) -> tuple[str, float, float]:
    """The metric that comes closest to its allowance, its error, and the allowance."""
    judged: list[tuple[float, str, float, float]] = []
    for metric in METRICS:
        condition = max((noise.get(metric) for noise in noises), default=0.0)
        allowed = Noise(terms, cancellation, condition).allowed(eps)
        error = found.get(metric)
        judged.append((error / allowed, metric, error, allowed))
    _, metric, error, allowed = max(judged, key=lambda j: j[0])
    return metric, error, allowed
