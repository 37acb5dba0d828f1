"""All that can be reached from what a side returned: saved as it is now, and put back where it is.

A step may keep what it likes where it likes: a count on the optimizer, averages that its first call makes, a scheduler
in a closure, a queue in a global. To make a step again is to put all of it back. Nothing is replaced: containers,
objects, closures, globals and tensors get their former contents, so that whoever holds them goes on holding them.
"""

from __future__ import annotations

import enum
import functools
import random
import re
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..pairs.user_code import is_library
from ..records.store import Store
from ..records.trace import Array

ATOMS = (type(None), bool, int, float, complex, str, bytes, enum.Enum, types.ModuleType, types.BuiltinFunctionType)
"""What has no contents that could change, or none that is anybody's."""

_PLAIN = (bool, int, float, complex, str)
_GROUPS = "param_groups"
"""Where PyTorch keeps the settings of an optimizer, as plain numbers."""

MISSING: Any = object()
OPAQUE = ("xcheck.", "threading.", "logging.", "weakref.", "concurrent.", "multiprocessing.", "tempfile.", "inspect.")
"""How the names of modules start, with a dot at their end, whose objects are not looked into."""

_OF_MODULE = re.compile(r"\._(?:modules|parameters|buffers)\['([^']+)'\]")
"""Where a module of PyTorch holds what its attribute is."""


def functions(declared: Any) -> dict[str, Any]:
    """What the user's functions of a side are called -> the function, of those that a step calls.

    Args:
        declared: the side.
    """
    names = ("step", "after_step", "loss", "penalty", "prepare", "outputs")
    found = {name: getattr(declared, name, None) for name in names}
    return {name: each for name, each in found.items() if each is not None}


class Leaf(NamedTuple):
    """What a framework says of a tensor of its own.

    Attributes:
        array: its values, which nothing changes any more; None where they cannot be read.
        back: sets it to them again.
        held: attribute -> what hangs on it, such as its gradient.
    """

    array: Array | None
    back: Callable[[], None]
    held: Mapping[str, Any] = {}


class Tensors(Protocol):
    """How the tensors of a framework are saved.

    Attributes:
        opaque: modules whose objects are not looked into.
        passing: attributes that say how a run is made, and nothing of what it keeps.
    """

    opaque: Sequence[str]
    passing: frozenset[str]

    def leaf(self, thing: Any, store: Store) -> Leaf | None:
        """A tensor, saved; None for what is none."""
        ...

    def always(self, thing: Any) -> bool:
        """Whether an object is a module or layer, which is looked into wherever its class comes from."""
        ...

    def wrapped(self, thing: Any) -> Any:
        """The container of Python's that the framework has put a wrapper around; None for anything else."""
        ...

    def place(self, thing: Any) -> Any:
        """Where a tensor lies: the same for two that share their values."""
        ...

    def put(self, thing: Any, array: Array) -> bool:
        """Give a tensor these values; False for one that never changes."""
        ...

    def made(self, thing: Any, array: Array) -> Any:
        """A tensor like another one, of these values."""
        ...


class _Opened(NamedTuple):
    back: Callable[[], None]
    children: Sequence[tuple[str, Any, Any]]  # how the way goes on in words, the key itself, the child


@dataclass(slots=True)
class Entry:
    """One thing that was reached.

    Attributes:
        thing: itself.
        parent: it was reached from; None for a root.
        word: how the way goes on from there, such as ".ema" or "[0]".
        key: the attribute, index or key there.
        back: gives it its contents again.
        array: the values of a tensor.
        children: as they are held.
    """

    thing: Any
    parent: Entry | None
    word: str
    key: Any
    back: Callable[[], None]
    array: Array | None = None
    children: Sequence[tuple[str, Any, Any]] = ()

    def way(self) -> list[Entry]:
        """From the root to this entry."""
        found, at = [self], self.parent
        while at is not None:
            found.append(at)
            at = at.parent
        return found[::-1]

    def where(self) -> str:
        """The way to it in words."""
        return _OF_MODULE.sub(r".\1", "".join(entry.word for entry in self.way()))


