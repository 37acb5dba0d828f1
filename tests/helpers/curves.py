"""What a free run has to show."""

from __future__ import annotations

import xcheck

WIDEST = 1e-6
"""Of an envelope in float64: a wider one would hide what the run is there to find."""


def assert_stayed_inside(result: xcheck.Result, steps: int) -> None:
    """Every step was measured, against an envelope that is narrow."""
    curve = [c for c in result.checks if c.phase == "trajectory"]
    assert {c.step for c in curve} == set(range(1, steps + 1))
    assert all(c.verdict == "EQUIVALENT" for c in curve)
    assert all(c.error is not None and c.allowed is not None and c.allowed < WIDEST for c in curve)
