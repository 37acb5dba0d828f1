"""The evidence for each match of the final plan, and its open questions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..records.calls import everywhere
from ..records.sides import SideName
from ..records.trace import Array, Arrays, State
from .activations import Look
from .fingerprints import CLOSE, EXACT, apart, print_of, prints_of
from .guess import Guess, Variant
from .layers import likeness
from .moves import MOST_ORDERS
from .plan import Doubt, MatchPlan
from .search import Repairs
from .unmatched import doings
from .untied import tied_there

if TYPE_CHECKING:
    from .matchable import Matchable
    from .matcher import Matcher

MOST_TRIED = 30
"""At most this many layers are tested in a different layout, or removed as a test, once all values are known."""

CLEARLY = 0.2
"""By how much more similar a different name must be to count as the intended one."""


def settled(matcher: Matcher, repairs: Repairs, look: Look) -> MatchPlan:
    """The plan with the evidence for each match and the doubts about it.

    Args:
        matcher: with its final guesses.
        repairs: the search that led to them.
        look: the last one.
    """
    if look.solved and any(not g.promised for g in matcher.guesses):
        look = _on_noise(matcher, look)
    _judge(matcher, look)
    matcher.guesses[:] = within_calls(matcher.guesses, matcher.reference.side, matcher.follower.side)
    matcher.shared += tied_there(matcher, look)
    doubts = [*_undecided(matcher, repairs, look), *_blind(matcher, look), *_never_used(matcher)]
    if look.solved:
        doubts += _contradicted(matcher)
    plan = matcher.plan()
    idle = [*_idle(matcher, matcher.reference, plan), *_idle(matcher, matcher.follower, plan)]
    frozen = [*_frozen(matcher, matcher.reference, plan), *_frozen(matcher, matcher.follower, plan)]
    plan = replace(plan, doubts=tuple(doubts), idle=tuple(idle), frozen=tuple(p for p in frozen if p not in idle))
    sides = (matcher.reference, plan.unmatched(plan.reference)), (matcher.follower, plan.unmatched(plan.follower))
    told: dict[str, str] = {}
    for runner, paths in sides:
        open_ = tuple(path for path in paths if path not in idle)
        told |= doings(runner.calls(matcher.batch, inside=everywhere), open_) if open_ else {}
    return replace(plan, doings=told)


def _on_noise(matcher: Matcher, look: Look) -> Look:
    """Look again with noise on the inputs: uniform images or black borders hide the order of axes."""
    before = [(g, g.variant) for g in matcher.guesses]
    if not matcher.add_noise():
        return look
    noisy = Repairs(matcher).run()
    if noisy.solved:
        return noisy
    for guess, variant in before:  # the sides interpret the noise differently
        guess.variant = variant
    matcher.forced.clear()
    matcher.without_noise()
    return matcher.look()


def _judge(matcher: Matcher, look: Look) -> None:
    """Mark the guesses that values confirm."""
    own = {s.call.path: at for at, s in reversed(list(enumerate(look.seen)))}
    tried = 0
    before: Arrays = {}
    for guess in matcher.guesses:
        at = [own[u.owner] for u in guess.units(matcher.follower.side) if u.owner in own]
        known = [look.shown(i, CLOSE) or look.within_known(i) for i in at]
        guess.basis = _observed(matcher, look, at)
        if guess.by_value:
            continue
        if at and all(known) and len(at) == len(guess.units(matcher.follower.side)):
            exactly = all(look.shown(i) or look.within_known(i) for i in at)
            guess.by_value = exactly or not _as_close_otherwise(matcher, guess, look, at)
        elif look.solved and tried < MOST_TRIED:
            tried += 1
            before = before or matcher.follower.infer(matcher.batch)
            where = dict.fromkeys(_paths(matcher, guess), 1.0)
            guess.by_value = _matters(matcher, matcher.follower, before, where)
            guess.basis = "all outputs agree, and they depend on it" if guess.by_value else ""


def _observed(matcher: Matcher, look: Look, at: Sequence[int]) -> str:
    """The distance between the outputs of the calls of a guess and the nearest values of the other side, in words; ""
    for no calls."""
    sides = matcher.follower.side, matcher.reference.side
    seen = [look.seen[i] for i in at]
    found = [f"the output of {s.call.name} in {sides[0]} is within {s.made:.1e} of a value in {sides[1]}" for s in seen]
    found = [
        text if np.isfinite(s.made) else f"no value in {sides[1]} equals the output of {s.call.name} in {sides[0]}"
        for text, s in zip(found, seen, strict=True)
    ]
    return "; ".join(found)


def _as_close_otherwise(matcher: Matcher, guess: Guess, look: Look, at: Sequence[int]) -> bool:
    """Whether layers that are close to the reference's are equally close with their parameters exchanged."""
    kept = guess.variant
    others = [v for v in guess.variants() if v.cover != kept.cover]
    for other in others[:MOST_ORDERS]:
        guess.variant = other
        found = matcher.glimpse(look, max(at)) or matcher.look()
        guess.variant = kept
        if all(found.shown(i, CLOSE) for i in at):
            return True
    return False


