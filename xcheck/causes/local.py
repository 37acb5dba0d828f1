"""One computation of both sides on the same numbers that comes out differently: what a cause is found from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..calls import Call
from ..compare import measure, structure
from ..matching import SideName, other_side
from ..orders import Order
from ..trace import Array, Arrays


@dataclass(frozen=True, slots=True)
class Seen:
    """What one side did.

    Attributes:
        side: "torch" or "keras".
        call: the module that computed it, or the function where there is more in the module than this.
        inner: the innermost call it came out of.
        value: what came out.
        given: what went in, by the name of the call and of the tensor: first what both sides have, then constants.
        weights: role ("weight", "gamma") -> value of the parameters it may have used; of two with one role the first.
        paths: role -> path of the parameter.
        within: kinds of the modules that it happened in, the innermost first.
        views: (call, shape) in which the first of what went in was seen before, in order.
        idle: this side has no such operation: `value` is what went in.
    """

    side: SideName
    call: Call
    inner: Call
    value: Array
    given: Arrays
    weights: Arrays
    paths: Mapping[str, str]
    within: tuple[str, ...] = ()
    views: tuple[tuple[str, tuple[int, ...]], ...] = ()
    idle: bool = False

    @property
    def x(self) -> Array:
        """The first of what went in."""
        return next(iter(self.given.values()), self.value)


@dataclass(frozen=True, slots=True)
class Local:
    """A computation of both sides.

    Attributes:
        torch, keras: what each did.
        order: from the axes of the torch value to those of the keras value.
        allowed: how far rounding may move the value, relative to its scale.
        error: by how much the two differ.
    """

    torch: Seen
    keras: Seen
    order: Order
    allowed: float
    error: float

    def of(self, side: SideName) -> Seen:
        """What one side did."""
        return self.torch if side == "torch" else self.keras

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
