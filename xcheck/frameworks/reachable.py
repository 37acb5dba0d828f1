"""All objects reachable from a side: saved, and restored in place.

A step may keep state anywhere: a count on the optimizer, averages created by its first call, a scheduler in a closure,
a queue in a global. Repeating a step requires restoring all of it. No object is replaced: containers, objects,
closures, globals and tensors get their former contents, so that references to them stay valid.
"""

from __future__ import annotations

import enum
import functools
import re
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..pairs.user_code import is_library
from ..records.store import Store
from ..records.trace import Array
from .containers import (
    MISSING,
    Opened,
    class_contents,
    each_of,
    mapping,
    nothing,
    opener,
    set_names,
    set_slots,
    slot_names,
)

ATOMS = (type(None), bool, int, float, complex, str, bytes, enum.Enum, types.ModuleType, types.BuiltinFunctionType)
"""Types without mutable contents of their own."""

_PLAIN = (bool, int, float, complex, str)
_GROUPS = "param_groups"
"""Attribute of a PyTorch optimizer with its settings as plain numbers."""

OPAQUE = ("xcheck.", "threading.", "logging.", "weakref.", "concurrent.", "multiprocessing.", "tempfile.", "inspect.")
"""Prefixes of module names, with a final dot, whose objects are not searched."""

_OF_MODULE = re.compile(r"\._(?:modules|parameters|buffers)\['([^']+)'\]")
"""Where a PyTorch module stores its special attributes."""


def functions(declared: Any) -> dict[str, Any]:
    """Name -> function of the user, for all functions of a side that a step calls.

    Args:
        declared: the side.
    """
    names = ("step", "after_step", "loss", "penalty", "prepare", "outputs")
    declared_functions = {name: getattr(declared, name, None) for name in names}
    return {name: function for name, function in declared_functions.items() if function is not None}


class Leaf(NamedTuple):
    """A saved tensor of a framework.

    Attributes:
        array: its values, read-only; None where they cannot be read.
        back: restores them.
        held: attribute -> its value, such as the gradient.
    """

    array: Array | None
    back: Callable[[], None]
    held: Mapping[str, Any] = {}


class Tensors(Protocol):
    """How the tensors of a framework are saved.

    Attributes:
        opaque: modules whose objects are not searched.
        passing: attributes with settings of the current call instead of state.
    """

    opaque: Sequence[str]
    passing: frozenset[str]

    def leaf(self, thing: Any, store: Store) -> Leaf | None:
        """A saved tensor; None for other objects."""
        ...

    def always(self, thing: Any) -> bool:
        """Whether an object is a module or layer, which is always searched."""
        ...

    def wrapped(self, thing: Any) -> Any:
        """The Python container inside a wrapper of the framework; None for other objects."""
        ...

    def place(self, thing: Any) -> Any:
        """The memory place of a tensor, equal for two that share their values."""
        ...

    def put(self, thing: Any, array: Array) -> bool:
        """Set the values of a tensor; False for an immutable one."""
        ...

    def made(self, thing: Any, array: Array) -> Any:
        """A tensor like an existing one, with these values."""
        ...


@dataclass(slots=True)
class ReachedObject:
    """One reached object.

    Attributes:
        thing: the object.
        parent: the object that refers to it; None for a root.
        form: of the last part of its path, such as ".{}" or "[{}]".
        key: the attribute, index or key there.
        back: restores its contents.
        array: the values of a tensor.
        children: objects that it refers to.
    """

    thing: Any
    parent: ReachedObject | None
    form: str
    key: Any
    back: Callable[[], None]
    array: Array | None = None
    children: Sequence[tuple[str, Any, Any]] = ()

    @property
    def word(self) -> str:
        """The last part of its path, such as ".ema" or "[0]"."""
        return self.form.format(self.key)

    def way(self) -> list[ReachedObject]:
        """From the root to this entry."""
        path: list[ReachedObject] = [self]
        parent = self.parent
        while parent is not None:
            path.append(parent)
            parent = parent.parent
        return path[::-1]

    def where(self) -> str:
        """Its path as text."""
        return _OF_MODULE.sub(r".\1", "".join(entry.word for entry in self.way()))


