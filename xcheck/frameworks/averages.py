"""The averages of its weights that a run keeps, wherever it keeps them: read, set, and kept up with the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..records.averages import StoredArray, averages, copies
from ..records.slots import AVERAGE
from ..records.store import Store
from ..records.trace import Array, Arrays, State
from .reachable import Entry, Saved, Tensors


class Averages:
    """What a run keeps that has the shape of a weight and is none, nor any other slot of its optimizer.

    Args:
        roots: () -> name -> what to look through.
        tensors: of the framework.
        store: keeps the values.
        known: () -> the tensors that are the model's or slots, and those of the slots that are averages.
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

    def kept(self, weights: Arrays) -> dict[str, StoredArray]:
        """Where it is kept -> what may be an average of one of these weights."""
        return {at: kept for at, (kept, _) in self._walk(weights).items()}

    def find(self, before: Mapping[str, StoredArray], old: Arrays, new: Arrays) -> bool:
        """Look for averages by what a step has made of what is kept; whether some are new.

        Args:
            before: what was kept before the step.
            old, new: the weights around it.
        """
        after = self.kept(new)
        fresh = {at: kept for at, kept in after.items() if at not in self._found}
        taken = {role for _, role in self._found.values()} | {AVERAGE for kept in after.values() if kept.known}
        count = len(self._found)
        for ways in averages(before, fresh, old, new):
            role = next(name for i in range(1, len(taken) + 2) if (name := AVERAGE + f" {i}" * (i > 1)) not in taken)
            taken.add(role)
            self._found |= {at: (path, role) for at, path in ways.items()}
        return len(self._found) > count

    def read(self, state: State) -> State:
        """A state with the averages among its slots.

        Args:
            state: of the run, as it is.
        """
        return self._with(state, self.kept(state.parameters)) if self._found else state

    def around(self, before: State) -> Callable[[Callable[[], State]], tuple[State, State]]:
        """To be called before a step; the result, called after it with what reads the state, gives both states.

        Args:
            before: the state; averages that only this step shows are added to it.
        """
        kept = self.kept(before.parameters)

        def states(read: Callable[[], State]) -> tuple[State, State]:
            after = read()
            if self.find(kept, before.parameters, after.parameters):
                return self._with(before, kept), read()
            return before, after

        return states

    def _with(self, state: State, kept: Mapping[str, StoredArray]) -> State:
        slots = {path: dict(roles) for path, roles in state.slots.items()}
        for at, (path, role) in self._found.items():
            if at in kept and path in state.parameters:
                slots.setdefault(path, {})[role] = kept[at].array
        return replace(state, slots=slots)

    def following(self, weights: Arrays) -> Callable[[State], None]:
        """To be called before the weights are set; the result is called with what they are set to.

        It sets averages as the state says, and copies: what holds a weight bit for bit goes on holding it, so that an
        average that starts from the initial weights starts from those that are set.

        Args:
            weights: as they are.
        """
        entries = self._walk(weights)
        held = copies({at: kept for at, (kept, _) in entries.items()}, weights)

        def follow(state: State) -> None:
            for at, path in held.items():
                if path in state.parameters:
                    self._put(entries[at][1], state.parameters[path])
            for at, (path, role) in self._found.items():
                array = state.slots.get(path, {}).get(role)
                if array is not None and at in entries:
                    self._put(entries[at][1], array)

        return follow

    def places(self) -> set[Any]:
        """Where the averages lie that were found."""
        saved = Saved(self._roots(), self._tensors, self._store)
        return {self._tensors.place(e.thing) for e in saved.entries if e.where() in self._found}

    def _walk(self, weights: Arrays) -> dict[str, tuple[StoredArray, Entry]]:
        return dict(self._entries(weights))

    def _entries(self, weights: Arrays) -> Iterator[tuple[str, tuple[StoredArray, Entry]]]:
        shapes = {w.shape for w in weights.values()}
        tensors, means = self._known()
        ours, known = ({self._tensors.place(t) for t in each} for each in (tensors, means))
        seen: set[Any] = set()
        for entry in Saved(self._roots(), self._tensors, self._store, map(id, tensors)).entries:
            array = entry.array
            if array is None or array.dtype.kind != "f" or array.shape not in shapes:
                continue
            place = self._tensors.place(entry.thing)
            if place in seen or place in ours or _of_gradient(entry):
                continue
            seen.add(place)
            yield entry.where(), (StoredArray(array, self._group(entry, weights), place in known), entry)

    def _group(self, entry: Entry, weights: Arrays) -> str:
        """What something is kept with: the whole module, or else all that lies alike in its list or dict."""
        way = entry.way()
        for each in way[1:]:
            if self._tensors.always(each.thing) and each.parent is not None:
                return each.where()
        return "".join("[*]" if _numbered(each, weights) else each.word for each in way)

    def _put(self, entry: Entry, array: Array) -> None:
        """Set what is kept; a tensor that never changes is replaced where it is held."""
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


def _of_gradient(entry: Entry) -> bool:
    return any(each.word == ".grad" for each in entry.way())


def _numbered(entry: Entry, weights: Arrays) -> bool:
    """Whether the way goes on by a number, by a weight, or by the name of one."""
    key = entry.key
    if isinstance(key, str) and entry.word.startswith("["):
        return any(path.endswith(key) or key.endswith(path) for path in weights) or key.isdigit()
    return bool(re.fullmatch(r"\[#?\d+\]", entry.word))
