"""Making the guesses better until everything that the follower computes is known from the reference.

Each round takes the first call that was given, or made, something unknown, and tries what could explain it: other
weights for the layers that fed it, or another layout of theirs. What helps in one place is done in all places that are
alike. Where nothing helps, the port itself differs there; the reference's values are put in place of the follower's, so
that what comes after is judged by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .activations import Look, Seen
from .fingerprints import CLOSE, EXACT, apart, prints_of
from .moves import MOST_ORDERS, Move, Moves

if TYPE_CHECKING:
    from .matcher import Matcher

MOST_LOOKS = 300
"""Forward passes of the follower that matching may take."""

MOST_MOVES = 100
"""Changes that are tried for one unknown value."""

MOST_PAIRS = 100
"""Pairs of changes that are tried where no change by itself explains an unknown value."""

CLEARLY = 10.0
"""By how much one order must come closer than all others to be the right one, in a port that differs behind it."""


class Repairs:
    """Changes the guesses of a matcher for the better.

    Attributes:
        passed: names of calls that nothing makes known.
        moves: the changes that it can make.
        most: looks of the matcher at which the search ends.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.passed: set[str] = set()
        self.loosely = False
        self.hopeless: set[Any] = set()
        self.moves = Moves(matcher)
        self.most = MOST_LOOKS

    def run(self) -> Look:
        """Until nothing is unknown, or nothing helps; the last look."""
        look = self.matcher.look()
        while not look.solved and self.matcher.looks < self.most:
            at = look.first_unknown(self.passed, self.loosely)
            if at is None:
                break
            better = self._better(look, at)
            if better is not None:
                look = better
            elif self._pass(look, at):
                look = self.matcher.look()
        return look

    def _better(self, look: Look, at: int) -> Look | None:
        """The look after the first change that makes the call known; None if none does."""
        before = _error(look.seen[at])
        kind = self._kind(look, at)
        if before <= CLOSE or kind in self.hopeless or self._follows(look, at):
            return None
        closest: tuple[float, Move] | None = None
        half: Move | None = None
        orders: dict[int, list[tuple[float, Move]]] = {}
        moves = itertools.islice(self.moves.of(look, at), MOST_MOVES)
        for move in itertools.chain(moves, itertools.islice(self.moves.pairs(look, at), MOST_PAIRS)):
            if self.matcher.looks >= self.most:
                break
            undo = move.do()
            found = self.matcher.glimpse(look, at)
            if found is None or self._behind(found, at):
                found = self.matcher.look()
                if self._behind(found, at):
                    self._decide(move, sure=self._only_order(look, at, move, undo))
                    return self._spread(move, found)
            error = _error(found.seen[at])
            if half is None and look.seen[at].given > EXACT >= found.seen[at].given and self._reaches(found, at):
                half = move
            undo()
            if move.of is not None:
                orders.setdefault(id(move.of), []).append((self._far(found.seen[at]), move))
            if error <= CLOSE and (closest is None or error < closest[0]):
                closest = error, move
        if half is not None:  # what the call is given is known, and what it makes of that is the next question
            half.do()
            return self.matcher.look()
        self.hopeless.add(kind)
        if closest is not None:  # the right one, in a port that has another setting here
            closest[1].do()
            self._decide(closest[1])
            return self.matcher.look()
        return self._likeliest(look, at, orders.values())

    def _only_order(self, look: Look, at: int, move: Move, undo: Callable[[], None]) -> bool:
        """Whether no other order of the same layers makes the call known: a query and a key may be exchanged.

        Args:
            look: before the move.
            at: position of the call.
            move: that makes it known, and is made again.
            undo: takes it back.
        """
        if move.of is None:
            return True
        undo()
        orders = itertools.islice(itertools.permutations(range(len(move.of))), 1, MOST_ORDERS)
        fitting = 0
        for order in orders:
            back = self.moves.assign(move.of, order)
            fitting += self._behind(self.matcher.glimpse(look, at) or self.matcher.look(), at)
            back()
            if fitting > 1:
                break
        move.do()
        return fitting == 1

    def _behind(self, found: Look, at: int) -> bool:
        """Whether a look finds nothing unknown up to a call."""
        after = found.first_unknown(self.passed, self.loosely)
        return found.solved or after is None or after > at

    def _reaches(self, found: Look, at: int) -> bool:
        """Whether a look finds nothing unknown before a call."""
        return found.first_unknown(self.passed, self.loosely) == at

    def _follows(self, look: Look, at: int) -> bool:
        """Whether all that is unknown of what a call was given is what others made that nothing makes known."""
        made = [p for s in look.seen[:at] if s.call.name in self.passed for p in prints_of(s.call.outputs)]
        unknown = [p for p in look.seen[at].inputs if self.matcher.known.distance(p) > EXACT]
        return bool(unknown) and all(any(apart(p, other) <= EXACT for other in made) for p in unknown)

    def _likeliest(self, look: Look, at: int, orders: Iterable[Sequence[tuple[float, Move]]]) -> Look | None:
        """Take the order of layers that are alike that makes what follows nearly known, where all others do not.

        The port has another setting behind them, such as another activation. The look, if it is not as it was.
        """
        own, changed = self._far(look.seen[at]), False
        for tried in orders:
            errors = sorted([own, *(error for error, _ in tried)])
            if errors[0] * CLEARLY > errors[1]:
                continue
            move = next((move for error, move in tried if error == errors[0]), tried[0][1])
            self._decide(move)
            if errors[0] < own:
                move.do()
                changed = True
        return self.matcher.look() if changed else None

    def _far(self, seen: Seen) -> float:
        """How far the first unknown value of a call is from anything that the reference has."""
        prints = prints_of(seen.call.inputs if seen.given > EXACT else seen.call.outputs)
        return max((self.matcher.known.nearest(p) for p in prints), default=float("inf"))

    def _decide(self, move: Move, *, sure: bool = True) -> None:
        """Forget the doubts about layers whose order has now been found.

        Args:
            move: to that order.
            sure: no other order of them would do.
        """
        if move.of is not None:
            found = {id(guess) for guess in move.of}
            self.moves.undecided = [u for u in self.moves.undecided if not {id(g) for g in u} & found]
            for guess in move.of:
                guess.by_value, guess.decided = True, sure

    def _kind(self, look: Look, at: int) -> Any:
        """Equal for calls that are alike, after like layers: where nothing helps one of them, nothing helps others."""
        seen = look.seen[at]
        owner = self.matcher.guess_of(seen.call.path)
        before = tuple(g.group.signature for g in self.moves.recent(look, at)) if seen.given > EXACT else ()
        return seen.call.kind, owner and owner.group.signature, before

    def _spread(self, move: Move, found: Look) -> Look:
        """Do what helped wherever it is the same, unless that makes it worse."""
        if found.solved or move.everywhere is None:
            return found
        undo = move.everywhere()
        again = self.matcher.look()
        old, new = (x.first_unknown(self.passed, self.loosely) for x in (found, again))
        if again.solved or new is None or (old is not None and new >= old):
            return again
        undo()
        return found

    def _pass(self, look: Look, at: int) -> bool:
        """Leave a call as it is, and go on behind it with the reference's values; whether there are any.

        Where there are none, as inside of a layer that is one module of the reference, those of the call around it do.
        """
        seen = look.seen[at]
        self.passed.add(seen.call.name)
        near = self.matcher.nearly(seen.call) if seen.made <= CLOSE else None
        if near is None and _error(seen) <= CLOSE:
            self.loosely = True
            return False
        around = (call for call in (seen.call, *look.around(at)) if self.matcher.instead(call) is not None)
        whole = seen.call if near is not None else next(around, None)
        if whole is None:
            return False
        self.matcher.forced[whole.name] = near
        self.passed |= {whole.name, *look.within(whole)}
        return True


def _error(seen: Seen) -> float:
    return seen.given if seen.given > EXACT else seen.made