class Saved:
    """The saved contents of all reachable objects.

    Args:
        roots: name -> object to start from.
        tensors: of the framework.
        store: keeps the values.
        known: ids of objects to skip.
    """

    def __init__(self, roots: Mapping[str, Any], tensors: Tensors, store: Store, known: Iterable[int] = ()) -> None:
        self.entries: list[ReachedObject] = []
        self.stuck: list[ReachedObject] = []
        self._tensors, self._store = tensors, store
        self._opaque = (*OPAQUE, *tensors.opaque)
        self._seen: dict[int, Any] = dict.fromkeys(known)
        self._names: set[tuple[int, str]] = set()
        for name, root in roots.items():
            self._walk(name, root)

    def restore(self) -> None:
        """Restore all contents."""
        for entry in self.entries:
            entry.back()

    def ids(self) -> set[int]:
        """Ids of all reached objects."""
        return set(self._seen)

    def moved(self, other: Saved) -> list[str]:
        """Where two runs of one step left different values; empty where only numbers without effect differ.

        Arrays and settings of an optimizer count as effects. A plain number may be a measured time.

        Args:
            other: saved after the step was repeated from the same state.
        """
        first_facts, second_facts = self._facts(), other._facts()
        paths = [
            path
            for path, value in first_facts.items()
            if path not in second_facts or not _equal(value, second_facts[path])
        ]
        paths += [path for path in second_facts if path not in first_facts]
        if not any(
            isinstance(first_facts.get(path, second_facts.get(path)), np.ndarray) or _GROUPS in path for path in paths
        ):
            return []
        stuck_objects = [
            f"{entry.where()} ({type(entry.thing).__name__}, which cannot be set back)" for entry in self.stuck
        ]
        outside_model = [path for path in paths if not path.startswith("model")]
        return [*stuck_objects, *outside_model, *(path for path in paths if path.startswith("model"))]

    def _facts(self) -> dict[str, Any]:
        """Path -> the numbers, strings and arrays there."""
        facts: dict[str, Any] = {}
        for entry in self.entries:
            where = entry.where()
            if entry.array is not None:
                facts[where] = entry.array
            plain = [child for child in entry.children if isinstance(child[2], _PLAIN)]
            facts |= {where + form.format(key): child for form, key, child in plain}
        return facts

    def _walk(self, name: str, root: Any) -> None:
        todo: list[tuple[ReachedObject | None, str, Any, Any]] = [(None, name, name, root)]
        while todo:
            parent, form, key, thing = todo.pop()
            kind: type = type(thing)
            if _atomic(kind) or id(thing) in self._seen:
                continue
            self._seen[id(thing)] = thing  # keeps the object alive, so that no new one gets its id
            entry = ReachedObject(thing, parent, form, key, nothing)
            container = _container(kind)
            leaf = None if container is not None else self._tensors.leaf(thing, self._store)
            if leaf is not None:
                entry.back, entry.array = leaf.back, leaf.array
                entry.children = [(".{}", at, value) for at, value in leaf.held.items()]
            else:
                opened = self._open(thing) if container is None else container(thing)
                if opened is None:
                    if isinstance(thing, Iterator):
                        self.stuck.append(entry)
                    continue
                entry.back, entry.children = opened
                if isinstance(thing, np.ndarray):
                    entry.array = self._store.keep(thing) if thing.dtype != object else None
            self.entries.append(entry)
            todo += [(entry, *child) for child in reversed(entry.children)]

    def _open(self, thing: Any) -> Opened | None:
        kind: type = type(thing)
        wrapped = self._tensors.wrapped(thing)
        if wrapped is not None:
            return Opened(nothing, [("", None, wrapped)])
        if issubclass(kind, type):
            return class_contents(thing) if _of_user(thing) else None
        if (opened := opener(kind)) is not None:
            return opened(thing)
        if issubclass(kind, types.FunctionType):
            return self._function(thing)
        if self._closed(kind.__module__) and not self._tensors.always(thing):
            return None
        return self._object(thing)

    def _closed(self, module: str) -> bool:
        """Whether objects of a module are not searched."""
        return _starts(module, self._opaque)

    def _object(self, thing: Any) -> Opened | None:
        kind = type(thing)
        backs: list[Callable[[], None]] = []
        children: list[tuple[str, Any, Any]] = []
        attributes = getattr(thing, "__dict__", None)
        if type(attributes) is dict:
            back, items = mapping(attributes, dict, self._tensors.passing)
            backs.append(back)
            named = [(".{}", key, value) for _, key, value in items]
            hidden = [each[1][:1] == "_" for each in named]
            children += compress(named, map(not_, hidden))  # first, as the path that a user would write
            children += compress(named, hidden)
        slots = [n for c in kind.__mro__ for n in slot_names(c)]
        values = {name: getattr(thing, name, MISSING) for name in slots}
        if values:
            backs.append(functools.partial(set_slots, thing, values))
            children += [(".{}", n, v) for n, v in values.items() if v is not MISSING]
        if not children and (loads := getattr(thing, "load_state_dict", None)) is not None:
            backs.append(functools.partial(loads, thing.state_dict()))
        if not backs:
            return None
        children += [("", None, c) for c in kind.__mro__ if _of_user(c)]
        return Opened(functools.partial(each_of, backs), children)

    def _function(self, thing: types.FunctionType) -> Opened | None:
        """The state of a function: its closure, defaults, attributes, and the globals that it uses."""
        if self._closed(thing.__module__ or ""):
            return None
        cells = list(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True))
        children = [(" (closure {})", name, cell) for name, cell in cells]
        children += [(" (default {})", i, value) for i, value in enumerate(thing.__defaults__ or ())]
        children += [(" (default {})", name, value) for name, value in (thing.__kwdefaults__ or {}).items()]
        back, items = mapping(thing.__dict__, dict)
        children += [(".{}", key, value) for _, key, value in items]
        restorers: list[Callable[[], None]] = [back]
        if not is_library(thing.__code__.co_filename):
            names = _names(thing.__code__)
            spaces = [thing.__globals__]
            modules = [thing.__globals__.get(name) for name in names]
            spaces += [vars(m) for m in modules if isinstance(m, types.ModuleType) and not _library_module(m)]
            for space in spaces:
                new = [n for n in names if (id(space), n) not in self._names]
                self._names |= {(id(space), n) for n in new}
                values = {n: space.get(n, MISSING) for n in new}
                restorers.append(functools.partial(set_names, space, values))
                children += [(" (global {})", n, v) for n, v in values.items() if v is not MISSING]
        return Opened(functools.partial(each_of, restorers), children)


@functools.cache
def _atomic(kind: type) -> bool:
    return issubclass(kind, ATOMS)


@functools.cache
def _container(kind: type) -> Callable[[Any], Opened] | None:
    """How objects of a container type of Python itself are opened: no framework has a say in them."""
    return opener(kind) if kind in (list, dict, tuple, set, frozenset, OrderedDict, deque) else None


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
    return type(first) is type(second) and bool(first == second or first != first)


@functools.cache
def _starts(module: str, opaque: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(opaque) and not module.startswith(("xcheck.optim", "xcheck.layers"))


@functools.cache
def _names(code: types.CodeType) -> list[str]:
    """The global names used by a function and its inner functions."""
    inner = [name for const in code.co_consts if isinstance(const, types.CodeType) for name in _names(const)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _library_module(module: types.ModuleType) -> bool:
    return is_library(getattr(module, "__file__", None) or "")


@functools.cache
def _of_user(kind: type) -> bool:
    """Whether a class was written by the user."""
    if issubclass(kind, enum.Enum):
        return False
    module = sys.modules.get(kind.__module__)
    if module is None:
        return not kind.__module__.startswith("xcheck.")
    return kind.__module__ == "__main__" or not _library_module(module)
