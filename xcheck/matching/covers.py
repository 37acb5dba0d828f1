"""The ways to match the parameters of some layers with those of others. Each way is a cover; values decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ..layouts import LAYOUTS, Layout
from ..layouts.kinds import KINDS, Promise, kind_family, promised, role_family
from ..layouts.parts import WHOLE, Cut, Part, covered, parse_part
from ..layouts.patterns import Shape
from .layers import Param, likeness, words_of
from .reshapes import cuts, layouts_between, space_exchanged

MOST_COVERS = 24
"""At most this many covers of two groups of layers are listed."""

MOST_LISTED = 1000
"""At most this many of them are kept, first those that pack all parameters of a layer at the same position."""

MOST_STEPS = 4000
"""At most this many steps of the search for covers."""

MOST_STARTS = 8
"""Further rows of a longer table at which a shorter one may start, except the first and the last."""


MOST_RUN = 6
"""At most this many parameters are packed in one of the other side."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Some PyTorch parameters, or a slice of one, matched with a Keras parameter or a slice of it.

    Attributes:
        torch: positions of the parameters; several are summed. torch_part: the slice of each.
        keras: position. keras_part: its slice.
        layouts: the possible ones, the likeliest first.
        promised: the layer kinds promise the layout.
    """

    torch: tuple[int, ...]
    torch_part: Part
    keras: int
    keras_part: Part
    layouts: tuple[Layout, ...]
    promised: bool

    @property
    def packed(self) -> bool:
        """Whether one parameter contains several of the other side."""
        return bool(self.torch_part.cuts or self.keras_part.cuts)


@dataclass(frozen=True, slots=True)
class Cover:
    """One way to match two groups of parameters.

    Attributes:
        joints: the matches.
        cost: lower is likelier; an unmatched parameter costs 1.
        partial: some parameters are unmatched.
    """

    joints: tuple[Joint, ...]
    cost: float
    partial: bool = False

    @property
    def promised(self) -> bool:
        """Whether the layer kinds promise all layouts, and no parameter is unmatched."""
        return self.cost == 0.0


Params = tuple[Param, ...]


@cache
def covers(torch: Params, keras: Params) -> tuple[Cover, ...]:
    """The ways to match two groups of parameters completely; if there are none, as completely as possible.

    Args:
        torch, keras: parameters of layers that are matched together. Only single layers may have unmatched parameters,
            and never the largest one.
    """
    search = _Search(torch, keras)
    found = search.run(0)
    single = torch[-1].unit == keras[-1].unit == 0
    alike = search.largest_size(torch) == search.largest_size(keras)
    most = len(torch) + len(keras) - 2 if single and alike else 0
    for skips in range(1, most + 1):
        if found:
            break
        search = _Search(torch, keras)
        found = search.run(skips)
    return tuple(found) or _cut_tables(torch, keras) or _without_biases(torch, keras)


def _without_biases(torch: Params, keras: Params) -> tuple[Cover, ...]:
    """Several layers matched with one, if only one side has biases: all parameters except the biases."""
    kept = [[i for i, p in enumerate(of) if p.role != "bias"] for of in (torch, keras)]
    lone = [len(of) - len(own) for of, own in zip((torch, keras), kept, strict=True)]
    if torch[-1].unit == keras[-1].unit or bool(lone[0]) == bool(lone[1]) or not all(kept):
        return ()
    found = _Search(tuple(torch[i] for i in kept[0]), tuple(keras[i] for i in kept[1])).run(0)
    placed = ((cover.cost, [_placed(joint, *kept) for joint in cover.joints]) for cover in found)
    return tuple(Cover(tuple(joints), cost + sum(lone), True) for cost, joints in placed)


def _placed(joint: Joint, torch: Sequence[int], keras: Sequence[int]) -> Joint:
    """A joint with positions among all parameters instead of among a selection."""
    return replace(joint, torch=tuple(torch[i] for i in joint.torch), keras=keras[joint.keras])


def _cut_tables(torch: Params, keras: Params) -> tuple[Cover, ...]:
    """Tables with different numbers of rows: positions that start at 2, or unused rows at the end."""
    if len(torch) != 1 or len(keras) != 1:
        return ()
    (t,), (k,) = torch, keras
    tables = all("Embedding" in p.kind and len(p.shape) == 2 for p in (t, k))
    rows = len(t.shape) == 2 == len(k.shape) and (t.shape[0], k.shape[0])
    if not tables or not rows or t.shape[1] != k.shape[1] or not max(rows) < 2 * min(rows):
        return ()
    more = max(rows) - min(rows)
    found: list[Cover] = []
    for start in dict.fromkeys((more, 0, *range(1, min(more, MOST_STARTS)))):
        part = Part((Cut(start, start + min(rows)),))
        parts = (part, WHOLE) if rows[0] > rows[1] else (WHOLE, part)
        layouts, _ = ways(t, k, parts[0].shape(t.shape), parts[1].shape(k.shape))
        found += [Cover((Joint((0,), parts[0], 0, parts[1], layouts, False),), 1.0, True)] if layouts else []
    return tuple(found)


class _Search:
    def __init__(self, torch: Params, keras: Params) -> None:
        self.torch, self.keras = torch, keras
        self._steps = 0
        self._listed: dict[object, list[tuple[Joint, ...]]] = {}
        self._largest = tuple(max(range(len(of)), key=lambda i: math.prod(of[i].shape)) for of in (torch, keras))

    @staticmethod
    def largest_size(of: Params) -> int:
        """Elements of the largest parameter."""
        return max(math.prod(p.shape) for p in of)

    def run(self, skips: int) -> list[Cover]:
        found: list[Cover] = []
        ways = itertools.islice(self._from(tuple(range(len(self.keras))), {}, skips), MOST_LISTED)
        for joints in itertools.islice(sorted(ways, key=self._uneven), MOST_COVERS):
            generic = sum(0.25 for j in joints if not j.promised)
            found.append(Cover(joints, skips + generic, skips > 0))
        return found

    def _uneven(self, joints: Sequence[Joint]) -> int:
        """How often a packed layer has different positions for its parameters."""
        places: dict[tuple[str, int], set[object]] = {}
        for j in joints:
            for side, at, part, whole in (
                ("keras", self.keras[j.keras].unit, j.torch_part, self.torch[j.torch[0]].shape),
                ("torch", self.torch[j.torch[0]].unit, j.keras_part, self.keras[j.keras].shape),
            ):
                cut, length = next(((cut, n) for cut, n in part.axes(whole) if cut), (None, 1))
                if cut is not None:
                    every = cut.every or length
                    place = cut.start / every, cut.stop / every, length // every
                    places.setdefault((side, at), set()).add(place)
        return sum(len(of) - 1 for of in places.values())

    def _from(
        self, todo: tuple[int, ...], used: dict[int, tuple[Part, ...]], skips: int
    ) -> Iterator[tuple[Joint, ...]]:
        self._steps += 1
        if self._steps > MOST_STEPS:
            return
        if not todo:
            open_ = [i for i, t in enumerate(self.torch) if not covered(used.get(i, ()), t.shape)]
            if len(open_) <= skips and not any(i in used or i == self._largest[0] for i in open_):
                yield ()
            return
        for joints in self._steps_for(todo, used):
            after = dict(used)
            for j in joints:
                for t in j.torch:
                    after[t] = (*after.get(t, ()), j.torch_part)
            done = {j.keras for j in joints}
            for rest in self._from(tuple(k for k in todo if k not in done), after, skips):
                yield (*joints, *rest)
        if skips and todo[0] != self._largest[1]:
            yield from self._from(todo[1:], used, skips - 1)

    def _steps_for(self, todo: tuple[int, ...], used: dict[int, tuple[Part, ...]]) -> Iterator[tuple[Joint, ...]]:
        """The possible matches of the first unmatched Keras parameter."""
        at = todo[0]
        k = self.keras[at]
        free = sorted((i for i in range(len(self.torch)) if i not in used), key=lambda i: -self._alike(i, at))
        yield from self._promised(at, used)
        for i in free:
            t = self.torch[i]
            layouts = () if self._promises(i, k) else ways(t, k, t.shape, k.shape)[0]
            if layouts:
                yield (Joint((i,), WHOLE, at, WHOLE, layouts, False),)
        for i in free:
            yield from self._once(("split", i, todo), self._split(i, todo))
        yield from self._once(("merged", at, *sorted(free)), self._merged(at, free))
        yield from self._added(at, free)

    def _once(self, key: object, found: Iterator[tuple[Joint, ...]]) -> list[tuple[Joint, ...]]:
        """Cache the result for a key: it does not depend on the other choices."""
        if key not in self._listed:
            self._listed[key] = list(found)
        return self._listed[key]

    def _alike(self, i: int, at: int) -> float:
        return likeness(words_of(self.torch[i].role), words_of(self.keras[at].role))

    def _promises(self, i: int, k: Param) -> list[Promise]:
        t = self.torch[i]
        return promised(t.kind, t.role, k.kind, k.role, k.inner)

    def _promised(self, at: int, used: dict[int, tuple[Part, ...]]) -> Iterator[tuple[Joint, ...]]:
        k = self.keras[at]
        rows: dict[tuple[int, str], list[Joint]] = {}
        for i, t in enumerate(self.torch):
            for promise in self._promises(i, k):
                joint = self._kept(promise, i, at, used)
                if joint is not None and not joint.keras_part.cuts:
                    yield (joint,)
                elif joint is not None:  # its other elements belong to other parameters of the same cell
                    rows.setdefault((t.unit, role_family(t.kind, t.role)[1]), []).append(joint)
        for joints in rows.values():
            if covered([j.keras_part for j in joints], k.shape):
                yield tuple(joints)

    def _kept(self, promise: Promise, i: int, at: int, used: dict[int, tuple[Part, ...]]) -> Joint | None:
        """A promise as a joint; None if a parameter is already matched or does not fit."""
        t, k = self.torch[i], self.keras[at]
        _, suffix = role_family(t.kind, t.role)
        terms = (i,)
        if len(promise.torch_roles) > 1:
            roles = [role + suffix for role in promise.torch_roles]
            terms = tuple(j for j, other in enumerate(self.torch) if other.unit == t.unit and other.role in roles)
            if terms[0] != i:
                return None  # the same sum was tried from its first term
        try:
            part, other_part = _part(promise.torch, t.shape), _part(promise.keras, k.shape)
        except ValueError:
            return None
        taken = [p for j in terms for p in used.get(j, ())]
        if part in taken or any(not p.cuts for p in taken) or (taken and not part.cuts):
            return None
        shapes = part.shape(t.shape), other_part.shape(k.shape)
        layouts = tuple(LAYOUTS[name] for name in promise.layouts if LAYOUTS[name].fits(*shapes))
        if not layouts:  # a kernel that is not square, with its spatial axes in another order
            layouts = tuple(x for name in promise.layouts for x in space_exchanged(LAYOUTS[name], *shapes))
            return Joint(terms, part, at, other_part, layouts, False) if layouts else None
        return Joint(terms, part, at, other_part, layouts, True)

    def _split(self, i: int, todo: tuple[int, ...]) -> Iterator[tuple[Joint, ...]]:
        """The PyTorch parameter contains several Keras parameters."""
        t, first = self.torch[i], self.keras[todo[0]]
        like = [k for k in todo if self.keras[k].role == first.role or self.keras[k].shape == first.shape]
        same = tuple(k for k in like if self.keras[k].shape == first.shape)  # such as the experts' first layers
        whole = 1 < len(same) <= MOST_RUN and len(same) * math.prod(first.shape) == math.prod(t.shape)
        runs: list[tuple[int, ...]] = [same] if whole else []
        runs += _chosen(like, [math.prod(self.keras[k].shape) for k in like], math.prod(t.shape))
        for chosen in dict.fromkeys(runs):
            shapes = [self.keras[k].shape for k in chosen]
            for parts in cuts(t.shape, shapes):
                alike = len({part.shape(t.shape) for part in parts}) == 1
                yield from _ordered([[self._joint(i, part, k, WHOLE) for part in parts] for k in chosen], alike)

    def _merged(self, at: int, free: Sequence[int]) -> Iterator[tuple[Joint, ...]]:
        """The Keras parameter contains several PyTorch parameters."""
        k = self.keras[at]
        free = sorted(free)
        for first in free:
            t = self.torch[first]
            like = [i for i in free if i >= first and (self.torch[i].role == t.role or self.torch[i].shape == t.shape)]
            for chosen in _chosen(like, [math.prod(self.torch[i].shape) for i in like], math.prod(k.shape)):
                for parts in cuts(k.shape, [self.torch[i].shape for i in chosen]):
                    alike = len({part.shape(k.shape) for part in parts}) == 1
                    yield from _ordered([[self._joint(i, WHOLE, at, part) for part in parts] for i in chosen], alike)

    def _added(self, at: int, free: Sequence[int]) -> Iterator[tuple[Joint, ...]]:
        """The Keras parameter is the sum of two PyTorch parameters with similar names."""
        k = self.keras[at]
        for pair in itertools.combinations(sorted(free), 2):
            a, b = (self.torch[i] for i in pair)
            if a.shape == b.shape and a.unit == b.unit and len(a.shape) == 1 and words_of(a.role) & words_of(b.role):
                layouts = ways(a, k, a.shape, k.shape)[0]
                if layouts:
                    yield (Joint(pair, WHOLE, at, WHOLE, layouts, False),)

    def _joint(self, i: int, part: Part, at: int, other: Part) -> Joint | None:
        t, k = self.torch[i], self.keras[at]
        layouts, _ = ways(t, k, part.shape(t.shape), other.shape(k.shape))
        return Joint((i,), part, at, other, layouts, False) if layouts else None


def _ordered(table: Sequence[Sequence[Joint | None]], alike: bool) -> Iterator[tuple[Joint, ...]]:
    """The joints of parameters and slices, one slice each; in every order if the slices have the same shape.

    Args:
        table: per parameter and slice.
        alike: all slices have the same shape.
    """
    if not all(any(row) for row in table):
        return
    usual = range(len(table))
    for order in itertools.permutations(usual) if alike else [usual]:
        joints = [table[i][n] for n, i in enumerate(order)]
        if all(joints):
            yield tuple(j for j in joints if j)


@cache
def ways(t: Param, k: Param, torch_shape: Shape, keras_shape: Shape) -> tuple[tuple[Layout, ...], bool]:
    """The possible layouts between two parameters or slices, and whether the layer kinds promise them.

    If two kinds have promises for each other, no other layouts are possible.
    """
    rows = promised(t.kind, t.role, k.kind, k.role, k.inner)
    if rows:
        names = dict.fromkeys(name for row in rows for name in row.layouts)
        return tuple(LAYOUTS[n] for n in names if LAYOUTS[n].fits(torch_shape, keras_shape)), True
    if (kind_family(t.kind), k.kind) in KINDS:
        return (), False
    usual = _usual(t.kind, t.role, k.kind, k.role)
    found = layouts_between(torch_shape, keras_shape)
    return tuple(sorted(found, key=lambda layout: (layout.name not in usual, layout.name not in LAYOUTS))), False


@cache
def _usual(torch_kind: str, torch_role: str, keras_kind: str, keras_role: str) -> frozenset[str]:
    """Layouts that either layer kind has with layers of its own kind."""
    rows = [
        row
        for (kind, other), promises in KINDS.items()
        for row in promises
        if (kind == kind_family(torch_kind) and torch_role in row.torch_roles)
        or (other == keras_kind and row.keras_role == keras_role)
    ]
    return frozenset(name for row in rows for name in row.layouts)


def _part(role: str, shape: Shape) -> Part:
    _, bracket, rest = role.partition("[")
    return parse_part(bracket + rest, shape) if bracket else WHOLE


def _chosen(like: Sequence[int], sizes: Sequence[int], total: int) -> Iterator[tuple[int, ...]]:
    """Runs of two to six sizes, starting with the first, that add up to the total."""
    for many in range(2, min(MOST_RUN, len(like)) + 1):
        if sum(sizes[:many]) == total:
            yield tuple(like[:many])
    if len(like) > 2:
        for rest in itertools.islice(itertools.combinations(range(1, len(like)), 2), 12):
            if rest != (1, 2) and sum(sizes[i] for i in (0, *rest)) == total:
                yield tuple(like[i] for i in (0, *rest))