class Saved:
    """What could be reached, as it was.

    Args:
        roots: name -> what to start from.
        tensors: of the framework.
        store: keeps the values.
        known: ids of what is left alone.
    """

    def __init__(self, roots: Mapping[str, Any], tensors: Tensors, store: Store, known: Iterable[int] = ()) -> None:
        self.entries: list[Entry] = []
        self.stuck: list[Entry] = []
        self._tensors, self._store = tensors, store
        self._opaque = (*OPAQUE, *tensors.opaque)
        self._seen: dict[int, Any] = dict.fromkeys(known)
        self._names: set[tuple[int, str]] = set()
        for name, root in roots.items():
            self._walk(name, root)

    def restore(self) -> None:
        """Put all of it back."""
        for entry in self.entries:
            entry.back()

    def ids(self) -> set[int]:
        """Of all that was reached."""
        return set(self._seen)

    def moved(self, other: Saved) -> list[str]:
        """Where two runs of one step have left different values; nothing where only numbers of no effect differ.

        Values and the settings of an optimizer are told apart. A plain number alone may be a time that was taken.

        Args:
            other: saved after the step was made again from one state.
        """
        mine, theirs = self._facts(), other._facts()
        ways = [way for way, value in mine.items() if way not in theirs or not _alike(value, theirs[way])]
        ways += [way for way in theirs if way not in mine]
        if not any(isinstance(mine.get(way, theirs.get(way)), np.ndarray) or _GROUPS in way for way in ways):
            return []
        stuck = [f"{entry.where()} ({type(entry.thing).__name__}, which cannot be set back)" for entry in self.stuck]
        outside = [way for way in ways if not way.startswith("model")]
        return [*stuck, *outside, *(way for way in ways if way.startswith("model"))]

    def _facts(self) -> dict[str, Any]:
        """Where -> the numbers, words and values that lie there."""
        found: dict[str, Any] = {}
        for entry in self.entries:
            where = entry.where()
            if entry.array is not None:
                found[where] = entry.array
            plain = {where + word: child for word, _, child in entry.children if isinstance(child, _PLAIN)}
            found |= plain
        return found

    def _walk(self, name: str, root: Any) -> None:
        todo: list[tuple[Entry | None, str, Any, Any]] = [(None, name, name, root)]
        while todo:
            parent, word, key, thing = todo.pop()
            if isinstance(thing, ATOMS) or id(thing) in self._seen:
                continue
            self._seen[id(thing)] = thing  # held, so that nothing else gets its id
            entry = Entry(thing, parent, word, key, _nothing)
            leaf = self._tensors.leaf(thing, self._store)
            if leaf is not None:
                entry.back, entry.array = leaf.back, leaf.array
                entry.children = [(f".{at}", at, held) for at, held in leaf.held.items()]
            else:
                opened = self._open(thing)
                if opened is None:
                    if isinstance(thing, Iterator):
                        self.stuck.append(entry)
                    continue
                entry.back, entry.children = opened
                if isinstance(thing, np.ndarray):
                    entry.array = self._store.keep(thing) if thing.dtype != object else None
            self.entries.append(entry)
            todo += [(entry, *child) for child in reversed(entry.children)]

    def _open(self, thing: Any) -> _Opened | None:
        kind: type = type(thing)
        wrapped = self._tensors.wrapped(thing)
        if wrapped is not None:
            return _Opened(_nothing, [("", None, wrapped)])
        if issubclass(kind, type):
            return _class(thing) if _of_user(thing) else None
        if (opened := _kind(kind)) is not None:
            return opened(thing)
        if issubclass(kind, types.FunctionType):
            return self._function(thing)
        if self._closed(kind.__module__) and not self._tensors.always(thing):
            return None
        return self._object(thing)

    def _closed(self, module: str) -> bool:
        """Whether what comes from a module is not looked into."""
        return f"{module}.".startswith(self._opaque) and not module.startswith(("xcheck.optim", "xcheck.layers"))

    def _object(self, thing: Any) -> _Opened | None:
        kind = type(thing)
        backs: list[Callable[[], None]] = []
        children: list[tuple[str, Any, Any]] = []
        attributes = getattr(thing, "__dict__", None)
        if type(attributes) is dict:
            back, held = _mapping(attributes, dict, self._tensors.passing)
            backs.append(back)
            named = sorted(held, key=lambda each: str(each[1]).startswith("_"))  # the way that a user would go
            children += [(f".{key}", key, value) for _, key, value in named]
        slots = [n for c in kind.__mro__ for n in _slot_names(c)]
        values = {name: getattr(thing, name, MISSING) for name in slots}
        if values:
            backs.append(functools.partial(_set_slots, thing, values))
            children += [(f".{n}", n, v) for n, v in values.items() if v is not MISSING]
        if not children and not attributes:
            loads = getattr(thing, "load_state_dict", None)
            if loads is None:
                return None
            backs.append(functools.partial(loads, thing.state_dict()))
        children += [("", None, c) for c in kind.__mro__ if _of_user(c)]
        return _Opened(functools.partial(_each, backs), children)

    def _function(self, thing: types.FunctionType) -> _Opened | None:
        """What a function keeps: its closure, its defaults, its attributes, and the globals that it names."""
        if self._closed(thing.__module__ or ""):
            return None
        cells = list(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True))
        children = [(f" (closure {name})", name, cell) for name, cell in cells]
        children += [(f" (default {i})", i, value) for i, value in enumerate(thing.__defaults__ or ())]
        children += [(f" (default {name})", name, value) for name, value in (thing.__kwdefaults__ or {}).items()]
        back, held = _mapping(thing.__dict__, dict)
        children += [(f".{key}", key, value) for _, key, value in held]
        named: list[Callable[[], None]] = [back]
        if not is_library(thing.__code__.co_filename):
            names = _names(thing.__code__)
            spaces = [thing.__globals__]
            modules = [thing.__globals__.get(name) for name in names]
            spaces += [vars(m) for m in modules if isinstance(m, types.ModuleType) and not _library_module(m)]
            for space in spaces:
                new = [n for n in names if (id(space), n) not in self._names]
                self._names |= {(id(space), n) for n in new}
                values = {n: space.get(n, MISSING) for n in new}
                named.append(functools.partial(_set_names, space, values))
                children += [(f" (global {n})", n, v) for n, v in values.items() if v is not MISSING]
        return _Opened(functools.partial(_each, named), children)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return type(one) is type(other) and bool(one == other or one != one)


