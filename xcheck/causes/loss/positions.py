"""Causes in a loss that counts its positions otherwise: some are left out, classes weigh more, the weights are summed.

The usual losses are sums over positions, each with a factor of its own: one over their number, a weight of its class,
zero where it is left out. The factors are read off the gradients of the outputs, which have them too, and they are what
a side does where they give its loss again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import Array
from ..locate.loss.probe import Look
from ..prove import Trial, prove
from ..recomputed import REPRODUCED
from .readings import LARGEST, SMOOTHING

MOST = 8
"""Labels whose weights are told."""


@dataclass(frozen=True, slots=True)
class Form:
    """One usual loss, position by position.

    Attributes:
        each: loss of each position.
        slopes: its gradient, with the numbers of a position along the last axis.
    """

    each: Array
    slopes: Array


@dataclass(frozen=True, slots=True)
class Counted:
    """By what factor each position enters the loss of both sides.

    Attributes:
        torch, keras: the factors.
        each: loss of each position.
        labels: of the positions; None where they are numbers.
        values: of the losses.
    """

    torch: Array
    keras: Array
    each: Array
    labels: Array | None
    values: Mapping[SideName, float]

    def of(self, side: SideName) -> Array:
        """The factors of one side."""
        return self.torch if side == "torch" else self.keras


@isolated(list[Cause])
def counted_causes(name: str, target: Array, looks: Sequence[Look]) -> list[Cause]:
    """Why a loss differs where outputs do not: by which positions count, and how much.

    Args:
        name: of the loss.
        target: classes, one-hot rows, truth values or numbers.
        looks: what both sides made of it, at the weights of the step and at others. By which positions count, and how
            much, is a matter of the targets: it is the same at all weights.
    """
    every = [
        (look, _counted(look.output, target, look.gradients, look.values)) for look in looks if look.output is not None
    ]
    found = next((counted for _, counted in every), None)
    if found is None:
        return []
    told = _left_out(found) or _weighed(found) or _divided(found)
    if told is None:
        return []
    if any(other is None or not _same(found, other) for _, other in every[1:]):
        return []  # the gradients are zero, or larger, where the outputs make them so
    cause, summary, fix = told
    trials: list[Trial] = []
    for look, counted in every:
        assert counted is not None
        torch, keras = (look.values[side] for side in SIDES)
        again = float((counted.keras * counted.each).sum())
        trials.append(Trial(abs(torch - keras) / abs(torch), abs(again - keras) / abs(keras), REPRODUCED))
    evidence = {
        "torch": found.values["torch"],
        "keras": found.values["keras"],
        "counted_in_torch": int((found.torch != 0).sum()),
        "counted_in_keras": int((found.keras != 0).sum()),
    }
    return [prove(Cause(cause, "loss", name, name, summary, evidence, fix=fix), trials)]


def _same(one: Counted, other: Counted) -> bool:
    """Whether the same positions count on two inputs, with the same weights."""
    pairs = (one.torch, other.torch), (one.keras, other.keras)
    return all(np.abs(a - b).max() <= REPRODUCED * np.abs(a).max() for a, b in pairs)


def _counted(
    z: Array, y: Array, gradients: Mapping[SideName, Array], values: Mapping[SideName, float]
) -> Counted | None:
    """The factors of the first usual loss that gives both sides' gradients and values; None where none does."""
    if not 0 < z.size <= LARGEST or any(g.shape != z.shape or not np.isfinite(g).all() for g in gradients.values()):
        return None
    if not all(np.isfinite(value) and value for value in values.values()):
        return None
    with np.errstate(all="ignore"):
        for form, labels in _forms(z.astype(np.float64), y):
            factors = {side: _factors(form, gradients[side], values[side]) for side in SIDES}
            torch, keras = factors["torch"], factors["keras"]
            if torch is not None and keras is not None:
                return Counted(torch, keras, form.each, labels, values)
    return None


def _factors(form: Form, gradient: Array, value: float) -> Array | None:
    slopes, g = form.slopes, gradient.reshape(form.slopes.shape)
    if not np.isfinite(slopes).all() or not np.isfinite(form.each).all():
        return None
    size = (slopes**2).sum(axis=-1)
    if not size.all():  # a position without a slope tells nothing
        return None
    factors = (g * slopes).sum(axis=-1) / size
    factors[np.abs(factors) <= REPRODUCED * np.abs(factors).max()] = 0.0
    made = factors[..., None] * slopes
    if np.abs(made - g).max() > REPRODUCED * np.abs(g).max():
        return None
    return factors if abs(float((factors * form.each).sum()) - value) <= REPRODUCED * abs(value) else None


def _forms(z: Array, y: Array) -> Iterator[tuple[Form, Array | None]]:
    """(a usual loss, the labels of its positions)."""
    labels = y[..., 0] if y.ndim == z.ndim and y.shape[-1] == 1 and z.shape[-1] > 1 else y
    whole = bool(np.all(y == np.round(y)))
    if whole and z.ndim > 1 and z.shape[-1] > 1 and labels.shape == z.shape[:-1]:
        named = labels.astype(np.int64)
        shares = np.eye(z.shape[-1])[np.clip(named, 0, z.shape[-1] - 1)]
        yield from ((form, named) for form in _cross_entropies(z, shares))
    if y.shape == z.shape and z.ndim > 1 and z.shape[-1] > 1 and np.allclose(y.sum(axis=-1), 1.0) and (y >= 0).all():
        named = y.argmax(axis=-1) if ((y == 0) | (y == 1)).all() else None
        yield from ((form, named) for form in _cross_entropies(z, y.astype(np.float64)))
    flat = y[..., None] if z.ndim == y.ndim + 1 and z.shape[-1] == 1 else y
    if flat.shape == z.shape:
        t = flat.astype(np.float64)
        truth = flat.astype(np.int64) if ((t == 0) | (t == 1)).all() else None
        if truth is not None:
            squashed = 1 / (1 + np.exp(-z))
            yield Form(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))), (squashed - t)[..., None]), truth
            logs = -(t * np.log(z) + (1 - t) * np.log1p(-z))
            yield Form(logs, ((z - t) / (z * (1 - z)))[..., None]), truth
        yield Form((z - t) ** 2, (2 * (z - t))[..., None]), None
        yield Form(np.abs(z - t), np.sign(z - t)[..., None]), None