def within_calls(guesses: Sequence[Guess], reference: SideName, follower: SideName) -> list[Guess]:
    """The guesses, except those for a layer with more counterparts than calls.

    A layer that is called once has one counterpart. If values determine it, a similar layer is not a second one.

    Args:
        guesses: with their evidence.
        reference, follower: names of the sides.
    """
    found: dict[int, set[int]] = {}
    for guess in guesses:
        for unit in guess.units(reference) if guess.by_value else ():
            found.setdefault(id(unit), set()).update(id(other) for other in guess.units(follower))

    def spent(guess: Guess) -> bool:
        own = {id(other) for other in guess.units(follower)}
        return any(
            id(unit) in found and len(found[id(unit)] | own) > max(len(unit.calls), len(found[id(unit)]))
            for unit in guess.units(reference)
        )

    return [guess for guess in guesses if guess.by_value or not spent(guess)]


def _paths(matcher: Matcher, guess: Guess) -> list[str]:
    side = matcher.follower.side
    return [path for m, _, _ in guess.matches(matcher.torch, matcher.keras) for path in m.piece(side).paths]


def _matters(matcher: Matcher, runner: Matchable, before: Arrays, where: Mapping[str, Array | float]) -> bool:
    """Whether the compared outputs of a side change when some parameters change.

    Args:
        matcher: provides the batch.
        runner: of the side.
        before: the compared outputs without the change.
        where: path -> 1 for the elements to change, 0 for the others.
    """
    kept = runner.read()
    held = {path: kept.value(path) for path in where}
    runner.write(State({path: array + _step(array) * _typed(where[path], array) for path, array in held.items()}))
    after = runner.infer(matcher.batch)
    runner.write(State(held))
    return before.keys() != after.keys() or any(not _same(array, after[name]) for name, array in before.items())


def _typed(mask: Array | float, like: Array) -> Array:
    return np.asarray(mask, like.dtype)


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _step(array: Array) -> Array:
    if array.dtype.kind != "f":
        return np.ones_like(array)
    rng = np.random.default_rng(array.size)
    return np.asarray(rng.uniform(0.1, 0.2, array.shape), array.dtype)


def _frozen(matcher: Matcher, runner: Matchable, plan: MatchPlan) -> Iterator[str]:
    """Unmatched parameters that the side does not train, such as a table that the other side computes itself."""
    kept = {entry.path for entry in runner.inventory().entries if not entry.trainable}
    yield from (path for path in plan.unmatched(runner.side) if path in kept)


def _idle(matcher: Matcher, runner: Matchable, plan: MatchPlan) -> Iterator[str]:
    """Unmatched parameters whose unmatched elements no compared output depends on."""
    unmatched = plan.unmatched(runner.side)[:MOST_TRIED]
    if not unmatched:
        return
    left = {path: _left(runner, plan, path) for path in unmatched}
    kept = runner.read()
    held = {path: kept.value(path) for path in unmatched}
    # Change all of them at once: a factor of a product has no effect while the other factor is zero.
    runner.write(State({path: array + left[path] * _typed(_step(array), array) for path, array in held.items()}))
    try:
        before = runner.infer(matcher.batch)
        for path in unmatched:
            if not _matters(matcher, runner, before, {path: left[path]}):
                yield path
    finally:
        runner.write(State(held))


