"""One side that was saved and loaded again: what there was before, what there is now, and what it did next."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .inventory import Inventory
from .trace import Array, Arrays, State, StepRecord

Loss = Literal["parameters", "variables", "views", "joined"]
"""How a tie can change: one parameter becomes several over one memory; one parameter or variable becomes several, each
with its own memory; parameters over one memory get their own; or what were two become one."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way to save and to load.

    Attributes:
        name: what checks call it.
        keeps_optimizer: the state of the optimizer comes back with the model.
        unties: what it does to ties by the framework's design.
        says: a documented property of the route that a reader should know.
    """

    name: str
    keeps_optimizer: bool = False
    unties: Loss | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class TieChange:
    """A tie group that is another one after loading.

    Attributes:
        paths: of the group before.
        parts: the groups that it is now; for what was joined, the one group.
        loss: how it changed.
    """

    paths: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    loss: Loss


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a route left of a side.

    Attributes:
        route: that was taken.
        optimizer_kept: the optimizer's state came back, so that the run that never stopped keeps its own; else both go
            on with a fresh one.
        before, after: the inventories.
        saved, loaded: the states.
        unsaved: paths that the saved file does not hold.
        record: the next step, from what was loaded.
        mended: the same step once everything that is known to differ was set back; None where nothing differs.
        attributes: plain attributes that are others after loading -> (before, after), in words.
        hidden: those of them that hold arrays.
        remarks: what the route said, and what had to be done by hand.
        orphans: how many parameters the optimizer trains that the model does not have.
    """

    route: Route
    optimizer_kept: bool
    before: Inventory
    after: Inventory
    saved: State
    loaded: State
    record: StepRecord
    unsaved: Sequence[str] = ()
    mended: StepRecord | None = None
    attributes: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    hidden: Sequence[str] = ()
    remarks: Sequence[str] = ()
    orphans: int = 0

    @property
    def origin(self) -> dict[str, str]:
        """Path after loading -> path of what it stands for."""
        return counterparts(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a route lost and should not have.

    Attributes:
        id: of the cause.
        route: that lost it.
        names: paths or attributes, in the words of the side.
        said: the numbers.
        explained: with everything that is known to differ set back, the next step is that of the run that never
            stopped.
    """

    id: str
    route: str
    names: tuple[str, ...]
    said: str
    explained: bool


def counterparts(before: Inventory, after: Inventory) -> dict[str, str]:
    """Path of each entry of a rebuilt model -> path of the entry of the original that it stands for.

    The same path, as a rule. Layers that are made anew inside of others may be numbered anew: then the order says
    which is which, as long as roles and shapes agree all along it. What is left is a copy: it stands for the entry it
    is numbered after, or for the only one of its role and shape; else it has no counterpart.
    """
    known = {entry.path for entry in before.entries}
    paths = [entry.path for entry in after.entries]
    if set(paths) == known:
        return {path: path for path in paths}
    if _shapes(before) == _shapes(after):
        return {new.path: old.path for old, new in zip(before.entries, after.entries, strict=True)}
    found = {path: path for path in paths if path in known}
    for entry in after.entries:
        alike = [old.path for old in before.canonical() if _shape(old) == _shape(entry)]
        numbered = [path for path in alike if path == entry.path.partition("#")[0]]
        if entry.path not in found and (numbered or len(alike) == 1):
            found[entry.path] = (numbered or alike)[0]
    return found


def _shapes(inventory: Inventory) -> list[Any]:
    return [_shape(entry) for entry in inventory.entries]


def _shape(entry: Any) -> tuple[Any, ...]:
    return entry.role, entry.shape, entry.buffer


def tie_changes(before: Inventory, after: Inventory) -> list[TieChange]:
    """The tie groups that loading changed."""
    origin = counterparts(before, after)
    storage, identity = ({e.path: getattr(e, of) for e in before.entries} for of in ("storage", "identity"))
    copies = [entry for entry in after.entries if entry.path in origin]
    changes: list[TieChange] = []
    for group in before.tie_groups():
        mine = [entry for entry in copies if origin[entry.path] in group]
        by_storage = _groups({e.path: e.storage for e in mine})
        split = {(identity[origin[e.path]], e.identity) for e in mine}
        several = len(split) > len({object_ for object_, _ in split})
        if several and len(by_storage) == 1:
            parts = _groups({e.path: e.identity for e in mine})
            changes.append(TieChange(group, parts, "parameters"))
        elif several or len(by_storage) > 1:
            changes.append(TieChange(group, by_storage, "variables" if several else "views"))
    for now in _groups({entry.path: entry.storage for entry in copies}):
        if len({storage[origin[path]] for path in now}) > 1:
            changes.append(TieChange(now, (now,), "joined"))
    return changes


def _groups(kind: Mapping[str, Hashable]) -> tuple[tuple[str, ...], ...]:
    groups: dict[Hashable, list[str]] = {}
    for path, key in kind.items():
        groups.setdefault(key, []).append(path)
    return tuple(tuple(group) for group in groups.values())


def carried(state: State, before: Inventory, after: Inventory, *, slots: bool) -> State:
    """A state of the original in the paths of the rebuilt model; what has no counterpart there is left out.

    Args:
        state: of the original.
        before, after: the inventories.
        slots: take the optimizer's memory along.
    """
    origin = {new: before.canonical_path(old) for new, old in counterparts(before, after).items()}
    first = {entry.path: origin[entry.path] for entry in after.canonical() if entry.path in origin}

    def renamed(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {new: arrays[old] for new, old in first.items() if old in arrays}

    kept = renamed(state.slots) if slots else {}
    return State(renamed(state.parameters), renamed(state.buffers), kept, state.updates)


def same_bits(left: Arrays, right: Arrays) -> bool:
    """Whether two tables of arrays agree in every name and every bit."""
    return left.keys() == right.keys() and all(equal(array, right[name]) for name, array in left.items())


def equal(left: Array, right: Array) -> bool:
    """Whether two arrays agree in shape, dtype and value; NaN equals NaN."""
    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
