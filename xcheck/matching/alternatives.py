"""The other matches that are possible, where a plan is not proven: tried one by one, until one is, or none is left.

Layers that are alike and were given the same could be any of each other, and a parameter of a layer that promises
nothing could lie otherwise. What looks like a difference of the port is one only if it is there under all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .activations import Look
from .evidence import told_by_what_follows
from .guess import Guess
from .layers import likeness
from .plan import MatchPlan
from .proof import Proof, Prover
from .search import Repairs

if TYPE_CHECKING:
    from .matcher import Matcher

MOST_RUNS = 60
"""Forward passes of the follower that are spent on alternatives."""

MOST_ORDERS = 24
"""Orders of layers that are alike that are tried: all of up to four."""

MOST_VARIANTS = 6
"""Ways of one layer that promises nothing that are tried."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of the alternatives.

    Attributes:
        look: the last one, under what is taken now.
        proof: of that.
        all: every alternative that is possible was tried.
        many: how many were.
    """

    look: Look
    proof: Proof
    all: bool = True
    many: int = 0


def decided(matcher: Matcher, repairs: Repairs, look: Look, proof: Proof, prover: Prover) -> Tried:
    """Take the alternative under which the sides agree; where there is none, all is left as it was.

    Args:
        matcher: whose guesses are as good as the search made them.
        repairs: that made them.
        look: the last one.
        proof: of the plan as it stands, which is none.
        prover: judges the alternatives.
    """
    back, looks = matcher.mark(), matcher.looks
    many, spent, reached = 0, prover.runs, look.first_unknown((), False)
    for change in _changes(matcher, repairs, look):
        if prover.runs - spent + matcher.looks - looks >= MOST_RUNS:
            matcher.look()
            return Tried(look, proof, all=False, many=many)
        many += 1
        change()
        found = prover.judge(matcher.plan())
        if found.agrees is not True and _goes_on(matcher, reached):
            again = Repairs(matcher)  # what lies behind may have to follow
            again.most = matcher.looks + MOST_RUNS // 6
            again.run()
            found = prover.judge(matcher.plan())
        if found.agrees:
            matcher.forced.clear()
            return Tried(matcher.look(), found, many=many)
        back()
    if many:
        matcher.look()
    return Tried(look, proof, many=many)


def _goes_on(matcher: Matcher, reached: int | None) -> bool:
    """Whether more of the follower is known than up to a call."""
    after = matcher.look().first_unknown((), False)
    return reached is not None and (after is None or after > reached)


def open_choices(matcher: Matcher, repairs: Repairs, look: Look) -> list[list[Guess]]:
    """Layers that are alike and were given the same, of which nothing that follows tells which is which."""
    found = [*repairs.undecided, *repairs.alike(look, matcher.guesses)]
    found = [alike for alike in found if not all(guess.decided for guess in alike)]
    choices: dict[frozenset[int], list[Guess]] = {}
    for alike in sorted(found, key=len, reverse=True):
        if not any({id(g) for g in alike} <= known for known in choices):
            choices[frozenset(id(g) for g in alike)] = list(alike)
    return [alike for alike in choices.values() if not told_by_what_follows(matcher, look, alike)]


def _changes(matcher: Matcher, repairs: Repairs, look: Look) -> Iterator[Callable[[], object]]:
    choices = open_choices(matcher, repairs, look)
    known = [{id(guess) for guess in alike} for alike in choices]
    every = [*choices, *(of for of in repairs.alike(look, matcher.guesses) if {id(guess) for guess in of} not in known)]
    for alike in every:
        whole = levels(matcher, alike)
        for order in _orders(alike):
            yield lambda a=whole, o=order: [repairs.assign(of, o) for of in a]
    seen: set[object] = set()
    for guess in matcher.guesses:
        if guess.promised or guess.by_value or guess.group.signature in seen:
            continue
        seen.add(guess.group.signature)
        variants = (v for v in guess.variants() if v != guess.variant)
        for variant in itertools.islice(variants, MOST_VARIANTS):
            yield lambda g=guess, v=variant: repairs.take_alike(g, v)


def _orders(alike: Sequence[Guess]) -> Iterator[tuple[int, ...]]:
    """The other orders, those that the names suggest first."""

    def named(order: Sequence[int]) -> float:
        pairs = zip((alike[i].units("torch")[0] for i in order), (g.units("keras")[0] for g in alike), strict=True)
        return sum(likeness(torch.words, keras.words) for torch, keras in pairs)

    orders = list(itertools.islice(itertools.permutations(range(len(alike))), 1, MOST_ORDERS))
    yield from sorted(orders, key=named, reverse=True)


def unclaimed(plan: MatchPlan, matcher: Matcher, repairs: Repairs, look: Look) -> MatchPlan:
    """A plan that is not proven, in which nothing that could be otherwise is said to be found by value.

    Args:
        plan: that stands.
        matcher, repairs, look: that it comes from.
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
    doubted = {m.name("torch") for m in plan.parameters if any(_about(d.torch, m.torch) for d in plan.doubts)}
    return replace(plan, matches=matches, open=frozenset(names) | doubted)


def _about(layers: str, path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in layers.split(", "))


def levels(matcher: Matcher, alike: Sequence[Guess]) -> list[list[Guess]]:
    """Layers that are alike, and behind them, as long as these are alike, those that would be exchanged with them."""
    found: list[list[Guess]] = []
    now: list[Guess | None] = list(alike)
    while all(now) and len({id(guess) for guess in now}) == len(alike):
        of = [guess for guess in now if guess is not None]
        if len({guess.group.signature for guess in of}) > 1 or any(guess in level for level in found for guess in of):
            break
        found.append(of)
        now = [matcher.only(matcher.beside(guess, "behind") or ()) for guess in of]
    return found
