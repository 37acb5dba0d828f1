"""What an operation passes back though it gives the same: no more than a limit, or a multiple."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ...numerics.compare import measure
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array
from ..forward.activation import fewest_digits
from ..prove import Trial, prove

Change = tuple[str, str, Callable[[Array], Array], Mapping[str, Any], str]
"""Id, words, what was done to the gradient, evidence, and what to do about it."""


@isolated(list[Cause])
def passed_back_causes(
    reference: SideName, gradient: Array, other: Array, allowed: float, torch: str, keras: str, error: float
) -> list[Cause]:
    """What one side does to the gradient of a value that the other does not; none where nothing gives it.

    Args:
        reference: which side is the reference.
        gradient, other: with respect to the value, of the reference and of the other side.
        allowed: how far rounding may move it, relative to its scale.
        torch, keras: names of the calls that take the value.
        error: before.
    """
    ours, theirs = (gradient, other) if reference == "torch" else (other, gradient)
    both: tuple[tuple[SideName, Array, Array], ...] = (("keras", ours, theirs), ("torch", theirs, ours))
    for side, true, seen in both:
        for name, words, change, evidence, fix in _changes(true, seen):
            after = measure(seen, change(true), floor=float(np.abs(true).max())).element
            if after <= allowed:
                cause = Cause(
                    id=name,
                    phase="gradient",
                    torch=torch,
                    keras=keras,
                    summary=f"the forward values agree there, but in the backward pass {side} passes on {words} "
                    f"{other_side(side)} does",
                    evidence=evidence,
                    fix=f"{side}: {fix}",
                )
                return [prove(cause, [Trial(error, after, allowed, true.size - 1)])]  # one number was solved for
    return []


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
    undo = "remove the factor on the gradient"
    yield "scaled_gradient", f"{factor:g} times what", lambda g: g * factor, {"factor": factor}, undo
