"""Division by a norm, and what keeps it from dividing by zero: a number added, under the root, or a least divisor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES
from ...records.trace import Array
from ..prove import Trial, prove
from .activation import fewest_digits
from .linear import fits
from .one_computation import Local, Seen

WAYS: Mapping[str, tuple[Callable[[Array, Array], float], Callable[[Array, float], Array], str]] = {
    "added to the norm": (lambda n, d: float((d - n).mean()), lambda n, e: n + e, "x / (norm(x) + {})"),
    "added under the root": (
        lambda n, d: float((d * d - n * n).mean()),
        lambda n, e: np.sqrt(n * n + e),
        "x / sqrt(sum(x * x) + {})",
    ),
    "the least that is divided by": (lambda n, d: float(d.min()), np.maximum, "x / maximum(norm(x), {})"),
}
"""Where a small number may stand -> (solved from norms and divisors, the divisors that it makes, as it is written)."""


PLAIN = "with nothing added"

NORM, SUM = "of a norm", "of a sum of squares"
"""What goes in where only the divisor is made, and not the quotient."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Division by the norm along an axis, counted from the end, or only its divisor; or by a `NORM`, or a `SUM`."""

    axis: int | str
    way: str
    number: float
    divisor: bool = False

    def of(self, x: Array) -> Array:
        """The same of other numbers."""
        if isinstance(self.axis, str):
            return self._divisor(x if self.axis == NORM else np.sqrt(x))
        divisor = self._divisor(np.sqrt((x * x).sum(axis=self.axis, keepdims=True)))
        return divisor if self.divisor else x / divisor

    def _divisor(self, norm: Array) -> Array:
        return norm if self.way == PLAIN else WAYS[self.way][1](norm, self.number)

    @property
    def words(self) -> str:
        """As it is written."""
        if self.way == PLAIN:
            return "x / norm(x)"
        return WAYS[self.way][2].format(f"{self.number:.12g}")


@isolated(list[Cause])
def unit_causes(local: Local) -> list[Cause]:
    """Why two divisions by a norm differ; none where either side is no such division.

    Args:
        local: what both sides did.
    """
    read = [_read(local, local.of(side)) for side in SIDES]
    if read[0] is None or read[1] is None:
        return []
    (torch, _), (keras, x) = read[0], read[1]
    if torch == keras or (torch.way == keras.way and torch.axis == NORM):  # which is but another number that is added
        return []
    after = local.gap(replace(keras, way=torch.way, number=torch.number).of(x), local.target("keras"))
    cause = Cause(
        "epsilon" if torch.way == keras.way or PLAIN in (torch.way, keras.way) else "epsilon_place",
        "forward",
        local.torch.call.name,
        local.keras.call.name,
        f"what keeps it from dividing by zero is {torch.number:.12g} in torch, {torch.way}, and {keras.number:.12g} in "
        f"keras, {keras.way}",
        {"torch": torch.number, "keras": keras.number},
        fix=f"keras: {torch.words}, or torch: {keras.words}",
    )
    return [prove(cause, [Trial(local.error, after, local.allowed, local.torch.value.size - 1)])]


def _read(local: Local, seen: Seen) -> tuple[Unit, Array] | None:
    value = seen.value
    floats = [a for a in seen.given.values() if a.dtype.kind == "f" and a.any() and fits(value, a)]
    if not floats or len(seen.given) > 2 or not value.ndim:
        return None
    x = max(floats, key=lambda a: a.size)
    if x.shape == value.shape and len(seen.given) == 1 and x.min() >= 0:
        for of, norms in ((NORM, x), (SUM, np.sqrt(x))):
            found = _solved(local, value, x, Unit(of, PLAIN, 0.0), norms, value)
            if found is not None:
                return found, x
    for axis in range(-1, -x.ndim - 1, -1):
        squares = (x * x).sum(axis=axis, keepdims=True)
        if x.shape[axis] < 2 or value.shape not in (x.shape, squares.shape):
            continue
        share = (x * value).sum(axis=axis, keepdims=True)
        used = (squares > 0) & (share != 0)
        if used.sum() > 1:
            alone = value.shape == squares.shape
            divisors = value[used] if alone else squares[used] / share[used]
            found = _solved(local, value, x, Unit(axis, PLAIN, 0.0, alone), np.sqrt(squares[used]), divisors)
            if found is not None:
                return found, x
    return None


def _solved(local: Local, value: Array, x: Array, plain: Unit, norms: Array, divisors: Array) -> Unit | None:
    if local.agree(value, plain.of(x)):
        return plain if plain.axis != NORM else None  # what goes in, as it is
    for way, (solve, _, _) in WAYS.items():
        number = fewest_digits(solve(norms, divisors), 1e-6)
        found = replace(plain, way=way, number=number)
        if math.isfinite(number) and number > 0 and local.agree(value, found.of(x)):
            return found
    return None
