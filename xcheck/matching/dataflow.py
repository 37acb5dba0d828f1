"""The positions of the layers in the dataflow of a side, and which positions are equivalent.

A layer is distinguished from others of its kind by the layers before and after it, by the inputs that it depends on and
by the named outputs that depend on it. Each round of refinement looks one layer further (Weisfeiler and Leman 1968).
Operations between layers, such as a reshape, do not count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

import numpy as np

from ..records.calls import Call, Calls
from ..records.inventory import Inventory
from ..records.trace import Array, Arrays
from .fingerprints import key_of
from .layers import Unit, likeness
from .sequences import Group, group_of

MOST_ROUNDS = 64
"""At most this many layers before and after a layer are considered."""

SAMPLED = 16
"""Numbers of an output that are searched for in tensors that may contain it."""

SAME = 1e-6
"""Relative distance of two equal numbers, one of which may be rounded to float32."""

Place = Hashable
"""A layer (its position), an input (its numbers) or an output (its name)."""


class Flow:
    """The layers before and after each layer of a side.

    Args:
        units: its layers.
        inventory: of the side.
        calls: of one forward pass, with its functions.
        outputs: the compared outputs by name.

    Attributes:
        before, behind: per layer, the neighbouring places.
        given: name of a call -> the places of its inputs.
    """

    def __init__(self, units: Sequence[Unit], inventory: Inventory, calls: Calls, outputs: Arrays) -> None:
        self.before: list[set[Place]] = [set() for _ in units]
        self.behind: list[set[Place]] = [set() for _ in units]
        self.given: dict[str, set[Place]] = {}
        held = {inventory.canonical_path(e.path): at for at, unit in enumerate(units) for e in unit.entries}
        keys = _Keys()
        sources: dict[Hashable, set[Place]] = {}
        arrays: dict[Hashable, Array] = {}
        whole = next((call for call in calls if call.parent is None), None)
        for array in whole.inputs.values() if whole is not None else ():
            sources[keys.of(array)] = {("input", *_rounded(array))}
        parents = {call.index: call.parent for call in calls}
        within: dict[int, set[Place]] = {}
        views: dict[Hashable, set[int]] = {}
        taken: set[int] = set()  # used by functions: parameters of the model itself are used where these are called
        for call in calls:
            of = {held[path] for path in call.parameters if path in held}
            if call.function and of and not call.inputs:  # only a view of a parameter
                views |= {keys.of(array): of for array in call.outputs.values()}
                continue
            of = of.union(*(views.get(keys.of(array), set()) for array in call.inputs.values() if call.function))
            of -= taken if call.parent is None else set()
            taken |= of if call.function else set()
            given = _given(call, keys, sources)
            around = call.parent
            while of and around is not None:
                within.setdefault(around, set()).update(of)
                around = parents.get(around)
            self.given[call.name] = given
            for at in of:
                self.before[at] |= given - {at}
            for array in call.outputs.values():
                key = keys.of(array)
                if key is not None and key not in sources:
                    sources[key] = set(of) or self._last(within.get(call.index, set())) or given
                    arrays[key] = array
        for name, array in outputs.items():
            key = keys.of(array)
            made = sources.get(key) if key in sources else _part_of(array, arrays, sources)
            for place in made or ():
                if isinstance(place, int):
                    self.behind[place].add(("output", name))
        for at, places in enumerate(self.before):
            for place in places:
                if isinstance(place, int):
                    self.behind[place].add(at)

    def before_call(self, call: Call) -> set[int] | None:
        """The layers that contribute to the inputs of a call; None if unknown.

        Args:
            call: of the side, of any forward pass.
        """
        if call.parent is None or call.name not in self.given:
            return None
        found: set[int] = set()
        edge = [place for place in self.given[call.name] if isinstance(place, int)]
        while edge:
            at = edge.pop()
            if at not in found:
                found.add(at)
                edge += [place for place in self.before[at] if isinstance(place, int)]
        return found

    def _last(self, places: set[Place]) -> set[Place]:
        """The last of some layers: those whose outputs no other of them uses, such as in the cells of a recurrent
        layer.
        """
        taken = {p for at in places if isinstance(at, int) for p in self.before[at]}
        return places - taken or places


def _given(call: Call, keys: _Keys, sources: Mapping[Hashable, set[Place]]) -> set[Place]:
    found: set[Place] = set()
    for array in call.inputs.values():
        found |= sources.get(keys.of(array), set())
    return found


class _Keys:
    """Keys of values: equal for one tensor in any order of axes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Array, Hashable]] = {}

    def of(self, array: Array) -> Hashable:
        if id(array) not in self._known:
            self._known[id(array)] = array, key_of(array) or ("itself", id(array))  # such as zeros after a relu
        return self._known[id(array)][1]


def _rounded(array: Array) -> tuple[str, ...]:
    """The range of an input, equal on both sides even if one has it in float32."""
    return tuple(f"{float(x):.4e}" for x in (array.min(), array.max())) if array.size else ()


def _part_of(array: Array, arrays: Mapping[Hashable, Array], sources: Mapping[Hashable, set[Place]]) -> set[Place]:
    """The places of the last tensor that contains the numbers of an output, which may be a slice or a cast of it."""
    if array.dtype.kind != "f" or not array.size or not np.isfinite(array).all():
        return set()
    flat = array.reshape(-1).astype(np.float64)
    sample = flat[np.linspace(0, flat.size - 1, min(SAMPLED, flat.size)).astype(int)]
    for key, other in list(arrays.items())[::-1]:
        if other.dtype.kind != "f" or other.size < array.size:
            continue
        numbers = np.sort(other.reshape(-1).astype(np.float64))
        at = np.clip(np.searchsorted(numbers, sample), 1, numbers.size - 1) if numbers.size > 1 else np.zeros(1, int)
        gap = np.minimum(np.abs(numbers[at] - sample), np.abs(numbers[at - 1] - sample))
        if (gap <= SAME * np.abs(sample)).all():
            return sources[key]
    return set()


