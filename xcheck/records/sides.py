"""The two sides of a pair, by name."""

from __future__ import annotations

from typing import Literal

SideName = Literal["torch", "keras"]
SIDES: tuple[SideName, SideName] = ("torch", "keras")


def other_side(side: SideName) -> SideName:
    """The other side of the pair."""
    return "keras" if side == "torch" else "torch"
