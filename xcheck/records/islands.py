"""Places where a side leaves the precision of the run: explicit casts to float32.

Both frameworks upcast to float32 in norms, softmax and rotary tables. In a float64 run that is a downcast, and its
rounding hides everything smaller than 1e-7. While a side runs, such casts are intercepted and kept in float64; each is
listed here with its layer.

Values that arrive as float32 cannot be recovered: a table from NumPy, the result of a float32 kernel. Their digits are
already lost. Such numbers are noted where they enter the float64 computation, and can be perturbed there by their
float32 rounding error, to measure its effect.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .trace import Array

NO_FLOAT64 = "which has no float64 kernel on this device"
"""Marks an operation computed in float32 because it has no float64 kernel."""

SIMPLE_BITS = 16
"""Binary digits up to which a float32 number is taken as exact: a small whole number, a half, a power of two.
A number rounded by float32 has 24 digits; the last eight are zero with probability 1/256."""


def rounded_by_float32(values: Array) -> Array:
    """Which numbers float32 has rounded: it represents them exactly, and they need nearly all of its digits."""
    exact = np.where(np.isfinite(values), values, 0.0).astype(np.float64)
    with np.errstate(over="ignore"):
        representable = exact.astype(np.float32) == exact
    mantissa, _ = np.frexp(exact)
    return representable & ((mantissa * 2.0**SIMPLE_BITS) % 1 != 0)


def made_in_float32(values: Array) -> bool:
    """Whether a float64 array has only float32 numbers, some of them rounded."""
    if values.dtype != np.float64 or not np.isfinite(values).all():
        return False
    with np.errstate(over="ignore"):
        representable = values.astype(np.float32) == values
    return bool(representable.all()) and bool(rounded_by_float32(values).any())


def factors(values: Array, rng: np.random.Generator) -> Array:
    """Factors that move each number rounded by float32 by its largest rounding error, up or down at random."""
    signs = rng.choice(np.array([-1.0, 1.0]), size=np.shape(values))
    return np.where(rounded_by_float32(values), 1.0 + float(np.finfo(np.float32).eps) / 2 * signs, 1.0)


@dataclass
class Islands:
    """The intercepted casts of one side, and the float32 numbers that entered its computation.

    Attributes:
        owner: returns the name of the layer that a frame's `self` is; None if it is not a layer.
        casts: (layer, operation) -> how often a cast was intercepted there.
        numbers: (layer, operation) -> how often numbers rounded by float32 entered there.
        variables: variables missing from the framework's own lists, by layer and name; each is a weak reference that
            returns None once the variable is gone.
    """

    owner: Callable[[Any], str | None]
    casts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    numbers: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    variables: dict[str, Callable[[], Any]] = field(default_factory=dict[str, Callable[[], Any]])
    _rng: np.random.Generator | None = None

    def add(self, operation: str) -> None:
        """Note an intercepted cast, with the innermost layer on the call stack."""
        self._count(self.casts, operation)

    def enter(self, operation: str, values: Array) -> Array | None:
        """Note float32 numbers that enter the float64 computation.

        Returns:
            Their factors while they are being perturbed; else None.
        """
        if not rounded_by_float32(values).any():
            return None
        self._count(self.numbers, operation)
        return None if self._rng is None else factors(values, self._rng)

    @contextmanager
    def moving(self, seed: Sequence[int]) -> Generator[None]:
        """Perturb the numbers that enter while the block runs."""
        self._rng = np.random.default_rng(list(seed))
        try:
            yield
        finally:
            self._rng = None

    def places(self) -> list[str]:
        """Where float32 numbers entered."""
        return [f"{layer} ({operation})" for layer, operation in sorted(self.numbers)]

    def note_variable(self, name: str, reference: Callable[[], Any]) -> None:
        """Note a variable that the framework does not track."""
        self.variables[f"{name} ({self._layer()})"] = reference

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
        return [{"layer": layer, "operation": op, "count": n} for (layer, op), n in sorted(self.casts.items())]

    def notes(self, side: str) -> list[str]:
        """One line per layer and operation."""
        recovered = [
            f"float32_island: {side} {layer} casts to float32 ({op}); kept in float64 here"
            for layer, op in sorted(self.casts)
        ]
        lost = [
            f"float32_island: {side} {place} is computed in float32; the effect is measured"
            if NO_FLOAT64 in place
            else f"float32_island: {side} {place} uses numbers rounded to float32; their further digits are lost"
            for place in self.places()
        ]
        lost += [
            f"{side}: Keras 3 does not track the tf.Variable {name}: it is neither trained nor saved"
            for name, reference in sorted(self.variables.items())
            if reference() is not None
        ]
        return recovered + lost
