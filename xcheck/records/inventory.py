"""The parameters and buffers of a side, and which of their paths share storage."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a parameter or buffer of a side. A shared parameter has several entries.

    Attributes:
        path: in the side's own words, unique within the side.
        shape, dtype: of the value; dtype as NumPy names it.
        trainable: whether training should change it.
        buffer: part of the model but not trained by gradients, such as BatchNorm statistics.
        owner: path of the layer it belongs to.
        kind: class name of that layer.
        role: its name in that layer.
        identity: equal for paths of the same parameter object.
        storage: equal for paths whose values share or overlap in memory.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    buffer: bool
    owner: str
    kind: str
    role: str
    identity: Hashable
    storage: Hashable

    @property
    def size(self) -> int:
        """Number of elements."""
        product = 1
        for n in self.shape:
            product *= n
        return product


@dataclass(frozen=True, slots=True)
class Inventory:
    """All entries of a side, in the side's own order.

    Raises:
        ValueError: two entries have the same path.
    """

    entries: tuple[Entry, ...]
    _by_path: Mapping[str, Entry] = field(init=False, repr=False, compare=False)
    _first: Mapping[Hashable, Entry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        paths = [entry.path for entry in self.entries]
        if len(set(paths)) != len(paths):
            raise ValueError(f"paths are not unique: {sorted({p for p in paths if paths.count(p) > 1})}")
        first: dict[Hashable, Entry] = {}
        for entry in self.entries:
            first.setdefault(entry.identity, entry)
        object.__setattr__(self, "_by_path", {entry.path: entry for entry in self.entries})
        object.__setattr__(self, "_first", first)

    def find(self, path: str) -> Entry | None:
        """The entry at a path; None if there is none."""
        return self._by_path.get(path)

    def canonical(self) -> tuple[Entry, ...]:
        """One entry per parameter object: that of its first path."""
        return tuple(self._first.values())

    def canonical_path(self, path: str) -> str:
        """The first path of the object at `path`.

        Raises:
            KeyError: there is no such path.
        """
        return self._first[self._by_path[path].identity].path

    def parameters(self) -> tuple[Entry, ...]:
        """The canonical entries that are parameters."""
        return tuple(entry for entry in self.canonical() if not entry.buffer)

    def buffers(self) -> tuple[Entry, ...]:
        """The canonical entries that are buffers."""
        return tuple(entry for entry in self.canonical() if entry.buffer)

    def tie_groups(self) -> tuple[tuple[str, ...], ...]:
        """The paths of each storage, single ones included, in order."""
        groups: dict[Hashable, list[str]] = {}
        for entry in self.entries:
            groups.setdefault(entry.storage, []).append(entry.path)
        return tuple(tuple(group) for group in groups.values())

    def joined(self, groups: Iterable[Iterable[str]]) -> Inventory:
        """The same entries, with each group of paths and their aliases as one storage."""
        storage = {entry.path: entry.storage for entry in self.entries}
        for group in groups:
            joined_storages = {storage[path] for path in group}
            kept = next(entry.storage for entry in self.entries if storage[entry.path] in joined_storages)
            storage = {path: kept if old in joined_storages else old for path, old in storage.items()}
        return Inventory(tuple(replace(entry, storage=storage[entry.path]) for entry in self.entries))

    def ties(self) -> tuple[tuple[str, ...], ...]:
        """The paths of each storage that has several, in order."""
        return tuple(group for group in self.tie_groups() if len(group) > 1)

    def same_storage(self, paths: Iterable[str]) -> bool:
        """Whether all the paths are one storage.

        Raises:
            KeyError: one of them does not exist.
        """
        wanted = list(paths)
        storages = {entry.storage for entry in self.entries if entry.path in wanted}
        missing = set(wanted) - {entry.path for entry in self.entries}
        if missing:
            raise KeyError(sorted(missing)[0])
        return len(storages) <= 1


MOST_UPDATES = 100_000
"""Largest number of updates at which learning rates are compared."""

_ROUND_NUMBERS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0, 9.0)  # times a power of ten, where schedules change

UPDATE_COUNTS = sorted(
    {
        *range(50),
        *(
            int(n * 10**k) + d
            for n in _ROUND_NUMBERS
            for k in range(1, 6)
            for d in (-1, 0, 1)
            if n * 10**k <= MOST_UPDATES
        ),
    }
)
"""Numbers of updates at which rates are compared: all small ones, and round ones with their neighbours."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """The parameters that an optimizer trains.

    Attributes:
        listed: canonical path -> how many times it is listed.
        orphans: shapes of the listed parameters that do not belong to the model.
        hidden: how it is reached -> shape of a tensor that the loss has a gradient for, unknown to both the model and
            the optimizer.
        rates: number of updates -> learning rate after it, for those of `UPDATE_COUNTS` that are known: where only the
            optimizer sets it all of them; where a scheduler does after each update, those after the steps so far.
    """

    listed: Mapping[str, int]
    orphans: tuple[tuple[int, ...], ...] = ()
    hidden: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    rates: Mapping[int, float] = field(default_factory=dict[int, float])
