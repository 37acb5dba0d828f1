"""The time of a run: what it does is shown, and where its budget is spent the rest is left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import PairError

MOST_TELLING = 0.5
"""Share of a budget within which steps on made batches and at other weights may begin: float32 and the free run come
after them and tell more."""


@dataclass
class Pace:
    """The time of a run.

    Attributes:
        budget: seconds after which nothing new begins; None for no limit.
        show: called with the current activity.
        clock: seconds, from any start.
        left_out: what was not begun, in order.

    Raises:
        PairError: the budget is no time.
    """

    budget: float | None = None
    show: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    left_out: list[str] = field(default_factory=list[str])
    started: float = field(init=False)

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise PairError("A budget is a time.", numbers=f"{self.budget} seconds", todo="for example: --budget 60s")
        self.started = self.clock()

    def allows(self, what: str, share: float = 1.0) -> bool:
        """Whether something may begin; noted if not.

        Args:
            what: for the report.
            share: of the budget that may be spent before.
        """
        if self.budget is None or self.clock() - self.started < self.budget * share:
            return True
        if what not in self.left_out:
            self.left_out.append(what)
        return False

    @property
    def reason(self) -> str:
        """Why something is left out."""
        return f"the budget of {self.budget:g} s was spent"

    def step(self, what: str, number: int, total: int, begun: float) -> None:
        """Show the step that begins, with the time that is left for it and those after it.

        Args:
            what: it is a step of.
            number: from 1.
            total: number of steps.
            begun: when the first one began.
        """
        done = number - 1
        left = f", about {lasting((self.clock() - begun) / done * (total - done))} left" if done else ""
        self.show(f"{what}: step {number} of {total}{left}")


def lasting(seconds: float) -> str:
    """A duration in words, such as "40 s" and "12 min"."""
    for length, unit, short in ((3600, "h", 7200), (60, "min", 120)):
        if seconds >= short:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
