"""The values of one side and the calls that computed them, from the calls of one forward pass.

A tensor is identified by its numbers in any order: two sides that compute the same have the same numbers, in different
layouts and under different names. So a transpose or a reshape makes no new value, and a value of one side can be
searched for on the other.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...records.calls import LOSS, Call, Calls
from ...records.trace import Array

Key = bytes
"""Identifies a value: a digest of its numbers in ascending order."""


@dataclass(frozen=True, slots=True)
class Value:
    """The numbers of a tensor, in ascending order.

    Attributes:
        key: of the value.
        numbers: in float64, one axis.
        exact: integers or booleans, which rounding does not change.
        still: all numbers are equal, so that they identify nothing.
        scale: their root mean square.
    """

    key: Key
    numbers: Array
    exact: bool
    still: bool
    scale: float


def value_of(array: Array, mask: Array | None = None) -> Value:
    """The numbers of an array.

    Args:
        array: of any shape.
        mask: the valid positions, if the array has the axes of the mask: first, or after other axes of different
            length, such as channels.
    """
    if mask is not None:
        array = _masked(array, mask)
    exact = array.dtype.kind in "iub"
    if array.dtype.kind == "c":
        array = np.concatenate([np.real(array).reshape(-1), np.imag(array).reshape(-1)])
    numbers = np.sort(array.reshape(-1).astype(np.float64)) + 0.0  # a negative zero is a zero
    key = hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()
    still = numbers.size < 2 or bool(numbers[0] == numbers[-1])
    finite = numbers[np.isfinite(numbers)]
    with np.errstate(over="ignore"):  # a mask of the lowest float
        scale = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return Value(key, numbers, exact, still, scale)


def _masked(array: Array, mask: Array) -> Array:
    if array.shape[: mask.ndim] == mask.shape:
        return array[mask]
    if array.shape[:1] != mask.shape[:1]:
        return array
    later = itertools.combinations(range(1, array.ndim), mask.ndim - 1)
    fitting = [axes for axes in later if tuple(array.shape[a] for a in axes) == mask.shape[1:]]
    if len(fitting) != 1:
        return array
    return np.moveaxis(array, fitting[0], range(1, mask.ndim))[mask]


@dataclass
class Graph:
    """The values of one side, and the calls that computed them.

    Args:
        calls: of one forward pass.
        mask: the valid positions, or None.
        lone: whether a single number identifies a value, as in a loss; otherwise it may match by chance.

    Attributes:
        values: by key.
        inputs, outputs: index of a call -> its tensors' names -> the keys of their values.
        makers: key -> calls that return it and do not receive it, the innermost first.
        users: key -> calls that receive it.
        constant: keys that depend on no input of the model.
    """

    calls: Calls
    mask: Array | None = None
    lone: bool = False
    values: dict[Key, Value] = field(default_factory=dict[Key, Value])
    inputs: dict[int, dict[str, Key]] = field(default_factory=dict[int, dict[str, Key]])
    outputs: dict[int, dict[str, Key]] = field(default_factory=dict[int, dict[str, Key]])
    makers: dict[Key, list[Call]] = field(default_factory=dict[Key, list[Call]])
    users: dict[Key, list[Call]] = field(default_factory=dict[Key, list[Call]])
    constant: set[Key] = field(default_factory=set[Key])

    def __post_init__(self) -> None:
        self._known: dict[int, tuple[Array, Key]] = {}
        self._by_index = {call.index: call for call in self.calls}
        self._children: dict[int | None, list[Call]] = {}
        for call in self.calls:
            self._children.setdefault(call.parent, []).append(call)
            self.inputs[call.index] = {name: self._key(array) for name, array in call.inputs.items()}
            self.outputs[call.index] = {name: self._key(array) for name, array in call.outputs.items()}
            for key in self.inputs[call.index].values():
                self.users.setdefault(key, []).append(call)
            for key in self.outputs[call.index].values():
                if key not in self.inputs[call.index].values():
                    self.makers.setdefault(key, []).append(call)
        self._find_constants()

    def _key(self, array: Array) -> Key:
        known = self._known.get(id(array))
        if known is None:
            value = value_of(array, self.mask)
            if self.lone and array.size == 1 and array.dtype.kind == "f" and bool(np.isfinite(array).all()):
                value = replace(value, still=False)
            self.values.setdefault(value.key, value)
            known = self._known[id(array)] = array, value.key
        return known[1]

    def _find_constants(self) -> None:
        received = {key for call in self.outermost() for key in self.inputs[call.index].values()}
        for call in self.calls:
            keys = self.inputs[call.index].values()
            if call.parent is not None and all(k in self.constant or self.values[k].still for k in keys):
                computed = (k for k in self.outputs[call.index].values() if k not in received)
                self.constant |= {k for k in computed if self.makers.get(k, [call])[0] is call}

    def know_constants(self, keys: Iterable[Key]) -> None:
        """Mark values without a known maker as constants, where the other side computes them from its parameters."""
        received = {key for call in self.outermost() for key in self.inputs[call.index].values()}
        self.constant |= {key for key in keys if key not in self.makers and key not in received}

    def parameters_of(self, key: Key) -> list[str]:
        """Paths of the parameters that a value was computed from."""
        paths: dict[str, None] = {}
        waiting, seen = [key], {key}
        while waiting:
            call = next(iter(self.makers.get(waiting.pop(), ())), None)
            if call is not None:
                paths |= dict.fromkeys(call.parameters)
                needs = [need for need in self.inputs[call.index].values() if need not in seen]
                waiting += needs
                seen |= {*needs}
        return list(paths)

    def outermost(self) -> Calls:
        """The outermost calls: the model and the loss."""
        return tuple(call for call in self.calls if call.parent is None)

    def model(self) -> Call | None:
        """The call of the model, or of the loss if there is no other; None if it was not recorded."""
        outermost = self.outermost()
        return next(
            (call for call in outermost if call.path != LOSS), outermost[0] if self.lone and outermost else None
        )

    def ancestors(self, call: Call) -> Iterator[Call]:
        """The calls around a call, the innermost first."""
        while call.parent is not None and call.parent in self._by_index:
            call = self._by_index[call.parent]
            yield call

    def needs(self, call: Call, key: Key) -> list[Key]:
        """Dependencies of a value: the call's inputs, and the unused outputs of calls inside it."""
        keys = [*self.inputs[call.index].values(), *(k for k, _ in self.unused_outputs(call, key))]
        return [k for k in dict.fromkeys(keys) if k != key]

    def unused_outputs(self, call: Call, key: Key) -> list[tuple[Key, Array]]:
        """Outputs of calls inside a call that no other inner call uses, if none of them is the value itself."""
        inner = self._children.get(call.index, [])
        if not inner or any(key in self.outputs[c.index].values() for c in inner):
            return []
        used = {k for c in inner for k in self.inputs[c.index].values()}
        return [(k, c.outputs[n]) for c in inner for n, k in self.outputs[c.index].items() if k not in used]

    def without_unused(self, shared: Mapping[Key, frozenset[Key]]) -> dict[Key, frozenset[Key]]:
        """The other side's keys, except for those whose counterparts here are unused while a different output of the
        call is used."""
        return {key: others for key, others in shared.items() if not all(self._is_unused(k) for k in others)}

    def _is_unused(self, key: Key) -> bool:
        if key in self.users or key not in self.makers:
            return False
        outputs = {k for call in self.makers[key] for k in self.outputs[call.index].values()}
        return any(k in self.users for k in outputs - {key})

    def views(self, key: Key) -> list[tuple[str, tuple[int, ...]]]:
        """The calls that return a value, with its shape there, in order."""
        return [
            (call.name, call.outputs[name].shape)
            for call in self.calls
            for name, k in self.outputs[call.index].items()
            if k == key
        ]

    def inside(self, call: Call) -> list[Call]:
        """A call and all calls inside it."""
        calls = [call]
        for inner in self._children.get(call.index, ()):
            calls += self.inside(inner)
        return calls
