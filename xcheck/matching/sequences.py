"""Alignment of two sequences of layers: which correspond, and which have no counterpart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..layouts.kinds import INNER
from ..records.sides import SideName
from .covers import Cover, covers
from .layers import Param, Unit, likeness

BAND = 64
"""Largest distance in position of two corresponding layers, in addition to the difference of the two lengths."""

MOST_TOGETHER = 6
"""At most this many layers of one side are one layer of the other: query, key and value, or cells of a recurrent layer.
"""


PLACE = 1e-5
"""Cost of a different position, per layer in between: it only decides between otherwise equal costs."""

SHAPED = 0.01
"""Cost of a match between layers with and without heads, if a layer without heads fits, too."""

MEANT = 0.3
"""Least similarity of two names that counts."""


@dataclass(frozen=True, eq=False)
class Group:
    """Layers of both sides that may have the same parameters.

    Attributes:
        torch, keras: the layers.
        covers: the ways to match them, the likeliest first.
    """

    torch: tuple[Unit, ...]
    keras: tuple[Unit, ...]
    covers: tuple[Cover, ...]

    @property
    def signature(self) -> tuple[tuple[Param, ...], tuple[Param, ...]]:
        """A key that is equal for similar groups, whatever their names."""
        torch, keras = params_of(self.torch), params_of(self.keras)
        return tuple(replace(p, inner="") for p in torch), tuple(replace(p, inner="") for p in keras)

    def units(self, side: SideName) -> tuple[Unit, ...]:
        """The layers of one side."""
        return self.torch if side == "torch" else self.keras


def params_of(units: Sequence[Unit]) -> tuple[Param, ...]:
    """The parameters of some layers, without their paths."""
    return tuple(p for i, unit in enumerate(units) for p in unit.params(i))


def group_of(torch: Sequence[Unit], keras: Sequence[Unit]) -> Group | None:
    """The layers as one group; None if their parameters cannot match."""
    found = covers(_plain(params_of(torch)), _plain(params_of(keras)))
    return Group(tuple(torch), tuple(keras), found) if found else None


def _plain(params: tuple[Param, ...]) -> tuple[Param, ...]:
    """Omit names of layers that no promise uses, so that similar layers share their covers."""
    return tuple(p if p.inner in INNER else replace(p, inner="") for p in params)


PROMISED, GENERIC, PACKED, PARTIAL = range(4)
"""Stages of permission: promised layouts; unknown layer kinds; several layers in one; unmatched parameters."""


def aligned(torch: Sequence[Unit], keras: Sequence[Unit]) -> list[Group]:
    """Groups of layers in the order of both sequences; then the same again for the remaining layers.

    Likelier matches come first. Otherwise branches that the sides run in a different order could be split up and
    recombined by chance.

    If that breaks the order, as with one of several layers that are packed into one on the other side, packed layers
    are matched first, provided that they are then in order and fewer others are out of order.

    Args:
        torch, keras: layers in order of first use.
    """
    found = _in_rounds(torch, keras, (PROMISED, GENERIC, PACKED, PARTIAL))
    crossed, _ = _crossed(found, torch, keras)
    if crossed:
        others = _in_rounds(torch, keras, (PACKED, PARTIAL))
        fewer, packed = _crossed(others, torch, keras)
        if _held(others) >= _held(found) and fewer < crossed and not packed:
            found = others
    return _by_name(found)


def _held(groups: Sequence[Group]) -> int:
    """Number of parameters in some groups."""
    return sum(len(unit.entries) for group in groups for unit in (*group.torch, *group.keras))


def _crossed(groups: Sequence[Group], torch: Sequence[Unit], keras: Sequence[Unit]) -> tuple[int, int]:
    """Pairs of groups in opposite order on the two sides, or one inside the other; and those with a packed group."""
    at = {id(unit): i for side in (torch, keras) for i, unit in enumerate(side)}
    spans = sorted(([at[id(u)] for u in g.torch], [at[id(u)] for u in g.keras]) for g in groups)
    first, last = (np.array([[of(here), of(there)] for here, there in spans], int).reshape(-1, 2) for of in (min, max))
    packed = np.array([max(len(here), len(there)) > 1 for here, there in spans], bool)
    every = some = 0
    for i in range(len(spans)):
        of = (last[:i] > first[i]).any(axis=1)
        every += int(of.sum())
        some += int((of & (packed[:i] | packed[i])).sum())
    return every, some


def _in_rounds(torch: Sequence[Unit], keras: Sequence[Unit], rounds: Sequence[int]) -> list[Group]:
    found: list[Group] = []
    left, right = list(torch), list(keras)
    for allowed in rounds:
        while left and right:
            groups = _once(left, right, allowed)
            if not groups:
                break
            found += groups
            done = {id(unit) for group in groups for unit in (*group.torch, *group.keras)}
            left, right = ([u for u in side if id(u) not in done] for side in (left, right))
    return found


def _by_name(groups: Sequence[Group]) -> list[Group]:
    """Similar layers in the order of their names, if the names are meaningful."""
    classes: dict[object, list[Group]] = {}
    for group in groups:
        classes.setdefault(group.signature, []).append(group)
    renamed: dict[int, Group] = {}
    for alike in classes.values():
        best = [_closest(g.torch[0], [h.keras[0] for h in alike]) for g in alike]
        back = [_closest(h.keras[0], [g.torch[0] for g in alike]) for h in alike]
        mutual = [i for i, j in enumerate(best) if j is not None and back[j] == i]
        if len(alike) == 1 or len(mutual) != len(alike):
            continue
        for group, j in zip(alike, best, strict=True):
            made = group_of(group.torch, alike[j].keras) if j is not None else None
            renamed[id(group)] = made or group
    return [renamed.get(id(group), group) for group in groups]


def _closest(unit: Unit, others: Sequence[Unit]) -> int | None:
    """The layer with the most similar name; None if no name is similar, or several are equally similar."""
    scores = [likeness(unit.words, other.words) for other in others]
    most = max(scores)
    return scores.index(most) if most >= MEANT and scores.count(most) == 1 else None


def _once(torch: Sequence[Unit], keras: Sequence[Unit], allowed: int) -> list[Group]:
    """The minimum-cost alignment; an unmatched layer costs its number of parameters."""
    n, m = len(torch), len(keras)
    table = _Table(torch, keras, allowed)
    best: dict[tuple[int, int], tuple[float, tuple[int, int]]] = {(0, 0): (0.0, (0, 0))}
    band = BAND + abs(n - m)
    for i in range(n + 1):
        for j in range(max(0, i - band), min(m, i + band) + 1):
            here = best.get((i, j))
            if here is None:
                continue
            for a, b, cost in table.steps(i, j):
                there, total = (i + a, j + b), here[0] + cost
                if there not in best or total < best[there][0]:
                    best[there] = (total, (a, b))
    groups: list[Group] = []
    at = (n, m)
    while at != (0, 0):
        a, b = best[at][1]
        at = (at[0] - a, at[1] - b)
        if a and b:
            group = group_of(torch[at[0] : at[0] + a], keras[at[1] : at[1] + b])
            assert group is not None
            groups.append(group)
    return groups[::-1]


def _size(unit: Unit, allowed: int) -> int:
    """Number of elements of a layer; if unmatched parameters are allowed, without biases, which the other side may
    lack.
    """
    return sum(math.prod(p.shape) for p in unit.params() if allowed < PARTIAL or p.role != "bias")


class _Table:
    """The steps of the alignment and their costs."""

    def __init__(self, torch: Sequence[Unit], keras: Sequence[Unit], allowed: int) -> None:
        self.torch, self.keras, self.allowed = torch, keras, allowed
        self._sizes = [[_size(u, allowed) for u in side] for side in (torch, keras)]
        self._counts = [[len(u.entries) for u in side] for side in (torch, keras)]
        self._alike = [[_plain(u.params()) for u in side] for side in (torch, keras)]
        ids: dict[tuple[Param, ...], int] = {}
        self._ids = [[ids.setdefault(p, len(ids)) for p in side] for side in self._alike]
        self._singles: dict[tuple[int, int], float] = {}

    def steps(self, i: int, j: int) -> list[tuple[int, int, float]]:
        """(layers of PyTorch, layers of Keras, cost) of every possible next step."""
        found: list[tuple[int, int, float]] = []
        torch_left, keras_left = len(self.torch) - i, len(self.keras) - j
        if torch_left:
            found.append((1, 0, float(self._counts[0][i])))
        if keras_left:
            found.append((0, 1, float(self._counts[1][j])))
        if not (torch_left and keras_left):
            return found
        single = self._single(i, j)
        if single < math.inf:
            found.append((1, 1, single + self._unlike(i, j)))
        total, other = self._sizes[0][i], self._sizes[1][j]
        for many in range(2, MOST_TOGETHER + 1):
            if many <= keras_left and other < total:
                other += self._sizes[1][j + many - 1]
                if other <= total:
                    found += self._together(i, j, 1, many)
        total, other = self._sizes[0][i], self._sizes[1][j]
        for many in range(2, MOST_TOGETHER + 1):
            if many <= torch_left and total < other:
                total += self._sizes[0][i + many - 1]
                if total == other:
                    found += self._together(i, j, many, 1)
        return found

    def _single(self, i: int, j: int) -> float:
        key = self._ids[0][i], self._ids[1][j]
        if key not in self._singles:
            one, other = self._alike[0][i], self._alike[1][j]
            found = covers(one, other)
            cut = SHAPED if [len(p.shape) for p in one] != [len(p.shape) for p in other] else 0.0
            self._singles[key] = found[0].cost + cut if found and self._may(found[0]) else math.inf
        return self._singles[key]

    def _may(self, cover: Cover, *, several: bool = False) -> bool:
        """Whether a cover is allowed in this stage; several layers in one need a sliced parameter."""
        packed = several or any(joint.packed for joint in cover.joints)
        least = PROMISED if cover.promised else PARTIAL if cover.partial else PACKED if packed else GENERIC
        return least <= self.allowed

    def _together(self, i: int, j: int, many: int, others: int) -> list[tuple[int, int, float]]:
        group = group_of(self.torch[i : i + many], self.keras[j : j + others])
        if group is None or not self._may(group.covers[0], several=True):
            return []
        return [(many, others, group.covers[0].cost + 0.02 * (many + others) + self._unlike(i, j))]

    def _unlike(self, i: int, j: int) -> float:
        """A small cost for different names and a smaller one for different positions, to decide between equal costs."""
        return 0.1 * (1 - likeness(self.torch[i].words, self.keras[j].words)) + PLACE * min(abs(i - j), BAND)
