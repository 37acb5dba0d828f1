"""Making the guesses better until everything that the follower computes is known from the reference.

Each round takes the first call that was given, or made, something unknown, and tries what could explain it: other
weights for the layers that fed it, or another layout of theirs. What helps in one place is done in all places that are
alike. Where nothing helps, the port itself differs there; the reference's values are put in place of the follower's, so
that what comes after is judged by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..records.trace import Arrays
from .activations import Look, Seen
from .fingerprints import CLOSE, EXACT, apart, prints_of
from .guess import Guess, Variant
from .layers import Unit
from .sequences import Group, group_of

if TYPE_CHECKING:
    from .matcher import Matcher

MOST_LOOKS = 300
"""Forward passes of the follower that matching may take."""

MOST_MOVES = 100
"""Changes that are tried for one unknown value."""

MOST_PAIRS = 100
"""Pairs of changes that are tried where no change by itself explains an unknown value."""

RECENT = 6
"""Layers before an unknown value that are suspected."""

CLEARLY = 10.0
"""By how much one order must come closer than all others to be the right one, in a port that differs behind it."""

MOST_OTHERWISE = 4
"""Layouts that are tried with a layer of another kind."""

MOST_ORDERS = 24
"""Orders of layers that are alike that are tried."""


@dataclass(frozen=True)
class Move:
    """A change of the guesses.

    Attributes:
        do: makes it, and returns what takes it back.
        everywhere: makes it also wherever else it would be the same change; None where that has no meaning.
        of: the guesses that are put in another order.
    """

    do: Callable[[], Callable[[], None]]
    everywhere: Callable[[], Callable[[], None]] | None = None
    of: list[Guess] | None = None


class Repairs:
    """Changes the guesses of a matcher for the better.

    Attributes:
        passed: names of calls that nothing makes known.
        undecided: guesses that are alike, were given the same, and of which no order makes what comes next known.
        most: looks of the matcher at which the search ends.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.passed: set[str] = set()
        self.loosely = False
        self.hopeless: set[Any] = set()
        self.undecided: list[list[Guess]] = []
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
        moves = itertools.islice(self._moves(look, at), MOST_MOVES)
        for move in itertools.chain(moves, itertools.islice(self._pairs(look, at), MOST_PAIRS)):
            if self.matcher.looks >= self.most:
                break
            undo = move.do()
            found = self.matcher.glimpse(look, at)
            if found is None or self._behind(found, at):
                found = self.matcher.look()
                if self._behind(found, at):
                    self._decide(move)
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
            self._decide(half)
            return self.matcher.look()
        self.hopeless.add(kind)
        if closest is not None:  # the right one, in a port that has another setting here
            closest[1].do()
            self._decide(closest[1])
            return self.matcher.look()
        return self._likeliest(look, at, orders.values())

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

    def _decide(self, move: Move) -> None:
        """Forget the doubts about layers whose order has now been found."""
        if move.of is not None:
            found = {id(guess) for guess in move.of}
            self.undecided = [u for u in self.undecided if not {id(g) for g in u} & found]
            for guess in move.of:
                guess.by_value = guess.decided = True

    def _kind(self, look: Look, at: int) -> Any:
        """Equal for calls that are alike, after like layers: where nothing helps one of them, nothing helps others."""
        seen = look.seen[at]
        owner = self.matcher.guess_of(seen.call.path)
        before = tuple(g.group.signature for g in self._recent(look, at)) if seen.given > EXACT else ()
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

    @property
    def _follower(self):
        return self.matcher.follower.side

    @property
    def _reference(self):
        return self.matcher.reference.side

    # What could explain an unknown value -------------------------------------------------------------------------

    def _moves(self, look: Look, at: int) -> Iterator[Move]:
        seen = look.seen[at]
        owner = self.matcher.guess_of(seen.call.path)
        if owner is None and seen.call.parameters:
            yield from self._adoptions(seen)
        if owner is not None and seen.given <= EXACT:
            yield from self._rest(owner, seen)
            yield from self._exchanges(owner, seen)
        recent = self._recent(look, at)
        if owner is not None and seen.given <= EXACT:
            yield from self._variants(owner)
        yield from self._orders(look, recent)
        yield from self._branches(recent)
        for guess in recent:
            if guess is not owner:
                yield from self._variants(guess)
        if owner is not None and seen.given > EXACT:  # what it was given may only look otherwise, such as padded
            yield from self._variants(owner)

    def _pairs(self, look: Look, at: int) -> Iterator[Move]:
        """Other variants of two layers at once that both promise nothing: a constant and the kernel that takes it."""
        owner = self.matcher.guess_of(look.seen[at].call.path)
        recent = [*([owner] if owner is not None else []), *self._recent(look, at)]
        free = [g for g in dict.fromkeys(recent) if not g.promised and len(g.group.covers) == 1]
        for one, other in itertools.combinations(free, 2):
            for first, second in itertools.product(one.variants(), other.variants()):
                if first != one.variant and second != other.variant:
                    yield Move(lambda a=one, b=other, v=first, w=second: self._take_both(a, b, v, w))

    def _take_both(self, one: Guess, other: Guess, first: Variant, second: Variant) -> Callable[[], None]:
        undo = [self._take(one, first), self._take(other, second)]
        return lambda: _all(undo)

    def _recent(self, look: Look, at: int) -> list[Guess]:
        """Guesses about layers that ended shortly before a call, the nearest first; those within a known call not."""
        by_owner = {u.owner: g for g in self.matcher.guesses for u in g.units(self._follower)}
        found: list[Guess] = []
        for i in range(at, -1, -1):
            guess = by_owner.get(look.seen[i].call.path)
            if guess is not None and guess not in found and not look.within_known(i):
                found.append(guess)
            if len(found) == RECENT:
                break
        around = (by_owner.get(call.path) for call in look.around(at))  # what they hold may be used within
        bare = (g for g in self.matcher.guesses if not any(u.calls for u in g.units(self._follower)))
        return list(dict.fromkeys([*found, *(g for g in around if g is not None), *bare]))

    def _variants(self, guess: Guess) -> Iterator[Move]:
        for variant in guess.variants():
            if variant != guess.variant:
                yield Move(lambda v=variant: self._take(guess, v), lambda v=variant: self.take_alike(guess, v))

    def _take(self, guess: Guess, variant: Variant) -> Callable[[], None]:
        before, guess.variant = guess.variant, variant
        return lambda: setattr(guess, "variant", before)

    def take_alike(self, guess: Guess, variant: Variant) -> Callable[[], None]:
        """Take a variant for all guesses that are alike; returns what takes it back."""
        alike = [g for g in self.matcher.guesses if g.group.signature == guess.group.signature]
        undo = [self._take(g, variant) for g in alike]
        return lambda: _all(undo)

    def _exchanges(self, owner: Guess, seen: Seen) -> Iterator[Move]:
        """Layers of the reference that were given what this call was given; those of another kind through any layout."""
        others = [g for g in self.matcher.guesses if g is not owner and not (g.placed and owner.placed)]
        given = [g for g in others if any(self._same_inputs(u, seen) for u in g.units(self._reference))]
        for other in sorted(given, key=lambda g: g.group.signature != owner.group.signature):
            if other.group.signature == owner.group.signature:
                yield Move(lambda o=other: self.assign([owner, o], [1, 0]))
                continue
            back, made = self._crossed(other, owner), self._crossed(owner, other)
            if back is None or made is None or back.covers[0].partial or made.covers[0].partial:
                continue
            for variant in itertools.islice(Guess(made).variants(), MOST_OTHERWISE):
                yield Move(lambda o=other, v=variant: self._exchange(owner, o, v))

    def _crossed(self, guess: Guess, other: Guess) -> Group | None:
        """The follower's layers of one guess with the reference's of another."""
        pair = other.units(self._reference), guess.units(self._follower)
        return group_of(*(pair if self._reference == "torch" else pair[::-1]))

    def _exchange(self, owner: Guess, other: Guess, variant: Variant) -> Callable[[], None]:
        undo = self.assign([owner, other], [1, 0])
        owner.variant = variant
        return undo

    def _same_inputs(self, unit: Unit, seen: Seen) -> bool:
        return any(_shares(call.inputs, seen) for call in self.matcher.calls_of(unit))

    def _adoptions(self, seen: Seen) -> Iterator[Move]:
        """A layer without a counterpart may share that of another one."""
        unit = next((u for u in self.matcher.left(self._follower) if u.owner == seen.call.path), None)
        if unit is None:
            return
        others = self.matcher.units[self._reference]
        for other in sorted(others, key=lambda u: not self._same_inputs(u, seen)):
            pair = ([other], [unit]) if self._reference == "torch" else ([unit], [other])
            group = group_of(*pair)
            if group is not None:
                yield Move(lambda g=group: self._adopt(g))

    def _rest(self, owner: Guess, seen: Seen) -> Iterator[Move]:
        """What a layer holds besides what is matched may be what the reference uses here, though it is tied there."""
        open_ = set(self.matcher.plan().unmatched(self._follower))
        unit = next(u for u in owner.units(self._follower) if u.owner == seen.call.path)
        rest = tuple(e for e in unit.entries if e.path in open_)
        own = self.matcher.torch if self._reference == "torch" else self.matcher.keras
        for call in self.matcher.calls if rest else ():
            held = tuple(
                e for e in own.entries if e.owner == call.path and own.canonical_path(e.path) in call.parameters
            )
            if held and _shares(call.inputs, seen):
                pair = Unit(call.path, held[0].kind, held), replace(unit, entries=rest)
                group = group_of(*([u] for u in (pair if self._reference == "torch" else pair[::-1])))
                if group is not None:
                    yield Move(lambda g=group: self._adopt(g))

    def _adopt(self, group: Group) -> Callable[[], None]:
        guess = Guess(group)
        self.matcher.guesses.append(guess)
        return lambda: self.matcher.guesses.remove(guess)

    def _orders(self, look: Look, recent: Sequence[Guess]) -> Iterator[Move]:
        """Other orders of layers that are alike and were given the same: query, key and value."""
        for alike in self.alike(look, recent):
            if all(guess.placed for guess in alike):
                continue
            if not all(guess.by_value for guess in alike):  # as `_decide` leaves them
                self.undecided.append(alike)
            for order in itertools.islice(itertools.permutations(range(len(alike))), 1, MOST_ORDERS):
                yield Move(
                    lambda a=alike, o=order: self.assign(a, o),
                    lambda a=alike, o=order: self._assign_everywhere(look, a, o),
                    alike,
                )

    def _branches(self, recent: Sequence[Guess]) -> Iterator[Move]:
        """Layers that feed a call exchanged with others, and what feeds these, up to where both are given the same."""
        for guess in recent:
            for other in self.matcher.guesses:
                pairs = self._upwards(guess, other) if other is not guess else []
                if len(pairs) > 1 and not all(g.placed for pair in pairs for g in pair):
                    guesses = [g for pair in pairs for g in pair]
                    order = [i ^ 1 for i in range(len(guesses))]
                    yield Move(lambda g=guesses, o=order: self.assign(g, o))

    def _upwards(self, guess: Guess, other: Guess) -> list[tuple[Guess, Guess]]:
        """Two layers that are alike and, while these are other layers, the ones before them; [] where they are not."""
        pairs: list[tuple[Guess, Guess]] = []
        while guess.group.signature == other.group.signature and (guess, other) not in pairs:
            pairs.append((guess, other))
            before, others = (self.matcher.beside(g, "before") for g in (guess, other))
            if before is None or others is None:
                break
            if before == others:
                return pairs
            one, two = (self.matcher.only(places) for places in (before, others))
            if one is None or two is None:
                break
            guess, other = one, two
        return []

    def alike(self, look: Look, guesses: Sequence[Guess]) -> list[list[Guess]]:
        """Guesses that are alike and whose layers were given the same values, in order of use."""
        firsts: dict[str, Seen] = {}
        for seen in look.seen:
            firsts.setdefault(seen.call.path, seen)
        found: list[list[Guess]] = []
        for guess in sorted(guesses, key=lambda g: g.units(self._follower)[0].calls or (0,)):
            seen = firsts.get(guess.units(self._follower)[0].owner)
            if seen is None:
                continue
            for alike in found:
                other = firsts[alike[0].units(self._follower)[0].owner]
                same = alike[0].group.signature == guess.group.signature and len(other.inputs) == len(seen.inputs)
                if same and all(apart(a, b) <= EXACT for a, b in zip(other.inputs, seen.inputs, strict=True)):
                    alike.append(guess)
                    break
            else:
                found.append([guess])
        return [alike for alike in found if len(alike) > 1]

    def _assign_everywhere(self, look: Look, alike: Sequence[Guess], order: Sequence[int]) -> Callable[[], None]:
        undo: list[Callable[[], None]] = []
        for other in self.alike(look, self.matcher.guesses):
            same = [g.group.signature for g in other] == [g.group.signature for g in alike]
            if same and not any(a is b for a in other for b in alike) and not all(g.decided for g in other):
                undo.append(self.assign(other, order))
        return lambda: _all(undo)

    def assign(self, guesses: Sequence[Guess], order: Sequence[int]) -> Callable[[], None]:
        """Give each guess the reference's layers of another one."""
        before = [(g, g.group, g.variant) for g in guesses]
        given = [guesses[i].units(self._reference) for i in order]
        for guess, mine in zip(guesses, given, strict=True):
            theirs = guess.units(self._follower)
            group = group_of(mine, theirs) if self._reference == "torch" else group_of(theirs, mine)
            if group is not None:
                other, guess.group = guess.group.signature, group
                if group.signature != other:
                    guess.variant = next(guess.variants())

        def undo() -> None:
            for guess, group, variant in before:
                guess.group, guess.variant = group, variant

        return undo


def _shares(given: Arrays, seen: Seen) -> bool:
    return any(apart(mine, theirs) <= EXACT for mine in prints_of(given) for theirs in seen.inputs)


def _all(undo: Sequence[Callable[[], None]]) -> None:
    for each in reversed(undo):
        each()


def _error(seen: Seen) -> float:
    return seen.given if seen.given > EXACT else seen.made
