"""Names in a sentence: the first few, and how many more."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 4
"""Names that are told."""


def listed(names: Sequence[str], most: int = MOST) -> str:
    """The first names, and how many more there are.

    Args:
        names: all of them.
        most: that are told.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