def _nothing() -> None:
    """There is nothing to put back."""


def _each(backs: Sequence[Callable[[], None]]) -> None:
    for back in backs:
        back()


def _mapping(thing: Any, base: Any, passing: frozenset[str] = frozenset()) -> _Opened:
    saved = [(key, value) for key, value in base.items(thing) if key not in passing] if passing else None
    saved = list(base.items(thing)) if saved is None else saved

    def back() -> None:
        now = list(base.items(thing))
        kept = [(key, value) for key, value in now if key in passing] if passing else []
        if len(now) - len(kept) == len(saved):
            rest = (pair for pair in now if pair[0] not in passing) if passing else iter(now)
            if all(a is c and b is d for (a, b), (c, d) in zip(rest, saved, strict=True)):
                return
        base.clear(thing)
        for key, value in (*saved, *kept):
            base.__setitem__(thing, key, value)

    words = [
        (f"[{key!r:.60}]" if isinstance(key, str | int) else f"[#{i}]", key, value)
        for i, (key, value) in enumerate(saved)
    ]
    return _Opened(back, words)


def _sequence(thing: Any, base: Any) -> _Opened:
    saved = list(base.__iter__(thing))

    def back() -> None:
        now = list(base.__iter__(thing))
        if len(now) == len(saved) and all(a is b for a, b in zip(now, saved, strict=True)):
            return
        base.clear(thing)
        base.extend(thing, saved)

    return _Opened(back, [(f"[{i}]", i, value) for i, value in enumerate(saved)])


def _set(thing: Any) -> _Opened:
    saved = set(thing)

    def back() -> None:
        if set.symmetric_difference(thing, saved):
            set.clear(thing)
            set.update(thing, saved)

    return _Opened(back, [("[...]", None, value) for value in saved])


def _array(thing: Any) -> _Opened:
    saved = thing.copy()

    def back() -> None:
        if thing.shape != saved.shape:
            thing.resize(saved.shape, refcheck=False)
        if thing.flags.writeable:
            np.copyto(thing, saved)

    return _Opened(back, [("[...]", None, each) for each in thing.flat] if thing.dtype == object else [])


def _bytes(thing: Any) -> _Opened:
    saved = bytes(thing)
    return _Opened(lambda: thing.__setitem__(slice(None), saved), [])


