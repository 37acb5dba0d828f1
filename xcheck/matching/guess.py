"""A guess: how the layers of a group match, and the alternatives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..layouts import Layout
from ..layouts.parts import Part
from ..records.inventory import Entry, Inventory
from ..records.sides import SideName
from .covers import Cover
from .layers import Unit
from .plan import Match, Piece
from .reshapes import space_exchanged, turned
from .sequences import Group

MOST_VARIANTS = 60
"""At most this many variants of one group are tried."""

OFFSETS = (1.0, -1.0)
"""Offsets that one side may subtract from a stored vector: some norms store their scale minus one."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to match a group: a cover, its layouts and its offsets.

    Attributes:
        cover: position among the group's covers.
        layouts, offsets: per joint of the cover.
    """

    cover: int
    layouts: tuple[Layout, ...]
    offsets: tuple[float, ...]


@dataclass(eq=False)
class Guess:
    """A group and the variant that is currently assumed.

    Attributes:
        group: the layers.
        variant: of the group.
        by_value: its outputs were found on the other side.
        decided: it was distinguished from similar ones by later values, by names of outputs, or by its place in the
            dataflow.
        placed: by the dataflow and the names of outputs, before anything was tried.
        by_name: only its name distinguishes it from similar ones.
        basis: the observed evidence, in words.
    """

    group: Group
    variant: Variant = field(init=False)
    by_value: bool = False
    decided: bool = False
    by_name: bool = False
    placed: bool = False
    basis: str = ""

    @property
    def promised(self) -> bool:
        """Whether the layer kinds determine everything."""
        cover = self.group.covers[self.variant.cover]
        return cover.promised and all(len(joint.layouts) == 1 for joint in cover.joints)

    def __post_init__(self) -> None:
        self.variant = next(self.variants())

    def units(self, side: SideName) -> tuple[Unit, ...]:
        """The layers of one side."""
        return self.group.units(side)

    def variants(self) -> Iterator[Variant]:
        """Every variant, the likeliest first."""
        return itertools.islice(_variants(self.group), MOST_VARIANTS)

    def matches(self, torch: Inventory, keras: Inventory) -> Iterator[tuple[Match, list[Entry], list[Entry]]]:
        """The matches of the variant, each with its parameters."""
        mine = [e for unit in self.group.torch for e in unit.entries]
        theirs = [e for unit in self.group.keras for e in unit.entries]
        joints = self.group.covers[self.variant.cover].joints
        for joint, layout, offset in zip(joints, self.variant.layouts, self.variant.offsets, strict=True):
            entries, other = [mine[i] for i in joint.torch], theirs[joint.keras]
            pieces = (_piece(torch, entries, joint.torch_part), _piece(keras, [other], joint.keras_part))
            evidence = "by value" if self.by_value else "by name" if self.by_name else "by structure"
            yield Match(*pieces, layout, offset, evidence=evidence, basis=self.basis), entries, [other]


def _piece(inventory: Inventory, entries: Sequence[Entry], part: Part) -> Piece:
    paths = tuple(inventory.canonical_path(e.path) for e in entries)
    trained = tuple(p for p, e in zip(paths, entries, strict=True) if e.trainable)
    return Piece(paths, entries[0].shape, trained, part)


def _variants(group: Group) -> Iterator[Variant]:
    seen: set[Variant] = set()
    for variant in itertools.chain(_usual(group), _rare(group)):
        if variant not in seen:
            seen.add(variant)
            yield variant


def _usual(group: Group) -> Iterator[Variant]:
    """One layout after the other, then cover after cover, then several layouts at once."""
    firsts: list[Variant] = []
    for at, cover in enumerate(group.covers):
        first = Variant(at, tuple(j.layouts[0] for j in cover.joints), (0.0,) * len(cover.joints))
        firsts.append(first)
        yield first
        if at == 0:
            yield from _changed(cover, first)
    for at, cover in enumerate(group.covers[1:], 1):
        yield from _changed(cover, firsts[at])
    for at, cover in enumerate(group.covers):
        for layouts in itertools.product(*(j.layouts[:4] for j in cover.joints)):
            yield replace(firsts[at], layouts=layouts)


def _changed(cover: Cover, first: Variant) -> Iterator[Variant]:
    for i, joint in enumerate(cover.joints):
        for layout in joint.layouts[1:]:
            yield replace(first, layouts=(*first.layouts[:i], layout, *first.layouts[i + 1 :]))


def _rare(group: Group) -> Iterator[Variant]:
    """Rare variants: kernels with exchanged spatial axes; for unknown layer kinds also offsets, reversed axes and other
    gate orders."""
    cover = group.covers[0]
    own = [not joint.promised for joint in cover.joints]
    first = Variant(0, tuple(j.layouts[0] for j in cover.joints), (0.0,) * len(cover.joints))
    yield from _exchanged(group, cover, first)
    if not any(own):
        return
    for offset in OFFSETS:
        yield replace(first, offsets=tuple(offset if of else 0.0 for of in own))
    torch = [e.shape for unit in group.torch for e in unit.entries]
    keras = [e.shape for unit in group.keras for e in unit.entries]
    options = [
        list(turned(j.layouts[0], j.torch_part.shape(torch[j.torch[0]]), j.keras_part.shape(keras[j.keras])))
        if of
        else [j.layouts[0]]
        for j, of in zip(cover.joints, own, strict=True)
    ]
    most = max(len(o) for o in options)
    for at in range(most):  # the same gates for all of a cell's parameters
        yield replace(
            first, layouts=tuple(o[at] if at < len(o) else f for o, f in zip(options, first.layouts, strict=True))
        )


def _exchanged(group: Group, cover: Cover, first: Variant) -> Iterator[Variant]:
    torch = [e.shape for unit in group.torch for e in unit.entries]
    keras = [e.shape for unit in group.keras for e in unit.entries]
    for i, j in enumerate(cover.joints):
        shapes = j.torch_part.shape(torch[j.torch[0]]), j.keras_part.shape(keras[j.keras])
        for layout in space_exchanged(j.layouts[0], *shapes):
            yield replace(first, layouts=(*first.layouts[:i], layout, *first.layouts[i + 1 :]))