def _left(runner: Matchable, plan: MatchPlan, path: str) -> Array:
    """1 for the elements of a parameter that are not matched."""
    mask = np.ones(runner.read().value(path).shape)
    for piece in (m.piece(runner.side) for m in plan.parameters):
        if path in piece.paths:
            piece.part.fill(mask, np.zeros(piece.shape))
    return mask


# Doubts ----------------------------------------------------------------------------------------------------------


def _names(guess: Guess, side: SideName) -> str:
    return ", ".join(unit.owner or ", ".join(e.path for e in unit.entries) for unit in guess.units(side))


def _doubt(guess: Guess, detail: str) -> Doubt:
    return Doubt(_names(guess, "torch"), _names(guess, "keras"), detail)


def _alike(guess: Guess, other: Guess) -> float:
    """How similar the PyTorch name of one guess is to the Keras name of a different one."""
    return likeness(guess.units("torch")[0].words, other.units("keras")[0].words)


def _undecided(matcher: Matcher, repairs: Repairs, look: Look) -> Iterator[Doubt]:
    """Similar layers with the same inputs that values cannot distinguish, because the port differs before that."""
    told: set[int] = set()
    for alike in [] if look.solved else sorted(repairs.moves.undecided, key=len, reverse=True):
        chosen = sum(_alike(g, g) for g in alike)
        orders = itertools.islice(itertools.permutations(alike), 1, 200)
        others = (sum(_alike(g, h) for g, h in zip(alike, order, strict=True)) for order in orders)
        if told & {id(g) for g in alike}:
            continue
        if chosen > max(others, default=0.0):
            for guess in alike:
                guess.by_name = True
            continue
        told |= {id(g) for g in alike}
        if told_by_what_follows(matcher, look, alike) or _told_by_names(matcher, repairs, alike):
            continue
        for guess in alike:
            candidates = ", ".join(_names(g, "keras") for g in alike)
            yield _doubt(guess, f"by value it could be any of these: {candidates}; add it to weight_map")


def told_by_what_follows(matcher: Matcher, look: Look, alike: Sequence[Guess]) -> bool:
    """Whether all but one of some similar layers feed dissimilar layers with known outputs."""
    used = [_followers(matcher, look, guess) for guess in alike]
    known = [kinds for at, kinds in enumerate(used) if kinds and not any(kinds & o for o in used[:at] + used[at + 1 :])]
    return len(known) >= len(alike) - 1


def _told_by_names(matcher: Matcher, repairs: Repairs, alike: Sequence[Guess]) -> bool:
    """Whether exactly one order of similar layers makes most outputs agree by name.

    The guesses keep that order.
    """
    wanted = {name: print_of(array) for name, array in matcher.reference.infer(matcher.batch).items()}
    if len(wanted) < 2:
        return False

    def agreeing() -> int:
        matcher.look()
        own = {name: print_of(array) for name, array in matcher.follower.infer(matcher.batch).items()}
        pairs = [(mine, own.get(name)) for name, mine in wanted.items()]
        return sum(a is not None and b is not None and apart(a, b) <= EXACT for a, b in pairs)

    found: list[tuple[int, tuple[int, ...]]] = []
    for order in itertools.islice(itertools.permutations(range(len(alike))), MOST_ORDERS):
        undo = repairs.moves.assign(alike, order)
        found.append((agreeing(), order))
        undo()
    most = max(many for many, _ in found)
    best = [order for many, order in found if many == most]
    if len(best) > 1:
        return False
    repairs.moves.assign(alike, best[0])
    for guess in alike:
        guess.by_value = guess.decided = True
    return True


