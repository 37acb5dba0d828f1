"""The other possible matches of a plan that is not proven: tried one by one until one is proven or none is left.

Similar layers with the same inputs could be exchanged, and a parameter of an unknown layer kind could have a different
layout. An apparent difference of the port is a real one only if it remains under all possible matches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..records.sides import SIDES, SideName
from .activations import Look, Seen
from .evidence import told_by_what_follows
from .fingerprints import EXACT, Print, apart, prints_of
from .guess import Guess, Variant
from .layers import likeness
from .packed_orders import axes_of, is_dense, packed_orders
from .plan import MatchPlan, PackedOrder
from .proof import Proof, Prover
from .search import Repairs

if TYPE_CHECKING:
    from .matcher import Matcher

MOST_RUNS = 100
"""At most this many forward passes of the follower for alternatives."""

MOST_REPAIRS = 10
"""At most this many of them to adapt later layers to one alternative."""

MOST_ORDERS = 24
"""At most this many orders of similar layers are tried: all orders of up to four."""

MOST_VARIANTS = 6
"""At most this many variants of one layer of unknown kind are tried."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of trying the alternatives.

    Attributes:
        look: the last one, under the current guesses.
        proof: of the current guesses.
        repairs: the search that led to it.
        all: every possible alternative was tried.
        many: number of tried alternatives.
        packed: output orders of dense layers under which the sides agree; the current guesses use the usual order.
    """

    look: Look
    proof: Proof
    repairs: Repairs
    all: bool = True
    many: int = 0
    packed: PackedOrder | None = None


def decided(matcher: Matcher, repairs: Repairs, look: Look, proof: Proof, prover: Prover) -> Tried:
    """Choose the alternative under which the sides agree; if there is none, change nothing.

    Args:
        matcher: with the guesses of the search.
        repairs: the search.
        look: the last one.
        proof: the failed proof of the current plan.
        prover: judges the alternatives.
    """
    trial = _Trial(matcher, prover)
    back = matcher.mark()
    plain = {id(guess): guess.variant for guess in matcher.guesses if is_dense(guess)}
    told = trial.explore(repairs)
    spent = trial.spent
    for change in (change for choice in told for change in choice.changes):
        trial.step(change, None, repairs, back)
    if trial.found is not None:
        return _as_usual(matcher, trial.found, prover, plain)
    if trial.many:
        matcher.look()
    return Tried(look, proof, repairs, all=not spent, many=trial.many)


def _as_usual(matcher: Matcher, found: Tried, prover: Prover, plain: Mapping[int, Variant]) -> Tried:
    """What agrees, but for outputs of dense layers that lie in different orders: a port has to say that it means that.

    Who carries weights over by transposing them gets another model. A map that says so is taken as it is.
    """
    packed = [g for g in matcher.guesses if id(g) in plain and g.variant != plain[id(g)]]
    if not packed:
        return found
    axes = axes_of(packed[0], matcher.traces)
    matches = [match for guess in packed for match, _, _ in guess.matches(matcher.torch, matcher.keras)]
    for guess in packed:
        guess.variant = plain[id(guess)]
    proof = prover.judge(matcher.plan())
    if proof.agrees:  # one order is as good as the other
        return replace(found, look=matcher.look(), proof=proof)
    layers: dict[SideName, str] = {side: packed[0].units(side)[0].owner for side in SIDES}
    order = PackedOrder(tuple(matches), layers, axes, proof.worst, found.proof.worst)
    return replace(found, look=matcher.look(), proof=proof, packed=order)


def _part_of(matcher: Matcher, unknown: Seen | None) -> Sequence[Guess]:
    """The guesses that may cause the unknown inputs or outputs of a call; without a call, all guesses."""
    if unknown is None:
        return matcher.guesses
    owner = matcher.guess_of(unknown.call.path) if unknown.given <= EXACT else None
    return [*matcher.before(unknown.call), *([] if owner is None else [owner])]


Change = Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Choice:
    """An open choice.

    Attributes:
        of: the guesses that it concerns.
        changes: the alternatives.
        open: there is no evidence for one of them; otherwise there is, but it may be wrong.
    """

    of: Sequence[Guess]
    changes: Sequence[Change]
    open: bool


class _Trial:
    """Makes changes, and undoes those that do not help.

    Attributes:
        many: number of tried changes.
        spent: some changes were not tried, because the runs were used up.
        found: the result under which the sides agree.
    """

    def __init__(self, matcher: Matcher, prover: Prover) -> None:
        self.matcher, self.prover = matcher, prover
        self.many, self.spent = 0, False
        self.found: Tried | None = None
        self._before = matcher.looks + prover.runs
        self._seen: set[object] = set()
        self._unknown: dict[str, list[list[Print]]] = {}

    def explore(self, repairs: Repairs, plain: Look | None = None) -> list[_Choice]:
        """Try every choice that could cause the first unknown value, one after the other, and continue from there.

        Args:
            repairs: the search that led to the current guesses.
            plain: a look without replaced outputs of the follower; None to run one.

        Returns:
            The choices that were not tried, because there is evidence for one alternative.
        """
        matcher, back = self.matcher, self.matcher.mark()
        self._seen.add(self._state())
        plain = plain or self._plainly()
        at = plain.first_unknown((), False)
        unknown = None if at is None else plain.seen[at]
        if unknown is not None and not self._is_new(unknown):
            return []
        part = {id(guess) for guess in _part_of(matcher, unknown)}
        told: list[_Choice] = []
        for choice in (*_others(repairs, plain, unknown), *_choices(matcher, repairs, plain)):
            if at is not None and plain.lost(at) and not any(id(guess) in part for guess in choice.of):
                continue  # this value stays unknown under any other change
            if not choice.open:
                told.append(choice)
                continue
            for change in choice.changes:
                self.step(change, at, repairs, back)
        return told

    def _is_new(self, unknown: Seen) -> bool:
        """Whether the first unknown call had different inputs or outputs in all earlier states."""
        now = [*prints_of(unknown.call.inputs), *prints_of(unknown.call.outputs)]
        before = self._unknown.setdefault(unknown.call.name, [])
        if any(len(of) == len(now) and all(map(_same, of, now)) for of in before):
            return False
        before.append(now)
        return True

    def _state(self) -> object:
        """A key that is equal for equal guesses."""
        return frozenset(
            (id(g), *(id(u) for u in g.units(self.matcher.reference.side)), g.variant) for g in self.matcher.guesses
        )

    def _plainly(self) -> Look:
        """A look without replaced outputs of the follower."""
        forced = dict(self.matcher.forced)
        self.matcher.forced.clear()
        look = self.matcher.look()
        self.matcher.forced.update(forced)
        return look

    def step(self, change: Change, at: int | None, repairs: Repairs, back: Callable[[], None]) -> None:
        """Make a change, and continue the search after it.

        Args:
            change: the change to try.
            at: position of the first call that is unknown without it; None to not continue.
            repairs: the search that led to the current guesses.
            back: undoes everything.
        """
        if self.spent or self.found is not None:
            return
        change()
        if self._state() in self._seen:
            back()
            return
        if self.matcher.looks + self.prover.runs - self._before >= MOST_RUNS:
            self.spent = True
            back()
            return
        self.many += 1
        self.matcher.forced.clear()
        look = self.matcher.look()
        first = look.first_unknown((), False)
        if first is None or (first != at and (at is None or first > at or self._takes_another(look, first))):
            changed = self.matcher.mark()
            repairs = Repairs(self.matcher)  # later layers may have to change accordingly
            repairs.most = self.matcher.looks + MOST_REPAIRS
            repairs.run()
            proof = self.prover.judge(self.matcher.plan())
            if proof.agrees:
                self.matcher.forced.clear()
                self.found = Tried(self.matcher.look(), proof, repairs, many=self.many)
                return
            changed()
        if at is not None:
            self.explore(repairs, look)
        if self.found is None:
            back()

    def _takes_another(self, look: Look, first: int) -> bool:
        """Whether the first unknown value is the output of a layer for a different known input."""
        seen = look.seen[first]
        return seen.given <= EXACT and self.matcher.guess_of(seen.call.path) is not None


def _same(one: Print, other: Print) -> bool:
    return apart(one, other) <= EXACT


def open_choices(matcher: Matcher, repairs: Repairs, look: Look) -> list[list[Guess]]:
    """Similar layers with the same inputs that no later value distinguishes."""
    found = [*repairs.moves.undecided, *repairs.moves.alike(look, matcher.guesses)]
    found = [alike for alike in found if not all(guess.decided for guess in alike)]
    choices: dict[frozenset[int], list[Guess]] = {}
    for alike in sorted(found, key=len, reverse=True):
        if not any({id(g) for g in alike} <= known for known in choices):
            choices[frozenset(id(g) for g in alike)] = list(alike)
    return [alike for alike in choices.values() if not told_by_what_follows(matcher, look, alike)]


def _choices(matcher: Matcher, repairs: Repairs, look: Look) -> Iterator[_Choice]:
    choices = open_choices(matcher, repairs, look)
    known = [{id(guess) for guess in alike} for alike in choices]
    every = [*choices, *(of for of in repairs.moves.alike(look, matcher.guesses) if {id(g) for g in of} not in known)]
    for at, alike in enumerate(every):
        whole = levels(matcher, alike)
        orders = [_ordered(repairs, whole, order) for order in _orders(alike)]
        sure = all(guess.placed for guess in alike) or told_by_what_follows(matcher, look, alike)
        yield _Choice([guess for of in whole for guess in of], orders, at < len(choices) or not sure)
    seen: set[object] = set()
    for guess in matcher.guesses:
        packed = tuple(packed_orders(guess, matcher.traces))
        if packed and ("packed", guess.group.signature) not in seen:
            seen.add(("packed", guess.group.signature))
            yield _Choice([guess], [lambda g=guess, v=order: repairs.moves.take_alike(g, v) for order in packed], True)
        if guess.promised or guess.by_value or guess.group.signature in seen or _shown(matcher, look, guess):
            continue
        seen.add(guess.group.signature)
        variants = itertools.islice((v for v in guess.variants() if v != guess.variant), MOST_VARIANTS)
        yield _Choice(
            [guess], [lambda g=guess, v=variant: repairs.moves.take_alike(g, v) for variant in variants], True
        )


def _others(repairs: Repairs, look: Look, unknown: Seen | None) -> Iterator[_Choice]:
    """The layers of the reference that could correspond to a layer with known inputs and unknown outputs."""
    owner = None if unknown is None else repairs.matcher.guess_of(unknown.call.path)
    if unknown is not None and owner is not None and unknown.given <= EXACT:
        yield _Choice([owner], [move.do for move in repairs.moves.exchanges(owner, unknown)], open=True)


def _ordered(repairs: Repairs, whole: Sequence[Sequence[Guess]], order: Sequence[int]) -> Change:
    def change() -> None:
        for alike in whole:
            repairs.moves.assign(alike, order)

    return change


def _shown(matcher: Matcher, look: Look, guess: Guess) -> bool:
    """Whether all outputs of the layers of a guess are known: a different match would give different outputs."""
    owners = {unit.owner for unit in guess.units(matcher.follower.side)}
    calls = [at for at, seen in enumerate(look.seen) if seen.call.path in owners and not seen.call.function]
    return bool(calls) and all(look.shown(at) for at in calls)


def by_names(matcher: Matcher, repairs: Repairs, tried: Tried, prover: Prover) -> Tried:
    """Put layers that only their names distinguish in the order of their names.

    Args:
        matcher, repairs: with proven guesses.
        tried: the result that led to them.
        prover: judges whether the other order is proven, too.
    """
    for alike in repairs.moves.alike(tried.look, matcher.guesses):
        order = next(_orders(alike), ())
        whole = levels(matcher, alike)
        if not order or all(guess.placed for guess in alike) or _likeness(alike, order) <= _likeness(alike):
            continue
        back = matcher.mark()
        _ordered(repairs, whole, order)()
        proof = prover.judge(matcher.plan())
        look = matcher.look() if proof.agrees else None
        if look is not None and look.solved:
            tried = replace(tried, look=look, proof=proof)
        else:
            back()
            matcher.look()
    return tried


def _likeness(alike: Sequence[Guess], order: Sequence[int] | None = None) -> float:
    """How similar the names of both sides are, in a different order or in the current one."""
    pairs = zip((alike[i] for i in order or range(len(alike))), alike, strict=True)
    return sum(likeness(one.units("torch")[0].words, other.units("keras")[0].words) for one, other in pairs)


def _orders(alike: Sequence[Guess]) -> Iterator[tuple[int, ...]]:
    """The other orders; those that the names suggest come first."""

    orders = list(itertools.islice(itertools.permutations(range(len(alike))), 1, MOST_ORDERS))
    yield from sorted(orders, key=lambda order: _likeness(alike, order), reverse=True)


def unclaimed(plan: MatchPlan, matcher: Matcher, repairs: Repairs, look: Look) -> MatchPlan:
    """The unproven plan, without the claim "by value" for matches that have an alternative.

    Args:
        plan: the current plan.
        matcher, repairs, look: the state that it comes from.
    """
    choices = [alike for alike in open_choices(matcher, repairs, look) if len(alike) > 1]
    open_ = {id(guess): guess for alike in choices for of in levels(matcher, alike) for guess in of}
    names = {m.name("torch"): g for g in open_.values() for m, _, _ in g.matches(matcher.torch, matcher.keras)}

    def said(guess: Guess) -> str:
        return "by name" if guess.by_name else "by structure"

    matches = tuple(
        replace(m, evidence=said(names[m.name("torch")])) if m.evidence and m.name("torch") in names else m
        for m in plan.matches
    )
    doubted = {m.name("torch") for m in plan.parameters if any(doubt.about(m.torch) for doubt in plan.doubts)}
    return replace(plan, matches=matches, open=frozenset(names) | doubted)


def levels(matcher: Matcher, alike: Sequence[Guess]) -> list[list[Guess]]:
    """Similar layers, and the similar layers after them that would be exchanged together with them."""
    found: list[list[Guess]] = []
    now: list[Guess | None] = list(alike)
    while all(now) and len({id(guess) for guess in now}) == len(alike):
        of = [guess for guess in now if guess is not None]
        if len({guess.group.signature for guess in of}) > 1 or any(guess in level for level in found for guess in of):
            break
        found.append(of)
        now = [matcher.only(matcher.beside(guess, "behind") or ()) for guess in of]
    return found
