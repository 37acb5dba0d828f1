"""Positions that a mask fills with one number: another number on each side, or the positions that the other keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array
from ..prove import Trial, prove
from .one_computation import Local, Seen


@dataclass(frozen=True, slots=True)
class Fill:
    """What a side does: `number` where `at`, and what went in elsewhere."""

    x: Array
    at: Array
    number: float


@isolated(list[Cause])
def filled_causes(local: Local) -> list[Cause]:
    """Why the same values are filled in otherwise; none where either side does more than that.

    Args:
        local: what both sides did.
    """
    torch, keras = _fill(local.torch), _fill(local.keras)
    if torch is None or keras is None:
        return []
    there = local.order.apply(torch.at.astype(float)) > 0.5
    if np.array_equal(there, keras.at):
        id, made = "mask_fill", np.where(keras.at, torch.number, keras.x)
        summary = f"at masked positions torch fills in {torch.number!r} and keras {keras.number!r}"
        fix = f"keras: fill in {torch.number!r}, or torch: {keras.number!r}"
    elif np.array_equal(there, ~keras.at):
        id, made = "mask_polarity", np.where(~keras.at, torch.number, keras.x)
        summary = f"the masks are inverted: keras fills in {keras.number!r} where torch keeps the value, and vice versa"
        fix = "keras: keras.ops.logical_not(mask), or torch: ~mask"
    else:
        return []
    names = local.torch.call.name, local.keras.call.name
    evidence = {"torch": torch.number, "keras": keras.number, "filled": int(keras.at.sum())}
    after = local.gap(made, local.target("keras"))
    return [prove(Cause(id, "forward", *names, summary, evidence, fix=fix), [_trial(local, after)])]


def _trial(local: Local, after: float) -> Trial:
    return Trial(local.error, after, local.allowed, local.keras.value.size - 2)  # the two numbers are read off


def _fill(seen: Seen) -> Fill | None:
    y = seen.value
    for x in (*seen.given.values(), *seen.constants.values()):
        if x.shape == y.shape and x.dtype.kind == y.dtype.kind == "f":
            at = (y != x) & ~np.isnan(y)
            numbers = np.unique(y[at])
            if numbers.size == 1 and not at.all() and at.sum() > 1:
                return Fill(x, at, float(numbers[0]))
    return None
