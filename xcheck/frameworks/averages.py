"""The averages of weights that a run stores anywhere: read, set, and updated with the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..records.averages import StoredArray, averages, copies
from ..records.slots import AVERAGE
from ..records.store import Store
from ..records.trace import Array, Arrays, State
from .reachable import ReachedObject, Saved, Tensors


class Averages:
    """Arrays with the shape of a weight that are neither weights nor other slots of the optimizer.

    Args:
        roots: () -> name -> object to search.
        tensors: of the framework.
        store: keeps the values.
        known: () -> the tensors of the model and its slots, and the slots that are averages.
    """

    def __init__(
        self,
        roots: Callable[[], Mapping[str, Any]],
        tensors: Tensors,
        store: Store,
        known: Callable[[], tuple[Sequence[Any], Sequence[Any]]],
    ) -> None:
        self._roots, self._tensors, self._store, self._known = roots, tensors, store, known
        self._found: dict[str, tuple[str, str]] = {}
        self._searched = False

    def kept(self, weights: Arrays) -> dict[str, StoredArray]:
        """Location -> array that may be an average of one of these weights."""
        return {at: array for at, (array, _) in self._walk(weights).items()}

    def find(self, before: Mapping[str, StoredArray], old: Arrays, new: Arrays) -> bool:
        """Find averages by the effect of a step on stored arrays; returns whether some are new.

        Args:
            before: stored arrays before the step.
            old, new: the weights before and after it.
        """
        if not before and self._searched:  # what a later step creates is found by the step after it
            return False
        self._searched = True
        after = self.kept(new)
        fresh = {at: array for at, array in after.items() if at not in self._found}
        used_roles = {role for _, role in self._found.values()} | {AVERAGE for array in after.values() if array.known}
        count = len(self._found)
        for locations in averages(before, fresh, old, new):
            role = next(
                name for i in range(1, len(used_roles) + 2) if (name := AVERAGE + f" {i}" * (i > 1)) not in used_roles
            )
            used_roles.add(role)
            self._found |= {at: (path, role) for at, path in locations.items()}
        return len(self._found) > count

    def read(self, state: State) -> State:
        """A state with the averages among its slots.

        Args:
            state: of the run, as it is.
        """
        return self._with(state, self.kept(state.parameters)) if self._found else state

    def around(self, before: State) -> Callable[[Callable[[], State]], tuple[State, State]]:
        """Call this before a step, and its result after it with a function that reads the state; gives both states.

        Args:
            before: the state; averages first found in this step are added to it.
        """
        stored = self.kept(before.parameters)

        def states(read: Callable[[], State]) -> tuple[State, State]:
            after = read()
            if self.find(stored, before.parameters, after.parameters):
                return self._with(before, stored), read()
            return before, after

        return states

    def _with(self, state: State, stored: Mapping[str, StoredArray]) -> State:
        slots = {path: dict(roles) for path, roles in state.slots.items()}
        for at, (path, role) in self._found.items():
            if at in stored and path in state.parameters:
                slots.setdefault(path, {})[role] = stored[at].array
        return replace(state, slots=slots)

    def following(self, weights: Arrays) -> Callable[[State], None]:
        """Call this before the weights are set, and its result with the new state.

        It sets averages from the state, and also copies: an array equal to a weight gets the new weight, so that an
        average that starts from the initial weights starts from the new ones.

        Args:
            weights: as they are.
        """
        entries = self._walk(weights)
        copied = copies({at: array for at, (array, _) in entries.items()}, weights)

        def follow(state: State) -> None:
            for at, path in copied.items():
                if path in state.parameters:
                    self._put(entries[at][1], state.parameters[path])
            for at, (path, role) in self._found.items():
                array = state.slots.get(path, {}).get(role)
                if array is not None and at in entries:
                    self._put(entries[at][1], array)

        return follow

    def places(self) -> set[Any]:
        """The memory places of the averages found."""
        saved = Saved(self._roots(), self._tensors, self._store)
        return {self._tensors.place(e.thing) for e in saved.entries if e.where() in self._found}

    def _walk(self, weights: Arrays) -> dict[str, tuple[StoredArray, ReachedObject]]:
        return dict(self._entries(weights))

    def _entries(self, weights: Arrays) -> Iterator[tuple[str, tuple[StoredArray, ReachedObject]]]:
        shapes = {w.shape for w in weights.values()}
        tensors, means = self._known()
        own, known = ({self._tensors.place(t) for t in each} for each in (tensors, means))
        seen: set[Any] = set()
        for entry in Saved(self._roots(), self._tensors, self._store, map(id, tensors)).entries:
            array = entry.array
            if array is None or array.dtype.kind != "f" or array.shape not in shapes:
                continue
            place = self._tensors.place(entry.thing)
            if place in seen or place in own or _of_gradient(entry):
                continue
            seen.add(place)
            yield entry.where(), (StoredArray(array, self._group(entry, weights), place in known), entry)

    def _group(self, entry: ReachedObject, weights: Arrays) -> str:
        """The group of an object: its module, or else all objects in similar positions of its list or dict."""
        way = entry.way()
        for each in way[1:]:
            if self._tensors.always(each.thing) and each.parent is not None:
                return each.where()
        return "".join("[*]" if _numbered(each, weights) else each.word for each in way)

    def _put(self, entry: ReachedObject, array: Array) -> None:
        """Set a stored array; an immutable tensor is replaced in its container."""
        if self._tensors.put(entry.thing, array) or entry.parent is None:
            return
        holder, new = entry.parent.thing, self._tensors.made(entry.thing, array)
        if isinstance(holder, list):
            list.__setitem__(holder, entry.key, new)
        elif isinstance(holder, dict):
            dict.__setitem__(holder, entry.key, new)
        elif hasattr(holder, "cell_contents"):
            holder.cell_contents = new
        elif isinstance(getattr(holder, "__dict__", None), dict):
            vars(holder)[entry.key] = new


def _of_gradient(entry: ReachedObject) -> bool:
    return any(each.word == ".grad" for each in entry.way())


def _numbered(entry: ReachedObject, weights: Arrays) -> bool:
    """Whether the last step of the path is a number, a weight, or the name of one."""
    key = entry.key
    if isinstance(key, str) and entry.word.startswith("["):
        return any(path.endswith(key) or key.endswith(path) for path in weights) or key.isdigit()
    return bool(re.fullmatch(r"\[#?\d+\]", entry.word))