def _cross_entropies(z: Array, shares: Array) -> Iterator[Form]:
    shifted = z - z.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    for smoothing in SMOOTHING:
        t = shares * (1 - smoothing) + smoothing / z.shape[-1]
        yield Form(-(t * logs).sum(axis=-1), np.exp(logs) - t)
        if (z > 0).all() and np.allclose(z.sum(axis=-1), 1.0):
            each = -(t * np.log(z)).sum(axis=-1)
            yield Form(each, -t / z)
            yield Form(each, 1 - t / z)  # the sum over the classes is divided by, and has a slope
        if (z <= 0).all():
            yield Form(-(t * z).sum(axis=-1), -t)


Told = tuple[str, str, str]
"""Id, summary and fix of a cause."""


def _left_out(found: Counted) -> Told | None:
    """Positions that one side alone leaves out."""
    idle = {side: found.of(side) == 0 for side in SIDES}
    for side in SIDES:
        alone = idle[side] & ~idle[other_side(side)]
        if not alone.any():
            continue
        of = f"{int(idle[side].sum())} of the {alone.size} positions"
        for label in () if found.labels is None else np.unique(found.labels[alone]):
            if np.array_equal(found.labels == label, alone):
                where = f"whose label is {int(label)}"
                fix = f"keras: ignore_class={int(label)}, or weights of 0 there, and torch: ignore_index={int(label)}"
                fix += "; on both sides or on neither"
                return "ignored_label", _leaves(side, of, where), fix
        fix = "keras: no mask_zero or Masking on the way to the loss, or torch: a mean over the unmasked positions"
        if side == "torch":
            fix = "keras: sample weights of 0 where torch leaves positions out, or torch: none left out"
        return "loss_mask", _leaves(side, of, "removed by a mask or weights of 0"), fix
    return None


def _leaves(side: SideName, of: str, where: str) -> str:
    return f"the loss of the {side} side leaves out {of}, those {where}; the {other_side(side)} side includes them"


def _weighed(found: Counted) -> Told | None:
    """Positions that weigh more than others on one side, relative to the other."""
    kept = (found.torch != 0) & (found.keras != 0)
    if not kept.any():
        return None
    ratio = found.keras[kept] / found.torch[kept]
    if np.ptp(ratio) <= REPRODUCED * abs(ratio[0]):
        return None
    by_label = {side: None if found.labels is None else _by_label(found.of(side), found.labels) for side in SIDES}
    torch, keras = by_label["torch"], by_label["keras"]
    if torch is None or keras is None:
        summary = "the positions have different relative weights in the loss"
        spread = {side: found.of(side)[kept] / found.of(side)[kept].max() for side in SIDES}
        summary += f": from {spread['torch'].min():.6g} to 1 in torch, from {spread['keras'].min():.6g} to 1 in keras"
        return "example_weights", summary, "give both sides the same weight for each example"
    listed = [f"{label}: {torch[label]:.6g} in torch, {keras[label]:.6g} in keras" for label in list(torch)[:MOST]]
    fix = "keras: class_weight, or the losses times the weight of their class; torch: weight= or pos_weight="
    return "class_weights", f"the weights of the labels in the loss differ: {'; '.join(listed)}", fix


def _by_label(factors: Array, labels: Array) -> dict[int, float] | None:
    """Label -> weight relative to that of the first label; None where it is not the label that decides."""
    found: dict[int, float] = {}
    for label in np.unique(labels):
        own = factors[labels == label]
        if not own[0] or np.ptp(own) > REPRODUCED * np.abs(own).max():
            return None
        found[int(label)] = float(own[0])
    first = next(iter(found.values()))
    return {label: factor / first for label, factor in found.items()}


def _divided(found: Counted) -> Told | None:
    """The same weights, divided by something else; nothing where all positions count alike."""
    kept = found.torch != 0
    even = bool(np.ptp(found.torch[kept]) <= REPRODUCED * np.abs(found.torch[kept]).max())
    ratio = float(found.keras[kept][0] / found.torch[kept][0])
    if abs(ratio - 1) <= REPRODUCED or (even and kept.all()):
        return None
    told: dict[SideName, str] = {}
    for side in SIDES:
        factors = found.of(side)[kept]
        if abs(float(factors.sum()) - 1) <= REPRODUCED:
            told[side] = f"their number, {int(kept.sum())}" if even else "the sum of their weights"
        elif even:
            told[side] = f"{1 / float(factors[0]):.6g}, of {kept.size} positions"
        else:
            told[side] = "a different number, independent of the weights"
    what = f"the {int(kept.sum())} included positions" if even else "the weighted losses"
    if len(set(told.values())) == 1:  # a factor on all of it, which says more
        return None
    summary = f"{what} are divided by {told['torch']} in torch and by {told['keras']} in keras"
    fix = "torch: reduction='none', then divide by the count that keras uses, or keras: divide by "
    fix += "the number of included positions" if even else "the sum of the weights in the batch"
    return "reduction" if even else "weighted_reduction", summary, fix
