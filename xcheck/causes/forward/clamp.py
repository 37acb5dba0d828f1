"""Values that are kept within bounds, other ones on each side or on one side alone."""

from __future__ import annotations

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ..prove import Trial, prove
from .activation import fewest_digits
from .one_computation import Local, Seen

Bounds = tuple[float | None, float | None]
"""The lowest and the highest value that is let through; None where no value came to it."""


@isolated(list[Cause])
def clamp_causes(local: Local) -> list[Cause]:
    """Why the same values come out within other bounds; none where either side does more than that.

    Args:
        local: what both sides did.
    """
    found = [_bounds(local, seen) for seen in (local.torch, local.keras)]
    torch, keras = found
    if torch is None or keras is None or torch == keras:
        return []
    after = max(local.gap(seen.value, np.clip(seen.x, *b)) for seen, b in ((local.torch, torch), (local.keras, keras)))
    shown = [_shown(bounds) for bounds in (torch, keras)]
    cause = Cause(
        id="clamped_value",
        phase="forward",
        torch=local.torch.call.name,
        keras=local.keras.call.name,
        summary=f"values are clamped differently: {shown[0]} in torch and {shown[1]} in keras",
        evidence={"torch": list(torch), "keras": list(keras)},
        fix="use the same bounds in keras.ops.clip and in torch.clamp",
    )
    cut = sum(int((seen.value != seen.x).sum()) for seen in (local.torch, local.keras))
    return [prove(cause, [Trial(local.error, after, local.allowed, cut - 4)])]  # two bounds on each side are read off


def _bounds(local: Local, seen: Seen) -> Bounds | None:
    """The bounds of a side that does nothing else."""
    x, y = seen.x, seen.value
    if len(seen.given) != 1 or seen.constants or x.shape != y.shape or x.dtype.kind != "f" or not np.isfinite(y).all():
        return None
    raised, lowered = y[y > x], y[y < x]
    low = fewest_digits(float(raised[0])) if raised.size else None
    high = fewest_digits(float(lowered[0])) if lowered.size else None
    if low is None and high is None:
        return (None, None) if local.agree(y, x) else None
    return (low, high) if local.agree(y, np.clip(x, low, high)) else None


def _shown(bounds: Bounds) -> str:
    """What was seen to be cut off; a bound that no value reached is not known."""
    words = [f"{side} {bound:.9g}" for side, bound in zip(("below", "above"), bounds, strict=True) if bound is not None]
    return " and ".join(words) or "none"
