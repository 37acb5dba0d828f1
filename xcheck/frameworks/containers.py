"""Contents of Python and NumPy objects, with functions that restore them."""

from __future__ import annotations

import functools
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

MISSING: Any = object()
"""The value of an unset name, slot or cell."""


class Opened(NamedTuple):
    """The contents of an object.

    Attributes:
        back: restores the contents.
        children: form of the path part, key, and child, for each object that it contains; `form.format(key)` is the
            path part. Few are ever read, so that none is written beforehand.
    """

    back: Callable[[], None]
    children: Sequence[tuple[str, Any, Any]]


def nothing() -> None:
    """Restore nothing."""


def each_of(backs: Sequence[Callable[[], None]]) -> None:
    """Restore all of them."""
    for back in backs:
        back()


def mapping(thing: Any, base: Any, passing: frozenset[str] = frozenset()) -> Opened:
    """A dict, by the methods of its base class; keys that are `passing` are left as they are."""
    items = base.items(thing)
    saved = [(key, value) for key, value in items if key not in passing] if passing else list(items)

    def back() -> None:
        current = list(base.items(thing))
        passed = [(key, value) for key, value in current if key in passing] if passing else []
        if len(current) - len(passed) == len(saved):
            compared = (pair for pair in current if pair[0] not in passing) if passing else iter(current)
            if all(a is c and b is d for (a, b), (c, d) in zip(compared, saved, strict=True)):
                return
        base.clear(thing)
        for key, value in (*saved, *passed):
            base.__setitem__(thing, key, value)

    children = [
        ("[{!r:.60}]" if isinstance(key, str | int) else f"[#{i}]", key, value) for i, (key, value) in enumerate(saved)
    ]
    return Opened(back, children)


def _sequence(thing: Any, base: Any) -> Opened:
    saved = list(base.__iter__(thing))

    def back() -> None:
        now = list(base.__iter__(thing))
        if len(now) == len(saved) and all(a is b for a, b in zip(now, saved, strict=True)):
            return
        base.clear(thing)
        base.extend(thing, saved)

    return Opened(back, [("[{}]", i, value) for i, value in enumerate(saved)])


def _set(thing: Any) -> Opened:
    saved = set(thing)

    def back() -> None:
        if set.symmetric_difference(thing, saved):
            set.clear(thing)
            set.update(thing, saved)

    return Opened(back, [("[...]", None, value) for value in saved])


def _array(thing: Any) -> Opened:
    saved = thing.copy()

    def back() -> None:
        if thing.shape != saved.shape:
            thing.resize(saved.shape, refcheck=False)
        if thing.flags.writeable:
            np.copyto(thing, saved)

    return Opened(back, [("[...]", None, each) for each in thing.flat] if thing.dtype == object else [])


def _bytes(thing: Any) -> Opened:
    saved = bytes(thing)
    return Opened(lambda: thing.__setitem__(slice(None), saved), [])


def _fixed(words: Callable[[Any], Sequence[tuple[str, Any, Any]]]) -> Callable[[Any], Opened]:
    """An immutable object with mutable contents."""
    return lambda thing: Opened(nothing, words(thing))


def _cell(thing: Any) -> Opened:
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

    return Opened(back, [] if saved is MISSING else [("", None, saved)])


def class_contents(thing: type) -> Opened:
    """The plain attributes of a user's class, and its methods."""
    saved = _plain(thing)

    def back() -> None:
        now = _plain(thing)
        for name in now.keys() - saved.keys():
            type.__delattr__(thing, name)
        for name, value in saved.items():
            if now.get(name, MISSING) is not value:
                type.__setattr__(thing, name, value)

    methods = [_function_of(value) for value in vars(thing).values()]
    children = [(f"{thing.__name__}.{{}}", name, value) for name, value in saved.items()]
    return Opened(back, [*children, *((thing.__name__, None, f) for f in methods if f is not None)])


def _plain(thing: type) -> dict[str, Any]:
    return {n: v for n, v in vars(thing).items() if not n.startswith("__") and not hasattr(v, "__get__")}


def _function_of(value: Any) -> Any:
    """The function of a class attribute: a method of any kind, or a property."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    return value if isinstance(value, types.FunctionType) else None


@functools.cache
def slot_names(kind: type) -> list[str]:
    """The attributes of a class that lie in `__slots__`."""
    names = vars(kind).get("__slots__", ())
    names = [names] if isinstance(names, str) else list(names)
    return [name for name in names if isinstance(vars(kind).get(name), types.MemberDescriptorType)]


def set_slots(thing: Any, values: Mapping[str, Any]) -> None:
    """Give such attributes their former values."""
    for name, value in values.items():
        if getattr(thing, name, MISSING) is not value:
            if value is MISSING:
                object.__delattr__(thing, name)
            else:
                object.__setattr__(thing, name, value)


def set_names(space: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Give names of a module their former values."""
    for name, value in values.items():
        if space.get(name, MISSING) is not value:
            if value is MISSING:
                del space[name]
            else:
                space[name] = value


def _of_generator(get: Callable[[Any], Any], put: Callable[[Any, Any], None]) -> Callable[[Any], Opened]:
    """A generator of random numbers."""

    def opened(thing: Any) -> Opened:
        saved = get(thing)
        return Opened(lambda: put(thing, saved), [])

    return opened


@functools.cache
def opener(kind: type) -> Callable[[Any], Opened] | None:
    """The function that saves objects of a type, if it is a known type of Python or NumPy."""
    return next((opened for known, opened in _KINDS if issubclass(kind, known)), None)


def _set_bits(generator: Any, state: Any) -> None:
    generator.bit_generator.state = state


_KINDS: Sequence[tuple[Any, Callable[[Any], Opened]]] = (
    (OrderedDict, lambda thing: mapping(thing, OrderedDict)),
    (dict, lambda thing: mapping(thing, dict)),
    (list, lambda thing: _sequence(thing, list)),
    (deque, lambda thing: _sequence(thing, deque)),
    (tuple, _fixed(lambda thing: [("[{}]", i, value) for i, value in enumerate(thing)])),
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
"""Types of Python and NumPy, and how each is saved; the first that fits applies."""
