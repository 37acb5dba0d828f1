"""Models that are looked into, and refuse."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ..errors import UserCodeError


@contextmanager
def ended_by_user_code(notes: list[str]) -> Generator[None]:
    """Go on where a model refuses to be watched; the difference stands all the same."""
    try:
        yield
    except UserCodeError as error:
        notes.append(f"the calls inside the models could not be recorded: {str(error).splitlines()[0]}")
