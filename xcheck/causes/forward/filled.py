"""Positions that a mask fills with one number, or lowers: another number on each side, other positions, or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES
from ...records.trace import Array
from ..prove import Trial, prove
from .linear import fits
from .masks import blocked, blocked_words
from .one_computation import Local, Seen


@dataclass(frozen=True, slots=True)
class Fill:
    """What a side does: `number` where `at`, and what went in elsewhere; or `number` added there."""

    x: Array
    at: Array
    number: float
    added: bool = False

    @property
    def words(self) -> str:
        """What it does to what is blocked."""
        return f"{'adds' if self.added else 'fills in'} {self.number!r}"

    def of(self, x: Array, at: Array) -> Array:
        """The same made of other numbers, at other positions."""
        return np.where(at, x + self.number if self.added else self.number, x)


@isolated(list[Cause])
def filled_causes(local: Local) -> list[Cause]:
    """Why the same values are filled in otherwise; none where either side does more than that.

    Args:
        local: what both sides did.
    """
    torch, keras = (_fill(local.of(side)) for side in SIDES)
    if torch is None or keras is None or not (torch.at.any() or keras.at.any()):
        return []
    there = local.order.apply(torch.at.astype(float)) > 0.5
    if any(_by_size(fill) for fill in (torch, keras)):
        return []
    used = torch if torch.at.any() else keras
    trial = Trial(
        local.error, local.gap(used.of(keras.x, there), local.target("keras")), local.allowed, _numbers(local)
    )
    evidence = {"torch": torch.number, "keras": keras.number, "filled": [int(there.sum()), int(keras.at.sum())]}
    names = local.torch.call.name, local.keras.call.name
    told = [blocked_words(torch.at), blocked_words(keras.at)]
    found: list[Cause] = []
    if np.array_equal(there, ~keras.at):
        summary = "what the mask lets through in torch it blocks in keras, and the other way round"
        fix = "keras: keras.ops.logical_not(mask), or torch: ~mask"
        found.append(Cause("mask_polarity", "forward", *names, summary, evidence, fix=fix))
    elif not np.array_equal(there, keras.at):
        later = any("before" not in words and "after the own" in words for words in told)
        id = "causal_mask" if later and "nothing" in told else "attention_mask"
        summary = f"a mask blocks {told[0]} in torch and {told[1]} in keras"
        fix = f"keras: block {told[0]}, or torch: {told[1]}"
        found.append(Cause(id, "forward", *names, summary, evidence, fix=fix))
    if torch.at.any() and keras.at.any() and (torch.number, torch.added) != (keras.number, keras.added):
        summary = f"where the mask lets nothing through torch {torch.words} and keras {keras.words}"
        fix = f"keras: what {torch.words}, or torch: what {keras.words}"
        found.append(Cause("mask_fill", "forward", *names, summary, evidence, fix=fix))
    return [prove(cause, [trial]) for cause in found]


def _by_size(fill: Fill) -> bool:
    """Whether it is the size of a number that decides, as in an activation."""
    if not fill.at.any():
        return False
    return any(of[fill.at].max() < of[~fill.at].min() for of in (fill.x, -fill.x, np.abs(fill.x), -np.abs(fill.x)))


def _numbers(local: Local) -> int:
    return local.keras.value.size - 2  # the two numbers are read off


def _fill(seen: Seen) -> Fill | None:
    y = seen.value
    for x in (*seen.given.values(), *seen.constants.values()):
        if x.shape != y.shape or not x.dtype.kind == y.dtype.kind == "f":
            continue
        at = (y != x) & ~np.isnan(y)
        if not at.any() and len(seen.given) == 1:
            return Fill(x, at, 0.0)
        numbers = np.unique(y[at])
        if numbers.size == 1 and not at.all() and at.sum() > 1:
            return Fill(x, at, float(numbers[0]))
        for mask in (*seen.given.values(), *seen.constants.values()):
            low = blocked(mask)
            if low is not None and fits(mask, y) and np.unique(mask[low]).size == 1 and np.array_equal(y, x + mask):
                return Fill(x, np.broadcast_to(low, y.shape), float(mask[low][0]), added=True)
    return None
