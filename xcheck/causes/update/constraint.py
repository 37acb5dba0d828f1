"""What holds a weight to a set after each step, in NumPy: unit norms, largest norms, no negative numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...records.trace import Array
from .clipping import rounded

ADDED = (1e-7, 0.0, 1e-8, 1e-6, 1e-12)
"""What is added to a norm before it is divided by: Keras's own epsilon, nothing, and what people write."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One constraint on one weight.

    Attributes:
        kind: "none", norms of one, norms of at most `limit`, nothing below zero, or all of it times `limit`.
        axes: of each norm, in the layout of the side.
        limit: of the norm.
        added: to the norm, before it is divided by.
    """

    kind: Literal["none", "unit", "largest", "positive", "shrunk"] = "none"
    axes: tuple[int, ...] = ()
    limit: float = 1.0
    added: float = 0.0

    def of(self, weight: Array) -> Array:
        """The weight as the constraint leaves it."""
        if self.kind == "none":
            return weight
        if self.kind == "positive":
            return np.maximum(weight, 0.0)
        if self.kind == "shrunk":
            return weight * self.limit
        norm = _norm(weight, self.axes)
        wanted = 1.0 if self.kind == "unit" else np.minimum(norm, self.limit)
        with np.errstate(divide="ignore", invalid="ignore"):
            return weight * (wanted / (norm + self.added))

    @property
    def words(self) -> str:
        """What it does, to follow "holds it to"."""
        over = f" over axis {self.axes[0]}" if len(self.axes) == 1 else f" over the axes {self.axes}"
        added = f", with {self.added!r} added" if self.added else ""
        return {
            "none": "nothing",
            "positive": "numbers that are not negative",
            "shrunk": f"{self.limit!r} times what the step made of it",
            "unit": f"norms of 1{over}{added}",
            "largest": f"norms of at most {self.limit!r}{over}{added}",
        }[self.kind]

    @property
    def keras(self) -> str:
        """How it is asked for in Keras."""
        axis = self.axes[0] if len(self.axes) == 1 else list(self.axes)
        return {
            "none": "no constraint",
            "positive": "keras.constraints.NonNeg()",
            "shrunk": f"kernel_constraint=lambda w: {self.limit!r} * w",
            "unit": f"keras.constraints.UnitNorm(axis={axis})",
            "largest": f"keras.constraints.MaxNorm({self.limit!r}, axis={axis})",
        }[self.kind]

    @property
    def torch(self) -> str:
        """How it is written in PyTorch, after the step."""
        dim = self.axes[0] if len(self.axes) == 1 else self.axes
        norm = f"weight.norm(dim={dim}, keepdim=True)"
        return {
            "none": "nothing after the step",
            "positive": "weight.clamp_(min=0)",
            "shrunk": f"weight *= {self.limit!r}",
            "unit": f"weight /= {self.added!r} + {norm}",
            "largest": f"weight *= {norm}.clamp(max={self.limit!r}) / ({self.added!r} + {norm})",
        }[self.kind]


FREE = Projection()


def possible_projections(weight: Array, observed: Array) -> Iterator[Projection]:
    """Constraints that may have made one weight of another, the likelier first.

    Args:
        weight: before.
        observed: after.
    """
    yield Projection("positive")
    if weight.ndim < 1 or not weight.any():
        return
    factor = rounded(float(np.vdot(observed, weight) / np.vdot(weight, weight)))
    if factor is not None and factor != 1:
        yield Projection("shrunk", limit=factor)
    every = tuple(range(weight.ndim))
    choices = [(axis,) for axis in every] + [every[:k] for k in range(2, weight.ndim + 1)]
    for axes in dict.fromkeys(choices):
        for added in ADDED:
            yield Projection("unit", axes, added=added)
        before, after = _norm(weight, axes), _norm(observed, axes)
        for added in ADDED:
            with np.errstate(invalid="ignore", divide="ignore"):
                limit = float(np.nanmax(after * (before + added) / before))
            # One norm for all elements fits any factor: then only a limit that people write tells of a constraint.
            for known in (rounded(limit), limit if before.size > 1 else None):
                if known:
                    yield Projection("largest", axes, known, added)


def _norm(weight: Array, axes: tuple[int, ...]) -> Array:
    return np.sqrt((weight**2).sum(axis=axes, keepdims=True))
