"""The parameters and buffers of a side, and which of their paths are one storage."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Entry:
    """One path under which a side knows a parameter or a buffer. A shared one has several entries.

    Attributes:
        path: in the side's own words, unique within the side.
        shape, dtype: of the value; dtype as NumPy names it.
        trainable: whether training is meant to change it.
        buffer: kept with the model but not trained by gradients, such as BatchNorm statistics.
        owner: path of the layer it belongs to.
        kind: class name of that layer.
        role: its name in that layer.
        identity: equal for paths that lead to the same parameter object.
        storage: equal for paths whose values are, or overlap in, the same memory.
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
        ValueError: two entries have one path.
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
        """One entry per parameter object: the first path under which it is known."""
        return tuple(self._first.values())

    def canonical_path(self, path: str) -> str:
        """The first path of the object that `path` leads to.

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
        """The same entries, with the paths of each group, and their aliases, as one storage."""
        storage = {entry.path: entry.storage for entry in self.entries}
        for group in groups:
            held = {storage[path] for path in group}
            first = next(entry.storage for entry in self.entries if storage[entry.path] in held)
            storage = {path: first if of in held else of for path, of in storage.items()}
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


LONGEST = 100_000
"""Updates that learning rates are compared for."""

_ROUND = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0, 9.0)  # times a power of ten, where schedules change

TAKEN = sorted(
    {*range(50), *(int(n * 10**k) + d for n in _ROUND for k in range(1, 6) for d in (-1, 0, 1) if n * 10**k <= LONGEST)}
)
"""Numbers of updates: all small ones, and round ones with those beside them."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an optimizer was given to train.

    Attributes:
        listed: canonical path -> how many times it is listed.
        orphans: shapes of the listed parameters that the model does not hold.
        hidden: how it is reached -> shape of what the loss has a gradient for, and neither the model nor the optimizer
            knows of.
        rates: the learning rate after each number of updates of `TAKEN`, where it follows from the optimizer alone.
    """

    listed: Mapping[str, int]
    orphans: tuple[tuple[int, ...], ...] = ()
    hidden: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    rates: tuple[float, ...] = ()
