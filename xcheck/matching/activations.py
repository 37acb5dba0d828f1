"""One run of the follower: which of its activations the reference also has, and the first one that it lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..records.calls import Call, Calls
from .fingerprints import CLOSE, EXACT, Known, Print, key_of, prints_of


@dataclass(frozen=True, slots=True)
class Seen:
    """One call of the follower.

    Attributes:
        call: the call.
        inputs: fingerprints of its inputs.
        given, made: distance of its inputs, and of its outputs, from the nearest activations of the reference.
        partly: as `made`, but only for the nearest of several outputs; the others may serve a different purpose.
    """

    call: Call
    inputs: tuple[Print, ...]
    given: float
    made: float
    partly: float


class Look:
    """The calls of the follower, next to the activations of the reference.

    Args:
        calls: of one forward pass of the follower.
        known: activations of the reference.
        forced: names of calls whose outputs were replaced.
        whole: the pass was complete.

    Attributes:
        seen: the calls in the order in which they ended.
        solved: all outputs of the model are known.
    """

    def __init__(self, calls: Calls, known: Known, forced: Collection[str], *, whole: bool = True) -> None:
        self.seen: list[Seen] = []
        self._forced = frozenset(forced)
        for call in calls:
            inputs = prints_of(call.inputs)
            given = max((known.distance(p) for p in inputs), default=0.0)
            made = [known.distance(p) for p in prints_of(call.outputs)]
            self.seen.append(Seen(call, inputs, given, max(made, default=0.0), min(made, default=0.0)))
        self.solved = whole and not forced and all(s.made <= EXACT for s in self.seen if s.call.parent is None)
        self._at = {s.call.index: at for at, s in enumerate(self.seen)}

    def position(self, call: Call) -> int:
        """Position of a call in the order in which the calls ended."""
        return self._at[call.index]

    def shown(self, at: int, reach: float = EXACT) -> bool:
        """Whether the outputs of a call are known up to a distance, and depend on its parameters."""
        seen = self.seen[at]
        return seen.made <= reach and bool(prints_of(seen.call.outputs))

    def within_known(self, at: int) -> bool:
        """Whether a call around this one, except the model itself, has known outputs.

        An enclosing call whose output comes from a replaced one says nothing about the replaced call.
        """
        inner = self.seen[at].call
        for call in self.around(at):
            if inner.name in self._forced or call.parent is None:
                return False
            if self.shown(self._at[call.index]):
                return True
            inner = call
        return False

    def around(self, at: int) -> Iterator[Call]:
        """The calls around this one, the nearest first."""
        parent = self.seen[at].call.parent
        while parent is not None and parent in self._at:
            call = self.seen[self._at[parent]].call
            yield call
            parent = call.parent

    def within(self, call: Call) -> set[str]:
        """Names of the calls inside a call."""
        return {s.call.name for at, s in enumerate(self.seen) if any(c.index == call.index for c in self.around(at))}

    def first_unknown(self, passed: Collection[str], loosely: bool) -> int | None:
        """The first call with an unknown input, or with parameters and an unknown output.

        A call with known outputs got the right inputs, even if these look unknown, for example because they are padded.
        The model itself is the last: its outputs may be unknown although all calls inside are known.

        Args:
            passed: names of calls to leave out.
            loosely: also treat close values as known.
        """
        reach = CLOSE if loosely else EXACT
        for at, s in enumerate(self.seen):
            if s.call.name in passed:
                continue
            made = s.made if s.call.parent is None else s.partly
            holds = s.call.parameters or s.call.parent is None
            wrong = s.given > reach or (holds and made > reach)
            shown = made <= reach and bool(prints_of(s.call.outputs))
            if wrong and not shown and not self.within_known(at) and not self._known_behind(at, reach):
                return at
        return None

    def lost(self, at: int) -> bool:
        """Whether no value computed from the outputs of a call is known."""
        made = {key for a in self.seen[at].call.outputs.values() if (key := key_of(a)) is not None}
        for later in range(at + 1, len(self.seen)):
            call = self.seen[later].call
            if made & {key_of(a) for a in call.inputs.values()}:
                if self.shown(later):
                    return False
                made |= {key for a in call.outputs.values() if (key := key_of(a)) is not None}
        return True

    def last_of(self, at: int) -> int | None:
        """Index of the last call that can show whether a call is known; None for the end."""
        if self.seen[at].call.parent is None:
            return None
        outermost = [self.seen[at].call, *self.around(at)][-2]
        behind = self._behind(at)
        later = max(self._at[outermost.index], self._at[behind.call.index] if behind else 0)
        return self.seen[later].call.index

    def _behind(self, at: int) -> Seen | None:
        """The next call with parameters after a call without parameters."""
        own = self.seen[at].call
        beside = (s for s in self.seen[at + 1 :] if s.call.parent == own.parent and s.call.parameters)
        return None if own.parameters or own.parent is None else next(beside, None)

    def _known_behind(self, at: int, reach: float) -> bool:
        """Whether the call after one without parameters has known inputs and outputs."""
        behind = self._behind(at)
        return behind is not None and bool(behind.inputs) and behind.given <= reach and behind.made <= reach