def colours(flow: Flow, kinds: Sequence[Hashable], names: Collection[str]) -> list[list[int]]:
    """Per round, a number for each layer: equal for layers that nothing within that many layers distinguishes.

    Args:
        flow: of a side.
        kinds: of the layers, equal on both sides for similar layers.
        names: outputs that both sides have.
    """

    def seen(places: Iterable[Place], now: Sequence[int]) -> frozenset[Hashable]:
        found: set[Hashable] = set()
        for place in places:
            if isinstance(place, int):
                found.add(now[place])
            else:
                found.add(place if place not in unnamed else "output")
        return frozenset(found)

    reached = {place for places in flow.behind for place in places if not isinstance(place, int)}
    unnamed = reached - {("output", name) for name in names}
    now = [hash(kind) for kind in kinds]
    rounds: list[list[int]] = []
    for _ in range(MOST_ROUNDS):
        after = [hash((c, seen(a, now), seen(b, now))) for c, a, b in zip(now, flow.before, flow.behind, strict=True)]
        rounds.append(after)
        if len(set(after)) == len(set(now)) and len(rounds) > 1:
            break
        now = after
    return rounds


def in_place(
    groups: Sequence[Group], flows: Sequence[Flow], units: Sequence[Sequence[Unit]], names: Collection[str]
) -> tuple[list[Group], set[int]]:
    """Similar groups, reordered by equivalent positions on both sides, and by name if several positions are equivalent.

    Args:
        groups: in the order of the alignment.
        flows: of PyTorch and of Keras.
        units: their layers.
        names: outputs that both sides have.

    Returns:
        The groups, and the `id` of each group with a unique position.
    """
    classes: dict[Hashable, list[Group]] = {}
    for group in groups:
        classes.setdefault(size_of(group), []).append(group)
    at = [{id(unit): i for i, unit in enumerate(of)} for of in units]
    kinds: list[list[Hashable]] = [[None] * len(of) for of in units]
    for number, alike in enumerate(classes.values()):
        for group in alike:
            for side, of in enumerate((group.torch, group.keras)):
                for unit in of:
                    kinds[side][at[side][id(unit)]] = number
    rounds = [colours(flow, kind, names) for flow, kind in zip(flows, kinds, strict=True)]

    def colour(group: Group, side: int, depth: int) -> tuple[int, ...]:
        of = group.torch if side == 0 else group.keras
        return tuple(rounds[side][min(depth, len(rounds[side]) - 1)][at[side][id(unit)]] for unit in of)

    renewed: dict[int, Group] = {}
    alone: set[int] = set()

    def place(alike: Sequence[Group]) -> bool:
        for depth in reversed(range(max(map(len, rounds))) if len(alike) > 1 else ()):
            here, there = ([colour(g, side, depth) for g in alike] for side in (0, 1))
            found = _within(alike, here, there) if Counter(here) == Counter(there) else None
            if found is not None:
                renewed.update(found)
                often = Counter(here)
                alone.update(id(found.get(id(g), g)) for g, c in zip(alike, here, strict=True) if often[c] == 1)
                return True
        return len(alike) == 1

    for alike in classes.values():
        if not place(alike):
            kinds_of: dict[Hashable, list[Group]] = {}
            for group in alike:
                kinds_of.setdefault(group.signature, []).append(group)
            for few in kinds_of.values():
                place(few)
    return [renewed.get(id(group), group) for group in groups], alone


def size_of(group: Group) -> Hashable:
    """A key that is equal for groups of single layers with the same number of elements, of any kind."""
    if len(group.torch) != 1 or len(group.keras) != 1:
        return group.signature
    return tuple(tuple(sorted(math.prod(e.shape) for e in of[0].entries)) for of in (group.torch, group.keras))


def _within(alike: Sequence[Group], here: Sequence[Hashable], there: Sequence[Hashable]) -> dict[int, Group] | None:
    """Groups whose halves have the same colour; of several, those with the most similar names.

    Returns:
        None if halves of one colour cannot match.
    """
    found: dict[int, Group] = {}
    for colour in dict.fromkeys(here):
        left = [g for g, c in zip(alike, here, strict=True) if c == colour]
        right = [g for g, c in zip(alike, there, strict=True) if c == colour]
        kept = [g for g in left if any(g is h for h in right)]
        if len(kept) == len(left):
            continue
        for group, other in _named(left, right):
            made = group_of(group.torch, other.keras)
            if made is None or (made.covers[0].partial and not group.covers[0].partial):
                return None
            found[id(group)] = made
    return found


def _named(left: Sequence[Group], right: Sequence[Group]) -> Iterable[tuple[Group, Group]]:
    """Halves paired by name, the most similar first; the rest in order."""
    scores = sorted(
        (
            (likeness(a.torch[0].words, b.keras[0].words), -i, -j)
            for i, a in enumerate(left)
            for j, b in enumerate(right)
        ),
        reverse=True,
    )
    done: tuple[set[int], set[int]] = set(), set()
    for _, i, j in scores:
        if i not in done[0] and j not in done[1]:
            done[0].add(i)
            done[1].add(j)
            yield left[-i], right[-j]
