"""Hooks of xcheck's on the user's modules, which copies of the modules do not have.

A step that keeps averages copies the model while it is watched. What the copy computes is none of the model's calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Hook:
    """A hook that does nothing once it is copied.

    Args:
        function: the hook.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(_nothing)


def _nothing(*_: Any, **__: Any) -> None:
    """What a copy does."""
