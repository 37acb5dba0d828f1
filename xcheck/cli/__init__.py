"""The command line: arguments -> check -> report -> exit code."""

from .commands import main
from .ending import exit_code

__all__ = ["exit_code", "main"]
