"""The follower, run with one guess after the other; each run ends as soon as it shows that a guess does not help."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..pairs.pair import Batch
from ..records.calls import Again, Calls, Swap
from ..records.trace import Arrays, State

if TYPE_CHECKING:
    from .matchable import Matchable


class Following:
    """Runs the follower: a whole pass, or only the calls that depend on parameters changed since the last whole pass.

    Args:
        runner: of the side.
    """

    def __init__(self, runner: Matchable) -> None:
        self.runner = runner
        self._held: Arrays = {}
        self._before: Arrays = {}
        self._again = Again()
        self._calls: Calls = ()

    def whole(self, state: State, batch: Batch, swap: Swap | None) -> Calls:
        """Every call, with the values of a state.

        Args:
            state: parameters and buffers of the side.
            batch, swap: as for `Runner.calls`.
        """
        self._write(state)
        self._again = Again()
        self._calls = self.runner.calls(batch, swap=swap, again=self._again)
        self._before = dict(self._held)
        return self._calls

    def part(self, state: State, batch: Batch, swap: Swap | None, last: int | None) -> Calls | None:
        """The calls up to a given one, with a state that differs little from that of the last whole pass.

        Args:
            state: parameters and buffers of the side.
            batch, swap: those of the last whole pass.
            last: index of the call; None for the end.

        Returns:
            None if a changed parameter belongs to no call, so that it is unknown where it is used.
        """
        self._write(state)
        other = {path for path, array in self._held.items() if not _same(self._before.get(path), array)}
        if not other <= {path for call in self._calls for path in call.parameters}:
            return None
        ended = {call.index: at for at, call in enumerate(self._calls)}
        first = min((call.index for call in self._calls if other & set(call.parameters)), default=None)
        if first is None or (last is not None and first > last and ended[first] > ended[last]):
            return self._calls  # every requested call comes before the first change
        return self.runner.calls(batch, swap=swap, again=replace(self._again, first=first, last=last))

    def _write(self, state: State) -> None:
        changed = {path for path, array in state.values().items() if not _same(self._held.get(path), array)}
        parameters = {path: array for path, array in state.parameters.items() if path in changed}
        buffers = {path: array for path, array in state.buffers.items() if path in changed}
        self.runner.write(State(parameters, buffers))
        self._held = {**self._held, **parameters, **buffers}


def _same(one: np.ndarray | None, other: np.ndarray) -> bool:
    return one is not None and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
