"""What an operation passes back though it gives the same: no more than a limit, or a multiple."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..compare import measure
from ..matching import SideName, other_side
from ..result import Cause
from ..tolerance import KAPPA, epsilon
from ..trace import Array
from .activation import fewest_digits
from .loss_forms import CLIPPED

Change = tuple[str, str, Callable[[Array], Array], Mapping[str, Any], str]
"""Id, words, what was done to the gradient, evidence, and what to do about it."""


def passed_back_causes(
    reference: SideName,
    gradient: Array,
    other: Array,
    value: Array,
    allowed: float,
    torch: str,
    keras: str,
    error: float,
) -> list[Cause]:
    """What one side does to the gradient of a value that the other does not; none where nothing gives it.

    Args:
        reference: which side is the reference.
        gradient, other: with respect to the value, of the reference and of the other side.
        value: that it is.
        allowed: how far rounding may move it, relative to its scale.
        torch, keras: names of the calls that take the value.
        error: before.
    """
    ours, theirs = (gradient, other) if reference == "torch" else (other, gradient)
    both: tuple[tuple[SideName, Array, Array], ...] = (("keras", ours, theirs), ("torch", theirs, ours))
    for side, true, seen in both:
        beyond = _clipped(true, seen, value)
        if beyond:
            told = f"nothing for {beyond} of {value.size} probabilities, less than {CLIPPED:g} from 0 or 1"
            return [
                Cause(
                    id="clipped_probability",
                    phase="gradient",
                    torch=torch,
                    keras=keras,
                    summary=f"both give the same there, and {side} passes back {told}: its loss clips them",
                    evidence={"clipped_to": CLIPPED, "beyond": beyond, "before": error, "all_others_agree": True},
                    confirmed=True,
                    fix="both: return logits, and let the loss take logits",
                )
            ]
        for name, words, change, evidence, fix in _changes(true, seen):
            after = measure(seen, change(true), floor=float(np.abs(true).max())).element
            if after <= allowed:
                return [
                    Cause(
                        id=name,
                        phase="gradient",
                        torch=torch,
                        keras=keras,
                        summary=f"both give the same there, and {side} passes back {words} {other_side(side)} does",
                        evidence={**evidence, "before": error, "after": after, "allowed": allowed},
                        confirmed=True,
                        fix=f"{side}: {fix}",
                    )
                ]
    return []


def _clipped(true: Array, seen: Array, value: Array) -> int:
    """How many elements one side passes nothing back for, if they are those that clipping probabilities cuts off.

    All others agree, as well as they are known: log(p) + log(1 - p) has the slope 1 / p - 1 / (1 - p), and a rounding
    error of p is one of eps / min(p, 1 - p) in it.
    """
    if value.shape != true.shape or value.min() < 0 or value.max() > 1:
        return 0
    beyond = (value < CLIPPED) | (value > 1 - CLIPPED)
    if not true[beyond].any() or seen[beyond].any() or not seen.any():
        return 0
    rest = np.minimum(value, 1 - value)[~beyond]
    known = KAPPA * epsilon("float64") * np.abs(true[~beyond]) / rest
    return int(beyond.sum()) if bool((np.abs(true - seen)[~beyond] <= known).all()) else 0


def _changes(true: Array, seen: Array) -> Iterator[Change]:
    if not true.any() or not seen.any():  # a gradient that is cut off is asked for elsewhere
        return
    # One element is always at some limit, and a multiple of another: it takes two to tell.
    limit = fewest_digits(float(np.abs(seen).max()))
    if np.count_nonzero(np.abs(true) > limit) > 1:
        words = f"at most {limit:g} of what"
        yield "clipped_gradient", words, lambda g: np.clip(g, -limit, limit), {"limit": limit}, "take out the clipping"
    if np.count_nonzero(true) < 2:
        return
    at = np.unravel_index(int(np.abs(true).argmax()), true.shape)
    factor = fewest_digits(float(seen[at] / true[at]))
    undo = "take out what multiplies the gradient"
    yield "scaled_gradient", f"{factor:g} times what", lambda g: g * factor, {"factor": factor}, undo
