"""Isolation of hypotheses about causes: one that raises affects neither the verdict nor the others."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ..errors import UserCodeError

_NOTES: ContextVar[list[str] | None] = ContextVar("notes of the run", default=None)
"""Notes of the current run; outside of a run, exceptions propagate."""


@contextmanager
def noting_faults(notes: list[str]) -> Generator[None]:
    """While the block runs, a hypothesis that raises becomes a note.

    Args:
        notes: receives the notes.
    """
    token = _NOTES.set(notes)
    try:
        yield
    finally:
        _NOTES.reset(token)


P = ParamSpec("P")
T = TypeVar("T")


def isolated(otherwise: Callable[[], T], name: str | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator for a function that tests one hypothesis, or several.

    Exceptions from the user's code propagate.

    Args:
        otherwise: creates the return value if the function raises.
        name: of the hypothesis; None takes the function's.
    """

    def decorate(test: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(test)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            notes = _NOTES.get()
            if notes is None:
                return test(*args, **kwargs)
            try:
                return test(*args, **kwargs)
            except (UserCodeError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - a bug in one hypothesis must not affect the others
                notes.append(_fault(name or test.__name__, error))
                return otherwise()

        return guarded

    return decorate


def nothing() -> Any:
    """The `otherwise` of a function that may return None."""
    return None


def _fault(name: str, error: Exception) -> str:
    text = " ".join(traceback.format_exception_only(error)[-1].split())[:200]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    at = f"{Path(frame.filename).name}:{frame.lineno}"
    return (
        f"bug in xcheck: the search for a cause in {name.strip('_')} raised {text} ({at}); the verdict, the place "
        "and the other causes are not affected: please report it"
    )
