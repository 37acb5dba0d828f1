"""The command line: arguments -> check -> report -> exit code."""

from .commands import exit_code, main

__all__ = ["exit_code", "main"]
