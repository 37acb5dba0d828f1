"""Re-synced steps from much later in a training: what the steps count is moved there on both sides at once.

Code that counts in Python (`self.calls += 1; if self.calls > 1000: ...`) is asked what it compares its count with, and
steps are made around each such number, nearest first, and at a few late times besides. This is sound only if nothing
but weights and counts changes from step to step, so a note says where something else does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..errors import UserCodeError
from ..frameworks.counters import Boundary, Count, Counts
from ..frameworks.protocol import Runner
from ..numerics.tolerance import TWINS, WIDE
from ..pairs.pair import Batch
from ..records.result import LATER, Check, Verdict
from ..stepping.lockstep import StepPair, reference_steps, resynced
from .ordinary import BEFORE_THE_UPDATE, finite
from .phase import Live
from .reach import BY_ROUNDING, MadeBatchSteps

LATE = (1_000, 100_000)
"""Steps from the last one at which one more is made, whatever a count is compared with."""

AROUND = 5
"""Steps around a boundary: the first one has a count one below it, so that `>` and `>=` are told apart; the last two
show whether more than counts changes from there on."""

MOVES = 6
"""Largest number of times that the counts are moved, at the default reach."""

FARTHEST = 10_000_000
"""Largest number of steps to a boundary; code compares counts with numbers such as sys.maxsize too."""


class _Place(NamedTuple):
    """A later step.

    Attributes:
        steps: from the next one.
        made: number of steps made from there.
        period: of a boundary that comes again.
    """

    steps: int
    made: int
    period: float | None = None


@dataclass
class LaterSteps:
    """The further steps of a run whose steps count in Python.

    Args:
        live: both sides; their state is restored afterwards.
        made: has the state after the last given batch.
        number: of the first of these steps.
        batch: the last given batch.
    """

    live: Live
    made: MadeBatchSteps
    number: int
    batch: Batch
    once: bool = True
    _sides: tuple[Runner, ...] = field(init=False, default=())
    _counts: list[Sequence[Count]] = field(init=False, default_factory=list[Sequence[Count]])
    _ahead: int = field(init=False, default=0)
    _compared: int = field(init=False, default=0)
    _periods: set[float] = field(init=False, default_factory=set[float])
    _outcome: str | None = field(init=False, default=None)

    def steps(self) -> Iterator[StepPair]:
        """The steps, until one differs; nothing where no step counts in Python."""
        findings, runner = self.live.findings, self.live.reference.runner
        different = any(c.verdict is Verdict.DIFFERENT for c in findings.checks)
        if self.made.start is None or runner is None or different or self.made.skip_reason() is not None:
            return
        self._sides = runner, self.live.follower
        try:
            self._restore(self.made.start)
            every = [self._two_steps(side) for side in self._sides]
            self._restore(self.made.start)
            self._counts = [counts.counts for counts in every]
            counting = any(count.python for count in self._every())
            if counting and findings.allows_further("steps much later in the training"):
                self.live.progress("steps much later in the training")
                reason = self._unsound(every)
                if reason is None:
                    yield from self._moves(runner)
                    reason = self._outcome
                    findings.coverage["later steps"] = {"compared": self._compared}
                self._note(reason)
        except UserCodeError as error:
            self._note(str(error).splitlines()[0])
        self._restore(self.made.start)

    def _two_steps(self, side: Runner) -> Counts:
        snapshots = [side.snapshot()]
        for number in (self.number, self.number + 1):
            side.step(number, self.batch)
            snapshots.append(side.snapshot())
        return side.counts(snapshots)

    def _unsound(self, every: Sequence[Counts]) -> str | None:
        """Why the counts cannot be moved without the steps in between."""
        for side, counts in zip(self._sides, every, strict=True):
            holdings = self.live.findings.holdings.get(side.side)
            if counts.others:
                return f"each step also changes {side.side} {counts.others[0]}"
            if any(count.where.endswith((".last_epoch", "._step_count")) for count in counts.counts):
                return f"the {side.side} side has a scheduler"
            if holdings is not None and len({*holdings.rates.values()}) != 1:
                return f"the learning rate of the {side.side} side may change"
        return None

    def _moves(self, runner: Runner) -> Iterator[StepPair]:
        late = [*LATE]
        for _ in range(MOVES):
            place = self._nearest(late)
            if place is None:
                return
            self._advance(place.steps)
            between: list[list[object]] = [[side.snapshot()] for side in self._sides]
            for _ in range(place.made):
                yield from self._judged_step(runner)
                if self._outcome:
                    return
                for snapshots, side in zip(between, self._sides, strict=True):
                    snapshots.append(side.snapshot())
            self._outcome = self._accumulates(place, between)
            if self._outcome:
                return
            self._periods |= {place.period} if place.period is not None else set()
        side, count = self._python()[0]
        self._outcome = f"after {MOVES} of them, where {side} {count.where} is {self._now(count).value}"

    def _nearest(self, late: list[int]) -> _Place | None:
        """The next later step worth making; None if there is none."""
        boundaries = self._boundaries()
        if any(math.isinf(b.steps) for b in boundaries):
            self._outcome = "a count is looked up in a set or a dict"
            return None
        places = [
            _Place(max(math.ceil(b.steps) - 1, 0), AROUND, b.period)
            for b in boundaries
            if 0 <= b.steps <= FARTHEST and b.period not in self._periods
        ]
        places += [_Place(step - self._ahead, 1) for step in late if step >= self._ahead]
        place = min(places, key=lambda p: p.steps, default=None)
        if place is not None and place.made == 1:
            late.remove(place.steps + self._ahead)
        return place

    def _boundaries(self) -> list[Boundary]:
        """What the counts of both sides are compared with in the next step; the state stays as it is."""
        boundaries: list[Boundary] = []
        for side, counts in zip(self._sides, self._counts, strict=True):
            start = side.snapshot()
            for count in counts:
                if count.python:
                    self._now(count).watch(boundaries)
            side.step(self.number, self.batch)
            side.restore(start)
        return boundaries

    def _judged_step(self, runner: Runner) -> Iterator[StepPair]:
        """The next step of both sides; with twins if it differs without."""
        findings = self.live.findings
        seed, by_effect = findings.seed, findings.by_effect
        start = [side.snapshot() for side in self._sides]
        self._outcome = None
        for twins in (0, TWINS):
            self._restore(start)
            steps = reference_steps(
                runner, [self.batch], precision="float64", seed=seed, twins=twins, first=self.number
            )
            yield from resynced(steps, self.live.follower, self.live.plan, seed=seed, by_effect=by_effect)
            if self._outcome is not None:
                break
        self.number, self._ahead = self.number + 1, self._ahead + 1

    def counted_checks(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """The differences of a step; None where there are none, or none can be judged.

        Args:
            step: of both sides.
            checks: of the step.
        """
        differences = [c for c in checks if c.verdict is Verdict.DIFFERENT]
        uncertain = (c for c in checks if c.phase in BEFORE_THE_UPDATE and not c.of_use and (c.allowed or 0.0) > WIDE)
        if not finite(step):
            self._outcome = BY_ROUNDING
        elif not differences:
            self._outcome, self._compared = "", self._compared + 1
        elif step.reference.twins:
            if any(uncertain):
                self._outcome = BY_ROUNDING
            else:
                return [replace(c, detail="; ".join(filter(None, (self._where(), c.detail)))) for c in differences]
        return None

    def _where(self) -> str:
        side, count = self._python()[0]
        return f"{LATER}{side} {count.where} is {self._now(count).value + count.rate}"

    def _python(self) -> list[tuple[str, Count]]:
        return [(s.side, c) for s, counts in zip(self._sides, self._counts, strict=True) for c in counts if c.python]

    def _every(self) -> Iterator[Count]:
        return (count for counts in self._counts for count in counts)

    def _now(self, count: Count) -> Count:
        return replace(count, value=count.value + self._ahead * count.rate)

    def _advance(self, steps: int) -> None:
        self._ahead += steps
        for count in self._every():
            count.advance(self._ahead)

    def _accumulates(self, place: _Place, snapshots: Sequence[Sequence[object]]) -> str:
        """Why nothing behind a boundary can be reached at once: more than counts changes on the way; "" if it can.

        Args:
            place: the boundary.
            snapshots: of each side, before and after each step around it.
        """
        if place.made < AROUND:
            return ""
        every = [
            bool(side.counts(held[i : i + 3]).others)
            for side, held in zip(self._sides, snapshots, strict=True)
            for i in range(AROUND - 1)
        ]
        if place.period is not None and any(every):
            return f"every {place.period:g} steps, more state changes than counters"
        return (
            "from there on, each step changes more state than counters" if any(every[AROUND - 2 :: AROUND - 1]) else ""
        )

    def _restore(self, snapshots: Sequence[object]) -> None:
        for side, snapshot in zip((self.live.reference.runner, self.live.follower), snapshots, strict=True):
            assert side is not None
            side.restore(snapshot)

    def _note(self, reason: str | None) -> None:
        if reason:
            names = [f"{side} {count.where}" for side, count in self._python()]
            self.live.findings.notes.append(
                f"not covered: steps much later in the training, which may differ: each step counts {', '.join(names)} "
                f"({reason}); --steps N makes more steps"
            )
