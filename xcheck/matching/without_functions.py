"""Matching of weights that one side uses directly and the other through a function, such as softplus(w) or w / |w|.

If a plan leaves such a weight open, both sides are run without the function: w instead of softplus(w). If all values
then agree, the weights match, and the function is the remaining difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..pairs.pair import Batch, WeightTarget
from ..records.calls import Again, Call, Calls, Inside, Swap, everywhere
from ..records.inventory import Inventory
from ..records.sides import SideName
from ..records.trace import Array, Arrays, State
from .draws import drawn_batch
from .evidence import settled
from .fingerprints import key_of
from .map_file import key_in_map
from .matchable import Matchable
from .matcher import Matcher
from .plan import MatchPlan
from .search import Repairs

MOST_LOOKS = 100
"""At most this many forward passes of the follower for this."""


@dataclass(frozen=True, slots=True)
class WeightFunction:
    """A value that a side computes only from parameters and uses instead of one of them.

    Attributes:
        path: of the parameter, which has the shape of the value.
        last, output: name of the last call that computes it, and of that call's output.
        view: name of an earlier call that returns the parameter with permuted axes; "" if there is none.
        inner: names of the calls that compute it.
        others: paths of its other parameters, which nothing else uses.
    """

    path: str
    last: str
    output: str
    view: str
    inner: frozenset[str]
    others: tuple[str, ...]


def plan_without_functions(
    reference: Matchable,
    follower: Matchable,
    batch: Batch,
    weight_map: Mapping[str, WeightTarget],
    seed: int,
    plan: MatchPlan,
) -> MatchPlan | None:
    """The plan under which the sides agree without the functions of weights; None if there is none.

    Args:
        reference, follower: the sides; their weights are changed.
        batch, weight_map, seed: as for `plan_by_value`.
        plan: the unproven plan; functions of weights that it matches by value or by the map are kept.
    """
    sides: dict[SideName, WithoutFunctions] = {}
    for runner in (reference, follower):
        try:
            functions = weight_functions(runner, batch, seed, _open(plan, runner.side))
        except UserCodeError:  # a model refuses other inputs
            return None
        sides[runner.side] = WithoutFunctions(runner, functions)
    if not any(side.functions for side in sides.values()):
        return None
    matcher = Matcher(sides[reference.side], sides[follower.side], batch, weight_map, seed)
    repairs = Repairs(matcher)
    repairs.most = MOST_LOOKS
    look = repairs.run()
    if not look.solved:
        return None
    found = settled(matcher, repairs, look)
    if all(side.left_out for side in sides.values()):
        found = _with_the_rest(reference, follower, batch, weight_map, seed, found)
    unmatched = {of: (*found.unmatched(of), *sides[of].left_out_of(found)) for of in sides}
    return replace(found, unmatched_torch=unmatched["torch"], unmatched_keras=unmatched["keras"])


def _with_the_rest(
    reference: Matchable,
    follower: Matchable,
    batch: Batch,
    weight_map: Mapping[str, WeightTarget],
    seed: int,
    plan: MatchPlan,
) -> MatchPlan:
    """A plan that also matches the parameters used only by the functions, such as the gains of a weight norm, if
    possible.
    """
    known: dict[str, WeightTarget] = {}
    for match in plan.parameters:
        known.setdefault(key_in_map(match), []).append((match.name("keras"), match.layout.name))  # pyright: ignore
    matcher = Matcher(reference, follower, batch, {**weight_map, **known}, seed)
    repairs = Repairs(matcher)
    repairs.most = MOST_LOOKS
    rest = settled(matcher, repairs, repairs.run())
    evidence = {(m.name("torch"), m.name("keras")): m.evidence for m in plan.matches}
    matches = (replace(m, evidence=evidence.get((m.name("torch"), m.name("keras")), m.evidence)) for m in rest.matches)
    return replace(rest, matches=tuple(matches))


def _open(plan: MatchPlan, side: SideName) -> set[str]:
    """Paths of a side that a plan matches neither by value nor by the map."""
    sure = {path for m in plan.parameters if m.evidence in ("", "by value") for path in m.piece(side).paths}
    every = {path for m in plan.parameters for path in m.piece(side).paths} | set(plan.unmatched(side))
    return every - (sure - set(plan.unmatched(side)))


def weight_functions(runner: Matchable, batch: Batch, seed: int, paths: Collection[str]) -> list[WeightFunction]:
    """The functions of some parameters that a side uses.

    Args:
        runner: of the side.
        batch: to run it on.
        seed: of a second batch: values that depend only on parameters are equal for both batches.
        paths: of the parameters.

    Raises:
        UserCodeError: the model cannot be called.
    """
    calls = runner.calls(batch, inside=everywhere)
    again = {call.name: call for call in runner.calls(drawn_batch(batch, [seed, 3]), inside=everywhere)}
    still = {call.index for call in calls if call.name in again and _same(call.outputs, again[call.name].outputs)}
    return list(_found(runner, calls, still, paths))


def _same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())


def _found(runner: Matchable, calls: Calls, still: Collection[int], paths: Collection[str]) -> Iterator[WeightFunction]:
    entries = {entry.path: entry for entry in runner.inventory().canonical() if not entry.buffer}
    state = runner.read()
    made: dict[int, tuple[Call, str]] = {}
    behind: dict[int, dict[int, None]] = {}  # id of a value -> ids of the values that it is computed from
    sources: dict[int, dict[str, None]] = {}
    ends: dict[int, None] = {}
    for call in calls:
        given = [id(array) for array in call.inputs.values() if id(array) in made]
        if call.index not in still:
            ends |= dict.fromkeys(given)
        elif call.function:
            for name, array in call.outputs.items():
                if id(array) in made:
                    continue
                made[id(array)] = call, name
                behind[id(array)] = {k: None for i in given for k in (*behind[i], i)}
                sources[id(array)] = dict.fromkeys(call.parameters)
                sources[id(array)] |= {path: None for i in given for path in sources[i]}
    for end in ends:
        call, name = made[end]
        while (earlier := _viewed(call, name, made)) is not None:
            call, name = earlier
        value = call.outputs[name]
        alike = [p for p in sources[id(value)] if p in entries and entries[p].shape == value.shape]
        if len(alike) != 1 or alike[0] not in paths or key_of(value) == key_of(state.value(alike[0])):
            continue
        own = state.value(alike[0])
        views = [made[i][0] for i in behind[id(value)] if key_of(made[i][0].outputs[made[i][1]]) == key_of(own)]
        turned = [v for v in views if (a := next(iter(v.outputs.values()))).shape == own.shape and (a != own).any()]
        inner = {made[i][0].name for i in (*behind[id(value)], id(value))}
        elsewhere = {p for c in calls if c.function and c.name not in inner for p in c.parameters}
        others = tuple(p for p in sources[id(value)] if p in entries and p != alike[0] and p not in elsewhere)
        view = turned[0].name if turned else ""
        yield WeightFunction(alike[0], call.name, name, view, frozenset(inner), others)


def _viewed(call: Call, name: str, made: Mapping[int, tuple[Call, str]]) -> tuple[Call, str] | None:
    """The call whose output a call returns with permuted axes; None if it returns something new."""
    key = key_of(call.outputs[name])
    given = (array for array in call.inputs.values() if id(array) in made)
    return next((made[id(array)] for array in given if key is not None and key_of(array) == key), None)


class WithoutFunctions:
    """A side that uses some of its weights directly instead of functions of them.

    Args:
        runner: of the side.
        functions: the functions to omit.
    """

    def __init__(self, runner: Matchable, functions: Collection[WeightFunction]) -> None:
        self.runner, self.functions = runner, functions
        self.side: SideName = runner.side
        self.islands = runner.islands
        self._last = {f.last: f for f in functions}
        self._inner = {name for f in functions for name in f.inner}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Paths of parameters that only the functions use."""
        return tuple(dict.fromkeys(path for f in self.functions for path in f.others))

    def left_out_of(self, plan: MatchPlan) -> tuple[str, ...]:
        """Those of `left_out` that a plan does not match."""
        known = {path for m in plan.parameters for path in m.piece(self.side).paths}
        return tuple(p for p in self.left_out if p not in known and p not in plan.unmatched(self.side))

    def inventory(self) -> Inventory:
        """The inventory without parameters that only the functions use."""
        every, gone = self.runner.inventory(), set(self.left_out)
        return Inventory(tuple(e for e in every.entries if every.canonical_path(e.path) not in gone))

    def read(self) -> State:
        """As for the side."""
        return self.runner.read()

    def write(self, state: State) -> None:
        """Set what the given state holds."""
        self.runner.write(state)

    def snapshot(self) -> Any:
        """As for the side."""
        return self.runner.snapshot()

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        self.runner.restore(snapshot)

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """As for the side."""
        return self.runner.rounding(rng)

    def infer(self, batch: Batch) -> Arrays:
        """What the model returns."""
        return next(call for call in self._calls(batch, None) if call.parent is None).outputs

    def calls(
        self, batch: Batch, *, swap: Swap | None = None, inside: Inside = everywhere, again: Again | None = None
    ) -> Calls:
        """Every call except those of the functions; the parameters belong to the calls that use them."""
        calls = self._calls(batch, swap)
        used = {id(c.outputs[f.output]): f.path for c in calls if (f := self._last.get(c.name)) is not None}
        dropped = {call.index for call in calls if call.name in self._inner}
        dropped |= {c.index for c in calls if c.outputs and all(id(array) in used for array in c.outputs.values())}
        holders: dict[int, dict[str, None]] = {}
        for call in calls:
            held = {path: None for a in call.inputs.values() if (path := used.get(id(a))) is not None}
            if held and call.index not in dropped:
                holders.setdefault(call.index, {}).update(held)
                if call.parent is not None:
                    holders.setdefault(call.parent, {}).update(held)
        roots = {call.index for call in calls if call.parent is None}
        parents = {call.index: call.parent for call in calls}

        def inside_dropped(index: int | None) -> bool:
            while index is not None:
                if index in dropped:
                    return True
                index = parents.get(index)
            return False

        return tuple(
            call
            if call.index in roots or call.index not in holders
            else replace(
                call,
                parameters=tuple({**dict.fromkeys(call.parameters), **holders[call.index]}),
                inputs={name: array for name, array in call.inputs.items() if id(array) not in used},
            )
            for call in calls
            if not inside_dropped(call.index) and (call.function is False or inside(call.path))
        )

    def _calls(self, batch: Batch, swap: Swap | None) -> Calls:
        state = self.runner.read()
        views: dict[str, Array] = {}
        viewed = {f.view for f in self.functions if f.view}

        def swapped(call: Call) -> Mapping[str, Array] | None:
            if call.name in viewed:
                views[call.name] = next(iter(call.outputs.values()))
            function = self._last.get(call.name)
            if function is not None:
                return {function.output: views.get(function.view, state.value(function.path))}
            return None if swap is None else swap(call)

        return self.runner.calls(batch, swap=swapped, inside=everywhere)
