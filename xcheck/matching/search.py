"""Improving the guesses until all values of the follower are known from the reference.

Each round takes the first call with an unknown input or output, and tries possible explanations: other weights for the
layers that feed it, or a different layout. A change that helps at one place is made at all similar places. If nothing
helps, the port itself differs there: the reference's values replace the follower's, and the search continues after it.
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
"""At most this many forward passes of the follower for matching."""

MOST_MOVES = 100
"""At most this many changes are tried for one unknown value."""

MOST_PAIRS = 100
"""At most this many pairs of changes are tried if no single change explains an unknown value."""

CLEARLY = 10.0
"""By how much closer one order must be than all others to be the right one, if the port differs after it."""


class Repairs:
    """Improves the guesses of a matcher.

    Attributes:
        passed: names of calls that no change makes known.
        moves: the possible changes.
        most: the search ends at this number of looks of the matcher.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.passed: set[str] = set()
        self.loosely = False
        self.hopeless: set[Any] = set()
        self.moves = Moves(matcher)
        self.most = MOST_LOOKS

    def run(self) -> Look:
        """Search until nothing is unknown or nothing helps; returns the last look."""
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
        if half is not None:  # the inputs of the call are known now; its outputs are the next question
            half.do()
            return self.matcher.look()
        self.hopeless.add(kind)
        if closest is not None:  # the right one, in a port with a different setting here
            closest[1].do()
            self._decide(closest[1])
            return self.matcher.look()
        return self._likeliest(look, at, orders.values())

    def _only_order(self, look: Look, at: int, move: Move, undo: Callable[[], None]) -> bool:
        """Whether no other order of the same layers makes the call known: query and key may be exchangeable.

        Args:
            look: before the move.
            at: position of the call.
            move: the move that makes it known; it is made again.
            undo: undoes it.
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
        """Whether a look has no unknown value up to a call."""
        after = found.first_unknown(self.passed, self.loosely)
        return found.solved or after is None or after > at

    def _reaches(self, found: Look, at: int) -> bool:
        """Whether a look has no unknown value before a call."""
        return found.first_unknown(self.passed, self.loosely) == at

    def _follows(self, look: Look, at: int) -> bool:
        """Whether all unknown inputs of a call come from calls that no change makes known."""
        made = [p for s in look.seen[:at] if s.call.name in self.passed for p in prints_of(s.call.outputs)]
        unknown = [p for p in look.seen[at].inputs if self.matcher.known.distance(p) > EXACT]
        return bool(unknown) and all(any(apart(p, other) <= EXACT for other in made) for p in unknown)

    def _likeliest(self, look: Look, at: int, orders: Iterable[Sequence[tuple[float, Move]]]) -> Look | None:
        """Choose the only order of similar layers that makes the next value nearly known, if there is one.

        The port then has a different setting after them, such as a different activation. Returns the look if the order
        changed.
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
        """Distance of the first unknown value of a call from the nearest activation of the reference."""
        prints = prints_of(seen.call.inputs if seen.given > EXACT else seen.call.outputs)
        return max((self.matcher.known.nearest(p) for p in prints), default=float("inf"))

    def _decide(self, move: Move, *, sure: bool = True) -> None:
        """Remove the doubts about layers whose order is now known.

        Args:
            move: the move to that order.
            sure: no other order fits.
        """
        if move.of is not None:
            found = {id(guess) for guess in move.of}
            self.moves.undecided = [u for u in self.moves.undecided if not {id(g) for g in u} & found]
            for guess in move.of:
                guess.by_value, guess.decided = True, sure

    def _kind(self, look: Look, at: int) -> Any:
        """Memo key: equal for similar calls after similar layers. If nothing helps one of them, nothing helps the
        others.
        """
        seen = look.seen[at]
        owner = self.matcher.guess_of(seen.call.path)
        before = tuple(g.group.signature for g in self.moves.recent(look, at)) if seen.given > EXACT else ()
        return seen.call.kind, owner and owner.group.signature, before

    def _spread(self, move: Move, found: Look) -> Look:
        """Make a helpful change at all similar places, unless that makes the result worse."""
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
        """Give up on a call and continue after it with the reference's values; False if there are none.

        If there are none, as inside a layer that is one module of the reference, use those of the enclosing call.
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
