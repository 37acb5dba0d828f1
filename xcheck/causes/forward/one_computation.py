"""One computation of both sides on the same numbers that comes out differently: what a cause is found from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...numerics.align.families import family_of
from ...numerics.align.orders import Order
from ...numerics.compare import measure, structure
from ...records.calls import Call, Calls
from ...records.sides import SideName, other_side
from ...records.trace import Array, Arrays


def role_of(path: str) -> str:
    """The last word of a parameter's path: "weight", "gamma"."""
    return path.replace("/", ".").rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one side did.

    Attributes:
        side: "torch" or "keras".
        call: the module that computed it, or the function where there is more in the module than this.
        owner: the module that it happened in.
        inner: the innermost call it came out of.
        value: what came out.
        given: what both sides have and it was made from, by the name of the call that it came out of.
        constants: what else it was made from, likewise.
        made_of: name of a constant -> path -> value of the parameters that it was made of.
        calls: all innermost calls that took part, the last first.
        parameters: path -> value of the parameters that took part or that the owner holds.
        every: all parameters that the modules and layers hold which took part, by path, whatever their role.
        around: the modules that it happened in, the innermost first.
        views: (call, shape) in which the first of what went in was seen before, in order.
        holders: the modules that the calls were made in, whose settings hold where the call says nothing.
        idle: this side has no such operation: `value` is what went in.
        masks: what may be a mask or lengths anywhere on either side; see `masks_in`.
        taken: paths of the parameters that it was made with.
        ahead: of those that the module around takes afterwards, and not before.
    """

    side: SideName
    call: Call
    owner: Call
    inner: Call
    value: Array
    given: Arrays
    constants: Arrays = field(default_factory=dict[str, Array])
    made_of: Mapping[str, Arrays] = field(default_factory=dict[str, Arrays])
    calls: Calls = ()
    parameters: Arrays = field(default_factory=dict[str, Array])
    every: Arrays = field(default_factory=dict[str, Array])
    around: Calls = ()
    views: tuple[tuple[str, tuple[int, ...]], ...] = ()
    holders: Calls = ()
    idle: bool = False
    masks: Arrays = field(default_factory=dict[str, Array])
    taken: frozenset[str] = frozenset()
    ahead: frozenset[str] = frozenset()

    @property
    def x(self) -> Array:
        """The first of what went in."""
        return next(iter(self.given.values()), self.value)

    @property
    def within(self) -> tuple[str, ...]:
        """Kinds of the modules that it happened in, the innermost first."""
        return tuple(call.kind for call in self.around)

    def ending(self, end: str) -> Array | None:
        """The first parameter whose path ends so."""
        return next((a for path, a in self.every.items() if path.endswith(end)), None)

    @property
    def families(self) -> tuple[str, ...]:
        """What the calls are, the module first."""
        kinds = (self.call.kind, self.inner.kind, self.owner.kind, *(c.kind for c in self.calls))
        return tuple(dict.fromkeys(family_of(kind) for kind in kinds))

    def is_a(self, *families: str) -> Call | None:
        """The first of the calls that is of one of some families."""
        every = (self.call, self.inner, self.owner, *self.calls)
        return next((c for c in every if family_of(c.kind) in families), None)

    def setting(self, *names: str) -> Any:
        """The first setting of one of some names, of the call and then of what took part; None if there is none."""
        for call in (self.call, self.inner, self.owner, *self.calls, *self.holders):
            for name in names:
                if call.settings.get(name) is not None:
                    return call.settings[name]
        return None

    def parameter(self, *roles: str) -> Array | None:
        """The first parameter of one of some roles."""
        return next((a for role in roles for path, a in self.parameters.items() if role_of(path) == role), None)

    def weight(self, *ranks: int) -> tuple[Array, Arrays] | None:
        """The weight of so many axes as it was used, and by path the parameters that it is or was made of."""
        taken = {path for call in self.calls for path in call.parameters}
        held = {path: array for path, array in self.parameters.items() if "bias" not in role_of(path)}
        fit = {path: array for path, array in held.items() if array.ndim in ranks}
        made = {name: array for name, array in self.constants.items() if array.ndim in ranks}
        if made and not taken & fit.keys():
            name, array = max(made.items(), key=lambda of: of[1].size)  # a bias may have as many axes
            return array, {**self.made_of.get(name, {}), **fit}
        return next(((array, {path: array}) for path, array in fit.items()), None)

    def uses(self, *roles: str) -> bool:
        """Whether a parameter of one of some roles took part."""
        taken = (path for c in (self.call, *self.calls) for path in c.parameters)
        return any(role_of(path) in roles for path in taken)


@dataclass(frozen=True, slots=True)
class Local:
    """A computation of both sides.

    Attributes:
        torch, keras: what each did.
        order: from the axes of the torch value to those of the keras value.
        allowed: how far rounding may move the value, relative to its scale.
        error: by how much the two differ.
        partners: PyTorch's path of a parameter -> those of Keras that are its counterparts.
        proven: with the one value in the place of the other, what comes after agrees.
    """

    torch: Seen
    keras: Seen
    order: Order
    allowed: float
    error: float
    partners: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    proven: bool = True

    def of(self, side: SideName) -> Seen:
        """What one side did."""
        return self.torch if side == "torch" else self.keras

    @property
    def examples(self) -> int:
        """How many examples go into the model: the first axis of what Keras gets; 0 if that is not seen."""
        model = (self.keras.call, *self.keras.around)[-1]
        return next((a.shape[0] for a in model.inputs.values() if a.ndim), 0)

    @property
    def bias_to_come(self) -> bool:
        """Whether one side has added a bias that the other goes on to add: they are not at the same place."""
        for path, others in self.partners.items():
            if "bias" not in role_of(path) or not others:
                continue
            here, there = path in self.torch.taken, bool(others & self.keras.taken)
            if here != there and (others & self.keras.ahead if here else path in self.torch.ahead):
                return True
        return False

    def target(self, side: SideName) -> Array:
        """The other side's value in this side's axes."""
        other = self.of(other_side(side)).value
        return self.order.inverse().apply(other) if side == "torch" else self.order.apply(other)

    def gap(self, array: Array, other: Array) -> float:
        """The largest difference relative to the scale of the first; infinite where they cannot be compared."""
        if structure(array, other) is not None or not np.array_equal(np.isfinite(array), np.isfinite(other)):
            return float("inf")
        kept = np.isfinite(array)
        if not kept.any():
            return float("inf")
        return measure(array[kept], other[kept]).element

    def agree(self, array: Array, other: Array) -> bool:
        """Whether rounding explains the difference of two arrays of the size of the value."""
        return self.gap(array, other) <= self.allowed
