"""The confirmed causes of a result."""

from __future__ import annotations

from setups import run

import xcheck


def confirmed(pair: xcheck.Pair, steps: int = 1) -> dict[str, xcheck.Cause]:
    result = run(pair, steps)
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "update"
    return {cause.id: cause for cause in result.causes if cause.confirmed}
