"""Counts that a step keeps: found by comparing snapshots, advanced together, and asked what they are compared with.

Code such as `self.calls += 1; if self.calls > 1000: ...` behaves differently in a step that no check waits for. Such a
step can be reached at once if all that training changes besides the weights is counts.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .reachable import ReachedObject, Saved, Tensors

OF_OPTIMIZERS = ("optimizer", "model.optimizer")
"""Start of the paths of what an optimizer keeps."""

BY_PYTHON = (bool, int, float, complex, str)


class Boundary(NamedTuple):
    """A number that a count was compared with in a step.

    Attributes:
        steps: from that step to the one in which the count reaches the number; may be a fraction. Infinite where the
            count was looked up among keys.
        period: steps from one such step to the next, for a count taken modulo a number; None otherwise.
    """

    steps: float
    period: float | None = None


@dataclass(frozen=True)
class Count:
    """A number that each step increases by the same integer.

    Attributes:
        where: its path.
        value: current value.
        rate: increase per step.
        put: sets it.
        python: whether it is a Python integer that user code keeps; the others are tensors, or belong to an optimizer.
    """

    where: str
    value: Any
    rate: int
    put: Callable[[Any], object]
    python: bool

    def advance(self, steps: int) -> None:
        """Set the value that it has after so many further steps."""
        self.put(self.value + steps * self.rate)

    def watch(self, boundaries: list[Boundary]) -> None:
        """Record what it is compared with, until it is set again."""
        self.put(WatchedInt(self.value, self.rate, boundaries))


class Counts(NamedTuple):
    """What steps changed besides parameters, buffers and slots.

    Attributes:
        counts: numbers that increase by the same integer in each step.
        others: paths of Python numbers and strings that change in a different way.
    """

    counts: Sequence[Count]
    others: Sequence[str]


def counts(snapshots: Sequence[Saved], tensors: Tensors) -> Counts:
    """What two successive steps changed.

    Args:
        snapshots: before the first, between both, and after the second one.
        tensors: of the framework.
    """
    first, second, third = ({each.where: each for each in _numbers(saved, tensors)} for saved in snapshots)
    found, others = list[Count](), list[str]()
    for where, now in third.items():
        if where not in first or where not in second:
            continue
        values = first[where].value, second[where].value, now.value
        if _same(values[0], values[1]) and _same(values[1], values[2]):
            continue
        rate = _rate(*values)
        python = not isinstance(now.value, np.ndarray)
        if rate and now.put is not None:
            of_user = python and not where.startswith(OF_OPTIMIZERS)
            found.append(Count(where, now.value, rate, now.put, of_user))
        elif python:
            others.append(where)
    return Counts(found, others)


class _Number(NamedTuple):
    where: str
    value: Any
    put: Callable[[Any], object] | None


def _numbers(saved: Saved, tensors: Tensors) -> Iterator[_Number]:
    """The plain values of a snapshot, and its arrays with a single element."""
    for entry in saved.entries:
        if entry.array is not None and entry.array.size == 1 and entry.array.dtype.kind in "iuf":
            yield _Number(entry.where(), entry.array, partial(tensors.put, entry.thing))
        for form, key, value in entry.children:
            if isinstance(value, BY_PYTHON):
                yield _Number(entry.where() + form.format(key), value, _setter(entry, form, key, value))


def _setter(entry: ReachedObject, form: str, key: Any, value: Any) -> Callable[[Any], object] | None:
    """A function that sets a plain value in its container; None where it cannot be set."""
    thing = entry.thing
    if isinstance(thing, dict | list):
        return partial(thing.__setitem__, key)
    if isinstance(thing, types.CellType):
        return partial(setattr, thing, "cell_contents")
    if isinstance(thing, types.FunctionType):
        space = thing.__globals__
        return partial(space.__setitem__, key) if "(global" in form and space.get(key) is value else None
    if isinstance(thing, type):
        return partial(type.__setattr__, thing, key)
    attributes = getattr(thing, "__dict__", None)
    return partial(attributes.__setitem__, key) if isinstance(attributes, dict) and key in attributes else None


def _rate(first: Any, second: Any, third: Any) -> int | None:
    """The integer that each of two steps adds; None if it is none."""
    if any(isinstance(v, bool | str | complex) for v in (first, second, third)):
        return None
    if any(isinstance(v, float) for v in (first, second, third)):
        return None
    numbers = [float(np.asarray(value).item()) for value in (first, second, third)]
    one, two = (b - a for a, b in pairwise(numbers))
    return int(one) if one == two and one > 0 and one == int(one) else None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return type(a) is type(b) and bool(a == b or a != a)


class _Watched:
    """A number, linear in the step, that records what it is compared with."""

    rate: float
    boundaries: list[Boundary]

    def _new(self, value: Any, rate: float) -> Any:
        if isinstance(value, float):
            return WatchedFloat(value, rate, self.boundaries)
        return WatchedInt(value, rate, self.boundaries) if isinstance(value, int) else value

    def __reduce__(self) -> Any:
        kind = int if isinstance(self, int) else float
        return kind, (kind(self),)  # pyright: ignore[reportArgumentType]


class WatchedInt(_Watched, int):
    """A watched integer."""

    def __new__(cls, value: int, rate: float, boundaries: list[Boundary]) -> WatchedInt:
        made = int.__new__(cls, value)
        made.rate, made.boundaries = rate, boundaries
        return made


class WatchedFloat(_Watched, float):
    """A watched quotient or product of a count."""

    def __new__(cls, value: float, rate: float, boundaries: list[Boundary]) -> WatchedFloat:
        made = float.__new__(cls, value)
        made.rate, made.boundaries = rate, boundaries
        return made


def _plain(value: Any) -> Any:
    """The number itself, so that arithmetic on it is that of Python."""
    if isinstance(value, _Watched):
        return int(value) if isinstance(value, int) else float(value)  # pyright: ignore[reportArgumentType]
    return value


def _arithmetic(name: str, rate: Callable[[float, float, float], float]) -> Any:
    """A method of arithmetic; `rate` gives that of the result from the own rate, and the other number and its rate."""

    def method(self: Any, other: Any) -> Any:
        number = _plain(other)
        result = getattr(_plain(self), name)(number)
        if result is NotImplemented and type(number) is float:
            result = getattr(float(self), name)(number)
        if not isinstance(number, int | float) or result is NotImplemented:
            return result
        return self._new(result, rate(self.rate, number, getattr(other, "rate", 0.0)))

    return method


def _modulo(self: Any, other: Any) -> Any:
    number = _plain(other)
    result = _plain(self) % number
    if type(number) is int and self.rate > 0 and number > 0:
        self.boundaries.append(Boundary(((-_plain(self)) % number) / self.rate, number / self.rate))
        return self._new(result, self.rate)
    return result


def _hash(self: Any) -> int:
    self.boundaries.append(Boundary(math.inf))  # a lookup does not say what it compares with
    return hash(_plain(self))


def _comparison(name: str) -> Any:
    def method(self: Any, other: Any) -> Any:
        number = _plain(other)
        if isinstance(number, int | float) and (rate := self.rate - getattr(other, "rate", 0.0)):
            self.boundaries.append(Boundary((number - _plain(self)) / rate))
        kind = float if type(number) is float else type(_plain(self))
        return getattr(kind(self), name)(number)

    return method


_RATES: Mapping[str, Callable[[float, float, float], float]] = {
    "__add__": lambda own, other, rate: own + rate,
    "__radd__": lambda own, other, rate: own + rate,
    "__sub__": lambda own, other, rate: own - rate,
    "__rsub__": lambda own, other, rate: rate - own,
    "__mul__": lambda own, other, rate: own * other,
    "__rmul__": lambda own, other, rate: own * other,
    "__truediv__": lambda own, other, rate: own / other,
    "__floordiv__": lambda own, other, rate: own / other,
}
"""The rate of each result; a product of two counts is not linear, and gets that of the first one."""

for _kind in (WatchedInt, WatchedFloat):
    for _name, _function in _RATES.items():
        setattr(_kind, _name, _arithmetic(_name, _function))
    for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
        setattr(_kind, _name, _comparison(_name))
    _kind.__mod__ = _modulo  # pyright: ignore
    _kind.__hash__ = _hash
