"""Changes of the guesses that could make an unknown value known: other weights, layouts or orders."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..records.sides import SideName
from ..records.trace import Arrays
from .activations import Look, Seen
from .fingerprints import EXACT, apart, prints_of
from .guess import Guess, Variant
from .layers import Unit
from .sequences import Group, group_of

if TYPE_CHECKING:
    from .matcher import Matcher

RECENT = 6
"""At most this many layers before an unknown value are suspected."""

MOST_OTHERWISE = 4
"""At most this many layouts are tried with a layer of a different kind."""

MOST_ORDERS = 24
"""At most this many orders of similar layers are tried."""


@dataclass(frozen=True)
class Move:
    """A change of the guesses.

    Attributes:
        do: makes it, and returns a function that undoes it.
        everywhere: makes the same change at all similar places; None if that has no meaning.
        of: the guesses that it reorders.
    """

    do: Callable[[], Callable[[], None]]
    everywhere: Callable[[], Callable[[], None]] | None = None
    of: list[Guess] | None = None


class Moves:
    """The possible changes of the guesses of a matcher.

    Attributes:
        undecided: similar guesses with the same inputs for which no order makes the next value known.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.undecided: list[list[Guess]] = []

    @property
    def _follower(self) -> SideName:
        return self.matcher.follower.side

    @property
    def _reference(self) -> SideName:
        return self.matcher.reference.side

    def of(self, look: Look, at: int) -> Iterator[Move]:
        """The changes that could make one unknown call known, the likeliest first."""
        seen = look.seen[at]
        owner = self.matcher.guess_of(seen.call.path)
        if owner is None and seen.call.parameters:
            yield from self._adoptions(seen)
        if owner is not None and seen.given <= EXACT:
            yield from self._rest(owner, seen)
            yield from self.exchanges(owner, seen)
        recent = self.recent(look, at)
        if owner is not None and seen.given <= EXACT:
            yield from self._variants(owner)
        yield from self._orders(look, recent)
        yield from self._branches(recent)
        for guess in recent:
            if guess is not owner:
                yield from self._variants(guess)
        if owner is not None and seen.given > EXACT:  # inputs may look unknown, such as padded ones
            yield from self._variants(owner)

    def pairs(self, look: Look, at: int) -> Iterator[Move]:
        """Other variants of two layers of unknown kind at once: a constant and the kernel that uses it."""
        owner = self.matcher.guess_of(look.seen[at].call.path)
        recent = [*([owner] if owner is not None else []), *self.recent(look, at)]
        free = [g for g in dict.fromkeys(recent) if not g.promised and len(g.group.covers) == 1]
        for one, other in itertools.combinations(free, 2):
            for first, second in itertools.product(one.variants(), other.variants()):
                if first != one.variant and second != other.variant:
                    yield Move(lambda a=one, b=other, v=first, w=second: self._take_both(a, b, v, w))

    def _take_both(self, one: Guess, other: Guess, first: Variant, second: Variant) -> Callable[[], None]:
        undo = [self._take(one, first), self._take(other, second)]
        return lambda: _all(undo)

    def recent(self, look: Look, at: int) -> list[Guess]:
        """Guesses for layers that ended shortly before a call, the nearest first, except those inside a known call."""
        by_owner = {u.owner: g for g in self.matcher.guesses for u in g.units(self._follower)}
        found: list[Guess] = []
        for i in range(at, -1, -1):
            guess = by_owner.get(look.seen[i].call.path)
            if guess is not None and guess not in found and not look.within_known(i):
                found.append(guess)
            if len(found) == RECENT:
                break
        around = (by_owner.get(call.path) for call in look.around(at))  # their parameters may be used inside
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
        """Set a variant for all similar guesses; returns a function that undoes it."""
        alike = [g for g in self.matcher.guesses if g.group.signature == guess.group.signature]
        undo = [self._take(g, variant) for g in alike]
        return lambda: _all(undo)

    def exchanges(self, owner: Guess, seen: Seen) -> Iterator[Move]:
        """Layers of the reference with the same inputs as this call; those of a different kind in any layout."""
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
        """A layer without a counterpart may share that of a different layer."""
        unit = next((u for u in self.matcher.left(self._follower) if u.owner == seen.call.path), None)
        if unit is None:
            return
        others = sorted(self.matcher.units[self._reference], key=lambda u: not self._same_inputs(u, seen))
        for other in (*self._whole(seen), *others):
            pair = ([other], [unit]) if self._reference == "torch" else ([unit], [other])
            group = group_of(*pair)
            if group is not None:
                yield Move(lambda g=group: self._adopt(g))

    def _rest(self, owner: Guess, seen: Seen) -> Iterator[Move]:
        """An unmatched parameter of a layer may be one that the reference uses here, although it is tied there."""
        open_ = set(self.matcher.plan().unmatched(self._follower))
        unit = next(u for u in owner.units(self._follower) if u.owner == seen.call.path)
        rest = tuple(e for e in unit.entries if e.path in open_)
        for whole in self._whole(seen) if rest else ():
            pair = whole, replace(unit, entries=rest)
            group = group_of(*([u] for u in (pair if self._reference == "torch" else pair[::-1])))
            if group is not None:
                yield Move(lambda g=group: self._adopt(g))

    def _whole(self, seen: Seen) -> Iterator[Unit]:
        """The reference's layers with the same inputs as a call, including parameters that they share with others.

        A function is a layer, too.
        """
        own = self.matcher.torch if self._reference == "torch" else self.matcher.keras
        for call in self.matcher.calls:
            held = tuple(
                e for e in own.entries if e.owner == call.path and own.canonical_path(e.path) in call.parameters
            )
            if held and _shares(call.inputs, seen):
                yield Unit(call.path, held[0].kind, held)
        for call in self.matcher.functions:
            used = tuple(e for e in own.canonical() if e.path in call.parameters)
            if used and _shares(call.inputs, seen):
                yield Unit(call.path, used[0].kind, used)

    def _adopt(self, group: Group) -> Callable[[], None]:
        guess = Guess(group)
        self.matcher.guesses.append(guess)
        return lambda: self.matcher.guesses.remove(guess)

    def _orders(self, look: Look, recent: Sequence[Guess]) -> Iterator[Move]:
        """Other orders of similar layers with the same inputs: query, key and value."""
        for alike in self.alike(look, recent):
            if all(guess.placed for guess in alike):
                continue
            if not all(guess.by_value for guess in alike):  # in the order that `_decide` set
                self.undecided.append(alike)
            for order in itertools.islice(itertools.permutations(range(len(alike))), 1, MOST_ORDERS):
                yield Move(
                    lambda a=alike, o=order: self.assign(a, o),
                    lambda a=alike, o=order: self._assign_everywhere(look, a, o),
                    alike,
                )

    def _branches(self, recent: Sequence[Guess]) -> Iterator[Move]:
        """Exchanges of layers that feed a call with similar ones, including the layers before, up to a common input."""
        for guess in recent:
            for other in self.matcher.guesses:
                pairs = self._upwards(guess, other) if other is not guess else []
                if len(pairs) > 1 and not all(g.placed for pair in pairs for g in pair):
                    guesses = [g for pair in pairs for g in pair]
                    order = [i ^ 1 for i in range(len(guesses))]
                    yield Move(lambda g=guesses, o=order: self.assign(g, o))

    def _upwards(self, guess: Guess, other: Guess) -> list[tuple[Guess, Guess]]:
        """Two similar layers and the similar layers before them, up to a common one; [] if these are not similar."""
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
        """Similar guesses whose layers have the same inputs, in order of use."""
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
        """Give each guess the reference's layers of a different one."""
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
