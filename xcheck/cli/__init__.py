"""The command line: arguments -> check -> report -> exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands import main
    from .ending import exit_code

__all__ = ["exit_code", "main"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import commands, ending

    return getattr(commands if name == "main" else ending, name)
