"""Where a long command is: a line or a bar that moves on a terminal, and elsewhere a line a minute."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import shown

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


class Activity:
    """What a command does now, and since when it runs; rich renders it anew each time.

    Args:
        name: of the pair.
        clock: seconds, from any start.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock, self._started, self._now = name, clock, clock(), "starting"

    def __call__(self, activity: str) -> None:
        """Another activity begins."""
        self._now = activity

    def line(self) -> str:
        """The activity, with the seconds since the start."""
        return shown(f"{self._name}: {self._now}  ({self._clock() - self._started:.0f} s)")

    def __rich__(self) -> Text:
        return Text(self.line())


@contextmanager
def showing(activity: Activity, *, quiet: bool) -> Generator[Activity]:
    """Show an activity on standard error while the block runs.

    Args:
        activity: to show.
        quiet: show nothing.
    """
    console = Console(stderr=True)
    if quiet:
        yield activity
    elif console.is_terminal:
        with console.status(activity):
            yield activity
    else:
        ended = threading.Event()
        lines = threading.Thread(target=line_by_line, args=(activity, ended.wait), daemon=True)
        lines.start()
        try:
            yield activity
        finally:
            ended.set()
            lines.join()


def line_by_line(activity: Activity, wait: Callable[[float], bool]) -> None:
    """Print the line of an activity to standard error each time that a wait of `EVERY` ends without True."""
    while not wait(EVERY):
        print(activity.line(), file=sys.stderr, flush=True)


@contextmanager
def counting(
    total: int, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Generator[Callable[[str], None]]:
    """Show how many of several tasks are done; the function that is yielded is called with each that is.

    Args:
        total: number of tasks.
        console: where a terminal is; None for standard error.
        clock: seconds, from any start.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        forever = 1e9  # a task may take longer than the seconds from which rich estimates by default
        with Progress(*columns, console=console, get_time=clock, speed_estimate_period=forever) as progress:
            bar = progress.add_task("", total=total)
            yield lambda done: progress.update(bar, advance=1, description=shown(done), refresh=True)
        return
    number = 0
    activity = Activity("sweep", clock)
    activity(f"0 of {total} checks")

    def one_more(done: str) -> None:
        nonlocal number
        number += 1
        activity(f"{number} of {total} checks, the last {done}")

    with showing(activity, quiet=False):
        yield one_more
