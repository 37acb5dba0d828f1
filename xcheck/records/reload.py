"""A side that was saved and reloaded: its state before and after, and its next step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .inventory import Inventory
from .trace import Array, Arrays, State, StepRecord

Loss = Literal["parameters", "variables", "views", "joined"]
"""How a tie can change: one parameter becomes several over one memory; one parameter or variable becomes several, each
with its own memory; parameters over one memory get separate memory; or two parameters become one."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way to save and load.

    Attributes:
        name: in check names.
        keeps_optimizer: it restores the optimizer's state with the model.
        unties: how it changes ties by the framework's design.
        says: a documented property of the route that a reader should know.
    """

    name: str
    keeps_optimizer: bool = False
    unties: Loss | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class TieChange:
    """A tie group that loading changed.

    Attributes:
        paths: of the group before.
        parts: the groups after loading; one group for "joined".
        loss: how it changed.
    """

    paths: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    loss: Loss


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A side after one route.

    Attributes:
        route: the way it was saved.
        optimizer_kept: the optimizer's state was restored, so the uninterrupted run keeps its own; else both continue
            with a fresh one.
        before, after: the inventories.
        saved, loaded: the states.
        unsaved: paths missing from the saved file.
        record: the next step from the loaded state.
        mended: the same step after every known difference was set back; None where nothing differs.
        attributes: plain attributes that loading changed -> (before, after), in words.
        hidden: those attributes that contain arrays.
        remarks: messages of the route, and steps that had to be done by hand.
        orphans: how many parameters the optimizer trains that are not in the model.
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
        """Path after loading -> its path before saving."""
        return counterparts(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a route lost and should have kept.

    Attributes:
        id: of the cause.
        route: the way that lost it.
        names: paths or attributes, in the words of the side.
        detail: the numbers.
        explained: with every known difference set back, the next step equals that of the uninterrupted run.
    """

    id: str
    route: str
    names: tuple[str, ...]
    detail: str
    explained: bool


def counterparts(before: Inventory, after: Inventory) -> dict[str, str]:
    """Path of each entry of a rebuilt model -> path of its counterpart in the original.

    Usually the same path. Layers rebuilt inside others may get new numbers: then the order decides, as long as all
    roles and shapes agree along it. Any other entry is a copy: its counterpart is the entry whose path it extends by
    "#" and a number, or the only one of its role and shape; else it has none.
    """
    known = {entry.path for entry in before.entries}
    paths = [entry.path for entry in after.entries]
    if set(paths) == known:
        return {path: path for path in paths}
    if _shapes(before) == _shapes(after):
        return {new.path: old.path for old, new in zip(before.entries, after.entries, strict=True)}
    origin = {path: path for path in paths if path in known}
    for entry in after.entries:
        same_shape = [old.path for old in before.canonical() if _shape(old) == _shape(entry)]
        original = [path for path in same_shape if path == entry.path.partition("#")[0]]
        if entry.path not in origin and (original or len(same_shape) == 1):
            origin[entry.path] = (original or same_shape)[0]
    return origin


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
        members = [entry for entry in copies if origin[entry.path] in group]
        by_storage = _groups({e.path: e.storage for e in members})
        split = {(identity[origin[e.path]], e.identity) for e in members}
        separated = len(split) > len({old for old, _ in split})
        if separated and len(by_storage) == 1:
            parts = _groups({e.path: e.identity for e in members})
            changes.append(TieChange(group, parts, "parameters"))
        elif separated or len(by_storage) > 1:
            changes.append(TieChange(group, by_storage, "variables" if separated else "views"))
    for group in _groups({entry.path: entry.storage for entry in copies}):
        if len({storage[origin[path]] for path in group}) > 1:
            changes.append(TieChange(group, (group,), "joined"))
    return changes


def _groups(keys: Mapping[str, Hashable]) -> tuple[tuple[str, ...], ...]:
    groups: dict[Hashable, list[str]] = {}
    for path, key in keys.items():
        groups.setdefault(key, []).append(path)
    return tuple(tuple(group) for group in groups.values())


def carried(state: State, before: Inventory, after: Inventory, *, slots: bool) -> State:
    """A state of the original under the paths of the rebuilt model, without entries that have no counterpart.

    Args:
        state: of the original.
        before, after: the inventories.
        slots: include the optimizer's slots.
    """
    origin = {new: before.canonical_path(old) for new, old in counterparts(before, after).items()}
    first = {entry.path: origin[entry.path] for entry in after.canonical() if entry.path in origin}

    def renamed(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {new: arrays[old] for new, old in first.items() if old in arrays}

    carried_slots = renamed(state.slots) if slots else {}
    return State(renamed(state.parameters), renamed(state.buffers), carried_slots, state.updates)


def same_bits(left: Arrays, right: Arrays) -> bool:
    """Whether two tables of arrays agree in every name and every bit."""
    return left.keys() == right.keys() and all(equal(array, right[name]) for name, array in left.items())


def equal(left: Array, right: Array) -> bool:
    """Whether two arrays agree in shape, dtype and value; NaN equals NaN."""
    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
