"""Places where a side leaves the precision of the run: casts to float32 that the code names itself.

Both worlds upcast to float32 by name in norms, softmax and rotary tables. In a float64 run that is a cast down, and
its rounding hides everything smaller than 1e-7. While a side runs, such casts are intercepted and kept in float64;
each is listed here with the layer that made it.

What comes in as float32 cannot be kept: a table that NumPy made, the result of a kernel that computes in float32. The
digits are lost by then. Such numbers are noted where they enter the float64 computation, and can be moved there by as
much as float32 has rounded them, to see how far that carries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .trace import Array

NO_FLOAT64 = "which has no float64 on this device"
"""Said of an operation that was computed in float32 for want of a kernel."""

SIMPLE_BITS = 16
"""Binary digits up to which a number of float32 may well be meant: a small whole number, a half, a power of two.
A number that float32 has rounded has 24, the last eight of them zero with a chance of 1/256."""


def rounded_by_float32(values: Array) -> Array:
    """Which numbers float32 holds exactly though they need nearly all of its digits: it has rounded them."""
    exact = np.where(np.isfinite(values), values, 0.0).astype(np.float64)
    with np.errstate(over="ignore"):
        held = exact.astype(np.float32) == exact
    mantissa, _ = np.frexp(exact)
    return held & ((mantissa * 2.0**SIMPLE_BITS) % 1 != 0)


def made_in_float32(values: Array) -> bool:
    """Whether a float64 array holds nothing but numbers of float32, and some that it has rounded."""
    if values.dtype != np.float64 or not np.isfinite(values).all():
        return False
    with np.errstate(over="ignore"):
        held = values.astype(np.float32) == values
    return bool(held.all()) and bool(rounded_by_float32(values).any())


def factors(values: Array, rng: np.random.Generator) -> Array:
    """What moves each number that float32 has rounded by its largest rounding error, up or down at random."""
    signs = rng.choice(np.array([-1.0, 1.0]), size=np.shape(values))
    return np.where(rounded_by_float32(values), 1.0 + float(np.finfo(np.float32).eps) / 2 * signs, 1.0)


@dataclass
class Islands:
    """The intercepted casts of one side, and the numbers of float32 that could not be kept out.

    Attributes:
        owner: names the layer that a frame's `self` is; None if it is no layer.
        found: (layer, operation) -> how often a cast was intercepted there.
        numbers: (layer, operation) -> how often numbers that float32 has rounded came in there.
        variables: what holds state that the framework's own lists of variables leave out, by layer and name; each is
            a reference that gives None once nothing else holds it.
    """

    owner: Callable[[Any], str | None]
    found: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    numbers: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    variables: dict[str, Callable[[], Any]] = field(default_factory=dict[str, Callable[[], Any]])
    _rng: np.random.Generator | None = None

    def add(self, operation: str) -> None:
        """Note an intercepted cast, with the innermost layer on the call stack."""
        self._count(self.found, operation)

    def enter(self, operation: str, values: Array) -> Array | None:
        """Note numbers of float32 that come into the float64 computation.

        Returns:
            While they are being moved, what to multiply them by; else None.
        """
        if not rounded_by_float32(values).any():
            return None
        self._count(self.numbers, operation)
        return None if self._rng is None else factors(values, self._rng)

    @contextmanager
    def moving(self, seed: Sequence[int]) -> Generator[None]:
        """Have the numbers that come in moved, until the block ends."""
        self._rng = np.random.default_rng(list(seed))
        try:
            yield
        finally:
            self._rng = None

    def places(self) -> list[str]:
        """Where numbers of float32 came in."""
        return [f"{layer} ({operation})" for layer, operation in sorted(self.numbers)]

    def note_variable(self, name: str, held: Callable[[], Any]) -> None:
        """Note a variable that the framework does not track."""
        self.variables[f"{name} ({self._layer()})"] = held

    def _count(self, counts: dict[tuple[str, str], int], operation: str) -> None:
        key = (self._layer(), operation)
        counts[key] = counts.get(key, 0) + 1

    def _layer(self) -> str:
        """The innermost layer on the call stack."""
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        layer = None
        while frame is not None and layer is None:
            self_ = frame.f_locals.get("self")
            layer = self.owner(self_) if self_ is not None else None
            frame = frame.f_back
        return layer or "outside of any layer"

    def listing(self) -> list[Mapping[str, Any]]:
        """Plain data for a result's environment."""
        return [{"layer": layer, "operation": op, "count": n} for (layer, op), n in sorted(self.found.items())]

    def notes(self, side: str) -> list[str]:
        """One line per layer and operation."""
        kept = [
            f"float32_island: {side} {layer} casts to float32 ({op}); kept in float64 here"
            for layer, op in sorted(self.found)
        ]
        lost = [
            f"float32_island: {side} {place} is computed in float32, and what that may do is measured"
            if NO_FLOAT64 in place
            else f"float32_island: {side} {place} computes with numbers that float32 has rounded; their digits are lost"
            for place in self.places()
        ]
        lost += [
            f"{side} holds the tf.Variable {name}, which Keras 3 does not track: it is neither trained nor saved"
            for name, held in sorted(self.variables.items())
            if held() is not None
        ]
        return kept + lost