def _fixed(words: Callable[[Any], Sequence[tuple[str, Any, Any]]]) -> Callable[[Any], _Opened]:
    """What cannot change itself, but holds what can."""
    return lambda thing: _Opened(_nothing, words(thing))


def _cell(thing: Any) -> _Opened:
    def content() -> Any:
        try:
            return thing.cell_contents
        except ValueError:  # empty
            return MISSING

    saved = content()

    def back() -> None:
        if content() is saved:
            return
        if saved is MISSING:
            del thing.cell_contents
        else:
            thing.cell_contents = saved

    return _Opened(back, [] if saved is MISSING else [("", None, saved)])


def _class(thing: type) -> _Opened:
    """The plain attributes of a class of the user's, and what its methods keep."""
    saved = _plain(thing)

    def back() -> None:
        now = _plain(thing)
        for name in now.keys() - saved.keys():
            type.__delattr__(thing, name)
        for name, value in saved.items():
            if now.get(name, MISSING) is not value:
                type.__setattr__(thing, name, value)

    methods = [_function_of(value) for value in vars(thing).values()]
    children = [(f"{thing.__name__}.{name}", name, value) for name, value in saved.items()]
    return _Opened(back, [*children, *((thing.__name__, None, f) for f in methods if f is not None)])


def _plain(thing: type) -> dict[str, Any]:
    return {n: v for n, v in vars(thing).items() if not n.startswith("__") and not hasattr(v, "__get__")}


def _function_of(value: Any) -> Any:
    """The function behind what a class holds: a method of any sort, or a property."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    return value if isinstance(value, types.FunctionType) else None


@functools.cache
def _slot_names(kind: type) -> list[str]:
    names = vars(kind).get("__slots__", ())
    names = [names] if isinstance(names, str) else list(names)
    return [name for name in names if isinstance(vars(kind).get(name), types.MemberDescriptorType)]


def _set_slots(thing: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if getattr(thing, name, MISSING) is not value:
            if value is MISSING:
                object.__delattr__(thing, name)
            else:
                object.__setattr__(thing, name, value)


def _set_names(space: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if space.get(name, MISSING) is not value:
            if value is MISSING:
                del space[name]
            else:
                space[name] = value


def _names(code: types.CodeType) -> list[str]:
    """The names that a function, and those that are made in it, look up."""
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


def _of_generator(get: Callable[[Any], Any], put: Callable[[Any, Any], None]) -> Callable[[Any], _Opened]:
    """A generator of random numbers."""

    def opened(thing: Any) -> _Opened:
        saved = get(thing)
        return _Opened(lambda: put(thing, saved), [])

    return opened


@functools.cache
def _kind(kind: type) -> Callable[[Any], _Opened] | None:
    """How things of a type are saved, if it is a kind of Python's or NumPy's."""
    return next((opened for known, opened in _KINDS if issubclass(kind, known)), None)


def _set_bits(generator: Any, state: Any) -> None:
    generator.bit_generator.state = state


_KINDS: Sequence[tuple[Any, Callable[[Any], _Opened]]] = (
    (OrderedDict, lambda thing: _mapping(thing, OrderedDict)),
    (dict, lambda thing: _mapping(thing, dict)),
    (list, lambda thing: _sequence(thing, list)),
    (deque, lambda thing: _sequence(thing, deque)),
    (tuple, _fixed(lambda thing: [(f"[{i}]", i, value) for i, value in enumerate(thing)])),
    (set, _set),
    (frozenset, _fixed(lambda thing: [("[...]", None, value) for value in thing])),
    (np.ndarray, _array),
    (bytearray, _bytes),
    (types.CellType, _cell),
    (types.MethodType, _fixed(lambda thing: [("", None, thing.__self__), ("", None, thing.__func__)])),
    (functools.partial, _fixed(lambda thing: [("", None, each) for each in (thing.func, thing.args, thing.keywords)])),
    (np.random.Generator, _of_generator(lambda g: g.bit_generator.state, _set_bits)),
    (np.random.RandomState, _of_generator(lambda g: g.get_state(), lambda g, s: g.set_state(s))),
    (random.Random, _of_generator(lambda g: g.getstate(), lambda g, s: g.setstate(s))),
)
"""Kinds of Python's and NumPy's, and how each is saved; the first that fits."""