def _followers(matcher: Matcher, look: Look, guess: Guess) -> set[object]:
    """Signatures of the layers that use the outputs of these layers, if all those outputs are known."""
    owners = {unit.owner for unit in guess.units(matcher.follower.side)}
    made = [p for s in look.seen if s.call.path in owners for p in prints_of(s.call.outputs)]
    found: set[object] = set()
    for at, seen in enumerate(look.seen):
        follower = matcher.guess_of(seen.call.path) if seen.call.parameters else None
        if follower is None or follower is guess or not any(apart(a, b) <= EXACT for a in made for b in seen.inputs):
            continue
        if not look.shown(at):
            return set()
        found.add(follower.group.signature)
    return found


def _blind(matcher: Matcher, look: Look) -> Iterator[Doubt]:
    """Layers whose parameters could have a different layout according to the values."""
    open_ = {g.group.signature: g for g in matcher.guesses if not g.promised and (look.solved or not g.by_value)}
    for guess in itertools.islice(open_.values(), MOST_TRIED):
        kept, own = guess.variant, _given(matcher)
        for variant in itertools.islice((v for v in guess.variants() if _usual(v, kept)), 2):
            guess.variant = variant
            other = any(not _same(array, own[path]) for path, array in _given(matcher).items())
            same = other and (matcher.look().solved if look.solved else not guess.by_value)
            guess.variant = kept
            if same:
                held = " and ".join(
                    dict.fromkeys(layout.name for layout in variant.layouts if layout not in kept.layouts)
                )
                told = f"its layout from {held}; add it to weight_map"
                which = "its parameters or their slices from each other; add them to weight_map"
                yield _doubt(guess, f"the values do not distinguish {told if held else which}")
                break


def _given(matcher: Matcher) -> Arrays:
    """The state that the follower receives: with a single head, several layouts coincide."""
    return matcher.plan().for_follower(matcher.state, slots=False).parameters


def _usual(variant: Variant, kept: Variant) -> bool:
    """Whether a variant is a different layout or cover, not a rare one such as an added offset."""
    others = [layout for layout in variant.layouts if layout not in kept.layouts]
    rare = any(mark in layout.name for layout in others for mark in "~@")
    return variant != kept and variant.offsets == kept.offsets and not rare


def _never_used(matcher: Matcher) -> Iterator[Doubt]:
    """Similar layers that no output depends on: they cannot be distinguished."""
    silent = [g for g in matcher.guesses if not g.by_value and not any(u.calls for u in g.units(matcher.follower.side))]
    for guess in silent:
        alike = [g for g in silent if g.group.signature == guess.group.signature]
        best = max(_alike(guess, g) for g in alike)
        if len(alike) > 1 and [g for g in alike if _alike(guess, g) == best] != [guess]:
            candidates = ", ".join(_names(g, "keras") for g in alike)
            yield _doubt(guess, f"never used, so by value it could be any of these: {candidates}")


def _contradicted(matcher: Matcher) -> Iterator[Doubt]:
    """Two layers that each compute the function of the other's name, while all other names agree: swapped, or misnamed.

    Names that never agree, or contradict each other more often, have different meanings on the two sides.
    """
    classes: dict[object, list[Guess]] = {}
    for guess in matcher.guesses:
        classes.setdefault(guess.group.signature, []).append(guess)
    lone = [_alike(g, g) for alike in classes.values() if len(alike) == 1 for g in alike]
    if sum(a > 0 for a in lone) * 2 < len(lone):
        return
    least = 0.0 if lone else 0.5
    meant: dict[int, Guess] = {}
    for alike in classes.values():
        for guess in alike:
            best = max(alike, key=lambda g: _alike(guess, g))
            most = _alike(guess, best)
            alone = sum(_alike(guess, g) == most for g in alike) == 1
            if alone and most >= max(_alike(guess, guess) + CLEARLY, least):
                meant[id(guess)] = best
    if len(meant) != 2 or {id(g) for g in meant.values()} != set(meant):
        return
    for guess in matcher.guesses:
        if id(guess) in meant:
            name = _names(meant[id(guess)], "keras")
            yield _doubt(
                guess,
                f"both compute the same, but the name suggests {name}: the two are swapped, or misnamed; add the "
                "intended match to weight_map",
            )
