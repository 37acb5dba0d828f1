"""Free runs of all sides from one state, never re-synced: the drift of rounding and of the port. Compares nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from ..frameworks.protocol import Runner
from ..matching import MatchPlan
from ..pairs.pair import Batch
from ..records.trace import State, StepRecord
from .lockstep import ReferenceStep, StepPair, perturbed


class FreeRun(Protocol):
    """A side that trains freely: a runner, or one of several runs that take turns in one runner."""

    def read(self) -> State:
        """The current state."""
        ...

    def write(self, state: State) -> None:
        """Set the values of the given state and leave the rest."""
        ...

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """As `Runner.rounding`."""
        ...

    def step(self, number: int, batch: Batch, *, observe: bool = True) -> StepRecord:
        """Train on one batch."""
        ...


def in_turns(runner: Runner, count: int) -> list[FreeRun]:
    """Runs that all start from the state of a runner, and share it.

    Args:
        runner: has the state of the last active run; the states of the others are saved.
        count: number of runs.
    """
    start, turns = runner.snapshot(), _Turns(runner)
    return [_Turn(turns, start) for _ in range(count)]


class _Turns:
    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.current: _Turn | None = None


class _Turn:
    """One of the runs that take turns in a runner."""

    def __init__(self, turns: _Turns, start: Any) -> None:
        self._turns, self._state = turns, start

    def _runner(self) -> Runner:
        """The runner, with the state of this run."""
        turns = self._turns
        if turns.current is not self:
            if turns.current is not None:
                turns.current._state = turns.runner.snapshot()
            turns.runner.restore(self._state)
            turns.current, self._state = self, None
        return turns.runner

    def read(self) -> State:
        return self._runner().read()

    def write(self, state: State) -> None:
        self._runner().write(state)

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        return self._runner().rounding(rng)

    def step(self, number: int, batch: Batch, *, observe: bool = True) -> StepRecord:
        return self._runner().step(number, batch, observe=observe)


def free_running(
    reference: FreeRun,
    twins: Sequence[FreeRun],
    follower: Runner,
    plan: MatchPlan,
    batches: Iterable[Batch],
    *,
    precision: str,
    seed: int,
    synced: Collection[str] = (),
) -> Iterator[StepPair]:
    """Train all sides from one state without syncing, with one rounding error per step in each twin.

    An equivalent port makes its own rounding errors in every step; the twins show the effect of such errors.

    Args:
        reference, twins: built in the same way, not yet trained.
        follower: the other side, not yet trained.
        plan: of the pair.
        batches: one per step.
        precision, seed: of the perturbations.
        synced: the follower's paths that are nevertheless set from the reference before each step.
    """
    initial = reference.read()
    follower.write(plan.for_follower(initial, slots=False))
    for twin in twins:
        twin.write(State(initial.parameters, initial.buffers))
    for number, batch in enumerate(batches, 1):
        if synced:
            follower.write(_only(synced, plan.for_follower(reference.read(), slots=False)))
        record = reference.step(number, batch, observe=False)
        drifting: list[StepRecord] = []
        for i, twin in enumerate(twins):
            rng = np.random.default_rng([seed, number, i])
            twin.write(State(perturbed(twin.read().parameters, rng, precision)))
            with twin.rounding(rng):
                drifting.append(twin.step(number, batch, observe=False))
        step = ReferenceStep(batch, record, tuple(drifting))
        yield StepPair(step, follower.step(number, batch, observe=False))


def _only(paths: Collection[str], state: State) -> State:
    """The values of a state at some paths."""
    parameters, buffers = (
        {path: array for path, array in values.items() if path in paths} for values in (state.parameters, state.buffers)
    )
    return State(parameters, buffers)
